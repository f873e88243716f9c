//! `kedge doctor offline`: which pods of this node would start after a reboot with no cloud, proved from the store and
//! the runtime's images. Works with the daemon stopped, and on the database of a genuine edgecore.

use super::closure::{Closure, Held};
use super::report::API_VERSION;
use crate::base::{Exit, Failure, Output, Term};
use crate::cmd::edge_store::{DatabaseArgs, table};
use crate::cmd::pods::endpoints;
use crate::cri::Runtime;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

const CALL: Duration = Duration::from_secs(3);

/// Prove which pods would start with no cloud
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge doctor offline\n  kedge doctor offline --db /var/lib/kubeedge/edgecore.db -o json"
)]
pub(super) struct Args {
    /// The container runtime's socket; found when not given
    #[arg(long, value_name = "ENDPOINT")]
    runtime_endpoint: Option<String>,
    #[command(flatten)]
    database: DatabaseArgs,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &Args, term: &Term) -> Result<Exit, Failure> {
    let reader = args.database.open()?;
    let mut pods = Held::read(&reader)?.closures();
    let endpoints = match &args.runtime_endpoint {
        Some(endpoint) => vec![endpoint.clone()],
        None => endpoints(reader.path()),
    };
    let runtime = crate::cmd::block_on(async { Ok(look_at_images(&mut pods, endpoints).await) })?;
    let failing = pods.iter().filter(|pod| pod.starts == Some(false)).count();
    match args.output {
        Output::Text if pods.is_empty() => term.say("no pods are assigned to this node"),
        Output::Text => term.data(&told(&pods, runtime.is_some())),
        form => {
            let document = json!({"apiVersion": API_VERSION, "kind": "OfflineReport", "database": reader.path().display().to_string(),
                "runtime": runtime, "pods": pods});
            term.value(&document, form)?;
        }
    }
    Ok(if failing > 0 { Exit::Failed } else { Exit::Done })
}

/// Asks the first runtime that answers for every image; answers its endpoint.
pub(super) async fn look_at_images(pods: &mut [Closure], endpoints: Vec<String>) -> Option<String> {
    for endpoint in endpoints {
        let runtime = Runtime::new(&endpoint);
        if !matches!(tokio::time::timeout(CALL, runtime.version()).await, Ok(Ok(_))) {
            continue;
        }
        let mut known: BTreeMap<String, Option<bool>> = BTreeMap::new();
        for image in pods.iter().flat_map(|pod| pod.images.keys().cloned()).collect::<Vec<_>>() {
            if let Entry::Vacant(unknown) = known.entry(image) {
                let present = tokio::time::timeout(CALL, runtime.image_status(unknown.key())).await;
                unknown.insert(present.ok().and_then(Result::ok).map(|image| image.is_some()));
            }
        }
        for pod in pods.iter_mut().filter(|pod| pod.starts.is_some()) {
            for (image, present) in &mut pod.images {
                *present = known.get(image).copied().flatten();
            }
            if pod.images.values().any(|present| *present == Some(false)) {
                pod.starts = Some(false);
            }
        }
        return Some(endpoint);
    }
    None
}

fn told(pods: &[Closure], runtime: bool) -> String {
    let rows = pods.iter().map(|pod| {
        let starts = match pod.starts {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        vec![pod.namespace.clone(), pod.name.clone(), starts.to_owned(), why(pod)]
    });
    let (yes, no) = counts(pods);
    let mut out = table(&["NAMESPACE", "NAME", "WOULD START", "WHY"], rows);
    out += &format!("\n\n{yes} would start with no cloud, {no} would not");
    if !runtime {
        out += "; no container runtime answers, so images were not looked at";
    }
    out
}

/// Pods that would start, and pods that would not.
pub(super) fn counts(pods: &[Closure]) -> (usize, usize) {
    let count = |starts| pods.iter().filter(|pod| pod.starts == Some(starts)).count();
    (count(true), count(false))
}

/// One sentence on a pod.
pub(super) fn why(pod: &Closure) -> String {
    if pod.starts.is_none() {
        return "it has ended".to_owned();
    }
    let missing =
        pod.missing.iter().map(|missing| format!("{} {}: {}", missing.kind, missing.name, missing.why));
    let absent = pod.images.iter().filter(|(_, present)| **present == Some(false));
    let absent = absent.map(|(image, _)| format!("image {image}: not in the runtime"));
    let all: Vec<String> = missing.chain(absent).collect();
    if all.is_empty() { "everything is here".to_owned() } else { all.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::super::closure::Missing;
    use super::*;

    fn pod(name: &str, starts: Option<bool>) -> Closure {
        Closure {
            namespace: "d".into(),
            name: name.into(),
            starts,
            missing: Vec::new(),
            images: BTreeMap::new(),
        }
    }

    #[test]
    fn a_person_reads_which_would_start_and_why_not() {
        let missing =
            vec![Missing { kind: "Secret".into(), name: "tls".into(), why: "not in the store".into() }];
        let images = BTreeMap::from([("a:1".to_owned(), Some(false)), ("b:1".to_owned(), None)]);
        let pods =
            [pod("a", Some(true)), Closure { missing, images, ..pod("b", Some(false)) }, pod("job", None)];
        let text = told(&pods, false);
        assert!(text.contains("Secret tls: not in the store; image a:1: not in the runtime"), "{text}");
        assert!(text.contains("it has ended"), "{text}");
        assert!(text.ends_with("1 would start with no cloud, 1 would not; no container runtime answers, so images were not looked at"));
    }

    #[tokio::test]
    async fn without_a_runtime_images_stay_unknown() {
        let images = BTreeMap::from([("a:1".to_owned(), None)]);
        let mut pods = [Closure { images, ..pod("a", Some(true)) }];
        assert_eq!(look_at_images(&mut pods, vec!["unix:///nonexistent.sock".to_owned()]).await, None);
        assert_eq!(pods[0].starts, Some(true));
    }
}
