//! The directory of slots on disk: links, state file, history, slots. Every change is synced, the directory too, before
//! it counts as done. The decisions stand in `plan`; nothing here decides.

use super::plan::{Action, Disk, Entry, Event, Exchange, Link, Links, State, decide};
use crate::base::{
    Failure, LockError, PidLock, UNFINISHED, no_access, now_ms, random_suffix, read_limited, write_atomic,
};
use crate::model::Release;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

/// Where the slots are.
pub const DIR: &str = "/var/lib/kedge/versions";
/// The file name of the binary in a slot.
pub const BINARY: &str = "kedge";
/// A release is about 25 MB; one with its debug symbols stays below this.
pub const BINARY_LIMIT: u64 = 256 << 20;

const STATE: &str = "state.json";
const HISTORY: &str = "history.jsonl";
const NOTE: &str = "slot.json";
/// Held by one upgrade from its beginning until the launcher takes over.
const LOCK: &str = "lock";
/// Held while the state is read, decided upon and written.
const TURN: &str = "turn";
const STAGING: &str = ".staging-";
const SMALL: u64 = 1 << 20;
/// The history is read and kept up to this size, about a thousand upgrades; then its older half goes.
const HISTORY_LIMIT: u64 = 4 << 20;

/// The directory of slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    dir: PathBuf,
}

/// What is noted beside a slot's binary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotNote {
    pub version: Release,
    /// `sha256:` and hexadecimal digits.
    pub digest: String,
    pub bytes: u64,
    /// Where the binary came from, for people.
    pub origin: String,
    /// Milliseconds since 1970.
    pub installed: i64,
    /// Whether its `edge launch` can serve as the launcher.
    pub launches: bool,
    /// The newest layout of the node's database that it reads.
    #[serde(default = "super::first_layout")]
    pub database_layout: u32,
}

/// What the decisions about slots need of the node beside them.
pub trait Hands {
    /// The layout of the node's database; `None` where there is none, or it cannot be told.
    fn layout(&self) -> Option<u32>;
    /// Ends the daemons of a slot.
    fn end(&mut self, version: &Release);
    /// Copies database and configuration to a backup of this name, as this version has left them. Safe to repeat.
    fn keep(&mut self, name: &str, version: &Release) -> Result<(), Failure>;
    /// Puts a backup in the place of the present database and configuration. Safe to repeat.
    fn exchange(&mut self, exchange: &Exchange) -> Result<(), Failure>;
}

/// A directory that becomes a slot or goes.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
}

impl Staging {
    pub fn binary(&self) -> PathBuf {
        self.dir.join(BINARY)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.dir));
    }
}

impl Default for Versions {
    fn default() -> Self {
        Versions::at(DIR)
    }
}

