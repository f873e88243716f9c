//! The API resources that the cloud uses and their paths. Names come from nodes, so each is encoded as one path segment.

use crate::model::Kind;

/// A resource of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::daemon::cloud) struct Resource {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub namespaced: bool,
}

const fn core(kind: &'static str, plural: &'static str, namespaced: bool) -> Resource {
    Resource { group: "", version: "v1", kind, plural, namespaced }
}

impl Resource {
    pub const POD: Resource = core("Pod", "pods", true);
    pub const CONFIG_MAP: Resource = core("ConfigMap", "configmaps", true);
    pub const SECRET: Resource = core("Secret", "secrets", true);
    pub const NODE: Resource = core("Node", "nodes", false);
    pub const EVENT: Resource = core("Event", "events", true);
    pub const NAMESPACE: Resource = core("Namespace", "namespaces", false);
    pub const SERVICE_ACCOUNT: Resource = core("ServiceAccount", "serviceaccounts", true);
    pub const PERSISTENT_VOLUME: Resource = core("PersistentVolume", "persistentvolumes", false);
    pub const PERSISTENT_VOLUME_CLAIM: Resource =
        core("PersistentVolumeClaim", "persistentvolumeclaims", true);
    pub const VOLUME_ATTACHMENT: Resource = Resource {
        group: "storage.k8s.io",
        version: "v1",
        kind: "VolumeAttachment",
        plural: "volumeattachments",
        namespaced: false,
    };
    pub const LEASE: Resource = Resource {
        group: "coordination.k8s.io",
        version: "v1",
        kind: "Lease",
        plural: "leases",
        namespaced: true,
    };
    pub const CERTIFICATE_SIGNING_REQUEST: Resource = Resource {
        group: "certificates.k8s.io",
        version: "v1",
        kind: "CertificateSigningRequest",
        plural: "certificatesigningrequests",
        namespaced: false,
    };
    pub const CUSTOM_RESOURCE_DEFINITION: Resource = Resource {
        group: "apiextensions.k8s.io",
        version: "v1",
        kind: "CustomResourceDefinition",
        plural: "customresourcedefinitions",
        namespaced: false,
    };
    pub const SERVICE: Resource = core("Service", "services", true);
    pub const DEPLOYMENT: Resource = of("apps", "Deployment", "deployments", true);
    pub const DAEMON_SET: Resource = of("apps", "DaemonSet", "daemonsets", true);
    pub const POD_DISRUPTION_BUDGET: Resource =
        of("policy", "PodDisruptionBudget", "poddisruptionbudgets", true);
    pub const ROLE: Resource = of(RBAC, "Role", "roles", true);
    pub const ROLE_BINDING: Resource = of(RBAC, "RoleBinding", "rolebindings", true);
    pub const CLUSTER_ROLE: Resource = of(RBAC, "ClusterRole", "clusterroles", false);
    pub const CLUSTER_ROLE_BINDING: Resource = of(RBAC, "ClusterRoleBinding", "clusterrolebindings", false);
    pub const SELF_SUBJECT_ACCESS_REVIEW: Resource =
        of("authorization.k8s.io", "SelfSubjectAccessReview", "selfsubjectaccessreviews", false);
    pub const TOKEN_REVIEW: Resource = of("authentication.k8s.io", "TokenReview", "tokenreviews", false);
    pub const SUBJECT_ACCESS_REVIEW: Resource =
        of("authorization.k8s.io", "SubjectAccessReview", "subjectaccessreviews", false);
    pub const DEVICE: Resource = device("Device", "devices");
    pub const DEVICE_MODEL: Resource = device("DeviceModel", "devicemodels");
    pub const DEVICE_STATUS: Resource = device("DeviceStatus", "devicestatuses");
    pub const NODE_UPGRADE_JOB: Resource = job("NodeUpgradeJob", "nodeupgradejobs");
    pub const IMAGE_PRE_PULL_JOB: Resource = job("ImagePrePullJob", "imageprepulljobs");
    pub const CONFIG_UPDATE_JOB: Resource = job("ConfigUpdateJob", "configupdatejobs");
    /// KubeEdge's older form of the two, which the same objects are read and written in.
    pub const NODE_UPGRADE_JOB_V1ALPHA1: Resource =
        Resource { version: "v1alpha1", ..Resource::NODE_UPGRADE_JOB };
    pub const IMAGE_PRE_PULL_JOB_V1ALPHA1: Resource =
        Resource { version: "v1alpha1", ..Resource::IMAGE_PRE_PULL_JOB };
    pub const OBJECT_SYNC: Resource = sync("ObjectSync", "objectsyncs", true);
    pub const CLUSTER_OBJECT_SYNC: Resource = sync("ClusterObjectSync", "clusterobjectsyncs", false);

    pub const RULE: Resource = rule("Rule", "rules");
    pub const RULE_ENDPOINT: Resource = rule("RuleEndpoint", "ruleendpoints");

