//! Which nodes a pod wants: node selectors and affinity, taints and tolerations, nearness to other pods. Pure.
//! The DaemonSet controller and the node lifecycle use the node half, too.

use crate::daemon::apiserver::controllers::read::{list, name, namespace, number, text};
use crate::daemon::apiserver::selector::LabelSelector;
use serde_json::Value;

/// Whether a node satisfies the pod's nodeSelector and required node affinity.
pub(in crate::daemon::apiserver::controllers) fn node_matches(pod_spec: &Value, node: &Value) -> bool {
    let labels = &node["metadata"]["labels"];
    let selected = pod_spec["nodeSelector"]
        .as_object()
        .is_none_or(|wanted| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)));
    let required = &pod_spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    selected
        && (required.is_null()
            || list(&required["nodeSelectorTerms"]).iter().any(|term| term_matches(term, node)))
}

/// An empty term matches nothing, as upstream.
fn term_matches(term: &Value, node: &Value) -> bool {
    let (expressions, fields) = (list(&term["matchExpressions"]), list(&term["matchFields"]));
    let labels = &node["metadata"]["labels"];
    !(expressions.is_empty() && fields.is_empty())
        && expressions
            .iter()
            .all(|e| requirement_holds(e, labels.get(text(&e["key"])).and_then(Value::as_str)))
        && fields.iter().all(|e| e["key"] == "metadata.name" && requirement_holds(e, Some(name(node))))
}

fn requirement_holds(requirement: &Value, value: Option<&str>) -> bool {
    let values = list(&requirement["values"]);
    let among = || value.is_some_and(|value| values.iter().any(|wanted| wanted == value));
    let compared = |holds: fn(i64, i64) -> bool| {
        let have = value.and_then(|value| value.parse().ok());
        let want = values.first().and_then(Value::as_str).and_then(|value| value.parse().ok());
        have.zip(want).is_some_and(|(have, want)| holds(have, want))
    };
    match text(&requirement["operator"]) {
        "In" => among(),
        "NotIn" => !among(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(|have, want| have > want),
        "Lt" => compared(|have, want| have < want),
        _ => false,
    }
}

/// Sum of the weights of the preferred terms that a node satisfies.
pub(super) fn preference(pod_spec: &Value, node: &Value) -> i64 {
    let terms = &pod_spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"];
    list(terms)
        .iter()
        .filter(|term| term_matches(&term["preference"], node))
        .map(|term| number(&term["weight"]).clamp(0, 100))
        .sum()
}

/// The first taint with one of these effects that the tolerations do not cover.
pub(in crate::daemon::apiserver::controllers) fn untolerated<'a>(
    node: &'a Value,
    tolerations: &[Value],
    effects: &[&str],
) -> Option<&'a Value> {
    list(&node["spec"]["taints"]).iter().find(|taint| {
        effects.contains(&text(&taint["effect"])) && !tolerations.iter().any(|t| tolerates(t, taint))
    })
}

/// Whether a toleration covers a taint.
pub(in crate::daemon::apiserver::controllers) fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let (key, effect) = (text(&toleration["key"]), text(&toleration["effect"]));
    let exists = toleration["operator"] == "Exists";
    let same_key = if key.is_empty() { exists } else { taint["key"] == key };
    (effect.is_empty() || taint["effect"] == effect)
        && same_key
        && (exists || text(&toleration["value"]) == text(&taint["value"]))
}

/// A pod that already has a node, with that node.
pub(super) struct Placed<'a> {
    pub(super) pod: &'a Value,
    pub(super) node: &'a Value,
}

