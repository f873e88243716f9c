//! The steps of one upgrade up to the handover, each noted for the history. Nothing is switched before everything was
//! checked; a step that fails leaves the machine as it was. Blocking: daemons call it on a thread of its own.

use super::running::{Running, restart, running};
use super::{Site, backup, health, release, time};
use crate::base::{Failure, PidLock, read_limited, uuid4};
use crate::config::edge::EdgeConfig;
use crate::host::versions::{
    self, BINARY_LIMIT, Books, Deed, Disk, Entry, Event, Link, Outcome, Phase, SlotNote, Staging, Step, Told,
    Trial,
};
use crate::model::Release;
use crate::store;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Room that stays free beside what an upgrade writes.
const SPARE: u64 = 16 << 20;
const SIGNATURE_LIMIT: u64 = 64 << 10;
/// A handover that is older has come to nothing.
const RECENT_MS: i64 = 60_000;

/// What a new binary has to fulfil beyond what every one has to.
#[derive(Clone, Debug, Default)]
pub struct Demands {
    /// The version that it has to be.
    pub version: Option<Release>,
    /// `sha256:…` that it has to have.
    pub digest: Option<String>,
    /// The one key that counts, instead of those in the keys' directory.
    pub key: Option<PathBuf>,
    /// Whether it may be older than what ran here.
    pub downgrade: bool,
}

/// A binary on this machine that is not trusted yet.
#[derive(Debug)]
pub struct Staged {
    pub(super) staging: Staging,
    pub(super) bytes: u64,
    pub(super) digest: String,
    pub(super) signature: Option<String>,
    pub(super) origin: String,
}

/// A version that may become current.
#[derive(Debug)]
pub struct Checked {
    pub version: Release,
    /// What is still to become a slot; `None`: it is one.
    fresh: Option<(Staging, SlotNote, String)>,
    launches: bool,
    /// The backup whose database it needs, as it cannot read the present one.
    needs: Option<String>,
}

/// An upgrade under way, alone on this machine.
pub struct Work<'a> {
    pub site: &'a Site,
    pub config: EdgeConfig,
    pub from: Release,
    pub id: String,
    deed: Deed,
    by: String,
    begun: i64,
    disk: Disk,
    running: Option<Running>,
    to: Option<Release>,
    /// The newest layout of a database that `from` reads.
    reads: u32,
    backup: Option<String>,
    steps: Vec<Step>,
    tell: &'a mut dyn FnMut(&str),
    _lock: PidLock,
}

