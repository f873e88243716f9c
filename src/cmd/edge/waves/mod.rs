//! `kedge edge upgrade --nodes/--selector`: drives an upgrade through the cluster wave by wave with NodeUpgradeJobs.
//! The cluster remembers everything: run again with the same words it goes on, also after Ctrl-C or a lost machine.
//! `plan` decides, `api` asks the cluster, this file talks.

mod api;
mod plan;

use crate::base::{Bar, Exit, Failure, Output, Stop, Term};
use crate::cmd::span::{DAY, Span};
use crate::daemon::apiserver::selector::LabelSelector;
use crate::model::{NodeName, Release};
use api::{Cluster, Job, Wave, history};
use plan::{Most, Node, Run, Step, Verdict, identity};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_secs(1);
/// A cloud takes a job at once; after so long somebody is told that none has.
const UNTAKEN: Duration = Duration::from_secs(15);

/// Flags that make an upgrade one of the cluster instead of this machine. Those of the one kind are refused with the other.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Flags {
    /// Upgrade these nodes of the cluster, not this machine
    #[arg(long, value_name = "NODE,…", value_delimiter = ',', value_parser = node, group = "fleet", conflicts_with_all = OF_ONE)]
    nodes: Vec<String>,
    /// Upgrade the edge nodes with these labels, such as site=lab
    #[arg(long, value_name = "SELECTOR", value_parser = selector, group = "fleet", conflicts_with_all = OF_ONE)]
    selector: Option<String>,
    /// Nodes that may be away at a time: a number, or a share such as 10%
    #[arg(long, value_name = "N|N%", default_value = "1", value_parser = Most::parse, requires = "fleet")]
    max_unavailable: Most,
    /// Nodes that may fail before no more waves begin
    #[arg(long, value_name = "N", default_value_t = 0, requires = "fleet")]
    failure_budget: usize,
    /// How long a node may take for each step, such as 90s or 5m
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = limit, requires = "fleet")]
    node_timeout: Duration,
    /// The cluster [default: $KUBECONFIG or ~/.kube/config]
    #[arg(long, value_name = "FILE", requires = "fleet")]
    kube_config: Option<PathBuf>,
}

/// Flags of the upgrade of one machine, which knows its own file, keys and configuration. A fleet is always waited for, so
/// `--wait` goes with both.
const OF_ONE: [&str; 4] = ["key", "digest", "deadline", "allow_downgrade"];

/// How the command was given besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub yes: bool,
    pub dry_run: bool,
    pub output: Output,
}

/// Whole seconds, or a time with its unit, up to a day.
fn limit(text: &str) -> Result<Duration, String> {
    Span::new("90s or 5m", Duration::from_secs(1), DAY).in_seconds().read(text)
}

fn node(text: &str) -> Result<String, String> {
    NodeName::new(text).map(|name| name.to_string()).map_err(|why| why.to_string())
}

fn selector(text: &str) -> Result<String, String> {
    LabelSelector::parse(text).map(|_| text.to_owned()).map_err(|status| status.message)
}

impl Flags {
    /// Whether the upgrade is one of the cluster.
    pub(super) fn chosen(&self) -> bool {
        !self.nodes.is_empty() || self.selector.is_some()
    }

    /// What names the roll-out, besides its version.
    fn choice(&self) -> String {
        let mut names = self.nodes.clone();
        names.sort();
        names.dedup();
        format!("{}|{}", names.join(","), self.selector.as_deref().unwrap_or_default())
    }
}

/// Drives the roll-out to its end.
pub(super) fn run(flags: &Flags, to: &str, manner: Manner, term: &Term) -> Result<Exit, Failure> {
    let to = Release::parse(to).ok_or_else(|| {
        Failure::new("KE-FLEET-001", format!("{to:?} is no version"))
            .because("the cloud hands out releases by their versions")
            .fix("write --to X.Y.Z; a file can only be given to one machine, on that machine")
            .exit(Exit::Usage)
    })?;
    crate::cmd::block_on(async {
        let stop = Stop::new();
        crate::cmd::stop_on_signals(&stop)?;
        let Some(cluster) = stop.or(Cluster::connect(flags.kube_config.as_deref())).await else {
            return Ok(Exit::Interrupted);
        };
        let identity = identity(&to, &flags.choice());
        let run = Run {
            to,
            most: flags.max_unavailable,
            budget: flags.failure_budget,
            failed: BTreeMap::new(),
            skipped: BTreeMap::new(),
        };
        let mut rollout = Rollout {
            cluster: cluster?,
            flags,
            manner,
            identity,
            run,
            term,
            stop,
            since: 0,
            told: BTreeMap::new(),
        };
        if manner.dry_run { rollout.show().await } else { rollout.drive().await }
    })
}

struct Rollout<'a> {
    cluster: Cluster,
    flags: &'a Flags,
    manner: Manner,
    identity: String,
    run: Run,
    term: &'a Term,
    stop: Stop,
    /// The first job whose outcomes are newer than what the Nodes say of themselves.
    since: u64,
    /// What was said of a node last.
    told: BTreeMap<String, String>,
}

