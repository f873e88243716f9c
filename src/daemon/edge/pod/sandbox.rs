//! A pod's sandbox as the runtime wants it described: names, labels, network, namespaces, DNS. Pure.

use super::paths::Paths;
use crate::cri::messages::{
    DnsConfig, Int64Value, Labels, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode,
    NamespaceOption, PodSandboxConfig, PodSandboxMetadata, PortMapping, ProfileType, Protocol,
    SecurityProfile,
};
use k8s_openapi::api::core::v1::{Pod, PodSpec, SeccompProfile};

pub(super) const NAME_LABEL: &str = "io.kubernetes.pod.name";
pub(super) const NAMESPACE_LABEL: &str = "io.kubernetes.pod.namespace";
pub(super) const UID_LABEL: &str = "io.kubernetes.pod.uid";
/// Marks what this program made, with the node's name: nobody else's pods are ever stopped.
pub const NODE_LABEL: &str = "kedge.io/node";

/// What the description needs besides the pod.
pub(super) struct Facts<'a> {
    pub node: &'a str,
    pub cgroup_parent: String,
    pub paths: &'a Paths,
    pub cluster_dns: &'a [String],
    pub cluster_domain: &'a str,
    /// Text of the machine's `resolv.conf`.
    pub host_dns: &'a str,
}

/// The sandbox of this pod.
pub(super) fn config(pod: &Pod, facts: &Facts<'_>, attempt: u32) -> PodSandboxConfig {
    let meta = &pod.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let namespace = meta.namespace.clone().unwrap_or_default();
    let uid = meta.uid.clone().unwrap_or_default();
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let mut labels: Labels = meta.labels.iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    labels.insert(NAME_LABEL.into(), name.clone());
    labels.insert(NAMESPACE_LABEL.into(), namespace.clone());
    labels.insert(UID_LABEL.into(), uid.clone());
    labels.insert(NODE_LABEL.into(), facts.node.to_owned());
    let host_network = spec.host_network == Some(true);
    PodSandboxConfig {
        hostname: if host_network { String::new() } else { hostname(pod) },
        log_directory: facts.paths.pod_logs(&namespace, &name, &uid).display().to_string(),
        dns_config: dns(spec, &namespace, facts),
        port_mappings: if host_network { Vec::new() } else { ports(spec) },
        labels,
        // Applied configuration can be large and would be held by the runtime for every container.
        annotations: Labels::new(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: facts.cgroup_parent.clone(),
            security_context: Some(security(spec)),
            sysctls: sysctls(spec),
        }),
        metadata: Some(PodSandboxMetadata { name, uid, namespace, attempt }),
    }
}

/// The pod's host name, at most 63 characters as the kernel and DNS want it.
pub(super) fn hostname(pod: &Pod) -> String {
    let named = pod.spec.as_ref().and_then(|spec| spec.hostname.clone()).filter(|name| !name.is_empty());
    let name = named.or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// Which namespaces the pod's containers share with the pod or the machine.
pub(super) fn namespaces(spec: &PodSpec) -> NamespaceOption {
    let node_or = |host: Option<bool>, otherwise: NamespaceMode| {
        if host == Some(true) { NamespaceMode::Node } else { otherwise }
    };
    let shared = spec.share_process_namespace == Some(true);
    let pid = if shared { NamespaceMode::Pod } else { NamespaceMode::Container };
    NamespaceOption {
        network: node_or(spec.host_network, NamespaceMode::Pod) as i32,
        pid: node_or(spec.host_pid, pid) as i32,
        ipc: node_or(spec.host_ipc, NamespaceMode::Pod) as i32,
    }
}

pub(super) fn seccomp(profile: Option<&SeccompProfile>) -> SecurityProfile {
    let (kind, local) = match profile.map(|profile| (profile.type_.as_str(), &profile.localhost_profile)) {
        Some(("RuntimeDefault", _)) => (ProfileType::RuntimeDefault, String::new()),
        Some(("Localhost", Some(path))) => {
            (ProfileType::Localhost, format!("/var/lib/kubelet/seccomp/{}", path.trim_start_matches('/')))
        }
        _ => (ProfileType::Unconfined, String::new()),
    };
    SecurityProfile { profile_type: kind as i32, localhost_ref: local }
}

fn security(spec: &PodSpec) -> LinuxSandboxSecurityContext {
    let context = spec.security_context.as_ref();
    let id = |value: Option<i64>| value.map(|value| Int64Value { value });
    let user = context.and_then(|context| context.run_as_user);
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let privileged = containers
        .filter_map(|container| container.security_context.as_ref())
        .any(|context| context.privileged == Some(true));
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(spec)),
        run_as_user: id(user),
        // The runtime refuses a group without a user.
        run_as_group: id(context.and_then(|context| context.run_as_group).filter(|_| user.is_some())),
        readonly_rootfs: false,
        supplemental_groups: supplemental_groups(spec),
        privileged,
        seccomp: Some(seccomp(context.and_then(|context| context.seccomp_profile.as_ref()))),
    }
}

