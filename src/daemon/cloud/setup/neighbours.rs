//! DaemonSets of the cluster's own network that would also land on edge nodes, where they cannot work (users.md §1 point 8):
//! which ones, and the exact change that keeps them off and can be taken back. Pure.

use super::manifest::EDGE_ROLE;
use serde_json::{Map, Value, json};

/// What was there before, on the DaemonSet itself: it is taken back from any machine.
pub(super) const RECORD: &str = "kedge.io/affinity-before";
const AFFINITY: &str = "/spec/template/spec/affinity";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
/// Parts of names of what belongs to the cluster's own network.
const CLOUD_ONLY: [&str; 24] = [
    "kube-proxy",
    "flannel",
    "calico",
    "canal",
    "cilium",
    "kindnet",
    "weave",
    "aws-node",
    "azure-cni",
    "azure-ip-masq",
    "antrea",
    "kube-router",
    "kube-ovn",
    "ovn",
    "ovs",
    "multus",
    "terway",
    "netd",
    "ip-masq-agent",
    "node-local-dns",
    "nodelocaldns",
    "metallb",
    "speaker",
    "spiderpool",
];

/// A DaemonSet that would land on edge nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbour {
    pub namespace: String,
    pub name: String,
    /// A merge patch that keeps it off.
    pub patch: Value,
    /// A merge patch that takes the first one back.
    pub undo: Value,
}

impl Neighbour {
    /// The command that keeps it off.
    pub fn command(&self) -> String {
        command(&self.namespace, &self.name, &self.patch)
    }

    /// The command that takes that back.
    pub fn undo_command(&self) -> String {
        command(&self.namespace, &self.name, &self.undo)
    }
}

fn command(namespace: &str, name: &str, patch: &Value) -> String {
    // JSON has no single quotes unless a text holds one.
    let patch = patch.to_string().replace('\'', "\\u0027");
    format!("kubectl -n {namespace} patch daemonset {name} --type merge -p '{patch}'")
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The change that this DaemonSet needs; `None` when it is not the cluster's network or stays off edge nodes already.
pub(super) fn of(set: &Value) -> Option<Neighbour> {
    let name = text(set, "/metadata/name");
    if !CLOUD_ONLY.iter().any(|part| name.contains(part)) || !lands_on_edge(set) {
        return None;
    }
    let before = set.pointer(AFFINITY).filter(|it| !it.is_null());
    let after = kept_off(before);
    let record = before.map_or_else(|| "null".to_owned(), Value::to_string);
    let metadata = json!({"annotations": {RECORD: record}});
    let patch = json!({"metadata": metadata, "spec": {"template": {"spec": {"affinity": after}}}});
    Some(Neighbour {
        namespace: text(set, "/metadata/namespace").to_owned(),
        name: name.to_owned(),
        patch,
        undo: undo(before, &after),
    })
}

/// The merge patch that takes a change back; `None` when this DaemonSet was not changed, or was changed again since.
pub(super) fn undo_of(set: &Value) -> Option<Result<Value, String>> {
    let record = set.pointer("/metadata/annotations")?.get(RECORD)?.as_str()?;
    let Ok(before) = serde_json::from_str::<Value>(record) else {
        return Some(Err(format!("its annotation {RECORD} cannot be read")));
    };
    let before = Some(&before).filter(|it| !it.is_null());
    let now = set.pointer(AFFINITY).cloned().unwrap_or_default();
    let ours = kept_off(before);
    if without_nulls(&now) != without_nulls(&ours) {
        return Some(Err("its affinity was changed since; take the edge's part out by hand".to_owned()));
    }
    Some(Ok(undo(before, &ours)))
}

fn undo(before: Option<&Value>, after: &Value) -> Value {
    let affinity = back(after, before.unwrap_or(&Value::Null));
    json!({"metadata": {"annotations": {RECORD: null}}, "spec": {"template": {"spec": {"affinity": affinity}}}})
}

/// A merge patch from one value to another.
fn back(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return to.clone() };
    let mut patch = Map::new();
    for (key, value) in to {
        match from.get(key) {
            Some(present) if present == value => {}
            Some(present) => drop(patch.insert(key.clone(), back(present, value))),
            None => drop(patch.insert(key.clone(), value.clone())),
        }
    }
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), without_nulls(value)))
            .collect::<Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

/// The affinity with one more demand on every term: terms are alternatives, so each has to have it.
fn kept_off(before: Option<&Value>) -> Value {
    let mut affinity = before.cloned().unwrap_or_else(|| json!({}));
    let absent = json!({"key": EDGE_ROLE, "operator": "DoesNotExist"});
    let terms = affinity.pointer(&format!("/nodeAffinity/{REQUIRED}/nodeSelectorTerms"));
    let mut terms = terms.and_then(Value::as_array).cloned().unwrap_or_default();
    if terms.is_empty() {
        terms.push(json!({}));
    }
    for term in &mut terms {
        let mut demands = term["matchExpressions"].as_array().cloned().unwrap_or_default();
        demands.push(absent.clone());
        term["matchExpressions"] = demands.into();
    }
    affinity["nodeAffinity"][REQUIRED] = json!({"nodeSelectorTerms": terms});
    affinity
}

