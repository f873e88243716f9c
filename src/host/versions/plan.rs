//! What is to be done with the slots when something happens: `(disk, event, now) -> actions`. Pure. Every action that
//! changes the disk is durable before the next one begins, so the machine may stop between any two of them; the launcher
//! then sees the same disk, asks with `Boot`, and ends in one slot. Upgrades and the launcher carry the actions out.
//!
//! armed -> (current moved) -> running (one boot, counted first) -> confirmed | returning -> nothing

use crate::model::Release;
use serde::{Deserialize, Serialize};

/// What the state file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct State {
    /// The change that is under way; at most one.
    pub trial: Option<Trial>,
    /// The newest version that has proved good here: nothing older comes in without a person's word.
    pub floor: Option<Release>,
}

/// One change of the running version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trial {
    pub id: String,
    pub deed: Deed,
    /// Who asked for it: `person`, or the job of the cloud.
    pub by: String,
    pub from: Release,
    pub to: Release,
    /// What the link `launcher` names once the new version has proved good; `None`: it stays.
    pub launcher: Option<Release>,
    pub phase: Phase,
    pub boots: u32,
    /// Milliseconds since 1970 at which the deed began.
    pub begun: i64,
    /// Milliseconds since 1970 at which the old daemon was asked to end.
    pub stopped: Option<i64>,
    /// Seconds that the new version has to get ready.
    pub deadline: u64,
    pub wants: Wants,
    #[serde(default)]
    pub books: Books,
    pub steps: Vec<Step>,
}

/// What a change of version means for the node's database and configuration. A database has a layout, a number that
/// rises when an older version can no longer read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Books {
    /// The newest layout that `from` reads.
    pub reads: Option<u32>,
    /// The backup of what `from` had: the one that was made before the switch, and once `from` has ended, the one that
    /// holds all that it has written.
    pub backup: Option<String>,
    /// The backup that `to` needs, as it cannot read the present database.
    pub needs: Option<String>,
    /// What has to be done for `from` to find what it reads again; decided once.
    pub back: Option<Exchange>,
}

/// The database and the configuration of a backup take the place of the present ones, which are kept as another backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exchange {
    /// The backup that is put in place.
    pub back: String,
    /// The backup that the present ones become.
    pub aside: String,
    /// The version that has written the present ones.
    pub of: Release,
}

/// What was well before and has to be well again; the modules always have to be ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Wants {
    pub node: bool,
    pub link: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Deed {
    Upgrade,
    Rollback,
}

/// How far a trial is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase")]
pub enum Phase {
    /// The link `current` is about to move, or has moved; the new version has not been started.
    Armed,
    /// The new version was started.
    Running,
    /// It has been well; what is left is book-keeping.
    Confirmed { interrupted: Option<i64> },
    /// The old version comes back.
    Returning { outcome: Outcome, reason: String },
}

/// One step of an upgrade, for its history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Step {
    pub name: String,
    /// Milliseconds since 1970 at which it was done.
    pub at: i64,
    pub detail: String,
}

/// How a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The new version runs.
    Done,
    /// It was started and was not well; the old one runs again.
    Returned,
    /// It was never started.
    Abandoned,
    /// It was refused before anything was switched.
    Refused,
}

/// A line of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub id: String,
    pub deed: Deed,
    pub by: String,
    pub from: Release,
    /// `None` when it could not be learned.
    pub to: Option<Release>,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    pub begun: i64,
    pub ended: i64,
    /// Milliseconds for which no daemon was ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<i64>,
    /// The database and configuration that were put in place, where the version could not read those that were there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Exchange>,
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// The symbolic links beside the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Link {
    /// What runs, or runs at the next start.
    Current,
    /// What ran before it.
    Previous,
    /// Whose `edge launch` the service runs.
    Launcher,
}

impl Link {
    pub const ALL: [Link; 3] = [Link::Current, Link::Previous, Link::Launcher];

    /// Its file name.
    pub fn as_str(self) -> &'static str {
        match self {
            Link::Current => "current",
            Link::Previous => "previous",
            Link::Launcher => "launcher",
        }
    }
}

/// Where the links point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    pub current: Option<Release>,
    pub previous: Option<Release>,
    pub launcher: Option<Release>,
}