impl<'a> Work<'a> {
    /// Takes the lock, reads the configuration, and settles what an ended upgrade has left. `tell` hears of each step.
    pub fn begin(
        site: &'a Site,
        deed: Deed,
        by: &str,
        tell: &'a mut dyn FnMut(&str),
    ) -> Result<Work<'a>, Failure> {
        let config = EdgeConfig::load(&site.config)?.config;
        let lock = site.versions.lock()?;
        site.happen(Event::Settle)?;
        let disk = settle(site)?;
        let running = running(&config.database);
        let noted = disk.links.current.as_ref().and_then(|current| site.versions.slot(current));
        let (from, reads) = match (noted, &disk.links.current) {
            (Some(slot), _) => (slot.version, slot.database_layout),
            (None, Some(current)) => (current.clone(), store::LAYOUT),
            (None, None) => {
                let told = versions::ask_version(&present_binary(running.as_ref()))?;
                (told.version(), told.database_layout)
            }
        };
        Ok(Work {
            site,
            config,
            from,
            id: uuid4(),
            deed,
            by: by.to_owned(),
            begun: time(),
            disk,
            running,
            to: None,
            reads,
            backup: None,
            steps: Vec::new(),
            tell,
            _lock: lock,
        })
    }

    /// The version that ran before the present one, if its slot is there.
    pub fn previous(&self) -> Option<Release> {
        self.disk.links.previous.clone()
    }

    /// Whether the daemon runs, and would be started anew.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    fn step(&mut self, name: &str, detail: impl Into<String>) {
        let detail = detail.into();
        (self.tell)(&if detail.is_empty() { name.to_owned() } else { format!("{name}: {detail}") });
        self.steps.push(Step { name: name.to_owned(), at: time(), detail });
    }

    /// Copies a file with the signature beside it.
    pub fn stage_file(&mut self, file: &Path) -> Result<Staged, Failure> {
        let unusable = |why: String| {
            Failure::new("KE-UPGRADE-015", format!("{} cannot be used", file.display()))
                .because(why)
                .fix("name the kedge binary of the new version; its signature lies beside it as FILE.sig")
        };
        let mut source = File::open(file).map_err(|error| unusable(error.to_string()))?;
        let facts = source.metadata().map_err(|error| unusable(error.to_string()))?;
        if !facts.is_file() || facts.len() == 0 {
            return Err(unusable("it is no file with content".to_owned()));
        }
        if facts.len() > BINARY_LIMIT {
            return Err(unusable(format!("it is larger than {} MiB", BINARY_LIMIT >> 20)));
        }
        let mut beside = file.as_os_str().to_owned();
        beside.push(".sig");
        let beside = PathBuf::from(beside);
        let signature = match read_limited(&beside, SIGNATURE_LIMIT) {
            Ok(text) => Some(String::from_utf8_lossy(&text).into_owned()),
            Err(_) if !beside.exists() => None,
            Err(failure) => return Err(failure),
        };
        self.make_room(facts.len())?;
        let staging = self.site.versions.stage()?;
        let copied = versions::copy(&mut source, &staging.binary());
        let (bytes, digest) = copied.map_err(|error| uncopied(file, &error))?;
        self.step("copied", format!("{} MiB, {digest}", bytes.div_ceil(1 << 20)));
        Ok(Staged { staging, bytes, digest, signature, origin: file.display().to_string() })
    }

    /// Fetches a release from the cloud; its signature and digest come with it.
    pub fn stage_release(&mut self, version: &Release) -> Result<Staged, Failure> {
        self.make_room(SPARE * 2)?;
        let staging = self.site.versions.stage()?;
        let got = release::fetch(&self.config, version, &staging.binary())?;
        let digest = versions::digest(&staging.binary()).map_err(|error| {
            uncopied(&staging.binary(), &error).fix("check that the disk is well, then try again")
        })?;
        if got.digest != digest {
            return Err(Failure::new("KE-UPGRADE-006", "the digest is not that of the release")
                .because(format!("the cloud announced {}, {digest} came", got.digest))
                .fix("try again; if it stays so, have the cloud's releases directory looked at"));
        }
        self.step("fetched", format!("{} MiB from {}", got.bytes.div_ceil(1 << 20), got.origin));
        Ok(Staged { staging, bytes: got.bytes, digest, signature: Some(got.signature), origin: got.origin })
    }

    /// Refuses when there is too little space for this many bytes, the backup, and the running binary where it is not a
    /// slot yet. Unused slots count as room: they go once the new version is checked, or now, where it could not be copied
    /// beside them.
    fn make_room(&mut self, bytes: u64) -> Result<(), Failure> {
        let versions = &self.site.versions;
        let unused = |slot: &SlotNote| !versions.is_used(&self.disk, &slot.version);
        let unused: u64 = versions.slots()?.into_iter().filter(unused).map(|slot| slot.bytes).sum();
        let size = |path: &Path| fs::metadata(path).map_or(0, |facts| facts.len());
        let own = match self.disk.links.current {
            Some(_) => 0,
            None => size(&present_binary(self.running.as_ref())),
        };
        // It is copied twice: while the daemon runs, and once it has ended.
        let needed = bytes + own + 2 * size(&self.config.database) + SPARE;
        let free = rustix::fs::statvfs(self.site.versions.dir())
            .map_or(u64::MAX, |facts| facts.f_bavail.saturating_mul(facts.f_frsize));
        if free.saturating_add(unused) < needed {
            let dir = self.site.versions.dir().display();
            return Err(Failure::new("KE-UPGRADE-024", format!("there is too little space below {dir}"))
                .because(format!(
                    "{} MiB are free and {} MiB are needed",
                    free.saturating_add(unused) >> 20,
                    needed.div_ceil(1 << 20)
                ))
                .fix(format!("free space on the file system of {dir}")));
        }
        if unused > 0 && free < bytes + size(&self.config.database) + SPARE {
            self.site.versions.prune(&self.disk)?;
            self.step("unused versions were removed", "there is no room for another one beside them");
        }
        Ok(())
    }

    /// Checks everything that can be checked without changing anything.
    pub fn check(&mut self, staged: Staged, demands: &Demands) -> Result<Checked, Failure> {
        let Staged { staging, bytes, digest, signature, origin } = staged;
        if let Some(wanted) = demands.digest.as_ref().filter(|wanted| **wanted != digest) {
            return Err(Failure::new("KE-UPGRADE-006", "the digest is not the one that is expected")
                .because(format!("expected {wanted}, it is {digest}"))
                .fix("get the file again from where the release is published"));
        }
        let keys = versions::trusted_keys(&self.site.keys, demands.key.as_deref())?;
        let signature = signature.ok_or_else(|| {
            Failure::new("KE-UPGRADE-004", format!("{origin} has no signature"))
                .because(format!("there is no {origin}.sig"))
                .fix("put the signature of the release beside the file; `cosign sign-blob` and openssl make it")
        })?;
        let signer = versions::verify(&staging.binary(), &signature, &keys)?;
        self.step("signature holds", signer);
        let told = versions::ask_version(&staging.binary())?;
        let version = told.version();
        self.to = Some(version.clone());
        self.judge_version(&version, &digest, demands)?;
        self.step("runs here", format!("kedge {} for {}", version.bare(), told.platform));
        let needs = self.accepts(&staging.binary(), &version, told.database_layout)?;
        let launches = versions::launches(&staging.binary(), &self.site.config);
        if self.site.versions.is_used(&self.disk, &version) {
            // The same bytes, as `judge_version` has seen.
            return Ok(Checked { version, fresh: None, launches, needs });
        }
        let note = note(&told, (digest, bytes), origin, launches);
        Ok(Checked { version, fresh: Some((staging, note, signature)), launches, needs })
    }

    /// Whether a version that reads layouts up to `layout` can work with the present database and configuration, or with
    /// those of a backup, which is named then.
    fn accepts(&mut self, binary: &Path, version: &Release, layout: u32) -> Result<Option<String>, Failure> {
        let found = store::layout(&self.config.database).filter(|found| *found > layout);
        let Some(found) = found else {
            versions::accepts(binary, &self.site.config)?;
            self.step("accepts the configuration", self.site.config.display().to_string());
            return Ok(None);
        };
        let backup = backup::readable(&self.site.backups, layout).ok_or_else(|| {
            Failure::new(
                "KE-UPGRADE-025",
                format!("kedge {} cannot read this node's database", version.bare()),
            )
            .because(format!(
                "its layout is {found}, that version reads layouts up to {layout}, and no backup is as old"
            ))
            .fix("stay with a version that reads it; see the backups with: kedge edge backup --list")
        })?;
        versions::accepts(binary, &backup::config_of(&self.site.backups, &backup.name))?;
        self.step("needs the database and configuration of a backup", backup.name.clone());
        Ok(Some(backup.name))
    }

    fn judge_version(&self, version: &Release, digest: &str, demands: &Demands) -> Result<(), Failure> {
        if let Some(wanted) = demands.version.as_ref().filter(|wanted| *wanted != version) {
            return Err(Failure::new("KE-UPGRADE-009", format!("the file is not version {}", wanted.bare()))
                .because(format!("it says that it is {}", version.bare()))
                .fix("have the right file put where releases are published"));
        }
        if *version == self.from {
            return Err(Failure::new(
                "KE-UPGRADE-009",
                format!("kedge {} is what runs already", version.bare()),
            )
            .because("the file has the same version")
            .fix("nothing needs to be done; a changed build needs a version of its own"));
        }
        if let Some(slot) = self.site.versions.slot(version).filter(|slot| slot.digest != digest)
            && self.site.versions.is_used(&self.disk, version)
        {
            return Err(Failure::new(
                "KE-UPGRADE-009",
                format!("another kedge {} is on this machine", version.bare()),
            )
            .because(format!("the slot that is kept has {}", slot.digest))
            .fix("give a changed build a version of its own"));
        }
        let newest = self.disk.state.floor.as_ref().filter(|floor| **floor > self.from).unwrap_or(&self.from);
        if version < newest && !demands.downgrade {
            return Err(Failure::new("KE-UPGRADE-008", format!("kedge {} is older", version.bare()))
                .because(format!("{} has proved good on this machine", newest.bare()))
                .fix("use `kedge edge rollback` for the version before, or repeat with --allow-downgrade"));
        }
        Ok(())
    }

    /// A version that is a slot already; its bytes are compared with what was noted when its signature was checked.
    pub fn slot(&mut self, version: &Release) -> Result<Checked, Failure> {
        self.to = Some(version.clone());
        let missing = || {
            Failure::new("KE-UPGRADE-013", format!("kedge {} is not on this machine", version.bare()))
                .because("only the present and the previous version are kept")
                .fix("see them with: kedge edge history")
        };
        let slot = self.site.versions.slot(version).ok_or_else(missing)?;
        let binary = self.site.versions.binary(version);
        let digest = versions::digest(&binary).map_err(|error| missing().because(error))?;
        if digest != slot.digest {
            return Err(Failure::new("KE-UPGRADE-006", format!("{} was changed", binary.display()))
                .because(format!("it had {}, it has {digest}", slot.digest))
                .fix("upgrade to this version from its signed file"));
        }
        self.step("unchanged since it was checked", digest);
        let needs = self.accepts(&binary, version, slot.database_layout)?;
        Ok(Checked { version: version.clone(), fresh: None, launches: slot.launches, needs })
    }

    /// Makes what was checked a slot in the place of those that nobody uses; it is not current yet.
    pub fn install(&mut self, checked: &mut Checked) -> Result<(), Failure> {
        if let Some((staging, note, signature)) = checked.fresh.take() {
            self.site.versions.prune(&self.disk)?;
            self.site.versions.install(staging, &note, Some(&signature))?;
            self.step("installed", self.site.versions.binary(&checked.version).display().to_string());
        }
        Ok(())
    }

    /// Copies database and configuration.
    pub fn back_up(&mut self) -> Result<backup::Backup, Failure> {
        let (database, config) = (self.config.database.clone(), self.site.config.clone());
        let made = backup::make(&self.site.backups, &self.from.bare(), &database, &config)?;
        self.step("backed up", self.site.backups.join(&made.name).display().to_string());
        self.backup = Some(made.name.clone());
        Ok(made)
    }

    /// Whether the daemon would be started again by a launcher; asked before anything is switched.
    pub fn check_launcher(&self) -> Result<(), Failure> {
        match &self.running {
            Some(Running { pid, launcher: None, .. }) => Err(Failure::new(
                "KE-UPGRADE-012",
                "the daemon was not started by the launcher",
            )
            .because(format!("process {pid} would not come back as another version"))
            .fix(format!(
                "let the service run `kedge edge launch --config {}` in the place of `kedge edge run`, and \
                         restart it",
                self.site.config.display()
            ))),
            _ => Ok(()),
        }
    }

    /// The running binary becomes a slot where there is none: the way back needs one.
    fn adopt(&mut self) -> Result<(), Failure> {
        if self.disk.links.current.is_none() {
            adopt(self.site, &present_binary(self.running.as_ref()))?;
            self.disk = self.site.versions.read()?;
            self.step("the running binary became a slot", self.from.bare());
        }
        Ok(())
    }

    /// Makes the version current, to be tried at the next start. With a daemon that runs, follow with [`Work::hand_over`].
    pub fn switch(&mut self, mut checked: Checked, deadline: Duration) -> Result<(), Failure> {
        self.check_launcher()?;
        self.adopt()?;
        self.install(&mut checked)?;
        let wants = self.config.status_socket.as_deref().map(health::present).unwrap_or_default();
        let newer_launcher = self.deed == Deed::Upgrade && checked.launches;
        let detail = format!("{} in the place of {}", checked.version.bare(), self.from.bare());
        self.step("switched", detail);
        // A job of the cloud has made its backup in a step of its own.
        let of_from = |backup: &backup::Backup| backup.version == self.from.bare();
        let newest =
            || backup::list(&self.site.backups).into_iter().rev().find(of_from).map(|backup| backup.name);
        let books = Books {
            reads: Some(self.reads),
            backup: self.backup.clone().or_else(newest),
            needs: checked.needs,
            back: None,
        };
        let trial = Trial {
            id: self.id.clone(),
            deed: self.deed,
            by: self.by.clone(),
            from: self.from.clone(),
            to: checked.version.clone(),
            launcher: newer_launcher.then(|| checked.version.clone()),
            phase: Phase::Armed,
            boots: 0,
            begun: self.begun,
            stopped: None,
            deadline: deadline.as_secs().max(1),
            wants,
            books,
            steps: self.steps.clone(),
        };
        self.site.happen(Event::Begin(Box::new(trial))).map(drop)
    }

    /// Has the running daemon end and the new version started. Returns the change's id; the lock is free then, and the
    /// launcher decides.
    pub fn hand_over(self) -> Result<String, Failure> {
        self.site.happen(Event::Handover)?;
        if let Some(launcher) = self.running.as_ref().and_then(|running| running.launcher) {
            restart(launcher)?;
        }
        Ok(self.id)
    }

    /// Notes in the history that nothing was switched, and why.
    pub fn refused(self, failure: Failure) -> Failure {
        let entry = Entry {
            id: self.id,
            deed: self.deed,
            by: self.by,
            from: self.from,
            to: self.to,
            outcome: Outcome::Refused,
            reason: failure.to_string(),
            begun: self.begun,
            ended: time(),
            interrupted: None,
            exchange: None,
            steps: self.steps,
        };
        if let Err(unwritten) = self.site.versions.record(&entry) {
            tracing::warn!(code = unwritten.code, error = %unwritten, "the history cannot be written");
        }
        failure
    }
}