/// Whether its pods could be put onto an ordinary edge node. Labels that cannot be known here count as fitting.
fn lands_on_edge(set: &Value) -> bool {
    let pod = &set["spec"]["template"]["spec"];
    let selector = pod["nodeSelector"].as_object();
    let selected = selector.into_iter().flatten().all(|(key, value)| match label(key) {
        Label::Is(present) => value == present,
        Label::Absent => false,
        Label::Unknown => true,
    });
    let terms = pod.pointer(&format!("/affinity/nodeAffinity/{REQUIRED}/nodeSelectorTerms"));
    let terms = terms.and_then(Value::as_array);
    selected && terms.is_none_or(|terms| terms.is_empty() || terms.iter().any(fits))
}

fn fits(term: &Value) -> bool {
    let demands = term["matchExpressions"].as_array();
    demands.into_iter().flatten().all(|demand| {
        let values = demand["values"].as_array();
        let named = |present: &str| values.is_some_and(|values| values.iter().any(|value| value == present));
        let key = demand["key"].as_str().unwrap_or_default();
        match (demand["operator"].as_str().unwrap_or_default(), label(key)) {
            (_, Label::Unknown) => true,
            ("In", Label::Is(present)) => named(present),
            ("NotIn", Label::Is(present)) => !named(present),
            ("Exists", Label::Absent) | ("In", Label::Absent) | ("DoesNotExist", Label::Is(_)) => false,
            _ => true,
        }
    })
}

/// What is known of a label of edge nodes.
enum Label {
    Is(&'static str),
    Absent,
    Unknown,
}

fn label(key: &str) -> Label {
    match key {
        EDGE_ROLE | "node-role.kubernetes.io/agent" => Label::Is(""),
        "kubernetes.io/os" | "beta.kubernetes.io/os" => Label::Is("linux"),
        "node-role.kubernetes.io/control-plane" | "node-role.kubernetes.io/master" => Label::Absent,
        _ => Label::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, spec: Value) -> Value {
        json!({"metadata": {"name": name, "namespace": "kube-system"}, "spec": {"template": {"spec": spec}}})
    }

    fn patched(set: &Value, patch: &Value) -> Value {
        let mut set = set.clone();
        json_patch::merge(&mut set, patch);
        set
    }

    #[test]
    fn only_the_clusters_network_that_lands_on_the_edge_is_named() {
        assert!(of(&set("kube-proxy", json!({"nodeSelector": {"kubernetes.io/os": "linux"}}))).is_some());
        assert!(
            of(&set("kube-proxy-windows", json!({"nodeSelector": {"kubernetes.io/os": "windows"}})))
                .is_none()
        );
        assert!(of(&set("my-agent", json!({}))).is_none());
        let only_masters = json!({"nodeSelector": {"node-role.kubernetes.io/control-plane": ""}});
        assert!(of(&set("kube-proxy", only_masters)).is_none());
        let off = json!({"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": EDGE_ROLE, "operator": "DoesNotExist"}]}]}}}});
        assert!(of(&set("calico-node", off)).is_none());
    }

    #[test]
    fn every_change_is_taken_back_exactly() {
        let flannel = json!({"affinity": {"podAffinity": {"x": 1}, "nodeAffinity": {"preferred": [], REQUIRED:
            {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]},
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}]}}}});
        for spec in [json!({}), flannel, json!({"affinity": {"podAntiAffinity": {"y": 2}}})] {
            let before = set("kube-flannel-ds", spec);
            let neighbour = of(&before).unwrap();
            let kept = patched(&before, &neighbour.patch);
            assert!(of(&kept).is_none(), "{kept}");
            assert_eq!(undo_of(&kept).unwrap().unwrap(), neighbour.undo);
            let mut again = patched(&kept, &neighbour.undo);
            again["metadata"].as_object_mut().unwrap().remove("annotations");
            assert_eq!(without_nulls(&again), without_nulls(&before));
            assert!(undo_of(&before).is_none());
        }
    }

    #[test]
    fn what_others_have_changed_since_is_left_alone() {
        let before = set("kube-proxy", json!({}));
        let mut kept = patched(&before, &of(&before).unwrap().patch);
        kept["spec"]["template"]["spec"]["affinity"]["podAffinity"] = json!({"z": 3});
        assert!(undo_of(&kept).unwrap().is_err());
    }
}