/// What is on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    pub state: State,
    pub links: Links,
    /// The layout of the node's database; `None` where there is none, or it cannot be told.
    pub layout: Option<u32>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A change is wanted; only while none is under way.
    Begin(Box<Trial>),
    /// The new version is in its place; the old daemon is asked to end now.
    Handover,
    /// The launcher starts.
    Boot,
    /// What an ended process has left half-done is ended, if that needs no daemon.
    Settle,
    /// The watched daemon has been well for long enough; the time at which it became so.
    Healthy { since: i64 },
    /// The deadline has passed, or the daemon ended, or it cannot be started at all; why it is not wanted.
    Unwell { reason: String },
    /// Whoever began gives up before the new version was started.
    GiveUp { reason: String },
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write the state file.
    Note(Box<State>),
    /// Point a link at a slot.
    Point(Link, Release),
    /// Add to the history, once per change.
    Record(Box<Entry>),
    /// End the watched daemon, or one that an earlier launcher has left behind.
    End(Release),
    /// Copy database and configuration to a backup of this name, as this version has left them; its daemons end first.
    Keep(String, Release),
    /// Give a version the database and configuration that it reads; no daemon runs.
    Exchange(Exchange),
    /// Become the daemon of this slot; `None`: of the binary that launches.
    Run(Option<Release>),
    /// Start the daemon of this slot and watch it.
    Watch(Box<Trial>),
}

/// Decides.
pub fn decide(disk: &Disk, event: Event, now: i64) -> Vec<Action> {
    let state = &disk.state;
    match (event, &state.trial) {
        (Event::Begin(trial), None) => {
            let to = trial.to.clone();
            vec![note(state, Some(*trial)), Action::Point(Link::Current, to)]
        }
        (Event::Begin(_), Some(_)) => Vec::new(),
        (Event::Handover, Some(trial)) if trial.phase == Phase::Armed => {
            vec![note(state, Some(Trial { stopped: Some(now), ..trial.clone() }))]
        }
        (Event::Boot, None) => vec![Action::Run(disk.links.current.clone())],
        (Event::Boot, Some(trial)) => boot(disk, trial, now),
        (Event::Settle, Some(trial)) => match &trial.phase {
            Phase::Armed | Phase::Running => Vec::new(),
            Phase::Confirmed { interrupted } => confirm(state, trial, *interrupted, now),
            // A database is exchanged by the launcher alone, whose daemon does not run then.
            Phase::Returning { .. } if trial.books.back.is_some() => Vec::new(),
            Phase::Returning { outcome, reason } => come_back(disk, trial, *outcome, reason.clone(), now),
        },
        (Event::Healthy { since }, Some(trial)) if trial.phase == Phase::Running => {
            let interrupted = trial.stopped.map(|stopped| since.saturating_sub(stopped).max(0));
            let confirmed = Trial { phase: Phase::Confirmed { interrupted }, ..trial.clone() };
            let mut actions = vec![note(state, Some(confirmed))];
            actions.extend(confirm(state, trial, interrupted, now));
            actions
        }
        (Event::Unwell { reason }, Some(trial)) if matches!(trial.phase, Phase::Armed | Phase::Running) => {
            let outcome = if trial.phase == Phase::Armed { Outcome::Abandoned } else { Outcome::Returned };
            let mut actions = come_back(disk, trial, outcome, reason, now);
            actions.push(Action::Run(Some(trial.from.clone())));
            actions
        }
        (Event::GiveUp { reason }, Some(trial)) if trial.phase == Phase::Armed => {
            come_back(disk, trial, Outcome::Abandoned, reason, now)
        }
        (
            Event::Settle
            | Event::Handover
            | Event::Healthy { .. }
            | Event::Unwell { .. }
            | Event::GiveUp { .. },
            _,
        ) => Vec::new(),
    }
}

