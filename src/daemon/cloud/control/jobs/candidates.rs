//! Which nodes a new job is about, and whether each can take part. Reads the Nodes once, when a job begins.

use super::super::super::kubernetes::{Resource, meta};
use super::super::shared::Shared;
use super::Engine;
use super::plan::Fitness;
use super::wanted::{Nodes, Wanted, selects};
use crate::model::{Release, Status};
use crate::wire::upgrade::{PLATFORMS, UPGRADING_LABEL};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

const EDGE_NODES: &str = "labelSelector=node-role.kubernetes.io%2Fedge";
/// From here on KubeEdge's edges know the jobs of each version.
const ACTIONS_SINCE: (u64, u64) = (1, 21);
const STAGES_SINCE: (u64, u64) = (1, 16);

/// The chosen nodes by name.
pub(super) async fn choose(
    shared: &Shared,
    engine: Engine,
    wanted: &Wanted,
    patience: Duration,
) -> Result<Vec<(String, Fitness)>, Status> {
    let kube = &shared.kube;
    let nodes = kube.insist(patience, || async {
        let mut nodes = BTreeMap::new();
        kube.list(Resource::NODE, None, EDGE_NODES, |node| {
            let labels = node.pointer("/metadata/labels").cloned().unwrap_or_default();
            let info = |field: &str| {
                let found = node.pointer("/status/nodeInfo").and_then(|info| info.get(field)?.as_str());
                found.unwrap_or_default().to_owned()
            };
            let known = Known { labels, kubelet: info("kubeletVersion"), architecture: info("architecture") };
            nodes.insert(meta(&node, "name").to_owned(), known);
        })
        .await?;
        Ok(nodes)
    });
    Ok(fit(engine, wanted, &nodes.await?))
}

/// What a Node says of itself.
struct Known {
    labels: Value,
    kubelet: String,
    architecture: String,
}

fn fit(engine: Engine, wanted: &Wanted, nodes: &BTreeMap<String, Known>) -> Vec<(String, Fitness)> {
    let fitness = |known: &Known| fitness(engine, wanted, known);
    match &wanted.nodes {
        Nodes::Selected(selector) => {
            let chosen = nodes.iter().filter(|(_, known)| selects(selector, &known.labels));
            chosen.map(|(name, known)| (name.clone(), fitness(known))).collect()
        }
        Nodes::Named(names) => {
            let mut chosen: Vec<(String, Fitness)> = Vec::new();
            for name in names {
                if chosen.iter().any(|(known, _)| known == name) {
                    continue;
                }
                let none = || Fitness::Unfit("there is no edge node of this name".to_owned());
                let one = nodes.get(name).map_or_else(none, fitness);
                chosen.push((name.clone(), one));
            }
            chosen
        }
    }
}

/// The edge software's release: `v1.32.10-kubeedge-v1.23.1`, and of kedge `…-kedge-0.1.0` behind that.
fn releases(kubelet: &str) -> (Option<Release>, Option<Release>) {
    let Some((_, ours)) = kubelet.split_once("-kubeedge-") else { return (None, None) };
    match ours.split_once("-kedge-") {
        Some((kubeedge, kedge)) => (Release::parse(kubeedge), Release::parse(kedge)),
        None => (Release::parse(ours), None),
    }
}

