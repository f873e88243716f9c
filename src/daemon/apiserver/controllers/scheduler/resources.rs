//! What pods ask for and nodes have, by resource name.

use crate::daemon::apiserver::controllers::read::list;
use crate::model::Quantity;
use serde_json::Value;
use std::collections::BTreeMap;

/// Amounts by resource name, such as `cpu` and `memory`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Amounts(BTreeMap<String, Quantity>);

impl Amounts {
    /// Reads a map of quantities; what is no quantity counts as absent.
    pub(super) fn read(map: &Value) -> Amounts {
        let amount = |value: &Value| match value {
            Value::String(text) => Quantity::parse(text),
            Value::Number(number) => Quantity::parse(&number.to_string()),
            _ => None,
        };
        let entries = map.as_object().into_iter().flatten();
        Amounts(entries.filter_map(|(name, value)| Some((name.clone(), amount(value)?))).collect())
    }

    pub(super) fn of(&self, name: &str) -> Quantity {
        self.0.get(name).copied().unwrap_or_default()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Quantity)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    pub(super) fn add(&mut self, other: &Amounts) {
        for (name, amount) in &other.0 {
            *self.0.entry(name.clone()).or_default() += *amount;
        }
    }

    fn raise_to(&mut self, other: &Amounts) {
        for (name, amount) in &other.0 {
            let mine = self.0.entry(name.clone()).or_default();
            *mine = (*mine).max(*amount);
        }
    }
}

/// What a pod needs at its most demanding moment: all containers together, or one init container beside the
/// sidecars started before it, plus overhead.
pub(super) fn requests(pod: &Value) -> Amounts {
    let spec = &pod["spec"];
    let of = |container: &Value| Amounts::read(&container["resources"]["requests"]);
    let mut together = Amounts::default();
    for container in list(&spec["containers"]) {
        together.add(&of(container));
    }
    let (mut sidecars, mut peak) = (Amounts::default(), Amounts::default());
    for container in list(&spec["initContainers"]) {
        let mut now = of(container);
        now.add(&sidecars);
        if container["restartPolicy"] == "Always" {
            sidecars = now.clone();
        }
        peak.raise_to(&now);
    }
    together.add(&sidecars);
    together.raise_to(&peak);
    together.add(&Amounts::read(&spec["overhead"]));
    together
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(cpu: &str) -> Value {
        json!({"resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn containers_add_up_and_init_containers_run_alone() {
        let pod = json!({"spec": {"containers": [container("100m"), container("200m")],
            "initContainers": [container("1")]}});
        assert_eq!(requests(&pod).of("cpu").millis(), 1000);
        let pod = json!({"spec": {"containers": [container("100m"), container("200m")],
            "initContainers": [container("250m")], "overhead": {"cpu": "10m"}}});
        assert_eq!(requests(&pod).of("cpu").millis(), 310);
    }

    #[test]
    fn sidecars_stay_beside_the_containers() {
        let mut sidecar = container("100m");
        sidecar["restartPolicy"] = json!("Always");
        let pod = json!({"spec": {"containers": [container("200m")], "initContainers": [sidecar, container("150m")]}});
        assert_eq!(requests(&pod).of("cpu").millis(), 300);
    }
}