/// Ends what an upgrade that was killed has left; an upgrade that goes on is an error.
fn settle(site: &Site) -> Result<Disk, Failure> {
    let disk = site.versions.read()?;
    let Some(trial) = &disk.state.trial else { return Ok(disk) };
    let recent = trial.stopped.is_some_and(|stopped| time().saturating_sub(stopped) < RECENT_MS);
    if trial.phase == Phase::Armed && !recent {
        site.give_up("whoever began it was ended before the new version was started")?;
        return site.versions.read();
    }
    Err(Failure::new("KE-UPGRADE-002", format!("kedge {} is being tried on this machine", trial.to.bare()))
        .because(format!("it has {} s to get ready", trial.deadline))
        .fix("wait for its end, which `kedge edge history` shows"))
}

/// A binary and its copy below the versions are not the same, or not both there.
fn uncopied(binary: &Path, error: &std::io::Error) -> Failure {
    Failure::new("KE-UPGRADE-027", format!("{} cannot be copied", binary.display()))
        .because(error)
        .fix("check that the file can be read, and that /var/lib/kedge has free space")
}

/// The binary of the running daemon, or this one.
fn present_binary(running: Option<&Running>) -> PathBuf {
    running.map_or_else(|| PathBuf::from("/proc/self/exe"), |running| running.binary.clone())
}

