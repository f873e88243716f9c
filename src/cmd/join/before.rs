//! What a join finds on the machine: a former join, a configuration, a runtime, and whether the machine is fit. It looks
//! and changes nothing; every refusal here ends with an exit status that says whose turn it is.

use super::args::Wish;
use super::clock;
use super::lost;
use super::note::Note;
use super::plan::Runtime;
use super::work::{Former, former};
use crate::base::{Exit, Failure, Term, now};
use crate::config::edge::{DEFAULT_PATH, EdgeConfig};
use crate::config::read_yaml;
use crate::daemon::edge::uplink::Counter;
use crate::host::check::{Finding, Group, State};
use crate::host::containerd::{WELL_KNOWN, own_socket};
use crate::host::journal::{self, Journal};
use crate::host::preflight::{self, Answer, Wanted, ask_runtime};
use jiff::Timestamp;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The cloud's clock is only asked where the one here is wrong.
const CLOCK_LIMIT: Duration = Duration::from_secs(5);

/// What is here before anything is done.
pub(super) struct Before {
    /// The configuration file that the daemon reads.
    pub place: PathBuf,
    pub former: Former,
    pub note: Option<Note>,
    /// The configuration that is there.
    pub present: Option<Value>,
}

/// Looks at what former joins, and an edgecore, have left.
pub(super) fn look(wish: &Wish) -> Result<Before, Failure> {
    // What another kedge has half done would be told as broken off.
    Journal::is_free(Path::new(journal::DIR))?;
    let place = PathBuf::from(DEFAULT_PATH);
    let note = Note::read().map_err(|failure| failure.exit(Exit::Preflight))?;
    let present = if place.exists() { Some(read_yaml(&place)?) } else { None };
    let former = former().map_err(|failure| failure.exit(Exit::Preflight))?;
    if former == Former::None {
        Journal::is_whole(Path::new(journal::DIR)).map_err(|failure| failure.exit(Exit::Preflight))?;
    }
    let entries = Journal::read(Path::new(journal::DIR))?;
    if note.is_none() && lost::is_due(&entries, &Note::path(), &place) {
        return Err(lost::gone().exit(Exit::Preflight));
    }
    // Without a note it is not of a join, even if one was cut short before it had written anything.
    if present.is_some() && (former == Former::None || note.is_none()) && !wish.takeover {
        return Err(Failure::new("KE-JOIN-007", format!("there is {} already", place.display()))
            .because("it is not a join of kedge's: an edgecore is, or was, set up here")
            .fix("say --takeover to go on with its certificates, database and pods; or remove it first with `keadm reset edge`")
            .exit(Exit::Preflight));
    }
    if wish.takeover && present.is_none() {
        return Err(Failure::new("KE-JOIN-008", "there is no edgecore to take over")
            .because(format!("{} does not exist", place.display()))
            .fix("join without --takeover")
            .exit(Exit::Preflight));
    }
    Ok(Before { place, former, note, present })
}

impl Before {
    /// The configuration that a new one is laid over: one that was taken over, or that of a node. Nobody has set anything in
    /// what a first join has left that was cut short.
    pub(super) fn base(&self, wish: &Wish) -> Option<Value> {
        let keeps = self.former != Former::Unfinished || self.is_takeover(wish);
        self.present.clone().filter(|_| keeps)
    }

    /// The name under which this machine is a node now, if it is one.
    pub(super) fn node(&self) -> Option<&str> {
        let name = self.present.as_ref()?.pointer("/modules/edged/hostnameOverride")?.as_str()?;
        Some(name).filter(|name| !name.is_empty() && self.former != Former::Unfinished)
    }

    /// Whether an edgecore has, or had, this place.
    pub(super) fn is_takeover(&self, wish: &Wish) -> bool {
        match &self.note {
            Some(note) => note.takeover,
            None => wish.takeover,
        }
    }
}

/// The runtime that the node will use: the one that was named, the one of the present configuration, or the first
/// well-known one that answers.
pub(super) async fn runtime(wish: &Wish, base: Option<&Value>) -> Runtime {
    let of_base = || {
        let config = EdgeConfig::from_value(base?, "edgecore.yaml").ok()?.config;
        Some(config.edged.runtime_socket.display().to_string())
    };
    let own = base.and_then(|base| EdgeConfig::from_value(base, "edgecore.yaml").ok());
    let own = own.map(|loaded| own_socket(&loaded.config.runtime.dir));
    let mut places: Vec<String> = match &wish.runtime {
        Some(named) => vec![named.clone()],
        None => of_base().into_iter().chain(WELL_KNOWN.iter().map(|&place| place.to_owned())).collect(),
    };
    places.retain(|place| own.as_deref() != Some(Path::new(place)));
    for place in &places {
        if let Answer::Serves(asked) = ask_runtime(place).await {
            return Runtime::Running(asked);
        }
    }
    Runtime::Own
}