impl Versions {
    /// The slots below this directory; nothing is touched yet.
    pub fn at(dir: impl Into<PathBuf>) -> Versions {
        Versions { dir: dir.into() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the directory and keeps other upgrades out; what a killed one has left half-made is removed.
    pub fn lock(&self) -> Result<PidLock, Failure> {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(&self.dir);
        made.map_err(|error| self.failure("make", &self.dir, error))?;
        let lock = PidLock::take(&self.dir.join(LOCK)).map_err(|why| match why {
            LockError::Held(pid) => {
                Failure::new("KE-UPGRADE-001", "another upgrade is at work on this machine")
                    .because(format!("process {pid} holds {}", self.dir.join(LOCK).display()))
                    .fix("wait for it, and see what it did with: kedge edge history")
            }
            LockError::Io(error) => self.failure("lock", &self.dir, error),
        })?;
        let names = self.names()?;
        for name in names.iter().filter(|name| name.starts_with(STAGING)) {
            drop(fs::remove_dir_all(self.dir.join(name)));
        }
        if names.iter().any(|name| is_stray(name)) {
            // Only who has the turn writes under such names.
            let _turn = self.turn()?;
            for name in self.names()?.iter().filter(|name| is_stray(name)) {
                drop(fs::remove_file(self.dir.join(name)));
            }
        }
        Ok(lock)
    }

    /// Waits for the turn: whoever has it writes a few small files, or waits for a daemon to end.
    fn turn(&self) -> Result<File, Failure> {
        let path = self.dir.join(TURN);
        let turn = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let turn = turn.and_then(|file| file.lock().map(|()| file));
        turn.map_err(|error| self.failure("lock", &path, error))
    }

    /// State and links as they are; a state that cannot be read is an error.
    pub fn read(&self) -> Result<Disk, Failure> {
        Ok(Disk { state: self.state()?, links: self.links(), layout: None })
    }

    fn state(&self) -> Result<State, Failure> {
        let path = self.dir.join(STATE);
        if !path.exists() {
            return Ok(State::default());
        }
        let text = read_limited(&path, SMALL)?;
        serde_json::from_slice(&text).map_err(|error| {
            Failure::new("KE-UPGRADE-017", format!("{} cannot be understood", path.display()))
                .because(error)
                .fix("remove the file: the version that `current` names goes on running")
        })
    }

    pub fn links(&self) -> Links {
        Links {
            current: self.link(Link::Current),
            previous: self.link(Link::Previous),
            launcher: self.link(Link::Launcher),
        }
    }

    fn link(&self, link: Link) -> Option<Release> {
        let target = fs::read_link(self.dir.join(link.as_str())).ok()?;
        slot_name(target.file_name()?.to_str()?)
    }

    /// The binary of a slot, whether it exists or not.
    pub fn binary(&self, version: &Release) -> PathBuf {
        self.dir.join(version.bare()).join(BINARY)
    }

    /// The binary that a link leads to, by way of the link.
    pub fn binary_of(&self, link: Link) -> PathBuf {
        self.dir.join(link.as_str()).join(BINARY)
    }

    /// Decides what follows from an event and carries it out, one process at a time. The daemon to start, if one is to be,
    /// is left to the caller. A version is not started to be watched when its database could not be exchanged, or what was
    /// there could not be kept; on the way back it is started all the same, and the history says so.
    pub fn happen(&self, event: Event, hands: &mut dyn Hands) -> Result<Option<Action>, Failure> {
        let _turn = self.turn()?;
        let disk = Disk { layout: hands.layout(), ..self.read()? };
        let (mut left, mut trouble) = (None, None);
        for action in decide(&disk, event, now_ms()) {
            match action {
                Action::Note(state) => self.note(&state)?,
                Action::Point(link, version) => self.repoint(link, &version)?,
                Action::Record(mut entry) => {
                    if let Some(failure) = &trouble {
                        entry.reason = format!("{}; but that failed: {failure}", entry.reason);
                    }
                    self.add(&entry)?;
                }
                Action::End(version) => hands.end(&version),
                Action::Keep(name, version) => {
                    hands.end(&version);
                    hands.keep(&name, &version)?;
                }
                Action::Exchange(exchange) => trouble = hands.exchange(&exchange).err(),
                Action::Watch(_) if trouble.is_some() => return trouble.map_or(Ok(None), Err),
                Action::Run(_) | Action::Watch(_) => left = Some(action),
            }
        }
        Ok(left)
    }

    fn note(&self, state: &State) -> Result<(), Failure> {
        let text =
            serde_json::to_vec_pretty(state).map_err(|error| unwritten(&self.dir.join(STATE), error))?;
        write_atomic(&self.dir.join(STATE), &text, 0o600)
    }

    /// Points a link at a slot; whoever follows it sees the old slot or the new one.
    pub fn point(&self, link: Link, version: &Release) -> Result<(), Failure> {
        let _turn = self.turn()?;
        self.repoint(link, version)
    }

    fn repoint(&self, link: Link, version: &Release) -> Result<(), Failure> {
        if self.link(link).as_ref() == Some(version) {
            return Ok(());
        }
        let path = self.dir.join(link.as_str());
        let beside = self.dir.join(format!(".{}{UNFINISHED}", link.as_str()));
        // One that a killed process has left; nobody else has the turn.
        drop(fs::remove_file(&beside));
        let pointed = symlink(version.bare(), &beside)
            .and_then(|()| fs::rename(&beside, &path))
            .and_then(|()| sync_dir(&self.dir));
        pointed.map_err(|error| {
            drop(fs::remove_file(&beside));
            self.failure("write", &path, error)
        })
    }

    /// Adds a line to the history unless its last line is about the same change; a history that is full loses its older
    /// half before.
    pub fn record(&self, entry: &Entry) -> Result<(), Failure> {
        let _turn = self.turn()?;
        self.add(entry)
    }

    fn add(&self, entry: &Entry) -> Result<(), Failure> {
        if self.history()?.last().is_some_and(|last| last.id == entry.id) {
            return Ok(());
        }
        let path = self.dir.join(HISTORY);
        let mut line = serde_json::to_string(entry).map_err(|error| unwritten(&path, error))?;
        line.push('\n');
        let length = fs::metadata(&path).map_or(0, |file| file.len());
        // With the line end for one that was cut.
        if length + line.len() as u64 + 1 > HISTORY_LIMIT {
            // A full disk may have room for this line all the same, and whoever reads takes the end.
            drop(self.newest(HISTORY_LIMIT / 2).and_then(|newer| write_atomic(&path, &newer, 0o600)));
        }
        let mut file = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(&path);
        let written = file.as_mut().map_err(|error| io::Error::from(error.kind())).and_then(|file| {
            // A line that was cut by a power failure is ended, so that this one stands alone.
            if file.metadata()?.len() > 0 {
                let mut last = [0];
                file.seek(SeekFrom::End(-1))?;
                file.read_exact(&mut last)?;
                if last != *b"\n" {
                    file.write_all(b"\n")?;
                }
            }
            file.write_all(line.as_bytes())?;
            file.sync_all()?;
            sync_dir(&self.dir)
        });
        written.map_err(|error| self.failure("write", &path, error))
    }

    /// What was done here, oldest first; lines that cannot be read are left out, and so is the beginning of a history that
    /// is longer than its limit.
    pub fn history(&self) -> Result<Vec<Entry>, Failure> {
        if !self.dir.join(HISTORY).exists() {
            return Ok(Vec::new());
        }
        let text = self.newest(HISTORY_LIMIT)?;
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    /// The end of the history from the beginning of a line on, of at most `limit` bytes.
    fn newest(&self, limit: u64) -> Result<Vec<u8>, Failure> {
        let path = self.dir.join(HISTORY);
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&path)?;
            let skipped = file.metadata()?.len().saturating_sub(limit);
            // The byte before tells whether a line begins there.
            file.seek(SeekFrom::Start(skipped.saturating_sub(1)))?;
            let mut text = Vec::new();
            file.take(limit + 1).read_to_end(&mut text)?;
            if skipped > 0 {
                let cut = text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| at + 1);
                text.drain(..cut);
            }
            Ok(text)
        };
        read().map_err(|error| no_access(&path, &error))
    }

