//! What the container runtime alone needs for the same pods: RunPodSandbox, CreateContainer and StartContainer through
//! the same client, as many at once as the pod room allows. The measure for everything that kedge adds.

use kedge::cri::Runtime;
use kedge::cri::messages::{
    ContainerConfig, ContainerMetadata, ImageSpec, Int64Value, Labels, LinuxContainerConfig,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode,
    NamespaceOption, PodSandboxConfig, PodSandboxMetadata,
};
use std::path::Path;
use std::time::Instant;
use tokio::sync::Semaphore;

/// As the pod room has it.
const AT_ONCE: usize = 10;

/// Seconds until the last of `count` pods runs; they are removed afterwards.
pub async fn start(runtime: &Runtime, logs: &Path, count: usize) -> f64 {
    let turns = Semaphore::new(AT_ONCE);
    let started = Instant::now();
    let pods = (0..count).map(|number| pod(runtime, logs, &turns, number));
    let sandboxes = futures_util::future::join_all(pods).await;
    let taken = started.elapsed().as_secs_f64();
    let removals = sandboxes.iter().map(|sandbox| async {
        runtime.stop_pod_sandbox(sandbox).await.unwrap();
        runtime.remove_pod_sandbox(sandbox).await.unwrap();
    });
    futures_util::future::join_all(removals).await;
    taken
}

async fn pod(runtime: &Runtime, logs: &Path, turns: &Semaphore, number: usize) -> String {
    let name = format!("bare-{number}");
    let directory = logs.join(&name);
    std::fs::create_dir_all(directory.join("c")).unwrap();
    let config = sandbox(&name, &directory);
    let turn = turns.acquire().await.unwrap();
    let sandbox = runtime.run_pod_sandbox(config.clone()).await.unwrap();
    drop(turn);
    let _turn = turns.acquire().await.unwrap();
    let container = runtime.create_container(&sandbox, container(), config).await.unwrap();
    runtime.start_container(&container).await.unwrap();
    sandbox
}

fn namespaces() -> NamespaceOption {
    NamespaceOption {
        network: NamespaceMode::Pod as i32,
        pid: NamespaceMode::Container as i32,
        ipc: NamespaceMode::Pod as i32,
    }
}

fn sandbox(name: &str, directory: &Path) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "bare".to_owned(),
            attempt: 0,
        }),
        hostname: name.to_owned(),
        log_directory: directory.display().to_string(),
        dns_config: None,
        port_mappings: Vec::new(),
        labels: Labels::new(),
        annotations: Labels::new(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: "/kedge".to_owned(),
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces()),
                ..LinuxSandboxSecurityContext::default()
            }),
            sysctls: Labels::new(),
        }),
    }
}

fn container() -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: "c".to_owned(), attempt: 0 }),
        image: Some(ImageSpec { image: "kedge.local/busybox:1".to_owned() }),
        command: vec!["sleep".to_owned(), "100000".to_owned()],
        log_path: "c/0.log".to_owned(),
        linux: Some(LinuxContainerConfig {
            resources: None,
            security_context: Some(LinuxContainerSecurityContext {
                namespace_options: Some(namespaces()),
                run_as_user: Some(Int64Value { value: 0 }),
                ..LinuxContainerSecurityContext::default()
            }),
        }),
        ..ContainerConfig::default()
    }
}