/// The groups that every process of the pod belongs to.
pub(super) fn supplemental_groups(spec: &PodSpec) -> Vec<i64> {
    let Some(context) = &spec.security_context else { return Vec::new() };
    context.fs_group.into_iter().chain(context.supplemental_groups.iter().flatten().copied()).collect()
}

fn sysctls(spec: &PodSpec) -> Labels {
    let list = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    list.map(|sysctl| (sysctl.name.clone(), sysctl.value.clone())).collect()
}

fn ports(spec: &PodSpec) -> Vec<PortMapping> {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports
        .filter(|port| port.host_port.is_some_and(|host| host > 0))
        .map(|port| PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                _ => Protocol::Tcp,
            } as i32,
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or(0),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

/// `None` lets the runtime copy the machine's own configuration.
fn dns(spec: &PodSpec, namespace: &str, facts: &Facts<'_>) -> Option<DnsConfig> {
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let own_network = spec.host_network != Some(true);
    let cluster = (policy == "ClusterFirst" && own_network) || policy == "ClusterFirstWithHostNet";
    let mut config = match policy {
        "None" => DnsConfig::default(),
        _ if cluster && !facts.cluster_dns.is_empty() => {
            let domain = facts.cluster_domain;
            DnsConfig {
                servers: facts.cluster_dns.to_vec(),
                searches: vec![
                    format!("{namespace}.svc.{domain}"),
                    format!("svc.{domain}"),
                    domain.to_owned(),
                ],
                options: vec!["ndots:5".to_owned()],
            }
        }
        _ if spec.dns_config.is_none() => return None,
        _ => read_resolv_conf(facts.host_dns),
    };
    if let Some(extra) = &spec.dns_config {
        config.servers.extend(extra.nameservers.iter().flatten().cloned());
        config.searches.extend(extra.searches.iter().flatten().cloned());
        for option in extra.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            let prefix = format!("{name}:");
            config.options.retain(|old| old != name && !old.starts_with(&prefix));
            config.options.push(match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            });
        }
    }
    Some(config)
}

fn read_resolv_conf(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            Some("search") => config.searches = words.map(str::to_owned).collect(),
            Some("options") => config.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn made(spec: Value) -> PodSandboxConfig {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "d", "uid": "u", "labels": {"a": "b"}}, "spec": spec}),
        )
        .unwrap();
        let paths = Paths { root: "/r".into(), logs: "/l".into() };
        let facts = Facts {
            node: "n",
            cgroup_parent: "/kedge".to_owned(),
            paths: &paths,
            cluster_dns: &["10.96.0.10".to_owned()],
            cluster_domain: "cluster.local",
            host_dns: "search home\nnameserver 192.0.2.53\n",
        };
        config(&pod, &facts, 1)
    }

    #[test]
    fn a_sandbox_is_named_so_that_it_can_be_found_again() {
        let config = made(json!({"containers": []}));
        assert_eq!(config.metadata.unwrap().attempt, 1);
        assert_eq!(config.labels[UID_LABEL], "u");
        assert_eq!(config.labels["a"], "b");
        assert_eq!(config.log_directory, "/l/pods/d_p_u");
        assert_eq!(config.dns_config.unwrap().searches[0], "d.svc.cluster.local");
    }

    #[test]
    fn a_pod_in_the_host_network_maps_no_ports() {
        let ports = json!([{"name": "a", "ports": [{"containerPort": 80, "hostPort": 8080}]}]);
        assert_eq!(made(json!({"containers": ports})).port_mappings[0].host_port, 8080);
        let host = made(json!({"containers": ports, "hostNetwork": true}));
        assert!(host.port_mappings.is_empty() && host.hostname.is_empty() && host.dns_config.is_none());
    }

    #[test]
    fn own_dns_options_replace_the_default_ones() {
        let dns =
            made(json!({"containers": [], "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}}));
        assert_eq!(dns.dns_config.unwrap().options, ["ndots:2"]);
        let own =
            made(json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.1"]}}));
        assert_eq!(own.dns_config.unwrap().servers, ["192.0.2.1"]);
        let host = made(json!({"containers": [], "dnsPolicy": "Default", "dnsConfig": {"searches": ["x"]}}));
        assert_eq!(host.dns_config.unwrap().searches, ["home", "x"]);
    }
}
