//! Checks and what they find: one value with a code, what was measured, why it matters and one command to mend it.
//! `preflight` and `kedge doctor` make checks, `join` refuses on what failed. A check looks; it never changes anything.
//! `run` carries them out side by side, each within its own limit and all within one budget, and answers in their order.

use crate::base::BoxFuture;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::time::{Duration, Instant};

/// What a check has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Fine,
    Skipped,
    Warning,
    Failed,
}

/// Where a finding belongs; printed in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    Host,
    Runtime,
    Network,
    Identity,
    CloudLink,
    Store,
    Workloads,
    Devices,
    Mesh,
    Upgrade,
}

impl Group {
    /// The heading that a person reads.
    pub fn title(self) -> &'static str {
        match self {
            Group::Host => "Host",
            Group::Runtime => "Runtime",
            Group::Network => "Network",
            Group::Identity => "Identity",
            Group::CloudLink => "Cloud link",
            Group::Store => "Store",
            Group::Workloads => "Workloads",
            Group::Devices => "Devices",
            Group::Mesh => "Mesh",
            Group::Upgrade => "Upgrade",
        }
    }

    /// The word for `--only`, `--skip` and machine forms.
    pub fn word(self) -> String {
        self.title().to_lowercase().replace(' ', "-")
    }
}

/// One line of a report. The JSON form only ever grows; drop-in checks print the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Stable, such as `KE-PORT-010`.
    pub code: Cow<'static, str>,
    pub group: Group,
    /// What was looked at, such as `port 1883 (MQTT)`.
    pub name: String,
    pub state: State,
    /// The measured value.
    #[serde(default)]
    pub seen: String,
    /// Why it matters, or why the check was skipped; empty when all is well.
    #[serde(default)]
    pub why: String,
    /// One command or one deed; empty when there is nothing to do.
    #[serde(default)]
    pub fix: String,
    /// Whether `kedge doctor --fix` can do it.
    #[serde(default)]
    pub fixable: bool,
}

impl Finding {
    fn new(code: &'static str, state: State, name: impl Into<String>, seen: impl Into<String>) -> Finding {
        Finding {
            code: Cow::Borrowed(code),
            // The check that made it knows better; see `run`.
            group: Group::Host,
            name: name.into(),
            state,
            seen: seen.into(),
            why: String::new(),
            fix: String::new(),
            fixable: false,
        }
    }

    /// All is well.
    pub fn fine(code: &'static str, name: impl Into<String>, seen: impl Into<String>) -> Finding {
        Finding::new(code, State::Fine, name, seen)
    }

    /// It works, and will not always.
    pub fn warning(code: &'static str, name: impl Into<String>, seen: impl Into<String>) -> Finding {
        Finding::new(code, State::Warning, name, seen)
    }

    /// It does not work.
    pub fn failed(code: &'static str, name: impl Into<String>, seen: impl Into<String>) -> Finding {
        Finding::new(code, State::Failed, name, seen)
    }

    /// It was not looked at, and why.
    pub fn skipped(code: &'static str, name: impl Into<String>, why: impl Into<String>) -> Finding {
        let mut finding = Finding::new(code, State::Skipped, name, "");
        finding.why = why.into();
        finding
    }

    /// Adds why it matters.
    #[must_use]
    pub fn because(mut self, why: impl Into<String>) -> Finding {
        self.why = why.into();
        self
    }

    /// Adds the one command.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Finding {
        self.fix = fix.into();
        self
    }

    /// Marks what `--fix` can mend.
    #[must_use]
    pub fn fixable(mut self) -> Finding {
        self.fixable = true;
        self
    }
}

/// About how long a check takes, and how long it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cost {
    /// Reads a few files.
    Small,
    /// Asks another process on this machine, or writes to the disk.
    Medium,
    /// Waits for an answer over a network.
    Large,
}

impl Cost {
    /// How long such a check may take.
    pub fn limit(self) -> Duration {
        match self {
            Cost::Small => Duration::from_millis(1500),
            Cost::Medium => Duration::from_secs(4),
            Cost::Large => Duration::from_secs(8),
        }
    }
}

/// How a check is carried out.
pub enum Look {
    /// On a thread of its own: it reads files or waits for programs.
    Blocking(Box<dyn FnOnce() -> Vec<Finding> + Send>),
    Async(BoxFuture<'static, Vec<Finding>>),
}

/// One check, not yet carried out.
pub struct Check {
    /// The code that its findings carry, unless a cause has a code of its own; see `also`.
    pub id: &'static str,
    pub group: Group,
    pub name: &'static str,
    pub cost: Cost,
    pub needs_root: bool,
    /// Whether it needs a way to other machines.
    pub needs_net: bool,
    /// Further codes that its findings may carry.
    also: &'static [&'static str],
    /// Codes of checks whose failure makes this one meaningless.
    pub after: &'static [&'static str],
    /// Whether its findings say themselves where they belong.
    places_itself: bool,
    look: Look,
}