fn boot(disk: &Disk, trial: &Trial, now: i64) -> Vec<Action> {
    let (state, from) = (&disk.state, Action::Run(Some(trial.from.clone())));
    let mut actions = match &trial.phase {
        Phase::Armed if disk.links.current.as_ref() == Some(&trial.to) => {
            let way_there = trial.way_there();
            let mut actions = Vec::new();
            let (mut books, mut steps) = (trial.books.clone(), trial.steps.clone());
            // The backup that was made while `from` ran lacks what it wrote until its end. An exchange keeps that itself.
            if way_there.is_none() {
                let last = trial.last();
                actions.push(Action::Keep(last.clone(), trial.from.clone()));
                steps.push(Step { name: "backed up at its end".to_owned(), at: now, detail: last.clone() });
                books.backup = Some(last);
            }
            // Counted before it is started: whatever happens now, it is started once.
            let running =
                Trial { phase: Phase::Running, boots: trial.boots + 1, books, steps, ..trial.clone() };
            actions.push(note(state, Some(running.clone())));
            actions.extend(way_there.map(Action::Exchange));
            actions.push(Action::Watch(Box::new(running)));
            return actions;
        }
        Phase::Armed => {
            let reason = "it was interrupted before the new version was in its place".to_owned();
            come_back(disk, trial, Outcome::Abandoned, reason, now)
        }
        Phase::Running => {
            let reason = "its start was cut short: the machine, the launcher or the service was stopped before the new \
                version had proved good";
            come_back(disk, trial, Outcome::Returned, reason.to_owned(), now)
        }
        Phase::Confirmed { interrupted } => {
            let mut actions = confirm(state, trial, *interrupted, now);
            actions.push(Action::Run(Some(trial.to.clone())));
            return actions;
        }
        Phase::Returning { outcome, reason } => come_back(disk, trial, *outcome, reason.clone(), now),
    };
    actions.push(from);
    actions
}

/// What follows a confirmation that is noted.
fn confirm(state: &State, trial: &Trial, interrupted: Option<i64>, now: i64) -> Vec<Action> {
    let mut actions = vec![Action::Point(Link::Previous, trial.from.clone())];
    actions.extend(trial.launcher.clone().map(|launcher| Action::Point(Link::Launcher, launcher)));
    let exchange = trial.way_there();
    let mut entry =
        trial.entry(Outcome::Done, exchange.as_ref().map(Exchange::told).unwrap_or_default(), now);
    (entry.interrupted, entry.exchange) = (interrupted, exchange);
    actions.push(Action::Record(Box::new(entry)));
    let newest = match &state.floor {
        Some(floor) if trial.to < *floor => floor.clone(),
        _ => trial.to.clone(),
    };
    actions.push(Action::Note(Box::new(State { trial: None, floor: Some(newest) })));
    actions
}

/// The way back, from its note to its end; safe to begin again anywhere.
fn come_back(disk: &Disk, trial: &Trial, outcome: Outcome, mut reason: String, now: i64) -> Vec<Action> {
    let mut books = trial.books.clone();
    if !matches!(trial.phase, Phase::Returning { .. }) {
        books.back = trial.way_back(disk.layout);
        if let Some(exchange) = &books.back {
            reason = format!("{reason}; {}", exchange.told());
        }
    }
    let exchange = books.back.clone();
    let returning = Phase::Returning { outcome, reason: reason.clone() };
    let mut entry = trial.entry(outcome, reason, now);
    entry.exchange = exchange.clone();
    let mut actions = vec![
        note(&disk.state, Some(Trial { phase: returning, books, ..trial.clone() })),
        Action::End(trial.to.clone()),
    ];
    actions.extend(exchange.map(Action::Exchange));
    actions.extend([
        Action::Point(Link::Current, trial.from.clone()),
        Action::Record(Box::new(entry)),
        note(&disk.state, None),
    ]);
    actions
}

/// The time with which the names of backups begin, so that they sort by it.
fn stamp(ms: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%Y%m%dT%H%M%S.%3fZ").to_string()
}

fn note(state: &State, trial: Option<Trial>) -> Action {
    Action::Note(Box::new(State { trial, floor: state.floor.clone() }))
}

impl Exchange {
    /// What a person reads of it.
    fn told(&self) -> String {
        let Exchange { back, aside, of } = self;
        format!(
            "database and configuration are those of the backup {back}; those of {} are kept as {aside}",
            of.bare()
        )
    }
}

impl Trial {
    /// The name under which what a version has written is kept, always the same for this change.
    fn aside(&self, version: &Release) -> String {
        format!("{}-{}-aside", stamp(self.begun), version.bare())
    }

