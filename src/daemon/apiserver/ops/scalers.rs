//! HorizontalPodAutoscalers are stored as `autoscaling/v2`; `autoscaling/v1`, which old kubectl speaks, knows the
//! average processor use only. Other metrics pass through an annotation, as upstream does. Pure.

use serde_json::{Value, json};

const OTHERS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const TARGET: &str = "targetCPUUtilizationPercentage";
const CURRENT: &str = "currentCPUUtilizationPercentage";

fn is_processor_use(metric: &Value, place: &str) -> bool {
    metric["type"] == "Resource"
        && metric["resource"]["name"] == "cpu"
        && metric["resource"][place]["averageUtilization"].is_i64()
}

fn metric(place: &str, percent: &Value) -> Value {
    let mut metric = json!({"type": "Resource", "resource": {"name": "cpu"}});
    metric["resource"][place] = match place {
        "target" => json!({"type": "Utilization", "averageUtilization": percent}),
        _ => json!({"averageUtilization": percent}),
    };
    metric
}

/// The stored form of a v1 object; an object that is v2 already stays as it is.
pub(super) fn to_v2(mut object: Value) -> Value {
    let notes = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    let others = notes.and_then(|notes| notes.remove(OTHERS));
    let others = others.and_then(|text| serde_json::from_str::<Vec<Value>>(text.as_str()?).ok());
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let mut metrics = others.unwrap_or_default();
        metrics
            .extend(spec.remove(TARGET).filter(|p| !p.is_null()).map(|percent| metric("target", &percent)));
        if !metrics.is_empty() {
            spec.insert("metrics".to_owned(), metrics.into());
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut)
        && let Some(percent) = status.remove(CURRENT)
    {
        status.insert("currentMetrics".to_owned(), json!([metric("current", &percent)]));
    }
    object
}

/// A stored object as v1 shows it.
pub(super) fn to_v1(mut object: Value) -> Value {
    if let Some(metrics) =
        object.get_mut("spec").and_then(Value::as_object_mut).and_then(|spec| spec.remove("metrics"))
    {
        let all = metrics.as_array().cloned().unwrap_or_default();
        let (mut processor, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|metric| is_processor_use(metric, "target"));
        if let Some(first) = processor.pop() {
            object["spec"][TARGET] = first["resource"]["target"]["averageUtilization"].clone();
        }
        if !others.is_empty() {
            object["metadata"]["annotations"][OTHERS] = json!(Value::from(others).to_string());
        }
    }
    if let Some(metrics) = object
        .get_mut("status")
        .and_then(Value::as_object_mut)
        .and_then(|status| status.remove("currentMetrics"))
    {
        let found = metrics.as_array().into_iter().flatten().find(|m| is_processor_use(m, "current"));
        if let Some(found) = found {
            object["status"][CURRENT] = found["resource"]["current"]["averageUtilization"].clone();
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_say_the_same() {
        let v1 = json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 80}});
        let v2 = to_v2(v1.clone());
        assert_eq!(v2["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
        assert_eq!(to_v1(v2.clone()), v1);
        let mut both = v2;
        let memory = json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization",
            "averageUtilization": 50}}});
        both["spec"]["metrics"] = json!([memory, both["spec"]["metrics"][0]]);
        both["metadata"]["annotations"] = json!({});
        assert_eq!(to_v2(to_v1(both.clone())), both);
    }
}