    /// The slots that are complete, in no order.
    pub fn slots(&self) -> Result<Vec<SlotNote>, Failure> {
        let versions = self.names()?.into_iter().filter_map(|name| slot_name(&name));
        Ok(versions.filter_map(|version| self.slot(&version)).collect())
    }

    /// What is noted of a slot; `None` when there is none.
    pub fn slot(&self, version: &Release) -> Option<SlotNote> {
        let note = read_limited(&self.dir.join(version.bare()).join(NOTE), SMALL).ok()?;
        let note: SlotNote = serde_json::from_slice(&note).ok()?;
        (note.version == *version && self.binary(version).is_file()).then_some(note)
    }

    fn names(&self) -> Result<Vec<String>, Failure> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| self.failure("read", &self.dir, error))?,
        };
        Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    /// A place for a binary that is not trusted yet; only root can enter it.
    pub fn stage(&self) -> Result<Staging, Failure> {
        let dir = self.dir.join(format!("{STAGING}{}", random_suffix(8)));
        let made = DirBuilder::new().mode(0o700).create(&dir);
        made.map_err(|error| self.failure("make", &dir, error))?;
        Ok(Staging { dir })
    }

    /// Makes a staged binary a slot. A slot of that version which nobody uses is replaced.
    pub fn install(&self, staging: Staging, note: &SlotNote, signature: Option<&str>) -> Result<(), Failure> {
        let slot = self.dir.join(note.version.bare());
        let installed = (|| {
            let text = serde_json::to_vec_pretty(note).map_err(io::Error::other)?;
            write_synced(&staging.dir.join(NOTE), &text)?;
            if let Some(signature) = signature {
                write_synced(&staging.dir.join(format!("{BINARY}.sig")), signature.as_bytes())?;
            }
            fs::set_permissions(&staging.dir, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
            sync_dir(&staging.dir)?;
            if slot.exists() {
                fs::remove_dir_all(&slot)?;
            }
            fs::rename(&staging.dir, &slot)?;
            sync_dir(&self.dir)
        })();
        installed.map_err(|error| self.failure("write", &slot, error))
    }

    /// Removes slots that neither a link nor the trial names.
    pub fn prune(&self, disk: &Disk) -> Result<(), Failure> {
        let links = &disk.links;
        let trial = disk.state.trial.as_ref();
        let used = [
            links.current.as_ref(),
            links.previous.as_ref(),
            links.launcher.as_ref(),
            trial.map(|trial| &trial.from),
            trial.map(|trial| &trial.to),
        ];
        for name in self.names()? {
            let Some(version) = slot_name(&name) else { continue };
            if !used.contains(&Some(&version)) {
                let dir = self.dir.join(&name);
                fs::remove_dir_all(&dir).map_err(|error| self.failure("remove", &dir, error))?;
            }
        }
        Ok(())
    }

    /// Whether a link or the trial needs the slot.
    pub fn is_used(&self, disk: &Disk, version: &Release) -> bool {
        let links = &disk.links;
        let used = [&links.current, &links.previous, &links.launcher];
        let trial = disk.state.trial.as_ref();
        used.iter().any(|link| link.as_ref() == Some(version))
            || trial.is_some_and(|trial| trial.from == *version || trial.to == *version)
    }

    fn failure(&self, verb: &str, path: &Path, error: io::Error) -> Failure {
        Failure::new("KE-UPGRADE-016", format!("cannot {verb} {}", path.display())).because(error).fix(
            format!("run as root, and check that {} can be written and has free space", self.dir.display()),
        )
    }
}