/// Why a node does not suit because of other pods.
pub(super) fn nearness_problem(pod: &Value, node: &Value, placed: &[Placed<'_>]) -> Option<&'static str> {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let affinity = &pod["spec"]["affinity"];
    for term in list(&affinity["podAffinity"][REQUIRED]) {
        let near =
            placed.iter().any(|other| same_place(term, node, other.node) && chosen(term, pod, other.pod));
        // The first pod of a group that wants to be near itself may go anywhere with the topology label.
        let first = chosen(term, pod, pod) && !placed.iter().any(|other| chosen(term, pod, other.pod));
        let welcome = near || first && same_place(term, node, node);
        if !welcome {
            return Some("node(s) didn't match pod affinity rules");
        }
    }
    for term in list(&affinity["podAntiAffinity"][REQUIRED]) {
        if placed.iter().any(|other| same_place(term, node, other.node) && chosen(term, pod, other.pod)) {
            return Some("node(s) didn't match pod anti-affinity rules");
        }
    }
    let repelled = placed.iter().any(|other| {
        list(&other.pod["spec"]["affinity"]["podAntiAffinity"][REQUIRED])
            .iter()
            .any(|term| same_place(term, node, other.node) && chosen(term, other.pod, pod))
    });
    repelled.then_some("node(s) didn't satisfy existing pods anti-affinity rules")
}

fn same_place(term: &Value, a: &Value, b: &Value) -> bool {
    let of = |node: &Value| node["metadata"]["labels"][text(&term["topologyKey"])].clone();
    let place = of(a);
    !place.is_null() && place == of(b)
}

/// Whether the term of `owner` chooses `candidate`.
fn chosen(term: &Value, owner: &Value, candidate: &Value) -> bool {
    let named = list(&term["namespaces"]);
    let everywhere = term["namespaceSelector"].is_object();
    let home = if named.is_empty() {
        everywhere || namespace(owner) == namespace(candidate)
    } else {
        named.iter().any(|n| n == namespace(candidate))
    };
    home && LabelSelector::from_object(&term["labelSelector"])
        .is_ok_and(|selector| selector.matches(candidate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(labels: Value) -> Value {
        json!({"metadata": {"name": "n1", "labels": labels}})
    }

    fn wants(operator: &str, values: Value) -> Value {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "k", "operator": operator, "values": values}]}]}}}})
    }

    #[test]
    fn every_operator_decides() {
        for (operator, values, fits) in [
            ("In", json!(["5"]), true),
            ("NotIn", json!(["5"]), false),
            ("Exists", json!([]), true),
            ("DoesNotExist", json!([]), false),
            ("Gt", json!(["4"]), true),
            ("Lt", json!(["4"]), false),
            ("Odd", json!([]), false),
        ] {
            assert_eq!(node_matches(&wants(operator, values), &node(json!({"k": "5"}))), fits, "{operator}");
        }
    }

    #[test]
    fn a_field_names_the_node() {
        let spec = |name: &str| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}]}}}})
        };
        assert!(node_matches(&spec("n1"), &node(json!({}))));
        assert!(!node_matches(&spec("n2"), &node(json!({}))));
    }

    #[test]
    fn tolerations_cover_taints() {
        let taint = json!({"key": "a", "value": "1", "effect": "NoSchedule"});
        for (toleration, covers) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "a", "operator": "Exists"}), true),
            (json!({"key": "a", "value": "1"}), true),
            (json!({"key": "a", "value": "2"}), false),
            (json!({"key": "a", "operator": "Exists", "effect": "NoExecute"}), false),
            (json!({"key": "b", "operator": "Exists"}), false),
            (json!({}), false),
        ] {
            assert_eq!(tolerates(&toleration, &taint), covers, "{toleration}");
        }
    }

    #[test]
    fn anti_affinity_keeps_pods_apart() {
        let host =
            |name: &str| json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        let pod = json!({"metadata": {"namespace": "d", "labels": {"app": "a"}}, "spec": {"affinity": {
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "a"}}}]}}}});
        let (one, two) = (host("one"), host("two"));
        let placed = [Placed { pod: &pod, node: &one }];
        assert!(nearness_problem(&pod, &one, &placed).is_some());
        assert_eq!(nearness_problem(&pod, &two, &placed), None);
    }
}