impl Check {
    /// A check that reads files or runs programs on this machine.
    pub fn blocking(
        id: &'static str,
        group: Group,
        name: &'static str,
        look: impl FnOnce() -> Vec<Finding> + Send + 'static,
    ) -> Check {
        Check::new(id, group, name, Look::Blocking(Box::new(look)))
    }

    /// A check that waits for others.
    pub fn asking(
        id: &'static str,
        group: Group,
        name: &'static str,
        look: impl Future<Output = Vec<Finding>> + Send + 'static,
    ) -> Check {
        let mut check = Check::new(id, group, name, Look::Async(Box::pin(look)));
        check.cost = Cost::Medium;
        check
    }

    fn new(id: &'static str, group: Group, name: &'static str, look: Look) -> Check {
        let cost = Cost::Small;
        let (needs_root, needs_net, places_itself) = (false, false, false);
        Check { id, group, name, cost, needs_root, needs_net, also: &[], after: &[], places_itself, look }
    }

    #[must_use]
    pub fn cost(mut self, cost: Cost) -> Check {
        self.cost = cost;
        self
    }

    /// It sees only a part without root; it is then skipped.
    #[must_use]
    pub fn root(mut self) -> Check {
        self.needs_root = true;
        self
    }

    /// It speaks to another machine.
    #[must_use]
    pub fn net(mut self) -> Check {
        self.needs_net = true;
        self.cost = Cost::Large;
        self
    }

    /// Its findings carry groups of their own.
    #[must_use]
    pub fn placing_itself(mut self) -> Check {
        self.places_itself = true;
        self
    }

    /// Where one of these codes has failed, this check says nothing new.
    #[must_use]
    pub fn after(mut self, codes: &'static [&'static str]) -> Check {
        self.after = codes;
        self
    }

    /// Some causes have codes of their own.
    #[must_use]
    pub fn also(mut self, codes: &'static [&'static str]) -> Check {
        self.also = codes;
        self
    }

    /// The codes that its findings may carry.
    pub fn codes(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.id).chain(self.also.iter().copied())
    }

    /// Whether a word of `--only` or `--skip` means this check: a group, a code, or the beginning of a code.
    pub fn is_meant(&self, word: &str) -> bool {
        let word = word.trim().to_uppercase();
        !word.is_empty()
            && (self.codes().any(|code| code.starts_with(&word)) || self.group.word().to_uppercase() == word)
    }
}

/// What checks may count on here.
#[derive(Clone, Copy, Debug)]
pub struct Means {
    pub root: bool,
    /// Whether this machine has a way to others.
    pub route: bool,
}

impl Means {
    /// What this process has on this machine.
    pub fn here() -> Means {
        Means { root: super::capabilities::is_root(), route: has_route() }
    }
}

/// Whether there is a default route, or a route of any kind over an interface that is not loopback.
fn has_route() -> bool {
    let v4 = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let v6 = std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let first = |line: &str| line.split_whitespace().next().unwrap_or("lo").to_owned();
    let last = |line: &str| line.split_whitespace().last().unwrap_or("lo").to_owned();
    let usable_v6 =
        |line: &&str| !line.starts_with("fe80") && !line.starts_with("ff00") && last(line) != "lo";
    v4.lines().skip(1).any(|line| first(line) != "lo") || v6.lines().any(|line| usable_v6(&line))
}

/// Carries all checks out side by side; findings come in the order of the checks, sorted by group.
pub async fn run(checks: Vec<Check>, means: Means, budget: Duration) -> Vec<Finding> {
    let end = Instant::now() + budget;
    let mut order: Vec<(Option<Group>, &'static [&'static str])> = Vec::new();
    let mut looks = Vec::new();
    for check in checks {
        order.push(((!check.places_itself).then_some(check.group), check.after));
        looks.push(one(check, means, end));
    }
    let found = join_all(looks).await;
    let mut all: Vec<(&'static [&'static str], Finding)> = Vec::new();
    for ((group, after), findings) in order.into_iter().zip(found) {
        let placed = |finding: Finding| Finding { group: group.unwrap_or(finding.group), ..finding };
        all.extend(findings.into_iter().map(|finding| (after, placed(finding))));
    }
    let failed: Vec<Cow<'static, str>> =
        all.iter().filter(|(_, f)| f.state == State::Failed).map(|(_, f)| f.code.clone()).collect();
    let mut findings: Vec<Finding> =
        all.into_iter().map(|(after, finding)| overshadowed(after, &failed, finding)).collect();
    findings.sort_by_key(|finding| finding.group);
    findings
}

