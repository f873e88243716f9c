//! Who is who: a node's certificate names it, and it acts for itself only. Pure.

use crate::model::{Kind, NodeName};
use crate::pki::Peer;
use crate::wire::Up;

const PREFIX: &str = "system:node:";
const GROUP: &str = "system:nodes";

/// The node that a certificate belongs to.
pub fn node_of(peer: &Peer) -> Option<NodeName> {
    NodeName::new(peer.common_name.strip_prefix(PREFIX)?).ok()
}

/// Whether a certificate or a signing request is this node's and of no group but the nodes'.
pub fn is_node(peer: &Peer, node: &str) -> bool {
    peer.common_name.strip_prefix(PREFIX) == Some(node) && peer.organizations == [GROUP]
}

/// Whether a certificate is the one that all nodes of a KubeEdge before 1.18 shared; it proves membership and no name.
pub fn is_former(peer: &Peer) -> bool {
    peer.common_name == "kubeedge.io" && peer.organizations.first().is_some_and(|first| first == "KubeEdge")
}

/// Whether the node may say this. What it may do with pods is for `control` to judge, which knows where they run.
pub fn permits(node: &NodeName, up: &Up) -> bool {
    let own = |name: &str| name == node.as_str();
    match up {
        Up::NodeInsert { name, .. } | Up::NodeUpdate { name, .. } | Up::NodePatch { name, .. } => own(name),
        Up::Lease { name, .. } | Up::NodeStatus { name, .. } => own(name),
        Up::Application(application) => application.nodename.is_empty() || own(&application.nodename),
        Up::WatchSync(all) => all.values().all(|one| one.nodename.is_empty() || own(&one.nodename)),
        Up::Task(report) => own(report.node()),
        Up::Query { key } => !matches!(key.kind, Kind::Node | Kind::Lease) || own(&key.name),
        Up::Keepalive
        | Up::Acknowledge { .. }
        | Up::PodPatch { .. }
        | Up::PodStatus { .. }
        | Up::CertificateRequest { .. }
        | Up::ClusterCa
        | Up::PodInsert { .. }
        | Up::PodDelete { .. }
        | Up::TokenRequest { .. }
        | Up::Event { .. }
        | Up::EventPatch { .. }
        | Up::TwinReport(_)
        | Up::StateReport(_)
        | Up::MembershipDetail { .. }
        | Up::Upload { .. }
        | Up::Holdings(_)
        | Up::ServiceUpload { .. }
        | Up::ServiceReply { .. }
        | Up::VolumeResult(_)
        | Up::Failed { .. }
        | Up::Unknown { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObjectKey;

    #[test]
    fn a_node_speaks_for_itself_only() {
        let node = NodeName::new("n1").unwrap();
        for (name, allowed) in [("n1", true), ("n2", false)] {
            let patch = Up::NodePatch { name: name.to_owned(), patch: "{}".to_owned() };
            assert_eq!(permits(&node, &patch), allowed);
            let lease = Up::Query { key: ObjectKey::namespaced(Kind::Lease, "kube-node-lease", name) };
            assert_eq!(permits(&node, &lease), allowed);
        }
        assert!(permits(&node, &Up::Query { key: ObjectKey::namespaced(Kind::ConfigMap, "a", "n2") }));
    }

    #[test]
    fn certificates_name_nodes() {
        let peer = |name: &str, groups: &[&str]| Peer {
            common_name: name.to_owned(),
            organizations: groups.iter().map(|group| (*group).to_owned()).collect(),
        };
        assert_eq!(node_of(&peer("system:node:n1", &[])), NodeName::new("n1").ok());
        assert_eq!(node_of(&peer("kubernetes-admin", &["system:masters"])), None);
        assert!(is_node(&peer("system:node:n1", &["system:nodes"]), "n1"));
        assert!(!is_node(&peer("system:node:n1", &["system:nodes", "system:masters"]), "n1"));
        assert!(!is_node(&peer("system:node:n2", &["system:nodes"]), "n1"));
    }
}
