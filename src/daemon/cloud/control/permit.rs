//! What a node must have for what it asks: Kubernetes' node authorizer and node restriction as one pure rule. `gate` checks
//! the claim against the pods; identity itself (a node acts as itself) is judged by the hub's session before.

use super::references;
use crate::model::{Kind, NodeName, ObjectKey};
use crate::pki::{Peer, csr_peer};
use crate::wire::{Blob, Up, Verb};
use serde_json::{Map, Value};

const LEASES: &str = "kube-node-lease";
/// Labels of this domain tell nodes apart for scheduling, so nodes never set them.
const GUARDED_LABELS: &str = "node-restriction.kubernetes.io";
const SIGNERS: [&str; 2] = ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];

/// What has to be true before the message is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Nothing more.
    Granted,
    /// It never is.
    Denied { kind: &'static str, why: &'static str },
    /// A pod on the node refers to this ConfigMap, Secret or PersistentVolumeClaim.
    Referred(ObjectKey),
    /// A pod on the node claims this PersistentVolume.
    Volume(String),
    /// The VolumeAttachment is for this node.
    Attachment(String),
    /// The CertificateSigningRequest is in this node's name.
    Certificate(String),
    /// The device, or a device that uses the model, is on the node.
    Device(ObjectKey),
    /// The pods are on the node, or do not exist.
    Pods { namespace: String, names: Vec<String> },
    /// The pod is not known to be on another node.
    NotForeign { namespace: String, name: String },
    /// The pod is on the node, has this uid and runs as this service account.
    Account { namespace: String, account: String, pod: String, uid: String },
}

fn denied(kind: &'static str, why: &'static str) -> Claim {
    Claim::Denied { kind, why }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

impl Claim {
    /// The claim that a message of `node` makes.
    pub(super) fn of(node: &NodeName, up: &Up) -> Claim {
        match up {
            Up::NodeInsert { node: object, .. } => node_object(node, object),
            // Nothing but the status is taken from it.
            Up::NodeStatus { verb: Verb::Update, .. } => Claim::Granted,
            // Old edges give no name; it is created under the node's own.
            Up::NodeStatus { status, .. } if text(status, "/metadata/name").is_empty() => registered(status),
            Up::NodeStatus { status, .. } => node_object(node, status),
            Up::NodeUpdate { node: object, .. } => node_labels(object),
            Up::NodePatch { patch, .. } => node_patch(patch),
            Up::PodPatch { namespace, name, patch } => pod_patch(namespace, name, patch),
            Up::PodStatus { namespace, pods, .. } => Claim::Pods {
                namespace: namespace.clone(),
                names: pods.iter().map(|pod| pod.name.clone()).collect(),
            },
            Up::PodDelete { namespace, name, .. } => one_pod(namespace, name),
            Up::PodInsert { namespace, name, pod } => mirror_pod(node, namespace, name, pod),
            Up::TokenRequest { namespace, service_account, request } => {
                token(namespace, service_account, request)
            }
            Up::Lease { namespace, lease, .. } => {
                if namespace != LEASES || text(lease, "/metadata/name") != node.as_str() {
                    return denied("lease", "a node keeps its own Lease only");
                }
                Claim::Granted
            }
            Up::CertificateRequest { request, .. } => {
                let signer = text(request, "/spec/signerName");
                if !SIGNERS.contains(&signer) || !is_certificate_of(node, request) {
                    return denied(
                        "certificatesigningrequest",
                        "a node asks for a kubelet's certificate in its own name only",
                    );
                }
                Claim::Granted
            }
            Up::Event { name, event, .. } => event_about(node, name, event),
            Up::EventPatch { name, event, patch, .. } => match plain_patch(patch) {
                Some(patch) if patch.get("involvedObject").is_none() => event_about(node, name, event),
                _ => denied("event", "a change of an event leaves alone what it is about"),
            },
            Up::Query { key } => query(key),
            Up::Keepalive
            | Up::Acknowledge { .. }
            | Up::ClusterCa
            | Up::Application(_)
            | Up::WatchSync(_)
            | Up::VolumeResult(_)
            | Up::Task(_)
            | Up::TwinReport(_)
            | Up::StateReport(_)
            | Up::MembershipDetail { .. }
            | Up::Upload { .. }
            | Up::Holdings(_)
            | Up::ServiceUpload { .. }
            | Up::ServiceReply { .. }
            | Up::Failed { .. }
            | Up::Unknown { .. } => Claim::Granted,
        }
    }

    /// How the refusal is counted.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Claim::Granted => "",
            Claim::Denied { kind, .. } => kind,
            Claim::Referred(key) => match key.kind {
                Kind::ConfigMap => "configmap",
                Kind::Secret => "secret",
                _ => "persistentvolumeclaim",
            },
            Claim::Volume(_) => "persistentvolume",
            Claim::Attachment(_) => "volumeattachment",
            Claim::Certificate(_) => "certificatesigningrequest",
            Claim::Device(_) => "device",
            Claim::Pods { .. } => "pod",
            Claim::NotForeign { .. } => "event",
            Claim::Account { .. } => "serviceaccounttoken",
        }
    }

    /// What the node is told; it never says whether the object exists.
    pub(super) fn why(&self) -> &'static str {
        match self {
            Claim::Granted => "",
            Claim::Denied { why, .. } => why,
            Claim::Referred(_) => "no pod on this node refers to the object",
            Claim::Volume(_) => "no pod on this node claims the volume",
            Claim::Attachment(_) => "the attachment is not for this node",
            Claim::Certificate(_) => "the request is not in this node's name",
            Claim::Device(_) => "the device is not on this node",
            Claim::Pods { .. } | Claim::NotForeign { .. } => "the pod belongs to another node",
            Claim::Account { .. } => "no such pod on this node runs as the service account",
        }
    }
}

