//! How a Deployment moves from its old ReplicaSets to the new one: numbers in, steps out. Pure.

use crate::daemon::apiserver::controllers::read::{annotation, created, deleting, name, number, share};
use serde_json::Value;
use std::sync::Arc;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const HASH_LABEL: &str = "pod-template-hash";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";

/// One step of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Make the ReplicaSet of the present template with this many pods.
    Create {
        replicas: i64,
    },
    Scale {
        set: String,
        from: i64,
        to: i64,
    },
    /// Remove a ReplicaSet beyond the history limit.
    Forget {
        set: String,
    },
}

/// A Deployment's ReplicaSets, oldest first.
pub(super) struct Sets {
    pub(super) new: Option<Arc<Value>>,
    pub(super) old: Vec<Arc<Value>>,
}

impl Sets {
    /// Finds the ReplicaSet whose template is the Deployment's; the oldest when there are several.
    pub(super) fn of(deployment: &Value, mut sets: Vec<Arc<Value>>) -> Sets {
        sets.sort_by_cached_key(|set| (created(set), name(set).to_owned()));
        let same =
            |set: &&Arc<Value>| same_template(&set["spec"]["template"], &deployment["spec"]["template"]);
        let new = sets.iter().find(same).cloned();
        let old =
            sets.into_iter().filter(|set| new.as_ref().is_none_or(|new| name(new) != name(set))).collect();
        Sets { new, old }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Value>> {
        self.old.iter().chain(&self.new)
    }

    pub(super) fn sum(&self, field: &str) -> i64 {
        self.all().map(|set| number(&set["status"][field])).sum()
    }

    /// The revision that the present template gets: the one after the highest of the others.
    pub(super) fn revision(&self) -> i64 {
        let highest = self.old.iter().map(|set| revision(set)).max().unwrap_or(0);
        let own = self.new.as_ref().map_or(0, |set| revision(set));
        if own > highest { own } else { highest + 1 }
    }
}

pub(super) fn revision(object: &Value) -> i64 {
    annotation(object, REVISION).parse().unwrap_or(0)
}

/// Templates are equal but for the hash label.
fn same_template(of_set: &Value, of_deployment: &Value) -> bool {
    let mut bare = of_set.clone();
    if let Some(labels) = bare["metadata"]["labels"].as_object_mut() {
        labels.remove(HASH_LABEL);
    }
    let fields = |template: &Value| {
        let metadata = &template["metadata"];
        let filled = |field: &str| metadata[field].as_object().filter(|map| !map.is_empty()).cloned();
        (filled("labels"), filled("annotations"))
    };
    fields(&bare) == fields(of_deployment) && bare["spec"] == of_deployment["spec"]
}

/// The room a rolling update has: pods more and pods fewer than wanted.
pub(super) fn bounds(deployment: &Value) -> (i64, i64) {
    let wanted = number(&deployment["spec"]["replicas"]);
    let rolling = &deployment["spec"]["strategy"]["rollingUpdate"];
    if deployment["spec"]["strategy"]["type"] == "Recreate" {
        return (0, 0);
    }
    let surge = share(&rolling["maxSurge"], wanted, true);
    let unavailable = share(&rolling["maxUnavailable"], wanted, false).min(wanted);
    // Both zero would never move; upstream lets one pod be unavailable then.
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

fn spec_replicas(set: &Value) -> i64 {
    number(&set["spec"]["replicas"])
}

/// Sizes a set for a changed number; one that keeps its size is told the number all the same, or it would look
/// unsized for ever.
fn resize(set: &Value, to: i64, wanted: i64) -> Option<Step> {
    let from = spec_replicas(set);
    let told = annotation(set, DESIRED).parse::<i64>().is_ok_and(|desired| desired == wanted);
    (from != to || !told).then(|| Step::Scale { set: name(set).to_owned(), from, to })
}

fn scale(set: &Value, to: i64) -> Option<Step> {
    let from = spec_replicas(set);
    (from != to).then(|| Step::Scale { set: name(set).to_owned(), from, to })
}

/// The next steps of a Deployment; none when it is where it should be.
pub(super) fn decide(deployment: &Value, sets: &Sets) -> Vec<Step> {
    if deleting(deployment) {
        return Vec::new();
    }
    let paused = deployment["spec"]["paused"] == true;
    if paused || was_scaled(deployment, sets) {
        return follow_scale(deployment, sets);
    }
    let mut steps = if deployment["spec"]["strategy"]["type"] == "Recreate" {
        recreate(deployment, sets)
    } else {
        roll(deployment, sets)
    };
    if steps.is_empty() && complete(deployment, sets) {
        steps = beyond_history(deployment, sets);
    }
    steps
}

/// Whether the wanted number changed since the active ReplicaSets were last sized.
fn was_scaled(deployment: &Value, sets: &Sets) -> bool {
    let wanted = number(&deployment["spec"]["replicas"]);
    sets.all()
        .filter(|set| spec_replicas(set) > 0)
        .any(|set| annotation(set, DESIRED).parse::<i64>().is_ok_and(|desired| desired != wanted))
}

/// Spreads a changed number over the active ReplicaSets in proportion, without moving the rollout on.
fn follow_scale(deployment: &Value, sets: &Sets) -> Vec<Step> {
    let wanted = number(&deployment["spec"]["replicas"]);
    let active: Vec<&Arc<Value>> = sets.all().filter(|set| spec_replicas(set) > 0).collect();
    match active.as_slice() {
        [] => sets.new.iter().chain(sets.old.last()).take(1).filter_map(|set| scale(set, wanted)).collect(),
        [only] => resize(only, wanted, wanted).into_iter().collect(),
        several => {
            let (surge, _) = bounds(deployment);
            let total: i64 = several.iter().map(|set| spec_replicas(set)).sum();
            let allowed = if wanted > 0 { wanted + surge } else { 0 };
            let mut left = allowed - total;
            let mut steps = Vec::new();
            // Newest first, so that it takes the larger part of a rest.
            for (index, set) in several.iter().rev().enumerate() {
                let now = spec_replicas(set);
                let last = index + 1 == several.len();
                let part = if last { left } else { ((allowed - total) * now + total / 2).div_euclid(total) };
                let part = if left > 0 { part.clamp(0, left) } else { part.clamp(left, 0) };
                left -= part;
                steps.extend(resize(set, (now + part).max(0), wanted));
            }
            steps
        }
    }
}

fn recreate(deployment: &Value, sets: &Sets) -> Vec<Step> {
    let wanted = number(&deployment["spec"]["replicas"]);
    let down: Vec<Step> = sets.old.iter().filter_map(|set| scale(set, 0)).collect();
    if !down.is_empty() {
        return down;
    }
    // The old pods must be gone before the first new one starts.
    if sets.old.iter().any(|set| number(&set["status"]["replicas"]) > 0) {
        return Vec::new();
    }
    match &sets.new {
        None => vec![Step::Create { replicas: wanted }],
        Some(set) => scale(set, wanted).into_iter().collect(),
    }
}

fn roll(deployment: &Value, sets: &Sets) -> Vec<Step> {
    let wanted = number(&deployment["spec"]["replicas"]);
    let (surge, unavailable) = bounds(deployment);
    let total: i64 = sets.all().map(|set| spec_replicas(set)).sum();
    let room = (wanted + surge - total).max(0);
    let Some(new) = &sets.new else {
        return vec![Step::Create { replicas: room.min(wanted) }];
    };
    let present = spec_replicas(new);
    let target = if present > wanted { wanted } else { present + room.min(wanted - present) };
    if let Some(step) = scale(new, target) {
        return vec![step];
    }
    shrink_old(sets, total, wanted - unavailable)
}

/// Takes pods from old ReplicaSets, broken ones first, never going below `minimum` available pods.
fn shrink_old(sets: &Sets, total: i64, minimum: i64) -> Vec<Step> {
    let available = |set: &Value| number(&set["status"]["availableReplicas"]);
    let new_missing = sets.new.as_ref().map_or(0, |new| (spec_replicas(new) - available(new)).max(0));
    let mut budget = total - minimum - new_missing;
    let mut spare = sets.sum("availableReplicas") - minimum;
    let mut sizes: Vec<(&Arc<Value>, i64)> = sets.old.iter().map(|set| (set, spec_replicas(set))).collect();
    for (set, size) in &mut sizes {
        let broken = (*size - available(set)).clamp(0, budget.max(0));
        *size -= broken;
        budget -= broken;
    }
    for (_, size) in &mut sizes {
        let healthy = (*size).min(spare.max(0)).min(budget.max(0));
        *size -= healthy;
        spare -= healthy;
        budget -= healthy;
    }
    sizes.into_iter().filter_map(|(set, size)| scale(set, size)).collect()
}

/// All pods are of the present template, available, and no other is left.
pub(super) fn complete(deployment: &Value, sets: &Sets) -> bool {
    let wanted = number(&deployment["spec"]["replicas"]);
    let new = sets.new.as_ref().map_or(&Value::Null, |set| &set["status"]);
    number(&new["replicas"]) == wanted
        && sets.sum("replicas") == wanted
        && number(&new["availableReplicas"]) == wanted
}

fn beyond_history(deployment: &Value, sets: &Sets) -> Vec<Step> {
    let Some(limit) = deployment["spec"]["revisionHistoryLimit"].as_u64() else { return Vec::new() };
    let mut empty: Vec<&Arc<Value>> = sets
        .old
        .iter()
        .filter(|set| spec_replicas(set) == 0 && number(&set["status"]["replicas"]) == 0 && !deleting(set))
        .collect();
    empty.sort_by_key(|set| revision(set));
    let excess = empty.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
    empty.into_iter().take(excess).map(|set| Step::Forget { set: name(set).to_owned() }).collect()
}

/// Annotations that tell later passes how a ReplicaSet was sized.
pub(super) fn size_annotations(deployment: &Value) -> [(&'static str, String); 2] {
    let wanted = number(&deployment["spec"]["replicas"]);
    let (surge, _) = bounds(deployment);
    [(DESIRED, wanted.to_string()), ("deployment.kubernetes.io/max-replicas", (wanted + surge).to_string())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(replicas: i64, image: &str) -> Value {
        json!({"spec": {"replicas": replicas, "revisionHistoryLimit": 1,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"a": "1"}}, "spec": {"image": image}}}})
    }

    fn set(name: &str, image: &str, size: i64, available: i64, desired: i64) -> Arc<Value> {
        Arc::new(
            json!({"metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:00:0{}Z", name.len()),
                "annotations": {DESIRED: desired.to_string(), REVISION: name.len().to_string()}},
            "spec": {"replicas": size, "template": {"metadata": {"labels": {"a": "1", "pod-template-hash": "h"}},
                "spec": {"image": image}}},
            "status": {"replicas": size, "availableReplicas": available}}),
        )
    }

    fn scaled(set: &str, from: i64, to: i64) -> Step {
        Step::Scale { set: set.to_owned(), from, to }
    }

    #[test]
    fn a_new_deployment_makes_its_set_at_full_size() {
        let d = deployment(3, "x");
        assert_eq!(decide(&d, &Sets::of(&d, vec![])), [Step::Create { replicas: 3 }]);
    }

    #[test]
    fn a_set_that_keeps_its_size_is_told_the_new_number() {
        let d = deployment(11, "y");
        let sets = Sets::of(&d, vec![set("a", "x", 8, 8, 10), set("bb", "y", 5, 5, 10)]);
        let steps = decide(&d, &sets);
        assert!(steps.contains(&scaled("bb", 5, 5)) || steps.contains(&scaled("a", 8, 8)), "{steps:?}");
        let told = Sets::of(&d, vec![set("a", "x", 8, 8, 11), set("bb", "y", 6, 6, 11)]);
        assert!(!decide(&d, &told).is_empty(), "the rollout goes on");
    }

    #[test]
    fn an_update_surges_then_drains() {
        let d = deployment(4, "y");
        let sets = Sets::of(&d, vec![set("a", "x", 4, 4, 4)]);
        assert_eq!(decide(&d, &sets), [Step::Create { replicas: 1 }]);
        assert_eq!(sets.revision(), 2);
        let sets = Sets::of(&d, vec![set("a", "x", 4, 4, 4), set("bb", "y", 1, 0, 4)]);
        assert_eq!(decide(&d, &sets), [scaled("a", 4, 3)]);
        let sets = Sets::of(&d, vec![set("a", "x", 3, 3, 4), set("bb", "y", 1, 0, 4)]);
        assert_eq!(decide(&d, &sets), [scaled("bb", 1, 2)]);
    }

    #[test]
    fn broken_old_pods_go_first_and_do_not_block() {
        let d = deployment(4, "y");
        let sets = Sets::of(&d, vec![set("a", "x", 3, 0, 4), set("bb", "y", 2, 0, 4)]);
        assert_eq!(decide(&d, &sets), []);
        let sets = Sets::of(&d, vec![set("a", "x", 3, 0, 4), set("bb", "y", 2, 2, 4)]);
        assert_eq!(decide(&d, &sets), [scaled("a", 3, 1)]);
    }

    #[test]
    fn a_rolling_update_always_ends_and_never_leaves_its_bounds() {
        for wanted in 1..8 {
            let d = deployment(wanted, "y");
            let (surge, unavailable) = bounds(&d);
            let (mut old, mut new) = (wanted, None);
            for _ in 0..40 {
                let sets = Sets::of(
                    &d,
                    [Some(set("a", "x", old, old, wanted)), new.map(|n| set("bb", "y", n, n, wanted))]
                        .into_iter()
                        .flatten()
                        .collect(),
                );
                for step in decide(&d, &sets) {
                    match step {
                        Step::Create { replicas } => new = Some(replicas),
                        Step::Scale { set, to, .. } if set == "a" => old = to,
                        Step::Scale { to, .. } => new = Some(to),
                        Step::Forget { .. } => {}
                    }
                }
                let total = old + new.unwrap_or(0);
                assert!(total <= wanted + surge && total >= wanted - unavailable);
            }
            assert_eq!((old, new), (0, Some(wanted)));
        }
    }

    #[test]
    fn recreate_waits_until_the_old_pods_are_gone() {
        let mut d = deployment(2, "y");
        d["spec"]["strategy"] = json!({"type": "Recreate"});
        let sets = Sets::of(&d, vec![set("a", "x", 2, 2, 2)]);
        assert_eq!(decide(&d, &sets), [scaled("a", 2, 0)]);
        let mut draining = (*set("a", "x", 0, 0, 2)).clone();
        draining["status"]["replicas"] = json!(1);
        assert_eq!(decide(&d, &Sets::of(&d, vec![Arc::new(draining)])), []);
        let sets = Sets::of(&d, vec![set("a", "x", 0, 0, 2)]);
        assert_eq!(decide(&d, &sets), [Step::Create { replicas: 2 }]);
    }

    #[test]
    fn scaling_in_the_middle_keeps_the_proportion() {
        let d = deployment(10, "y");
        let sets = Sets::of(&d, vec![set("a", "x", 3, 3, 5), set("bb", "y", 3, 3, 5)]);
        let steps = decide(&d, &sets);
        let total: i64 = steps.iter().map(|s| if let Step::Scale { to, .. } = s { *to } else { 0 }).sum();
        assert_eq!((steps.len(), total), (2, 13));
    }

    #[test]
    fn a_paused_deployment_scales_but_does_not_roll() {
        let mut d = deployment(5, "y");
        d["spec"]["paused"] = json!(true);
        let sets = Sets::of(&d, vec![set("a", "x", 4, 4, 4)]);
        assert_eq!(decide(&d, &sets), [scaled("a", 4, 5)]);
    }

    #[test]
    fn history_beyond_the_limit_is_forgotten() {
        let d = deployment(1, "y");
        let sets =
            Sets::of(&d, vec![set("a", "v", 0, 0, 1), set("bb", "w", 0, 0, 1), set("ccc", "y", 1, 1, 1)]);
        assert_eq!(decide(&d, &sets), [Step::Forget { set: "a".to_owned() }]);
    }

    #[test]
    fn going_back_takes_the_old_set_and_a_new_revision() {
        let d = deployment(1, "x");
        let sets = Sets::of(&d, vec![set("a", "x", 0, 0, 1), set("bb", "y", 1, 1, 1)]);
        assert_eq!(name(sets.new.as_ref().unwrap()), "a");
        assert_eq!(sets.revision(), 3);
        assert_eq!(decide(&d, &sets), [scaled("a", 0, 1)]);
    }
}
