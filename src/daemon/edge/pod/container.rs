//! A container as the runtime wants it described: command, environment, mounts, limits, security. Pure.

use super::env::{ConfigError, Environment};
use super::quantity;
use super::sandbox::{self, NAME_LABEL, NAMESPACE_LABEL, NODE_LABEL, UID_LABEL};
use super::state;
use super::status;
use crate::cri::messages::{
    Capability, ContainerConfig, ContainerMetadata, Image, ImageSpec, Int64Value, KeyValue, Labels,
    LinuxContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext, Mount,
};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, SecurityContext};

pub(super) const CONTAINER_LABEL: &str = "io.kubernetes.container.name";
pub(super) const HASH: &str = "io.kubernetes.container.hash";
pub(super) const RESTARTS: &str = "io.kubernetes.container.restartCount";
pub(super) const LAST_WORDS: &str = "io.kubernetes.container.terminationMessagePath";
const LAST_WORDS_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
const PORTS: &str = "io.kubernetes.container.ports";
const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
const DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";

/// What the description needs besides the pod.
pub(super) struct Parts<'a> {
    pub node: &'a str,
    pub image: &'a Image,
    pub env: Environment,
    pub mounts: Vec<Mount>,
    pub attempt: u32,
}

/// The container of this pod.
pub(super) fn config(
    pod: &Pod,
    container: &Container,
    parts: Parts<'_>,
) -> Result<ContainerConfig, ConfigError> {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let meta = &pod.metadata;
    let labels = [
        (NAME_LABEL, meta.name.clone().unwrap_or_default()),
        (NAMESPACE_LABEL, meta.namespace.clone().unwrap_or_default()),
        (UID_LABEL, meta.uid.clone().unwrap_or_default()),
        (NODE_LABEL, parts.node.to_owned()),
        (CONTAINER_LABEL, container.name.clone()),
    ];
    let expanded =
        |words: &Option<Vec<String>>| words.iter().flatten().map(|word| parts.env.expand(word)).collect();
    let security = security(spec, container.security_context.as_ref(), parts.image)?;
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata { name: container.name.clone(), attempt: parts.attempt }),
        image: Some(ImageSpec { image: parts.image.id.clone() }),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts: parts.mounts,
        devices: Vec::new(),
        labels: labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        annotations: annotations(pod, container, parts.attempt),
        log_path: format!("{}/{}.log", container.name, parts.attempt),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(LinuxContainerConfig {
            resources: Some(resources(spec, container)),
            security_context: Some(security),
        }),
        envs: parts.env.into_pairs().into_iter().map(|(key, value)| KeyValue { key, value }).collect(),
    })
}

/// Everything that a kubelet writes on its containers: one that takes this node over recognises ours as unchanged and
/// can end them properly when their pod is gone.
fn annotations(pod: &Pod, container: &Container, attempt: u32) -> Labels {
    let json = |value: Result<String, serde_json::Error>| value.ok();
    let pre_stop = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    let ports = container.ports.as_ref().filter(|ports| !ports.is_empty());
    let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    let pairs = [
        (HASH, Some(state::hash(container))),
        (RESTARTS, Some(attempt.to_string())),
        (LAST_WORDS, Some(last_words_path(container).to_owned())),
        (
            LAST_WORDS_POLICY,
            Some(container.termination_message_policy.clone().unwrap_or_else(|| "File".to_owned())),
        ),
        (PRE_STOP, pre_stop.and_then(|handler| json(serde_json::to_string(handler)))),
        (PORTS, ports.and_then(|ports| json(serde_json::to_string(ports)))),
        (GRACE, grace.map(|seconds| seconds.to_string())),
        (DELETION_GRACE, pod.metadata.deletion_grace_period_seconds.map(|seconds| seconds.to_string())),
    ];
    pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

pub(super) fn last_words_path(container: &Container) -> &str {
    container
        .termination_message_path
        .as_deref()
        .filter(|path| !path.is_empty())
        .unwrap_or("/dev/termination-log")
}

fn security(
    spec: &PodSpec,
    own: Option<&SecurityContext>,
    image: &Image,
) -> Result<LinuxContainerSecurityContext, ConfigError> {
    let pod = spec.security_context.as_ref();
    let user = own.and_then(|own| own.run_as_user).or_else(|| pod.and_then(|pod| pod.run_as_user));
    let group = own.and_then(|own| own.run_as_group).or_else(|| pod.and_then(|pod| pod.run_as_group));
    let non_root =
        own.and_then(|own| own.run_as_non_root).or_else(|| pod.and_then(|pod| pod.run_as_non_root));
    let (image_user, image_name) = (image.uid.as_ref().map(|uid| uid.value), image.username.as_str());
    if non_root == Some(true) {
        match user.or(image_user) {
            Some(0) => {
                return Err(ConfigError("container has runAsNonRoot and image will run as root".to_owned()));
            }
            None if image_name.is_empty() => {
                return Err(ConfigError("container has runAsNonRoot and image will run as root".to_owned()));
            }
            None => {
                return Err(ConfigError(format!(
                    "container has runAsNonRoot and image has non-numeric user ({image_name}), cannot verify user is non-root"
                )));
            }
            Some(_) => {}
        }
    }
    let capabilities = own.and_then(|own| own.capabilities.as_ref()).map(|capabilities| Capability {
        add_capabilities: capabilities.add.clone().unwrap_or_default(),
        drop_capabilities: capabilities.drop.clone().unwrap_or_default(),
    });
    let privileged = own.and_then(|own| own.privileged) == Some(true);
    let profile = own
        .and_then(|own| own.seccomp_profile.as_ref())
        .or_else(|| pod.and_then(|pod| pod.seccomp_profile.as_ref()));
    let unmasked = privileged || own.and_then(|own| own.proc_mount.as_deref()) == Some("Unmasked");
    let paths =
        |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(|p| (*p).to_owned()).collect() };
    // The image's user is named as well: with none the runtime would take a group without a user.
    let runs_as = user.or(image_user);
    Ok(LinuxContainerSecurityContext {
        capabilities,
        privileged,
        namespace_options: Some(sandbox::namespaces(spec)),
        run_as_user: runs_as.map(|value| Int64Value { value }),
        run_as_username: if runs_as.is_none() { image_name.to_owned() } else { String::new() },
        readonly_rootfs: own.and_then(|own| own.read_only_root_filesystem) == Some(true),
        supplemental_groups: sandbox::supplemental_groups(spec),
        no_new_privs: own.and_then(|own| own.allow_privilege_escalation) == Some(false),
        run_as_group: group.filter(|_| runs_as.is_some()).map(|value| Int64Value { value }),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(sandbox::seccomp(profile)),
    })
}

