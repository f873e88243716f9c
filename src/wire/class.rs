//! Which messages to an edge are sent until they are acknowledged, as KubeEdge's cloud decides it (protocol.md §3.5).
//! KubeEdge looks at the whole path, so there an object *named* `membership-x` is sent only once; here names do not
//! count. The cloud's sessions call it; it must agree with what an edge acknowledges.

use super::csi;
use super::down::Delivery;
use super::envelope::Envelope;
use super::names::*;
use serde_json::Value;

/// The class of a message as it is sent: the path without `node/{name}`.
pub fn class_of(envelope: &Envelope) -> Delivery {
    let route = &envelope.route;
    let parts: Vec<&str> = route.resource.split('/').collect();
    let kind = match *parts.as_slice() {
        [_, kind, _] => kind,
        _ => "",
    };
    let answers = route.operation == RESPONSE;
    let is_plain = kind.is_empty() || matches!(kind, "podlist" | "serviceaccounttoken");
    let unasked = match kind {
        "node" => route.operation != UPDATE,
        "lease" | "nodepatch" | "podpatch" | "podstatus" | "certificatesigningrequest" => true,
        "pod" => answers,
        _ => false,
    };
    let once = route.group != RESOURCE
        || is_plain
        || csi::verb(&route.operation).is_some()
        || route.operation == APPLICATION_RESPONSE
        || route.operation == ERROR
        || matches!(route.source.as_str(), TASK_MANAGER | UPGRADE_CONTROLLER)
        || (answers && !matches!(envelope.content, Value::Object(_)))
        || (route.source == EDGE_CONTROLLER && unasked);
    if once { Delivery::Once } else { Delivery::Acknowledged }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeviceId, Kind, ObjectKey, Revision};
    use crate::wire::{
        Comparison, Down, Membership, MessageId, Origin, Question, Up, Verb, acknowledgement, delivery_of,
        encode_down,
    };
    use serde_json::json;

    fn envelope(source: &str, group: &str, operation: &str, resource: &str, content: Value) -> Envelope {
        let mut envelope = Envelope { content, ..Envelope::default() };
        envelope.route.source = source.to_owned();
        envelope.route.group = group.to_owned();
        envelope.route.operation = operation.to_owned();
        envelope.route.resource = resource.to_owned();
        envelope
    }

    /// The rows of protocol.md §3.5, with the messages of §4 that they are about.
    #[test]
    fn messages_are_sent_until_acknowledged_or_once_as_the_table_says() {
        use Delivery::{Acknowledged, Once};
        let object = || json!({"metadata": {"uid": "u"}});
        let rows = [
            (EDGE_CONTROLLER, RESOURCE, INSERT, "d/pod/p", object(), Acknowledged),
            (EDGE_CONTROLLER, RESOURCE, UPDATE, "d/pod/p", object(), Acknowledged),
            (EDGE_CONTROLLER, RESOURCE, DELETE, "d/pod/p", object(), Acknowledged),
            (EDGE_CONTROLLER, RESOURCE, RESPONSE, "d/pod/p", object(), Once),
            (EDGE_CONTROLLER, RESOURCE, UPDATE, "d/configmap/c", object(), Acknowledged),
            (EDGE_CONTROLLER, RESOURCE, RESPONSE, "d/configmap/c", object(), Acknowledged),
            (EDGE_CONTROLLER, RESOURCE, RESPONSE, "d/secret/s", object(), Acknowledged),
            (EDGE_CONTROLLER, RESOURCE, RESPONSE, "d/persistentvolumeclaim/v", object(), Acknowledged),
            (EDGE_CONTROLLER, RESOURCE, RESPONSE, "null/persistentvolume/v", object(), Acknowledged),
            (EDGE_CONTROLLER, RESOURCE, RESPONSE, "default/volumeattachment/v", object(), Acknowledged),
            (EDGE_CONTROLLER, RESOURCE, RESPONSE, "d/serviceaccounttoken/a", object(), Once),
            (EDGE_CONTROLLER, RESOURCE, UPDATE, "null/node/n", object(), Acknowledged),
            (EDGE_CONTROLLER, RESOURCE, RESPONSE, "null/node/n", object(), Once),
            (EDGE_CONTROLLER, RESOURCE, RESPONSE, "default/node/n", json!("OK"), Once),
            (EDGE_CONTROLLER, RESOURCE, RESPONSE, "null/nodepatch/n", object(), Once),
            (EDGE_CONTROLLER, RESOURCE, RESPONSE, "d/podpatch/p", object(), Once),
            (EDGE_CONTROLLER, RESOURCE, RESPONSE, "d/podstatus/p", object(), Once),
            (EDGE_CONTROLLER, RESOURCE, RESPONSE, "kube-node-lease/lease/n", object(), Once),
            (EDGE_CONTROLLER, RESOURCE, RESPONSE, "default/certificatesigningrequest/c", object(), Once),
            (EDGE_CONTROLLER, RESOURCE, RESPONSE, "d/pod/p", json!("OK"), Once),
            (DEVICE_CONTROLLER, RESOURCE, INSERT, "d/device/t", object(), Acknowledged),
            (DEVICE_CONTROLLER, RESOURCE, DELETE, "d/devicemodel/m", object(), Acknowledged),
            (DEVICE_CONTROLLER, TWIN, UPDATE, "membership", object(), Once),
            (DEVICE_CONTROLLER, TWIN, UPDATE, "device/d/t/twin/cloud_updated", object(), Once),
            (DEVICE_CONTROLLER, TWIN, RESPONSE, "twin", json!("OK"), Once),
            (POLICY_CONTROLLER, RESOURCE, UPDATE, "d/serviceaccountaccess/a", object(), Acknowledged),
            (DYNAMIC_CONTROLLER, RESOURCE, APPLICATION_RESPONSE, "d/application/a", object(), Once),
            ("cloudhub", RESOURCE, RESPONSE, "k8s/ca.crt", json!("PEM"), Once),
            (TASK_MANAGER, TASK_MANAGER, "upgrade", "operations/x/node/n", object(), Once),
            ("router_eventbus", USER, "publish", "any/topic/here", json!("x"), Once),
        ];
        for (source, group, operation, resource, content, class) in rows {
            let message = envelope(source, group, operation, resource, content);
            assert_eq!(class_of(&message), class, "{source} {group} {operation} {resource}");
        }
    }

    #[test]
    fn what_the_cloud_sends_has_the_class_of_its_message() {
        let key = ObjectKey::namespaced(Kind::Pod, "d", "membership-x");
        let object = json!({"metadata": {"uid": "u", "resourceVersion": "3"}});
        let digest = crate::model::digest::Digest::of([]);
        let downs = [
            Down::Object {
                verb: Verb::Insert,
                origin: Origin::Edge,
                key: key.clone(),
                revision: Revision(3),
                object: object.clone(),
            },
            Down::Delete {
                origin: Origin::Device,
                key: ObjectKey::namespaced(Kind::Device, "d", "t"),
                revision: None,
                object: object.clone(),
            },
            Down::Membership(Membership { added: vec![DeviceId::new("d", "t")], removed: vec![] }),
            Down::TwinSync { device: DeviceId::new("d", "t"), twins: Default::default() },
            Down::Compare(Box::new(Comparison { round: 1, digest })),
        ];
        for down in downs {
            let class = delivery_of(&down);
            let message = encode_down(down).unwrap();
            assert_eq!(class_of(&message), class, "{}", message.route.resource);
            assert_eq!(acknowledgement(&message).is_some(), class == Delivery::Acknowledged);
        }
        // Answers go once: whoever asked asks again. Those of the table are recorded when they are acknowledged.
        for (kind, recorded) in [(Kind::ConfigMap, true), (Kind::Secret, true), (Kind::Lease, false)] {
            let key = ObjectKey::namespaced(kind, "d", "x");
            let id = MessageId("m".to_owned());
            let to = Question { id, resource: key.to_string(), up: Up::Query { key } };
            let down = Down::Reply { to, result: Ok(object.clone()) };
            assert_eq!(delivery_of(&down), Delivery::Once);
            let message = encode_down(down).unwrap();
            assert_eq!(class_of(&message) == Delivery::Acknowledged, recorded, "{kind}");
            assert!(!recorded || acknowledgement(&message).is_some());
        }
    }
}
