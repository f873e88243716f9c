//! What `kedge join -o json|yaml` tells programs: an event for each milestone and a last one with the outcome, a plan for
//! a dry run, and the same exit statuses as without.

use crate::join::{Cloud, Machine};
use crate::support::Run;
use crate::support::snapshot::Said;
use crate::support::world::World;
use regex::Regex;
use serde_json::Value;

/// The events of a run, each of them a line.
#[track_caller]
fn events(run: &Run) -> Vec<Value> {
    let all: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(all.iter().all(|event| event["apiVersion"] == "kedge.io/v1"), "{run:?}");
    all
}

/// The last event, and the milestones before it as `name state`.
#[track_caller]
fn outcome(run: &Run) -> (Vec<String>, Value) {
    let mut all = events(run);
    let last = all.pop().unwrap_or_else(|| panic!("no event: {run:?}"));
    assert_eq!(last["kind"], "JoinReport", "{run:?}");
    assert_eq!(last["exit"], run.status, "{run:?}");
    let names = all.iter().map(|event| {
        assert_eq!(event["kind"], "JoinMilestone", "{event}");
        format!("{} {}", event["milestone"].as_str().unwrap(), event["state"].as_str().unwrap())
    });
    (names.collect(), last)
}

/// Times and hashes differ from run to run, the runtime's version from machine to machine.
fn steady(run: Run) -> Run {
    let masks = [
        (r"(seconds\W+)[0-9.]+", "${1}N"),
        (r"\] +[0-9.]+s", "] Ns"),
        (r"\b[0-9a-f]{12}…", "HASH…"),
        (r#"(containerd(?: |://))[0-9][^ "]*"#, "${1}VERSION"),
    ];
    let masked = |text: String| {
        let mask = |text: String, (pattern, by): &(&str, &str)| {
            Regex::new(pattern).unwrap().replace_all(&text, *by).into_owned()
        };
        masks.iter().fold(text, mask)
    };
    Run { stdout: masked(run.stdout), stderr: masked(run.stderr), ..run }
}

#[test]
fn milestones_and_the_outcome_are_told_to_programs() {
    let world = World::new("join-events");
    let cloud = Cloud::new(&world);
    let machine = Machine::new(&world, "edge-7");
    let token = cloud.token(&[]);
    let mut said = Said::default();
    let mut keep = |line: &str, run: Run| said.keep(line, &steady(run));

    let dry = machine.join(&cloud, &token, &["--dry-run", "-o", "json"]);
    assert_eq!(dry.status, 0, "{dry:?}");
    let plan: Value = serde_json::from_str(&dry.stdout).unwrap();
    assert_eq!((&plan["kind"], &plan["node"]), (&"JoinPlan".into(), &"edge-7".into()), "{plan:#}");
    let items = plan["items"].as_array().unwrap();
    assert!(items.iter().any(|item| item["path"] == "/etc/kubeedge/config/edgecore.yaml"), "{plan:#}");
    machine.is_as_before(&dry);
    keep("join -e CLOUD -t TOKEN --dry-run -o json", dry);

    // Refused while the cloud is looked at: the milestone says why.
    let wrong = format!("{}.{}", "ab".repeat(32), token.split_once('.').unwrap().1);
    let refused = machine.join(&cloud, &wrong, &["-o", "json"]);
    let (milestones, last) = outcome(&refused);
    assert_eq!(
        (milestones, refused.status),
        (["TCP reached", "TLS reached", "CA hash failed"].map(str::to_owned).to_vec(), 12)
    );
    assert_eq!((&last["outcome"], &last["failure"]["code"]), (&"refused".into(), &"KE-TOKEN-001".into()));
    assert_eq!(events(&refused)[2]["code"], "KE-TOKEN-001");
    machine.is_as_before(&refused);
    keep("join -e CLOUD -t OTHER -o json", refused);
    // Before any milestone.
    let usage = machine.house.kedge(&["join", "-o", "json"]);
    assert_eq!(outcome(&usage).0.len(), 0, "{usage:?}");
    assert_eq!(usage.status, 2, "{usage:?}");
    keep("join -o json", usage);

    // Rolled back.
    let nowhere = format!("modules.edgeHub.websocket.server={}:9", cloud.house.address());
    let back = machine.join(&cloud, &token, &["--set", &nowhere, "--timeout", "3s", "-o", "json"]);
    let (milestones, last) = outcome(&back);
    assert_eq!((milestones.len(), milestones[4].as_str(), back.status), (5, "hub session failed", 14));
    assert_eq!((&last["outcome"], &last["failure"]["code"]), (&"rolledBack".into(), &"KE-JOIN-014".into()));
    assert_eq!(last["leftovers"], Value::Array(Vec::new()));
    machine.is_as_before(&back);
    keep("join -e CLOUD -t TOKEN --set modules.edgeHub.websocket.server=CLOUD:9 --timeout 3s -o json", back);

    // Joined, in the words of the text form on stderr.
    let joined = machine.join(&cloud, &token, &["-o", "json"]);
    let (milestones, last) = outcome(&joined);
    assert_eq!((milestones.len(), joined.status), (9, 0), "{joined:?}");
    assert!(milestones.iter().all(|milestone| milestone.ends_with(" reached")), "{milestones:?}");
    assert!(joined.stderr.contains("[9/9]") && !joined.stdout.contains(&token), "{joined:?}");
    assert_eq!((&last["outcome"], &last["node"]), (&"joined".into(), &"edge-7".into()));
    let listed = machine.house.kedge(&["cert", "list", "-o", "json"]).stdout;
    let fingerprint = last["certificate"]["fingerprint"].as_str().unwrap();
    assert!(listed.contains(fingerprint), "{fingerprint}: {listed}");
    let kept = Regex::new(fingerprint).unwrap();
    let mut shown = joined.clone();
    shown.stdout = kept.replace_all(&shown.stdout, "FINGERPRINT").into_owned();
    keep("join -e CLOUD -t TOKEN -o json", shown);

    // Again, as YAML: nothing is left to do.
    let mut again = machine.join(&cloud, &token, &["-o", "yaml"]);
    assert!(again.status == 0 && again.stdout.contains("outcome: unchanged"), "{again:?}");
    again.stdout = kept.replace_all(&again.stdout, "FINGERPRINT").into_owned();
    keep("join -e CLOUD -t TOKEN -o yaml", again);
    said.is_as_committed("join", &[(cloud.house.address(), "CLOUD")]);
    machine.reset();
}