/// Parts of `/proc` and `/sys` that tell or change what belongs to the machine.
const MASKED: [&str; 9] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn resources(spec: &PodSpec, container: &Container) -> LinuxContainerResources {
    const PERIOD: i64 = 100_000;
    let amount = |limits: bool, name: &str| {
        let resources = container.resources.as_ref()?;
        let table = if limits { resources.limits.as_ref() } else { resources.requests.as_ref() };
        Some(table?.get(name)?.0.as_str())
    };
    let cpu_limit = amount(true, "cpu").and_then(quantity::thousandths);
    let cpu = amount(false, "cpu").and_then(quantity::thousandths).or(cpu_limit).unwrap_or(0);
    let memory = amount(true, "memory").and_then(quantity::whole).unwrap_or(0);
    let quota = cpu_limit.map(|milli| (milli.saturating_mul(PERIOD) / 1000).max(1000));
    LinuxContainerResources {
        cpu_period: quota.map_or(0, |_| PERIOD),
        cpu_quota: quota.unwrap_or(0),
        cpu_shares: (cpu.saturating_mul(1024) / 1000).clamp(2, 262_144),
        memory_limit_in_bytes: memory.max(0),
        // Who is killed first when memory is short. A negative score is not asked for: it needs a privilege that the
        // runtime may lack.
        oom_score_adj: match status::qos_class(spec) {
            "Guaranteed" => 0,
            "BestEffort" => 1000,
            _ => 500,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn made(spec: Value, image: &Image) -> Result<ContainerConfig, ConfigError> {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": spec}),
        )
        .unwrap();
        let container = pod.spec.as_ref().unwrap().containers[0].clone();
        let mut env = Environment::default();
        env.set("A", "1".into());
        config(&pod, &container, Parts { node: "n", image, env, mounts: vec![], attempt: 2 })
    }

    #[test]
    fn commands_are_expanded_and_the_attempt_is_noted() {
        let spec = json!({"containers": [{"name": "a", "command": ["x", "$(A)"], "args": ["$(B)"]}]});
        let config = made(spec, &Image::default()).unwrap();
        assert_eq!(
            (config.command, config.args),
            (vec!["x".to_owned(), "1".into()], vec!["$(B)".to_owned()])
        );
        assert_eq!(config.log_path, "a/2.log");
        assert_eq!(config.annotations[RESTARTS], "2");
    }

    #[test]
    fn a_kubelet_finds_all_that_it_notes_itself() {
        let spec = json!({"terminationGracePeriodSeconds": 7, "containers": [{"name": "a",
            "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "lifecycle": {"preStop": {"exec": {"command": ["x"]}}}}]});
        let noted = made(spec, &Image::default()).unwrap().annotations;
        assert_eq!(noted[PRE_STOP], r#"{"exec":{"command":["x"]}}"#);
        assert_eq!(noted[PORTS], r#"[{"containerPort":80,"protocol":"TCP"}]"#);
        assert_eq!((noted[GRACE].as_str(), noted[LAST_WORDS_POLICY].as_str()), ("7", "File"));
        let plain = made(json!({"containers": [{"name": "a"}]}), &Image::default()).unwrap().annotations;
        assert_eq!(plain.keys().collect::<Vec<_>>(), [HASH, RESTARTS, LAST_WORDS, LAST_WORDS_POLICY]);
    }

    #[test]
    fn limits_become_shares_and_quota() {
        let limits = json!({"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}});
        let config =
            made(json!({"containers": [{"name": "a", "resources": limits}]}), &Image::default()).unwrap();
        let resources = config.linux.unwrap().resources.unwrap();
        assert_eq!((resources.cpu_shares, resources.cpu_quota, resources.cpu_period), (256, 50_000, 100_000));
        assert_eq!(resources.memory_limit_in_bytes, 64 << 20);
    }

    #[test]
    fn root_is_refused_where_it_is_forbidden() {
        let spec = json!({"containers": [{"name": "a", "securityContext": {"runAsNonRoot": true}}]});
        assert!(made(spec.clone(), &Image::default()).is_err());
        let image = Image { uid: Some(Int64Value { value: 7 }), ..Image::default() };
        let config = made(spec, &image).unwrap();
        assert_eq!(config.linux.unwrap().security_context.unwrap().run_as_user.unwrap().value, 7);
    }
}