impl Rollout<'_> {
    /// The chosen nodes as they are now.
    async fn nodes(&self) -> Result<Vec<Node>, Failure> {
        let mut nodes = self.cluster.nodes(self.flags.selector.as_deref().unwrap_or_default()).await?;
        if !self.flags.nodes.is_empty() {
            let known = |name: &String| nodes.iter().any(|node| node.name == *name);
            let unknown: Vec<&str> =
                self.flags.nodes.iter().filter(|name| !known(name)).map(String::as_str).collect();
            if !unknown.is_empty() {
                return Err(Failure::new(
                    "KE-FLEET-002",
                    format!("there is no edge node {}", unknown.join(", ")),
                )
                .because("none of this name has the label node-role.kubernetes.io/edge")
                .fix("kubectl get nodes -l node-role.kubernetes.io/edge shows them"));
            }
            nodes.retain(|node| self.flags.nodes.contains(&node.name));
        }
        if nodes.is_empty() {
            return Err(Failure::new("KE-FLEET-002", "no edge node is chosen")
                .because("the selector fits none")
                .fix("kubectl get nodes -l node-role.kubernetes.io/edge --show-labels shows what there is"));
        }
        Ok(nodes)
    }

    /// Says what would be done.
    async fn show(&self) -> Result<Exit, Failure> {
        let mut nodes = self.nodes().await?;
        let history = history(&self.cluster.jobs(&self.identity).await?, u64::MAX);
        let mut waves = Vec::new();
        while let Step::Wave(wave) = self.run.next(&nodes, &history) {
            for node in nodes.iter_mut().filter(|node| wave.contains(&node.name)) {
                node.runs = Some(self.run.to.clone());
            }
            waves.push(wave);
        }
        let away = nodes.iter().filter(|node| !node.ready && node.runs.as_ref() != Some(&self.run.to));
        let away: Vec<&str> = away.map(|node| node.name.as_str()).collect();
        if self.manner.output != Output::Text {
            let document = json!({"apiVersion": "kedge.io/v1", "kind": "FleetUpgradePlan",
                "version": self.run.to.to_string(), "rollout": self.identity, "waves": waves, "notReady": away});
            self.term.value(&document, self.manner.output)?;
            return Ok(Exit::Done);
        }
        for (number, wave) in (1..).zip(&waves) {
            self.term.data(&format!("wave {number}: {}", wave.join(", ")));
        }
        for node in away {
            self.term.data(&format!("skipped: {node} is not Ready"));
        }
        if waves.is_empty() {
            self.term.say(&format!("no node is to be upgraded to {}", self.run.to));
        }
        Ok(Exit::Done)
    }

    async fn drive(&mut self) -> Result<Exit, Failure> {
        let jobs = self.cluster.jobs(&self.identity).await?;
        let last = jobs.last().cloned();
        self.since = last.as_ref().map_or(0, |job| job.number);
        let nodes = self.nodes().await?;
        let question = match nodes.as_slice() {
            [node] => format!("Upgrade {} to {}?", node.name, self.run.to),
            nodes => format!("Upgrade {} nodes to {}, wave by wave?", nodes.len(), self.run.to),
        };
        if !crate::cmd::ask::offer(&question, self.manner.yes)? {
            self.term.say("nothing was changed");
            return Ok(Exit::Interrupted);
        }
        let bar = self.term.bar(nodes.len());
        if let Some(job) = last.filter(|job| !job.over) {
            bar.line(&format!("going on with {}, which is still at work", job.name));
            if !self.follow(&job.name, &bar).await? {
                return Ok(self.interrupted(&bar, Some(&job.name)));
            }
        }
        let (nodes, spent) = loop {
            let Some(step) = self.stop.clone().or(self.wave(&bar)).await else {
                return Ok(self.interrupted(&bar, None));
            };
            match step? {
                (_, Step::Wave(_), Some(job)) => {
                    if !self.follow(&job.name, &bar).await? {
                        return Ok(self.interrupted(&bar, Some(&job.name)));
                    }
                }
                (nodes, Step::Spent, _) => break (nodes, true),
                (nodes, _, _) => break (nodes, false),
            }
        };
        bar.finish();
        self.conclude(&nodes, spent).await
    }

    /// Decides on the next wave and begins it.
    async fn wave(&self, bar: &Bar) -> Result<(Vec<Node>, Step, Option<Job>), Failure> {
        let nodes = self.nodes().await?;
        let history = history(&self.cluster.jobs(&self.identity).await?, self.since);
        let done = nodes.iter().filter(|node| {
            node.runs.as_ref() == Some(&self.run.to)
                || history.verdicts.get(&node.name) == Some(&Verdict::Done)
        });
        bar.set(done.count());
        let step = self.run.next(&nodes, &history);
        let Step::Wave(names) = &step else { return Ok((nodes, step, None)) };
        let wave = Wave {
            identity: &self.identity,
            number: history.last + 1,
            to: &self.run.to,
            nodes: names,
            limit: self.flags.node_timeout,
        };
        let more = self.run.waves(&nodes, &history).saturating_sub(1);
        bar.line(&format!("{}: {} to {} ({more} more waves)", wave.name(), names.join(", "), self.run.to));
        let job = self.cluster.create(&wave).await?;
        Ok((nodes, step, Some(job)))
    }

    /// Tells what becomes of a job until it is over; false when the person has had enough.
    async fn follow(&mut self, name: &str, bar: &Bar) -> Result<bool, Failure> {
        let began = Instant::now();
        let mut silent = true;
        loop {
            let Some(job) = self.stop.clone().or(self.cluster.job(name)).await else { return Ok(false) };
            let job = job?;
            if silent && !job.begun && began.elapsed() > UNTAKEN {
                silent = false;
                bar.line(&format!("nobody takes {name}: does the cloud run, and follow this cluster?"));
            }
            for row in &job.rows {
                let word = match (row.action.as_str(), row.reason.as_str()) {
                    ("", "") => row.phase.clone(),
                    (action, "") => format!("{} ({action})", row.phase),
                    ("", reason) => format!("{}: {reason}", row.phase),
                    (action, reason) => format!("{} ({action}): {reason}", row.phase),
                };
                if self.told.get(&row.node) != Some(&word) {
                    bar.line(&format!("{}  {word}", row.node));
                    self.told.insert(row.node.clone(), word);
                }
            }
            if job.over && job.rows.is_empty() {
                return Err(Failure::new("KE-FLEET-005", format!("the cloud refuses {name}"))
                    .because(job.reason)
                    .fix(format!("mend that; `kubectl delete nodeupgradejob {name}`, then run this again")));
            }
            if job.over {
                self.count(&job, bar);
                return Ok(true);
            }
            if self.stop.or(tokio::time::sleep(LOOK)).await.is_none() {
                return Ok(false);
            }
        }
    }

    fn count(&mut self, job: &Job, bar: &Bar) {
        for row in &job.rows {
            match (row.phase.as_str(), row.skipped()) {
                ("Successful", _) => bar.advance(),
                (_, Some(why)) => {
                    self.run.skipped.insert(row.node.clone(), why.to_owned());
                }
                ("Failure" | "Unknown", None) => {
                    let reason = if row.reason.is_empty() { "no reason was given" } else { &row.reason };
                    self.run.failed.insert(row.node.clone(), reason.to_owned());
                }
                _ => {}
            }
        }
    }

    fn interrupted(&self, bar: &Bar, job: Option<&str>) -> Exit {
        bar.finish();
        let state = match job {
            Some(job) => format!("{job} goes on in the cluster with the nodes it has begun"),
            None => "no node is being upgraded".to_owned(),
        };
        self.term.say(&format!(
            "interrupted: {state}; no further wave begins. The same command goes on from here"
        ));
        Exit::Interrupted
    }

    async fn conclude(&self, nodes: &[Node], spent: bool) -> Result<Exit, Failure> {
        let jobs = self.cluster.jobs(&self.identity).await?;
        let history = history(&jobs, self.since);
        let rows: Vec<[String; 3]> = nodes
            .iter()
            .map(|node| {
                let done = node.runs.as_ref() == Some(&self.run.to)
                    || history.verdicts.get(&node.name) == Some(&Verdict::Done);
                let (state, reason) = match self.run.failed.get(&node.name) {
                    _ if done => ("upgraded", String::new()),
                    Some(why) => ("failed", why.clone()),
                    None => match self.run.skipped.get(&node.name) {
                        Some(why) => ("skipped", why.clone()),
                        None if !node.ready => ("skipped", "the node is not Ready".to_owned()),
                        None => ("left", "no wave came to it".to_owned()),
                    },
                };
                [node.name.clone(), state.to_owned(), reason]
            })
            .collect();
        let open = rows.iter().filter(|[_, state, _]| state != "upgraded").count();
        if self.manner.output == Output::Text {
            let mut table = vec![["NODE", "STATE", "REASON"].map(str::to_owned)];
            table.extend(rows.iter().cloned());
            self.term.data(&crate::cmd::twin::aligned(&table));
        } else {
            let items: Vec<Value> = rows
                .iter()
                .map(|[node, state, reason]| json!({"node": node, "state": state, "reason": reason}))
                .collect();
            let document = json!({"apiVersion": "kedge.io/v1", "kind": "FleetUpgrade", "version": self.run.to.to_string(),
                "rollout": self.identity, "stopped": spent, "nodes": items});
            self.term.value(&document, self.manner.output)?;
        }
        if spent {
            let list: Vec<String> =
                self.run.failed.iter().map(|(node, why)| format!("{node}: {why}")).collect();
            return Err(Failure::new(
                "KE-FLEET-003",
                format!("{} of {} nodes failed; the budget is {}", list.len(), nodes.len(), self.run.budget),
            )
            .because(list.join("; "))
            .fix("mend the nodes and run this again: it goes on with those that are left"));
        }
        if open > 0 {
            return Err(Failure::new(
                "KE-FLEET-004",
                format!("{open} of {} nodes were not upgraded", nodes.len()),
            )
            .because("the table names each with its reason")
            .fix("mend them and run this again: it goes on with those that are left"));
        }
        Ok(Exit::Done)
    }
}