/// Makes a binary the first slot of a machine that has none, so that its service can run the launcher from there; the
/// version that is current now. An installer calls it before it installs the service.
pub fn seed(site: &Site, binary: &Path) -> Result<Release, Failure> {
    let _lock = site.versions.lock()?;
    match site.versions.links().current {
        Some(current) => Ok(current),
        None => adopt(site, binary),
    }
}

/// What is noted of a binary that becomes a slot now.
fn note(told: &Told, (digest, bytes): (String, u64), origin: String, launches: bool) -> SlotNote {
    SlotNote {
        version: told.version(),
        digest,
        bytes,
        origin,
        installed: time(),
        launches,
        database_layout: told.database_layout,
    }
}

/// Makes a binary the first slot, to which all links point.
fn adopt(site: &Site, binary: &Path) -> Result<Release, Failure> {
    let told = versions::ask_version(binary)?;
    let version = told.version();
    let unread = |error: std::io::Error| uncopied(binary, &error);
    if site.versions.slot(&version).is_none() {
        let staging = site.versions.stage()?;
        let mut source = File::open(binary).map_err(unread)?;
        let (bytes, digest) = versions::copy(&mut source, &staging.binary()).map_err(unread)?;
        let launches = versions::launches(&staging.binary(), &site.config);
        let origin = fs::canonicalize(binary).unwrap_or_else(|_| binary.to_owned()).display().to_string();
        let note = note(&told, (digest, bytes), origin, launches);
        site.versions.install(staging, &note, None)?;
    }
    // `current` comes last: with it, the slots count.
    for link in [Link::Launcher, Link::Current] {
        site.versions.point(link, &version)?;
    }
    Ok(version)
}