    /// The resource of a kind that nodes may ask for or keep.
    pub fn of(kind: Kind) -> Option<Resource> {
        Some(match kind {
            Kind::Pod => Resource::POD,
            Kind::ConfigMap => Resource::CONFIG_MAP,
            Kind::Secret => Resource::SECRET,
            Kind::Node => Resource::NODE,
            Kind::Lease => Resource::LEASE,
            Kind::Device => Resource::DEVICE,
            Kind::DeviceModel => Resource::DEVICE_MODEL,
            Kind::PersistentVolume => Resource::PERSISTENT_VOLUME,
            Kind::PersistentVolumeClaim => Resource::PERSISTENT_VOLUME_CLAIM,
            Kind::VolumeAttachment => Resource::VOLUME_ATTACHMENT,
            Kind::CertificateSigningRequest => Resource::CERTIFICATE_SIGNING_REQUEST,
            Kind::DeviceMapper
            | Kind::ServiceAccountAccess
            | Kind::ServiceAccountToken
            | Kind::Rule
            | Kind::RuleEndpoint
            | Kind::NodePatch
            | Kind::PodPatch => return None,
        })
    }

    /// The resource of a kind that an installation consists of.
    pub fn named(kind: &str) -> Option<Resource> {
        const KINDS: [Resource; 13] = [
            Resource::NAMESPACE,
            Resource::SERVICE_ACCOUNT,
            Resource::CONFIG_MAP,
            Resource::SECRET,
            Resource::SERVICE,
            Resource::DEPLOYMENT,
            Resource::DAEMON_SET,
            Resource::POD_DISRUPTION_BUDGET,
            Resource::ROLE,
            Resource::ROLE_BINDING,
            Resource::CLUSTER_ROLE,
            Resource::CLUSTER_ROLE_BINDING,
            Resource::CUSTOM_RESOURCE_DEFINITION,
        ];
        KINDS.into_iter().find(|resource| resource.kind == kind)
    }

    /// `v1` or `group/version`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The path of one object, of one of its subresources, or of a collection.
    pub fn path(&self, namespace: Option<&str>, name: Option<&str>, subresource: Option<&str>) -> String {
        let place = (namespace.filter(|_| self.namespaced), name, subresource);
        path_of((self.group, self.version, self.plural), place)
    }
}

/// The path of what group, version and plural name: of namespace, name and subresource, as far as they are given.
pub(in crate::daemon::cloud) fn path_of(
    (group, version, plural): (&str, &str, &str),
    (namespace, name, subresource): (Option<&str>, Option<&str>, Option<&str>),
) -> String {
    let mut path = String::from(if group.is_empty() { "/api" } else { "/apis" });
    let mut add = |part: &str| {
        path.push('/');
        segment(&mut path, part);
    };
    if !group.is_empty() {
        add(group);
    }
    add(version);
    if let Some(namespace) = namespace {
        add("namespaces");
        add(namespace);
    }
    add(plural);
    for part in [name, subresource].into_iter().flatten() {
        add(part);
    }
    path
}

const RBAC: &str = "rbac.authorization.k8s.io";

const fn of(group: &'static str, kind: &'static str, plural: &'static str, namespaced: bool) -> Resource {
    Resource { group, version: "v1", kind, plural, namespaced }
}

const fn device(kind: &'static str, plural: &'static str) -> Resource {
    Resource { group: "devices.kubeedge.io", version: "v1beta1", kind, plural, namespaced: true }
}

const fn job(kind: &'static str, plural: &'static str) -> Resource {
    Resource { group: "operations.kubeedge.io", version: "v1alpha2", kind, plural, namespaced: false }
}

const fn rule(kind: &'static str, plural: &'static str) -> Resource {
    Resource { group: "rules.kubeedge.io", version: "v1", kind, plural, namespaced: true }
}

const fn sync(kind: &'static str, plural: &'static str, namespaced: bool) -> Resource {
    Resource { group: "reliablesyncs.kubeedge.io", version: "v1alpha1", kind, plural, namespaced }
}

/// Appends text as one path segment or query value; dots alone would climb, so they are encoded too.
pub(in crate::daemon::cloud) fn segment(path: &mut String, text: &str) {
    let dots_alone = text == "." || text == "..";
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b':');
        if plain || (byte == b'.' && !dots_alone) {
            path.push(char::from(byte));
        } else {
            *path += &format!("%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_the_grammar_of_the_api() {
        assert_eq!(
            Resource::POD.path(Some("default"), Some("p"), Some("status")),
            "/api/v1/namespaces/default/pods/p/status"
        );
        assert_eq!(Resource::NODE.path(None, Some("n.site"), None), "/api/v1/nodes/n.site");
        assert_eq!(Resource::DEVICE.path(None, None, None), "/apis/devices.kubeedge.io/v1beta1/devices");
    }

    #[test]
    fn a_hostile_name_stays_one_segment() {
        assert_eq!(
            Resource::SECRET.path(Some("a/../b"), Some(".."), None),
            "/api/v1/namespaces/a%2F..%2Fb/secrets/%2E%2E"
        );
        assert_eq!(
            Resource::SECRET.path(Some("a"), Some("x?y#z"), None),
            "/api/v1/namespaces/a/secrets/x%3Fy%23z"
        );
    }
}