fn fitness(engine: Engine, wanted: &Wanted, known: &Known) -> Fitness {
    let (kubeedge, kedge) = releases(&known.kubelet);
    let runs = kedge.as_ref().or(kubeedge.as_ref());
    if let (Some(runs), Some(wanted)) = (runs, &wanted.version)
        && runs == wanted
    {
        return Fitness::Done(runs.to_string());
    }
    // KubeEdge's older engine leaves such nodes alone; who sets the label says so in this way.
    if engine == Engine::Stages && wanted.version.is_some() && known.labels.get(UPGRADING_LABEL).is_some() {
        return Fitness::Unfit(format!("it has the label {UPGRADING_LABEL}"));
    }
    if kedge.is_some() && wanted.registry.is_some() {
        let why = "it runs kedge, whose releases are no image of a registry: write their digest to imageDigestGatter";
        return Fitness::Unfit(why.to_owned());
    }
    let architecture = &known.architecture;
    if !architecture.is_empty()
        && !wanted.architectures.is_empty()
        && !wanted.architectures.contains(architecture)
    {
        return Fitness::Unfit(format!("it is {architecture}, and no digest is named for that"));
    }
    let named = engine == Engine::Stages || PLATFORMS.contains(&architecture.as_str());
    if !architecture.is_empty() && wanted.registry.is_some() && !named {
        return Fitness::Unfit(format!("it is {architecture}, for which its edgecore checks no digest"));
    }
    let (since, hint) = match engine {
        Engine::Actions => {
            (ACTIONS_SINCE, ": set featureGates.disableNodeTaskV1alpha2 in cloudcore.yaml for it")
        }
        Engine::Stages => (STAGES_SINCE, ""),
    };
    match kubeedge {
        Some(version) if version.line() < since => {
            Fitness::Unfit(format!("it runs {version}, which knows no jobs of this kind{hint}"))
        }
        _ => Fitness::Fit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::task::JobKind;
    use serde_json::json;

    #[test]
    fn nodes_are_chosen_and_judged_by_what_they_run() {
        let nodes: BTreeMap<String, Known> = [
            ("old", "v1.27.0-kubeedge-v1.20.0"),
            ("done", "v1.32.10-kubeedge-v1.23.1"),
            ("next", "v1.31.0-kubeedge-v1.22.1"),
            ("ours", "v1.36.0-kubeedge-v1.23.1-kedge-0.1.0"),
        ]
        .into_iter()
        .map(|(name, version)| {
            let architecture = if name == "next" { "arm64" } else { "amd64" }.to_owned();
            (name.to_owned(), Known { labels: json!({"n": name}), kubelet: version.to_owned(), architecture })
        })
        .collect();
        let read = |spec: Value| Wanted::read(JobKind::NodeUpgrade, &json!({"spec": spec}), 0.0).unwrap();
        let wanted =
            read(json!({"version": "v1.23.1", "nodeNames": ["old", "done", "next", "ours", "gone", "next"]}));
        let chosen = fit(Engine::Actions, &wanted, &nodes);
        let [old, done, next, ours, gone] = chosen.as_slice() else { panic!("{chosen:?}") };
        assert!(
            matches!(&old.1, Fitness::Unfit(why) if why.contains("v1.20.0") && why.contains("disableNodeTask"))
        );
        assert_eq!(done.1, Fitness::Done("v1.23.1".to_owned()));
        // A kedge node is of its own release, whatever KubeEdge's it stands for.
        assert_eq!((&next.1, &ours.1), (&Fitness::Fit, &Fitness::Fit));
        assert!(matches!(&gone.1, Fitness::Unfit(why) if why.contains("no edge node")));
        assert_eq!(fit(Engine::Stages, &wanted, &nodes)[0].1, Fitness::Fit);
        let digest = format!("sha256:{}", "ab".repeat(32));
        let wanted = read(json!({"version": "v1.23.1", "nodeNames": ["next", "ours"],
            "imageDigestGatter": {"amd64": digest}}));
        let chosen = fit(Engine::Actions, &wanted, &nodes);
        assert!(matches!(&chosen[0].1, Fitness::Unfit(why) if why.contains("arm64")), "{chosen:?}");
        assert_eq!(chosen[1].1, Fitness::Fit);
        let asks = json!({"registryAPI": {"host": "r.example", "token": "t"}});
        let wanted =
            read(json!({"version": "v1.23.1", "nodeNames": ["next", "ours"], "imageDigestGatter": asks}));
        let chosen = fit(Engine::Actions, &wanted, &nodes);
        assert_eq!(chosen[0].1, Fitness::Fit, "the digest is the image's, whatever the architecture");
        assert!(matches!(&chosen[1].1, Fitness::Unfit(why) if why.contains("runs kedge")), "{chosen:?}");
        let wanted = read(json!({"version": "0.1.0", "labelSelector": {"matchLabels": {"n": "ours"}}}));
        assert_eq!(
            fit(Engine::Actions, &wanted, &nodes),
            [("ours".to_owned(), Fitness::Done("v0.1.0".to_owned()))]
        );
        let busy = Known {
            labels: json!({UPGRADING_LABEL: ""}),
            kubelet: "v1.31.0-kubeedge-v1.22.1".to_owned(),
            architecture: "amd64".to_owned(),
        };
        let wanted = read(json!({"version": "v1.23.1", "nodeNames": ["busy"]}));
        assert!(matches!(fitness(Engine::Stages, &wanted, &busy), Fitness::Unfit(_)));
        assert_eq!(fitness(Engine::Actions, &wanted, &busy), Fitness::Fit);
    }
}