/// Refuses a machine that is not fit, with all that is wrong at once.
pub(super) async fn preflight(
    config: &EdgeConfig,
    wish: &Wish,
    takeover: bool,
    term: &Term,
) -> Result<(), Failure> {
    let mut wanted = Wanted { takeover, ..Wanted::of_edge(config) };
    if let (Some(named), Some(runtime)) = (&wish.runtime, &mut wanted.runtime) {
        runtime.endpoint = Some(named.clone());
        runtime.may_start = false;
    }
    let mut findings = preflight::edge(&wanted).await;
    let wrong = |finding: &&mut Finding| finding.code == "KE-CLOCK-001" && finding.state == State::Failed;
    if let Some(finding) = findings.iter_mut().find(wrong) {
        let theirs = cloud_clock(&config.hub.http_server).await;
        finding.seen = measured(finding, now(), theirs);
    }
    for finding in findings.iter().filter(|finding| finding.state == State::Warning) {
        term.say(&format!("warning: {}", told(finding)));
    }
    judge(&findings)
}

/// What the cloud's clock says; `None` where it does not answer.
async fn cloud_clock(https: &str) -> Option<Timestamp> {
    let counter = Counter::at(https).ok()?;
    tokio::time::timeout(CLOCK_LIMIT, counter.look()).await.ok()?.ok()?.clock
}

/// A clock that cannot be right, against the cloud's, and why that matters.
fn measured(finding: &Finding, here: Timestamp, cloud: Option<Timestamp>) -> String {
    let against = match cloud {
        Some(cloud) => clock::apart(here, cloud),
        None => "the cloud's clock could not be asked".to_owned(),
    };
    format!("{}, {against}; {}", finding.seen, finding.why)
}

fn told(finding: &Finding) -> String {
    let mut text = format!("{}: {} [{}]", finding.name, finding.seen, finding.code);
    if !finding.why.is_empty() {
        text += &format!("; {}", finding.why);
    }
    if !finding.fix.is_empty() {
        text += &format!("; {}", finding.fix);
    }
    text
}

fn judge(findings: &[Finding]) -> Result<(), Failure> {
    let failed: Vec<&Finding> = findings.iter().filter(|finding| finding.state == State::Failed).collect();
    let Some(first) = failed.first() else { return Ok(()) };
    let of_runtime = failed.iter().all(|finding| finding.group == Group::Runtime);
    let (code, exit) = match of_runtime {
        true => ("KE-JOIN-011", Exit::Runtime),
        false => ("KE-JOIN-010", Exit::Preflight),
    };
    let what = match (failed.len(), of_runtime) {
        (1, true) => "no container runtime works here".to_owned(),
        (1, false) => "this machine is not fit to be a node".to_owned(),
        (count, _) => format!("this machine is not fit to be a node: {count} problems"),
    };
    let one = |finding: &&Finding| format!("{}: {} [{}]", finding.name, finding.seen, finding.code);
    let why: Vec<String> = failed.iter().map(one).collect();
    let mut fixes: Vec<&str> = failed.iter().map(|f| f.fix.as_str()).filter(|fix| !fix.is_empty()).collect();
    fixes.dedup();
    let fix = if fixes.is_empty() { first.why.clone() } else { fixes.join("; then ") };
    Err(Failure::new(code, what).because(why.join("; ")).fix(fix).exit(exit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(state: State, group: Group, fix: &str) -> Finding {
        let mut finding = Finding::failed("KE-X-001", "the thing", "broken").fix(fix);
        (finding.state, finding.group) = (state, group);
        finding
    }

    #[test]
    fn a_clock_that_cannot_be_right_is_told_against_the_clouds() {
        let clock = finding(State::Failed, Group::Host, "").because("tokens are not valid");
        let at = |second| Timestamp::from_second(second).unwrap();
        let seen = measured(&clock, at(0), Some(at(90_000)));
        assert_eq!(seen, "broken, 1 d 1 h behind the cloud's; tokens are not valid");
        assert!(measured(&clock, at(0), None).contains("could not be asked"));
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_with_its_fixes() {
        let fine = finding(State::Warning, Group::Host, "x");
        assert_eq!(judge(&[fine]), Ok(()));
        let runtime = judge(&[finding(State::Failed, Group::Runtime, "start it")]).unwrap_err();
        assert_eq!((runtime.code, runtime.exit), ("KE-JOIN-011", Exit::Runtime));
        runtime.is_as_committed();
        let both = [
            finding(State::Failed, Group::Runtime, "start it"),
            finding(State::Failed, Group::Network, "stop it"),
        ];
        let failure = judge(&both).unwrap_err();
        assert_eq!((failure.code, failure.exit), ("KE-JOIN-010", Exit::Preflight));
        failure.is_as_committed();
        assert_eq!(failure.fix, "start it; then stop it");
        assert!(
            failure.what.contains("2 problems") && failure.why.matches("KE-X-001").count() == 2,
            "{failure}"
        );
    }
}
