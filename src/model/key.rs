//! Names of things: nodes, object kinds, objects, devices, revisions. Checked once, then trusted.

use std::fmt;

/// The name of an edge node: a DNS-1123 subdomain of at most 253 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct NodeName(String);

impl NodeName {
    /// Stands for a node whose name nobody can tell.
    pub fn unknown() -> NodeName {
        NodeName("unknown".to_owned())
    }

    /// Checks the name; the error says what is wrong with it.
    pub fn new(name: impl Into<String>) -> Result<Self, String> {
        let name = name.into();
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if name.is_empty() || name.len() > 253 {
            return Err(format!("a node name has 1 to 253 characters, this one has {}", name.len()));
        }
        if let Some(bad) = name.chars().find(|c| !allowed(*c)) {
            return Err(format!("a node name has lower-case letters, digits, '-' and '.', not {bad:?}"));
        }
        if name.split('.').any(|label| label.is_empty() || label.starts_with('-') || label.ends_with('-')) {
            return Err("a node name's parts begin and end with a letter or digit".to_owned());
        }
        Ok(NodeName(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A Kubernetes `resourceVersion`: decimal, compared as a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub u64);

impl Revision {
    /// `None` for anything but an unsigned 64-bit decimal.
    pub fn parse(text: &str) -> Option<Revision> {
        text.parse().ok().map(Revision)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The kinds of objects that an edge node keeps; `as_str` is KubeEdge's word for it in paths and in `meta.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Pod,
    ConfigMap,
    Secret,
    Node,
    Lease,
    Device,
    DeviceModel,
    DeviceMapper,
    ServiceAccountAccess,
    ServiceAccountToken,
    PersistentVolume,
    PersistentVolumeClaim,
    VolumeAttachment,
    CertificateSigningRequest,
    Rule,
    RuleEndpoint,
    NodePatch,
    PodPatch,
}

impl Kind {
    pub const ALL: [Kind; 18] = [
        Kind::Pod,
        Kind::ConfigMap,
        Kind::Secret,
        Kind::Node,
        Kind::Lease,
        Kind::Device,
        Kind::DeviceModel,
        Kind::DeviceMapper,
        Kind::ServiceAccountAccess,
        Kind::ServiceAccountToken,
        Kind::PersistentVolume,
        Kind::PersistentVolumeClaim,
        Kind::VolumeAttachment,
        Kind::CertificateSigningRequest,
        Kind::Rule,
        Kind::RuleEndpoint,
        Kind::NodePatch,
        Kind::PodPatch,
    ];

    /// KubeEdge's word for the kind (protocol.md §1.3).
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Pod => "pod",
            Kind::ConfigMap => "configmap",
            Kind::Secret => "secret",
            Kind::Node => "node",
            Kind::Lease => "lease",
            Kind::Device => "device",
            Kind::DeviceModel => "devicemodel",
            Kind::DeviceMapper => "devicemapper",
            Kind::ServiceAccountAccess => "serviceaccountaccess",
            Kind::ServiceAccountToken => "serviceaccounttoken",
            Kind::PersistentVolume => "persistentvolume",
            Kind::PersistentVolumeClaim => "persistentvolumeclaim",
            Kind::VolumeAttachment => "volumeattachment",
            Kind::CertificateSigningRequest => "certificatesigningrequest",
            Kind::Rule => "rule",
            Kind::RuleEndpoint => "ruleendpoint",
            Kind::NodePatch => "nodepatch",
            Kind::PodPatch => "podpatch",
        }
    }

    /// The inverse of [`Kind::as_str`].
    pub fn parse(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What names an object on the wire and in the store: `{namespace or "null"}/{kind}/{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    pub kind: Kind,
    /// `None` for cluster-scoped objects.
    pub namespace: Option<String>,
    pub name: String,
}

impl ObjectKey {
    pub fn namespaced(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        ObjectKey { kind, namespace: Some(namespace.into()), name: name.into() }
    }

    pub fn cluster(kind: Kind, name: impl Into<String>) -> Self {
        ObjectKey { kind, namespace: None, name: name.into() }
    }

    /// Reads `{namespace}/{kind}/{name}` with exactly three non-empty parts and a known kind.
    pub fn parse(path: &str) -> Option<Self> {
        let mut parts = path.split('/');
        let (namespace, kind, name) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || namespace.is_empty() || name.is_empty() {
            return None;
        }
        let namespace = (namespace != "null").then(|| namespace.to_owned());
        Some(ObjectKey { kind: Kind::parse(kind)?, namespace, name: name.to_owned() })
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace.as_deref().unwrap_or("null"), self.kind, self.name)
    }
}

/// A device's identity, `{namespace}/{name}` on the wire since KubeEdge 1.17.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId {
    pub namespace: String,
    pub name: String,
}

impl DeviceId {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        DeviceId { namespace: namespace.into(), name: name.into() }
    }

    /// Reads `name` (namespace `default`) or `namespace/name`.
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
        if namespace.is_empty() || name.is_empty() || name.contains('/') {
            return None;
        }
        Some(DeviceId::new(namespace, name))
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_what_they_write() {
        for text in ["default/pod/nginx-1", "null/node/n1", "kube-node-lease/lease/n1"] {
            assert_eq!(ObjectKey::parse(text).unwrap().to_string(), text);
        }
        for text in ["default/pod", "default//x", "/pod/x", "default/pod/", "a/nonsense/b", "a/pod/b/c"] {
            assert_eq!(ObjectKey::parse(text), None, "{text}");
        }
    }

    #[test]
    fn node_names_are_checked() {
        assert!(NodeName::new("edge-1.site").is_ok());
        for bad in ["", "Edge", "a_b", "-a", "a-", "a..b", &"x".repeat(254)] {
            assert!(NodeName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn device_names_default_to_the_default_namespace() {
        assert_eq!(DeviceId::parse("t1"), Some(DeviceId::new("default", "t1")));
        assert_eq!(DeviceId::parse("lab/t1"), Some(DeviceId::new("lab", "t1")));
        assert_eq!(DeviceId::parse("a/b/c"), None);
    }
}