/// What a killed process has left of the state, the history or a link, by the name of today or of earlier versions.
fn is_stray(name: &str) -> bool {
    let link = |link: Link| name.strip_prefix('.').and_then(|name| name.strip_prefix(link.as_str()));
    let of_link =
        Link::ALL.into_iter().filter_map(link).any(|rest| rest == UNFINISHED || rest.starts_with('-'));
    let whole = name.strip_prefix('.').and_then(|name| name.strip_suffix(UNFINISHED));
    let of_file = name.strip_prefix(STATE).is_some_and(|rest| rest.starts_with(".tmp-"))
        || whole.is_some_and(|name| [STATE, HISTORY].contains(&name));
    of_link || of_file
}

/// A slot's directory is named by its version, written in the one way that counts.
fn slot_name(name: &str) -> Option<Release> {
    Release::parse(name).filter(|version| version.bare() == name)
}

fn unwritten(path: &Path, error: serde_json::Error) -> Failure {
    Failure::new("KE-UPGRADE-016", format!("cannot write {}", path.display()))
        .because(error)
        .fix("send `kedge bugreport` to the developers, with the command that was run")
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Books, Deed, Outcome, Phase, Trial, Wants};
    use super::*;

    fn version(text: &str) -> Release {
        Release::parse(text).unwrap()
    }

    fn slot(versions: &Versions, text: &str) {
        let staging = versions.stage().unwrap();
        fs::write(staging.binary(), text).unwrap();
        let note = SlotNote {
            version: version(text),
            digest: String::new(),
            bytes: 5,
            origin: String::new(),
            installed: 0,
            launches: true,
            database_layout: 1,
        };
        versions.install(staging, &note, None).unwrap();
    }

    #[test]
    fn slots_links_state_and_history_are_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::at(dir.path().join("versions"));
        assert_eq!(versions.read().unwrap(), Disk::default());
        assert_eq!(versions.slots().unwrap(), []);
        let lock = versions.lock().unwrap();
        let failure = versions.lock().unwrap_err();
        assert_eq!(failure.code, "KE-UPGRADE-001");
        failure.is_as_committed();
        assert!(failure.why.contains(&std::process::id().to_string()), "{failure}");
        for text in ["1.0.0", "1.1.0", "1.2.0"] {
            slot(&versions, text);
        }
        for link in Link::ALL {
            versions.point(link, &version("1.0.0")).unwrap();
        }
        let trial = Trial {
            id: "a".to_owned(),
            deed: Deed::Upgrade,
            by: "person".to_owned(),
            from: version("1.0.0"),
            to: version("1.1.0"),
            launcher: Some(version("1.1.0")),
            phase: Phase::Armed,
            boots: 0,
            begun: 1,
            stopped: None,
            deadline: 9,
            wants: Wants::default(),
            books: Books { needs: Some("old".to_owned()), ..Books::default() },
            steps: Vec::new(),
        };
        let mut hands = Seen::default();
        let mut go = |event| versions.happen(event, &mut hands).unwrap();
        go(Event::Begin(Box::new(trial)));
        assert_eq!(fs::read(versions.binary_of(Link::Current)).unwrap(), b"1.1.0");
        versions.prune(&versions.read().unwrap()).unwrap();
        assert_eq!(versions.slots().unwrap().len(), 2, "1.2.0 is used by nobody");
        assert!(matches!(go(Event::Boot), Some(Action::Watch(_))));
        go(Event::Healthy { since: 6 });
        let disk = versions.read().unwrap();
        assert_eq!(disk.state, State { trial: None, floor: Some(version("1.1.0")) });
        assert_eq!(disk.links.launcher, Some(version("1.1.0")));
        let history = versions.history().unwrap();
        assert_eq!((history.len(), history[0].outcome), (1, Outcome::Done));
        assert_eq!(hands.exchanged, ["old"]);
        drop(lock);
    }

    /// Hands that only note what they are told.
    #[derive(Default)]
    struct Seen {
        ended: Vec<String>,
        kept: Vec<String>,
        exchanged: Vec<String>,
        fails: bool,
    }

    impl Seen {
        fn outcome(&self) -> Result<(), Failure> {
            if self.fails { Err(Failure::new("KE-X-001", "no space")) } else { Ok(()) }
        }
    }

    impl Hands for Seen {
        fn layout(&self) -> Option<u32> {
            Some(2)
        }

        fn end(&mut self, version: &Release) {
            self.ended.push(version.bare());
        }

        fn keep(&mut self, name: &str, version: &Release) -> Result<(), Failure> {
            assert_eq!(self.ended.last(), Some(&version.bare()), "its daemon may write on");
            self.kept.push(name.to_owned());
            self.outcome()
        }

        fn exchange(&mut self, exchange: &Exchange) -> Result<(), Failure> {
            self.exchanged.push(exchange.back.clone());
            self.outcome()
        }
    }

    #[test]
    fn a_version_that_cannot_get_its_database_is_not_tried_and_the_way_back_is_gone_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::at(dir.path());
        let trial = |needs: Option<&str>| Trial {
            id: format!("{needs:?}"),
            deed: Deed::Rollback,
            by: String::new(),
            from: version("1.0.0"),
            to: version("1.1.0"),
            launcher: None,
            phase: Phase::Armed,
            boots: 0,
            begun: 0,
            stopped: None,
            deadline: 9,
            wants: Wants::default(),
            books: Books {
                reads: Some(1),
                backup: Some("before".to_owned()),
                needs: needs.map(str::to_owned),
                back: None,
            },
            steps: Vec::new(),
        };
        let mut hands = Seen { fails: true, ..Seen::default() };
        versions.point(Link::Current, &version("1.0.0")).unwrap();
        versions.happen(Event::Begin(Box::new(trial(Some("old")))), &mut hands).unwrap();
        assert_eq!(versions.happen(Event::Boot, &mut hands).unwrap_err().code, "KE-X-001");
        hands.fails = false;
        let left = versions.happen(Event::Unwell { reason: "x".to_owned() }, &mut hands).unwrap();
        assert_eq!(left, Some(Action::Run(Some(version("1.0.0")))));
        assert_eq!(hands.exchanged.last().unwrap(), "19700101T000000.000Z-1.0.0-aside");

        // What cannot be kept is not put at risk: the new version is not started.
        assert_eq!((hands.kept.len(), hands.ended.as_slice()), (0, &["1.1.0".to_owned()][..]));
        versions.happen(Event::Begin(Box::new(trial(None))), &mut hands).unwrap();
        hands.fails = true;
        assert_eq!(versions.happen(Event::Boot, &mut hands).unwrap_err().code, "KE-X-001");
        assert_eq!(versions.read().unwrap().state.trial.map(|trial| trial.phase), Some(Phase::Armed));
        let left = versions.happen(Event::Unwell { reason: "no space".to_owned() }, &mut hands).unwrap();
        assert_eq!(left, Some(Action::Run(Some(version("1.0.0")))));
        assert_eq!(versions.history().unwrap().pop().unwrap().outcome, Outcome::Abandoned);

        hands.fails = false;
        let again = Trial { id: "again".to_owned(), ..trial(None) };
        versions.happen(Event::Begin(Box::new(again)), &mut hands).unwrap();
        assert!(matches!(versions.happen(Event::Boot, &mut hands), Ok(Some(Action::Watch(_)))));
        let kept = |id: &str| format!("19700101T000000.000Z-1.0.0-last-{id}");
        assert_eq!(hands.kept, [kept("None"), kept("again")]);
        hands.fails = true;
        let left = versions.happen(Event::Unwell { reason: "x".to_owned() }, &mut hands).unwrap();
        assert_eq!(left, Some(Action::Run(Some(version("1.0.0")))));
        assert_eq!(hands.exchanged.last(), hands.kept.last());
        let reason = versions.history().unwrap().pop().unwrap().reason;
        assert!(reason.starts_with("x; database") && reason.contains("that failed: no space"), "{reason}");
    }

    fn entry(id: &str) -> Entry {
        Entry {
            id: id.to_owned(),
            deed: Deed::Upgrade,
            by: String::new(),
            from: version("1.0.0"),
            to: None,
            outcome: Outcome::Refused,
            reason: String::new(),
            begun: 0,
            ended: 0,
            interrupted: None,
            exchange: None,
            steps: Vec::new(),
        }
    }

    /// As many lines as there is room for, each with its number.
    fn filled(versions: &Versions, bytes: u64) -> usize {
        let mut text = String::new();
        let mut count = 0;
        loop {
            let long = Entry { reason: "x".repeat(1000), ..entry(&count.to_string()) };
            let line = serde_json::to_string(&long).unwrap() + "\n";
            if (text.len() + line.len()) as u64 > bytes {
                fs::write(versions.dir().join(HISTORY), text).unwrap();
                return count;
            }
            text += &line;
            count += 1;
        }
    }

    #[test]
    fn a_history_that_is_full_loses_its_older_half_and_takes_the_next_line() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::at(dir.path());
        let length = || fs::metadata(dir.path().join(HISTORY)).unwrap().len();
        let ids =
            || -> Vec<String> { versions.history().unwrap().into_iter().map(|entry| entry.id).collect() };
        let count = filled(&versions, HISTORY_LIMIT);
        assert_eq!(ids().len(), count);
        let long = Entry { reason: "x".repeat(2000), ..entry("new") };
        versions.record(&long).unwrap();
        let left = ids();
        assert!(
            length() < HISTORY_LIMIT / 2 + 4000 && left.len() + 10 > count / 2,
            "{} of {count}",
            left.len()
        );
        let newer = (count - (left.len() - 1)..count).map(|id| id.to_string());
        assert_eq!(left, newer.chain(["new".to_owned()]).collect::<Vec<_>>());
        versions.record(&long).unwrap();
        versions.record(&entry("next")).unwrap();
        assert_eq!(ids().len(), left.len() + 1);

        // One that an earlier version has let grow, with a last line that was cut.
        let count = filled(&versions, 5 << 20);
        assert!(length() > HISTORY_LIMIT);
        let read = ids();
        assert_eq!((read.last(), read.len() < count), (Some(&(count - 1).to_string()), true));
        let mut file = OpenOptions::new().append(true).open(dir.path().join(HISTORY)).unwrap();
        file.write_all(b"{\"id\": \"cut").unwrap();
        versions.record(&entry("after")).unwrap();
        let read = ids();
        assert_eq!(read[read.len() - 2..], [(count - 1).to_string(), "after".to_owned()]);
        assert!(length() < HISTORY_LIMIT);
    }

    #[test]
    fn a_line_that_power_has_cut_harms_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::at(dir.path());
        versions.record(&entry("a")).unwrap();
        versions.record(&entry("a")).unwrap();
        let mut file = OpenOptions::new().append(true).open(dir.path().join(HISTORY)).unwrap();
        file.write_all(b"{\"id\": \"cut").unwrap();
        versions.record(&entry("b")).unwrap();
        let ids: Vec<String> = versions.history().unwrap().into_iter().map(|entry| entry.id).collect();
        assert_eq!(ids, ["a", "b"]);
    }

    #[test]
    fn what_a_killed_upgrade_left_is_removed_and_a_broken_state_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::at(dir.path());
        std::mem::forget(versions.stage().unwrap());
        assert_eq!(versions.names().unwrap().len(), 1);
        let lock = versions.lock().unwrap();
        assert_eq!(versions.names().unwrap(), ["lock"]);
        drop(lock);
        let killed = ["state.json.tmp-bcdf2456", ".state.json.kedge-new", ".history.jsonl.kedge-new"];
        for name in killed.into_iter().chain(["state.json.mine"]) {
            fs::write(dir.path().join(name), "{").unwrap();
        }
        for name in [".current-bcdf2456", ".launcher.kedge-new", ".previous-bcdf2456"] {
            symlink("1.0.0", dir.path().join(name)).unwrap();
        }
        let _lock = versions.lock().unwrap();
        let mut left = versions.names().unwrap();
        left.sort();
        assert_eq!(left, ["lock", "state.json.mine", "turn"]);
        fs::write(dir.path().join(STATE), "{").unwrap();
        assert_eq!(versions.read().unwrap_err().committed().code, "KE-UPGRADE-017");
    }
}