    /// The name under which the last that `from` has written is kept; newer than the backup that was made while it ran, and
    /// no other change's, even on a machine whose clock begins anew with every start.
    fn last(&self) -> String {
        let id: String = self.id.chars().take(8).collect();
        format!("{}-{}-last-{id}", stamp(self.stopped.unwrap_or(self.begun)), self.from.bare())
    }

    /// What `to` has to be given before it starts.
    fn way_there(&self) -> Option<Exchange> {
        let back = self.books.needs.clone()?;
        Some(Exchange { back, aside: self.aside(&self.from), of: self.from.clone() })
    }

    /// What `from` has to be given before it starts again, with a database of this layout in its place. One that it can
    /// read stays: it holds what has happened since.
    fn way_back(&self, layout: Option<u32>) -> Option<Exchange> {
        if self.boots == 0 {
            return None;
        }
        let back = match (&self.books.needs, &self.books.backup, layout, self.books.reads) {
            (Some(_), ..) => self.aside(&self.from),
            (None, Some(backup), Some(layout), Some(reads)) if layout > reads => backup.clone(),
            _ => return None,
        };
        Some(Exchange { back, aside: self.aside(&self.to), of: self.to.clone() })
    }

    /// The line of the history about it.
    pub fn entry(&self, outcome: Outcome, reason: String, now: i64) -> Entry {
        Entry {
            id: self.id.clone(),
            deed: self.deed,
            by: self.by.clone(),
            from: self.from.clone(),
            to: Some(self.to.clone()),
            outcome,
            reason,
            begun: self.begun,
            ended: now,
            interrupted: None,
            exchange: None,
            steps: self.steps.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn version(text: &str) -> Release {
        Release::parse(text).unwrap()
    }

    fn trial(id: usize, from: &Release, to: &Release) -> Trial {
        Trial {
            id: id.to_string(),
            deed: Deed::Upgrade,
            by: "person".to_owned(),
            from: from.clone(),
            to: to.clone(),
            launcher: Some(to.clone()),
            phase: Phase::Armed,
            boots: 0,
            begun: 0,
            stopped: None,
            deadline: 60,
            wants: Wants::default(),
            books: Books::default(),
            steps: Vec::new(),
        }
    }

    /// A machine whose disk keeps every action, and whose power may fail after any of them.
    #[derive(Default)]
    struct Machine {
        disk: Disk,
        history: Vec<Entry>,
        daemon: Option<Release>,
        watched: bool,
        starts: Vec<String>,
        /// How much daemons have written to the database.
        written: u32,
        /// Layouts of databases that were set aside or backed up, and what was written to them, by name.
        kept: BTreeMap<String, (u32, u32)>,
        /// What each version reads, and makes of a database.
        reads: BTreeMap<Release, u32>,
    }

    impl Machine {
        fn carry_out(&mut self, event: Event, power: &mut Option<usize>) {
            for action in decide(&self.disk, event, 7) {
                if let Some(left) = power {
                    if *left == 0 {
                        (self.daemon, self.watched) = (None, false);
                        return;
                    }
                    *left -= 1;
                }
                match action {
                    Action::Note(state) => self.disk.state = *state,
                    Action::Point(Link::Current, to) => self.disk.links.current = Some(to),
                    Action::Point(Link::Previous, to) => self.disk.links.previous = Some(to),
                    Action::Point(Link::Launcher, to) => self.disk.links.launcher = Some(to),
                    Action::Record(entry) => {
                        if self.history.last().is_none_or(|last| last.id != entry.id) {
                            self.history.push(*entry);
                        }
                    }
                    Action::End(version) => {
                        if self.daemon == Some(version) {
                            (self.daemon, self.watched) = (None, false);
                        }
                    }
                    Action::Keep(name, _) => {
                        assert_eq!(self.daemon, None, "a daemon has the database open");
                        self.kept.entry(name).or_insert((self.disk.layout.unwrap_or(1), self.written));
                    }
                    Action::Exchange(Exchange { back, aside, .. }) => {
                        assert_eq!(self.daemon, None, "a daemon has the database open");
                        if let Some((layout, written)) = self.kept.get(&back).copied() {
                            self.kept.entry(aside).or_insert((self.disk.layout.unwrap(), self.written));
                            (self.disk.layout, self.written) = (Some(layout), written);
                        }
                    }
                    Action::Run(version) => {
                        self.open(version.as_ref());
                        (self.daemon, self.watched) = (version, false);
                    }
                    Action::Watch(trial) => {
                        self.open(Some(&trial.to));
                        self.starts.push(trial.id.clone());
                        (self.daemon, self.watched) = (Some(trial.to.clone()), true);
                    }
                }
            }
        }

        /// A version that starts must be able to read what it finds, and brings it up to date.
        fn open(&mut self, version: Option<&Release>) {
            let reads = version.and_then(|version| self.reads.get(version)).copied().unwrap_or(1);
            let layout = self.disk.layout.unwrap_or(1);
            assert!(layout <= reads, "{version:?} reads {reads}, finds {layout}");
            self.disk.layout = Some(reads);
            self.written += 1;
        }

        fn boot(&mut self) {
            (self.daemon, self.watched) = (None, false);
            self.carry_out(Event::Boot, &mut None);
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Fate {
        Healthy,
        Unwell,
        GivenUp,
        Rebooted,
    }

    type Power = Option<usize>;

    fn fate() -> impl Strategy<Value = (Fate, u32, Power, Power, Power)> {
        let fates = [Fate::Healthy, Fate::Unwell, Fate::GivenUp, Fate::Rebooted];
        let failure = || prop::option::of(0..10_usize);
        (prop::sample::select(fates.to_vec()), 1..4_u32, failure(), failure(), failure())
    }

    proptest! {
        /// Whatever is cut short wherever: the machine comes up in one slot, each trial is started once at most and
        /// recorded once, and a version stays only when it was well.
        #[test]
        fn every_interruption_ends_in_one_slot(fates in prop::collection::vec(fate(), 1..6)) {
            let mut machine = Machine::default();
            machine.disk.links = Links {
                current: Some(version("1.0.0")), previous: None, launcher: Some(version("1.0.0")),
            };
            machine.boot();
            for (id, (fate, reads, mut begin, mut start, mut end)) in fates.into_iter().enumerate() {
                let from = machine.disk.links.current.clone().unwrap();
                let to = version(&format!("1.0.{}", id + 1));
                let mut well = false;
                let known = machine.history.len();
                machine.reads.insert(to.clone(), reads);
                let layout = machine.disk.layout.unwrap();
                machine.kept.insert(format!("before-{id}"), (layout, machine.written));
                machine.kept.insert(format!("old-{id}"), (reads, 0));
                // What the daemon writes after it was backed up.
                machine.written += 1;
                let last = machine.written;
                let books = Books {
                    reads: Some(machine.reads.get(&from).copied().unwrap_or(1)),
                    backup: Some(format!("before-{id}")),
                    needs: (layout > reads).then(|| format!("old-{id}")),
                    back: None,
                };
                let begun = Trial { books, begun: i64::try_from(id).unwrap() * 1000, ..trial(id, &from, &to) };
                machine.carry_out(Event::Begin(Box::new(begun)), &mut begin);
                machine.carry_out(Event::Handover, &mut begin);
                if matches!(fate, Fate::GivenUp) {
                    machine.carry_out(Event::GiveUp { reason: "x".to_owned() }, &mut end);
                }
                (machine.daemon, machine.watched) = (None, false);
                machine.carry_out(Event::Boot, &mut start);
                if machine.watched {
                    match fate {
                        Fate::Healthy => {
                            // Noted is confirmed, whatever follows.
                            well = end != Some(0);
                            machine.carry_out(Event::Healthy { since: 9 }, &mut end);
                        }
                        Fate::Unwell => machine.carry_out(Event::Unwell { reason: "x".to_owned() }, &mut end),
                        Fate::GivenUp => machine.carry_out(Event::GiveUp { reason: "x".to_owned() }, &mut end),
                        Fate::Rebooted => {}
                    }
                }
                // A start that was cut short, a start, and one that nothing happens to.
                machine.boot();
                if machine.watched {
                    machine.carry_out(Event::Unwell { reason: "late".to_owned() }, &mut None);
                }
                let settled = machine.disk.clone();
                prop_assert_eq!(&settled.state.trial, &None);
                machine.boot();
                prop_assert_eq!(&machine.disk, &settled);
                prop_assert!(!machine.watched);
                prop_assert_eq!(&machine.daemon, &settled.links.current);
                let expected = if well { &to } else { &from };
                prop_assert_eq!(settled.links.current.as_ref(), Some(expected));
                prop_assert!(machine.starts.iter().filter(|start| **start == id.to_string()).count() <= 1);
                let told: Vec<&Entry> = machine.history.iter().skip(known).collect();
                prop_assert!(told.len() <= 1, "{:?}", told);
                if well {
                    prop_assert_eq!(told.first().map(|entry| entry.outcome), Some(Outcome::Done));
                    prop_assert_eq!(settled.links.launcher.as_ref(), Some(&to));
                    prop_assert_eq!(settled.links.previous.as_ref(), Some(&from));
                    prop_assert_eq!(settled.state.floor.as_ref(), Some(&to));
                } else {
                    // The old daemon finds all that it had written, whatever the database went through.
                    prop_assert!(machine.written >= last, "{} {}", machine.written, last);
                    prop_assert!(told.iter().all(|entry| entry.outcome != Outcome::Done));
                    prop_assert_ne!(settled.links.launcher.as_ref(), Some(&to));
                }
            }
        }
    }

    #[test]
    fn a_database_is_exchanged_where_it_cannot_be_read_and_stays_otherwise() {
        let (from, to) = (version("1.0.0"), version("1.1.0"));
        let tried = |books: Books, layout: u32| {
            let mut machine = Machine::default();
            (machine.disk.layout, machine.reads) = (Some(1), BTreeMap::from([(to.clone(), layout)]));
            machine.kept.insert("b".to_owned(), (1, 0));
            machine.written = 7;
            machine.carry_out(Event::Begin(Box::new(Trial { books, ..trial(1, &from, &to) })), &mut None);
            machine.boot();
            (machine.daemon, machine.watched) = (None, false);
            machine.carry_out(Event::Unwell { reason: "it was slow".to_owned() }, &mut None);
            machine
        };
        let books = Books { reads: Some(1), backup: Some("b".to_owned()), ..Books::default() };
        let stays = tried(books.clone(), 1);
        assert_eq!((stays.disk.layout, &stays.history[0].exchange), (Some(1), &None));
        assert_eq!(stays.history[0].reason, "it was slow");
        let changes = tried(books, 2);
        let exchange = changes.history[0].exchange.clone().unwrap();
        assert_eq!(
            (changes.disk.layout, exchange.back.as_str()),
            (Some(1), "19700101T000000.000Z-1.0.0-last-1")
        );
        assert_eq!(changes.written, 8, "what was written after the backup, and by the daemon that is back");
        assert_eq!(exchange.aside, "19700101T000000.000Z-1.1.0-aside");
        assert_eq!(changes.kept.get(&exchange.aside), Some(&(2, 8)));
        assert!(changes.history[0].reason.contains("1.1.0 are kept as 1970"), "{:?}", changes.history);
    }

    #[test]
    fn the_interruption_is_measured_from_the_handover_to_health() {
        let (from, to) = (version("1.0.0"), version("1.1.0"));
        let mut machine = Machine::default();
        machine.carry_out(Event::Begin(Box::new(trial(1, &from, &to))), &mut None);
        machine.carry_out(Event::Handover, &mut None);
        machine.boot();
        machine.carry_out(Event::Healthy { since: 1207 }, &mut None);
        assert_eq!(machine.history[0].interrupted, Some(1200));
    }

    #[test]
    fn a_rollback_does_not_lower_the_floor_and_leaves_the_launcher() {
        let (from, to) = (version("2.0.0"), version("1.0.0"));
        let mut machine = Machine::default();
        machine.disk.state.floor = Some(from.clone());
        machine.disk.links.launcher = Some(from.clone());
        let back = Trial { deed: Deed::Rollback, launcher: None, ..trial(1, &from, &to) };
        machine.carry_out(Event::Begin(Box::new(back)), &mut None);
        machine.boot();
        machine.carry_out(Event::Healthy { since: 9 }, &mut None);
        assert_eq!(machine.disk.state.floor, Some(from.clone()));
        assert_eq!((machine.disk.links.launcher, machine.disk.links.current), (Some(from), Some(to)));
    }
}