fn one_pod(namespace: &str, name: &str) -> Claim {
    Claim::Pods { namespace: namespace.to_owned(), names: vec![name.to_owned()] }
}

fn query(key: &ObjectKey) -> Claim {
    let named = || key.name.clone();
    match key.kind {
        Kind::ConfigMap | Kind::Secret | Kind::PersistentVolumeClaim => Claim::Referred(key.clone()),
        Kind::PersistentVolume => Claim::Volume(named()),
        Kind::VolumeAttachment => Claim::Attachment(named()),
        Kind::CertificateSigningRequest => Claim::Certificate(named()),
        Kind::Device | Kind::DeviceModel => Claim::Device(key.clone()),
        Kind::Pod => one_pod(key.namespace.as_deref().unwrap_or_default(), &key.name),
        Kind::Lease if key.namespace.as_deref() != Some(LEASES) => {
            denied("lease", "a node keeps its own Lease only")
        }
        // Its own: the session has compared the name.
        Kind::Node | Kind::Lease => Claim::Granted,
        // These are not served to anybody.
        Kind::DeviceMapper
        | Kind::ServiceAccountAccess
        | Kind::ServiceAccountToken
        | Kind::Rule
        | Kind::RuleEndpoint
        | Kind::NodePatch
        | Kind::PodPatch => Claim::Granted,
    }
}

/// The path names this node; what is created takes its name from the object.
fn node_object(node: &NodeName, object: &Value) -> Claim {
    if text(object, "/metadata/name") != node.as_str() {
        return denied("node", "a node registers itself only");
    }
    registered(object)
}

/// An owner that does not exist has a Node deleted: its node would come back without what others have set in it.
const HOLDERS: [&str; 2] = ["/metadata/ownerReferences", "/metadata/finalizers"];

fn registered(object: &Value) -> Claim {
    let is_held = |at| object.pointer(at).is_some_and(|it| !it.is_null() && *it != Value::Array(Vec::new()));
    if HOLDERS.into_iter().any(is_held) {
        return denied("node", "a node does not say what its Node depends on");
    }
    node_labels(object)
}

fn node_labels(object: &Value) -> Claim {
    let guarded = |label: &String| {
        let domain = label.split_once('/').map_or("", |(domain, _)| domain);
        domain == GUARDED_LABELS || domain.ends_with(&format!(".{GUARDED_LABELS}")) || label.starts_with('$')
    };
    match object.pointer("/metadata/labels").and_then(Value::as_object) {
        Some(labels) if labels.keys().any(guarded) => {
            denied("node", "labels of node-restriction.kubernetes.io are not for nodes to set")
        }
        _ => Claim::Granted,
    }
}

/// The patch, if what it does to the metadata is all to be seen in it: directives of a strategic merge patch replace or
/// take away what they do not name. Those of a kubelet stand inside the status.
fn plain_patch(patch: &str) -> Option<Value> {
    let patch: Value = serde_json::from_str(patch).ok()?;
    let is_plain = |fields: &Map<String, Value>| !fields.keys().any(|key| key.starts_with('$'));
    let metadata = match patch.get("metadata") {
        Some(metadata) => {
            let parts = metadata.as_object()?;
            is_plain(parts) && parts.values().filter_map(Value::as_object).all(is_plain)
        }
        None => true,
    };
    let whole = is_plain(patch.as_object()?);
    (metadata && whole).then_some(patch)
}

/// A patch in the form in which it was judged: where a field stands twice, another reader may take the other one.
pub(super) fn as_judged(patch: &str) -> String {
    // What cannot be read is denied. Where refusals are only logged, the API says what is wrong with it.
    serde_json::from_str::<Value>(patch).map_or_else(|_| patch.to_owned(), |patch| patch.to_string())
}