/// A complaint that only repeats an earlier failure is skipped, naming it.
fn overshadowed(after: &[&str], failed: &[Cow<'static, str>], finding: Finding) -> Finding {
    let complains = matches!(finding.state, State::Failed | State::Warning);
    match after.iter().find(|code| failed.iter().any(|f| f == *code)) {
        Some(cause) if complains && finding.code != **cause => Finding {
            state: State::Skipped,
            seen: String::new(),
            why: format!("because of {cause}"),
            fix: String::new(),
            fixable: false,
            ..finding
        },
        _ => finding,
    }
}

async fn one(check: Check, means: Means, end: Instant) -> Vec<Finding> {
    let Check { id, name, cost, needs_root, needs_net, look, .. } = check;
    if needs_root && !means.root {
        return vec![Finding::skipped(id, name, "needs root")];
    }
    if needs_net && !means.route {
        return vec![Finding::skipped(id, name, "this machine has no route to others")];
    }
    let limit = cost.limit().min(end.saturating_duration_since(Instant::now()));
    let look: BoxFuture<'static, Option<Vec<Finding>>> = match look {
        Look::Blocking(look) => Box::pin(async move { tokio::task::spawn_blocking(look).await.ok() }),
        Look::Async(look) => Box::pin(async move { Some(look.await) }),
    };
    match tokio::time::timeout(limit, look).await {
        Ok(Some(findings)) => findings,
        Ok(None) => vec![Finding::failed(id, name, "the check broke off")],
        Err(_) => {
            let seen = format!("no answer within {:.1} s", limit.as_secs_f64());
            let finding = Finding::failed(id, name, seen);
            vec![finding.because("what is asked hangs: a disk, a runtime or a network that does not answer")]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEANS: Means = Means { root: true, route: true };
    const BUDGET: Duration = Duration::from_secs(10);

    fn check(id: &'static str, group: Group, finding: Finding) -> Check {
        Check::blocking(id, group, "x", move || vec![finding])
    }

    #[tokio::test]
    async fn findings_come_by_group_and_in_the_order_of_the_checks() {
        let checks = vec![
            check("KE-X-001", Group::Store, Finding::fine("KE-X-001", "b", "1")),
            Check::asking("KE-TEST-001", Group::Host, "a", async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                vec![Finding::fine("KE-TEST-001", "a", "2")]
            }),
            check("KE-TEST-002", Group::Host, Finding::fine("KE-TEST-002", "a", "3")),
        ];
        let found = run(checks, MEANS, BUDGET).await;
        let codes: Vec<&str> = found.iter().map(|finding| &*finding.code).collect();
        assert_eq!(codes, ["KE-TEST-001", "KE-TEST-002", "KE-X-001"]);
        assert_eq!(found[2].group, Group::Store);
    }

    #[tokio::test]
    async fn a_complaint_that_repeats_a_failure_is_skipped_and_names_it() {
        let root = Finding::failed("KE-TEST-001", "a", "gone");
        let follows = Finding::failed("KE-X-001", "b", "gone too").fix("x");
        let well = Finding::fine("KE-X-002", "b", "works");
        let checks = vec![
            check("KE-X-001", Group::Host, follows).after(&["KE-TEST-001"]),
            check("KE-X-002", Group::Host, well).after(&["KE-TEST-001"]),
            check("KE-TEST-001", Group::Host, root),
        ];
        let found = run(checks, MEANS, BUDGET).await;
        assert_eq!((found[0].state, found[0].why.as_str()), (State::Skipped, "because of KE-TEST-001"));
        assert_eq!(found[1].state, State::Fine);
        assert_eq!(found[2].state, State::Failed);
    }

    #[tokio::test]
    async fn what_cannot_be_looked_at_is_skipped_with_the_reason() {
        let means = Means { root: false, route: false };
        let look = |id| check(id, Group::Host, Finding::fine("KE-TEST-001", "a", "1"));
        let found = run(vec![look("KE-TEST-001").root(), look("KE-TEST-002").net()], means, BUDGET).await;
        assert_eq!(found[0].why, "needs root");
        assert_eq!(found[1].why, "this machine has no route to others");
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_fails_within_its_limit_and_the_budget() {
        let hang = |cost| Check::asking("KE-TEST-001", Group::Host, "a", std::future::pending()).cost(cost);
        let started = tokio::time::Instant::now();
        let found = run(vec![hang(Cost::Medium), hang(Cost::Large)], MEANS, Duration::from_secs(5)).await;
        assert!(started.elapsed() <= Duration::from_secs(6), "{:?}", started.elapsed());
        assert!(found.iter().all(|finding| finding.state == State::Failed), "{found:?}");
    }

    #[tokio::test]
    async fn a_check_that_breaks_off_is_a_failure_of_that_check_alone() {
        let broken = Check::blocking("KE-TEST-001", Group::Host, "a", || panic!("as the test wants"));
        let found = run(vec![broken], MEANS, BUDGET).await;
        assert_eq!(found[0].seen, "the check broke off");
    }

    #[test]
    fn words_mean_groups_codes_and_families() {
        let check = check("KE-PORT-010", Group::CloudLink, Finding::fine("KE-PORT-010", "a", "1"));
        let check = check.also(&["KE-PORT-003"]);
        for word in ["KE-PORT", "ke-port-010", "cloud-link", "KE-PORT-003"] {
            assert!(check.is_meant(word), "{word}");
        }
        for word in ["", "host", "KE-CNI", "KE-PORTS", "KE-PORT-002"] {
            assert!(!check.is_meant(word), "{word}");
        }
    }
}