fn node_patch(patch: &str) -> Claim {
    let Some(patch) = plain_patch(patch) else {
        return denied("node", "the patch cannot be judged: a node names the metadata that it changes");
    };
    if patch.pointer("/metadata/labels").is_some_and(|labels| !labels.is_object()) {
        return denied("node", "a node does not take all labels away");
    }
    if HOLDERS.iter().any(|at| patch.pointer(at).is_some()) {
        return denied("node", "a node does not say what its Node depends on");
    }
    node_labels(&patch)
}

fn pod_patch(namespace: &str, name: &str, patch: &str) -> Claim {
    let Some(patch) = plain_patch(patch).filter(|patch| patch.pointer("/metadata/labels").is_none()) else {
        return denied("pod", "a node reports a pod's status, not its labels");
    };
    // Without its mark a mirror pod would be one like others, with the rights of its service account.
    let annotations = patch.pointer("/metadata/annotations");
    if references::is_mirror(&patch) || annotations.is_some_and(|annotations| !annotations.is_object()) {
        return denied("pod", "a pod stays a mirror pod, or none");
    }
    one_pod(namespace, name)
}

/// Else a node could refer to any Secret by a pod of its own making, and read it.
fn mirror_pod(node: &NodeName, namespace: &str, name: &str, pod: &Value) -> Claim {
    let own = text(pod, "/spec/nodeName") == node.as_str() && text(pod, "/metadata/name") == name;
    let apart = matches!(text(pod, "/metadata/namespace"), "" | "default")
        || text(pod, "/metadata/namespace") == namespace;
    // A mark that is no text might not be kept.
    let marked = references::is_mirror(pod)
        && pod
            .pointer("/metadata/annotations")
            .and_then(Value::as_object)
            .is_some_and(|annotations| annotations.values().all(Value::is_string));
    if !own || !apart || !marked {
        return denied("pod", "a node creates mirror pods of its own only");
    }
    let has_account = ["/spec/serviceAccountName", "/spec/serviceAccount"]
        .into_iter()
        .any(|field| !text(pod, field).is_empty());
    if !references::named_in(pod).is_empty() || has_account {
        return denied("pod", "a mirror pod refers to nothing");
    }
    let owners = pod.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let is_node = |owner: &Value| text(owner, "/kind") == "Node" && text(owner, "/name") == node.as_str();
    if !owners.into_iter().flatten().all(is_node) {
        return denied("pod", "a mirror pod is its node's");
    }
    Claim::Granted
}

fn token(namespace: &str, account: &str, request: &Value) -> Claim {
    let bound = |field: &str| text(request, &format!("/spec/boundObjectRef/{field}"));
    if bound("kind") != "Pod" || bound("name").is_empty() || bound("uid").is_empty() {
        return denied("serviceaccounttoken", "a node's token is bound to a pod by name and uid");
    }
    Claim::Account {
        namespace: namespace.to_owned(),
        account: account.to_owned(),
        pod: bound("name").to_owned(),
        uid: bound("uid").to_owned(),
    }
}

/// Where there is an event of its name already, that one is changed: the path must not name another.
fn event_about(node: &NodeName, name: &str, event: &Value) -> Claim {
    if text(event, "/metadata/name") != name {
        return denied("event", "an event is told under its own name only");
    }
    let about = |field: &str| text(event, &format!("/involvedObject/{field}"));
    match about("kind") {
        "Node" if about("name") != node.as_str() => {
            denied("event", "a node tells events of itself and its pods only")
        }
        "Pod" => {
            Claim::NotForeign { namespace: about("namespace").to_owned(), name: about("name").to_owned() }
        }
        _ => Claim::Granted,
    }
}

/// Whether a CertificateSigningRequest asks for a certificate of this node.
pub(super) fn is_certificate_of(node: &NodeName, request: &Value) -> bool {
    let pem = Blob::parse(text(request, "/spec/request"));
    let peer = pem.as_ref().and_then(|pem| csr_peer_of_pem(&pem.0));
    peer.is_some_and(|peer| super::super::hub::is_node(&peer, node.as_str()))
}

/// One block and nothing before or after it: another reader would take its request from there.
fn csr_peer_of_pem(pem: &[u8]) -> Option<Peer> {
    let block = std::str::from_utf8(pem).ok()?.trim();
    let block = block.strip_prefix("-----BEGIN CERTIFICATE REQUEST-----")?;
    let block = block.strip_suffix("-----END CERTIFICATE REQUEST-----")?;
    let body: String = block.lines().map(str::trim).collect();
    csr_peer(&Blob::parse(&body)?.0)
}

#[cfg(test)]
mod tests;
