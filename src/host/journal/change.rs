//! One change of this machine: how it is made, how it is told, what was there before and how that comes back. Making and
//! restoring can be repeated after a crash at any point. Only the journal makes and restores.

use super::{Entry, Manner, running};
use crate::base::{Failure, read_limited, remove_all_unfinished, remove_unfinished};
use crate::host::service::{Manager, Service};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The largest file that is kept before it is replaced.
const KEPT_LIMIT: u64 = 256 << 20;

/// What may be changed on a machine. Paths are absolute; missing parents are made, and recorded too.
#[derive(Clone, Debug)]
pub enum Change {
    /// A file with this content and mode, whole or absent.
    File {
        path: PathBuf,
        content: Vec<u8>,
        mode: u32,
    },
    Directory {
        path: PathBuf,
        mode: u32,
        kind: Directory,
    },
    /// A symbolic link, switched in one step.
    Link {
        path: PathBuf,
        target: PathBuf,
    },
    /// A file or link that shall not be there; it is kept for the undo.
    Remove {
        path: PathBuf,
    },
    /// Who may read a file or directory that is there; its content stays untouched.
    Mode {
        path: PathBuf,
        mode: u32,
    },
    /// A service of kedge that starts with the machine and runs.
    Service(Service),
    /// A service of somebody else that shall neither run nor start with the machine.
    Halt {
        name: String,
    },
    /// A value of the running kernel, by its file below `/proc/sys`; the next boot knows nothing of it.
    Setting {
        path: PathBuf,
        value: String,
    },
    /// A kernel module that shall be loaded; the next boot knows nothing of it.
    Module {
        name: String,
    },
}

/// What an undo does with a directory that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Directory {
    /// It stays: others may keep files in it.
    Shared,
    /// It goes with everything in it; nobody but kedge writes there.
    Owned,
}

/// A change as it is recorded: without content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Told {
    File { path: PathBuf, sha256: String },
    Directory { path: PathBuf, kind: Directory },
    Link { path: PathBuf, target: PathBuf },
    Remove { path: PathBuf },
    Mode { path: PathBuf },
    Service { name: String, manager: Manager, path: PathBuf, sha256: String },
    Halt { name: String, manager: Manager },
    Setting { path: PathBuf, value: String },
    Module { name: String },
}

/// What stood at the path before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Before {
    Absent,
    /// A file or a link, kept in the journal.
    Kept {
        mode: u32,
        uid: u32,
        gid: u32,
    },
    /// A directory, whose content is nobody's business here.
    Directory {
        mode: u32,
    },
    /// Something whose mode alone was changed.
    Mode {
        mode: u32,
    },
    /// A service, and how it stood.
    #[serde(rename_all = "camelCase")]
    Service {
        at_boot: bool,
        running: bool,
    },
    /// The value that ran.
    Setting {
        value: String,
    },
}

impl Change {
    pub(super) fn directory(path: PathBuf, mode: u32) -> Change {
        Change::Directory { path, mode, kind: Directory::Shared }
    }

    /// Where it is made; a service's place is its definition.
    pub(super) fn path(&self) -> Option<PathBuf> {
        match self {
            Change::File { path, .. }
            | Change::Directory { path, .. }
            | Change::Link { path, .. }
            | Change::Mode { path, .. }
            | Change::Remove { path } => Some(path.clone()),
            Change::Service(service) => Some(Manager::here().definition_path(&service.name)),
            Change::Halt { .. } | Change::Setting { .. } | Change::Module { .. } => None,
        }
    }

    pub(super) fn told(&self) -> Told {
        match self.clone() {
            Change::Service(service) => {
                let manager = Manager::here();
                let definition = manager.definition(&service);
                let sha256 = sha256(definition.content.as_bytes());
                Told::Service { name: service.name, manager, path: definition.path, sha256 }
            }
            Change::Halt { name } => Told::Halt { name, manager: Manager::here() },
            Change::Setting { path, value } => Told::Setting { path, value },
            Change::Module { name } => Told::Module { name },
            Change::File { path, content, .. } => Told::File { path, sha256: sha256(&content) },
            Change::Directory { path, kind, .. } => Told::Directory { path, kind },
            Change::Link { path, target } => Told::Link { path, target },
            Change::Remove { path } => Told::Remove { path },
            Change::Mode { path, .. } => Told::Mode { path },
        }
    }

    /// Whether it is of the running kernel alone, and gone with the next boot.
    pub fn is_of_kernel(&self) -> bool {
        matches!(self, Change::Setting { .. } | Change::Module { .. })
    }

    /// Whether the machine is already as the change would make it.
    pub fn holds(&self) -> Result<bool, Failure> {
        let path = match self {
            Change::Service(service) => return Manager::here().holds(service),
            Change::Halt { name } => {
                let status = Manager::here().status(name)?;
                return Ok(!status.running && !status.at_boot);
            }
            Change::Setting { path, value } => return Ok(running::setting(path)?.as_ref() == Some(value)),
            Change::Module { name } => return Ok(running::is_loaded(name)),
            Change::File { path, .. }
            | Change::Directory { path, .. }
            | Change::Link { path, .. }
            | Change::Mode { path, .. }
            | Change::Remove { path } => path,
        };
        let gone_is_well = matches!(self, Change::Remove { .. } | Change::Mode { .. });
        let Some(now) = look(path)? else { return Ok(gone_is_well) };
        Ok(match self {
            Change::File { content, mode, .. } => {
                now.is_file()
                    && now.mode() & 0o7777 == *mode
                    && now.len() == content.len() as u64
                    && read_limited(path, now.len())? == *content
            }
            Change::Directory { .. } => now.is_dir(),
            Change::Mode { mode, .. } => now.mode() & 0o7777 == *mode,
            Change::Link { target, .. } => fs::read_link(path).is_ok_and(|present| present == *target),
            Change::Remove { .. }
            | Change::Service(_)
            | Change::Halt { .. }
            | Change::Setting { .. }
            | Change::Module { .. } => false,
        })
    }

    /// Makes the change; `id` names what is written beside its place.
    pub(super) fn make(&self, id: u64) -> Result<(), Failure> {
        match self {
            Change::File { path, content, mode } => {
                swap(path, id, |beside| write_synced(beside, content, *mode))
                    .map_err(|error| unmade(path, &error))
            }
            Change::Directory { path, mode, .. } => {
                let made = DirBuilder::new().mode(*mode).create(path);
                // The process's umask must not decide who may enter.
                let made = made.and_then(|()| fs::set_permissions(path, Permissions::from_mode(*mode)));
                made.and_then(|()| sync_parent(path)).map_err(|error| unmade(path, &error))
            }
            Change::Link { path, target } => {
                swap(path, id, |beside| std::os::unix::fs::symlink(target, beside))
                    .map_err(|error| unmade(path, &error))
            }
            Change::Remove { path } => {
                fs::remove_file(path).and_then(|()| sync_parent(path)).map_err(|e| unmade(path, &e))
            }
            Change::Mode { path, mode } => set_mode(path, *mode).map_err(|error| unmade(path, &error)),
            Change::Service(service) => {
                let manager = Manager::here();
                manager.install(service)?;
                // One that runs by an older definition takes up the new one.
                manager.restart(&service.name)
            }
            Change::Halt { name } => {
                let manager = Manager::here();
                manager.stop(name)?;
                manager.dismiss(name)
            }
            Change::Setting { path, value } => running::set(path, value).map_err(|e| unmade(path, &e)),
            Change::Module { name } => running::load(name),
        }
    }
}

impl Before {
    /// Looks at the place of a change, and keeps what is there.
    pub(super) fn of(change: &Change, kept: &Path) -> Result<Before, Failure> {
        if let Change::Halt { name } = change {
            let status = Manager::here().status(name)?;
            return Ok(Before::Service { at_boot: status.at_boot, running: status.running });
        }
        if let Change::Setting { path, .. } = change {
            return Ok(running::setting(path)?.map_or(Before::Absent, |value| Before::Setting { value }));
        }
        let Some(path) = change.path() else { return Ok(Before::Absent) };
        let path = path.as_path();
        match look(path)? {
            None => Ok(Before::Absent),
            Some(now) if matches!(change, Change::Mode { .. }) => {
                Ok(Before::Mode { mode: now.mode() & 0o7777 })
            }
            Some(now) if now.is_dir() => match change {
                Change::Directory { .. } => Ok(Before::Directory { mode: now.mode() & 0o7777 }),
                _ => Err(unmade(path, &io::Error::from(ErrorKind::IsADirectory))),
            },
            Some(now) => {
                keep(path, &now, kept).map_err(|error| unmade(path, &error))?;
                Ok(Before::Kept { mode: now.mode() & 0o7777, uid: now.uid(), gid: now.gid() })
            }
        }
    }
}

impl Before {
    /// Whether the change was never made: a crash came between its record and its deed, or an undo was cut short.
    fn stands(&self, path: &Path, kept: &Path) -> Result<bool, Failure> {
        let (now, then) = (look(path)?, look(kept)?);
        Ok(match (self, now, then) {
            (Before::Absent, now, _) => now.is_none(),
            (Before::Directory { .. }, now, _) => now.is_some_and(|now| now.is_dir()),
            (Before::Mode { mode }, now, _) => now.is_none_or(|now| now.mode() & 0o7777 == *mode),
            (Before::Kept { .. }, Some(now), Some(then)) if now.is_symlink() || then.is_symlink() => {
                fs::read_link(path).ok().is_some_and(|target| fs::read_link(kept).ok() == Some(target))
            }
            (Before::Kept { .. }, Some(now), Some(then)) => {
                now.is_file()
                    && now.len() == then.len()
                    && read_limited(path, KEPT_LIMIT)? == read_limited(kept, KEPT_LIMIT)?
            }
            (Before::Kept { .. } | Before::Service { .. } | Before::Setting { .. }, _, _) => false,
        })
    }
}

impl Told {
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Told::File { path, .. }
            | Told::Directory { path, .. }
            | Told::Link { path, .. }
            | Told::Remove { path }
            | Told::Mode { path }
            | Told::Setting { path, .. }
            | Told::Service { path, .. } => Some(path),
            Told::Halt { .. } | Told::Module { .. } => None,
        }
    }

    /// The name of the service of kedge's own that it is about.
    pub(super) fn service(&self) -> Option<&str> {
        match self {
            Told::Service { name, .. } => Some(name),
            Told::File { .. }
            | Told::Directory { .. }
            | Told::Link { .. }
            | Told::Remove { .. }
            | Told::Mode { .. }
            | Told::Setting { .. }
            | Told::Module { .. }
            | Told::Halt { .. } => None,
        }
    }

    /// Whether the machine is still as the change left it.
    fn stands(&self) -> Result<bool, Failure> {
        let Some(path) = self.path() else { return Ok(true) };
        let now = look(path)?;
        Ok(match self {
            Told::File { sha256: left, .. } | Told::Service { sha256: left, .. } => match now {
                Some(now) if now.is_file() => sha256(&read_limited(path, KEPT_LIMIT)?) == *left,
                Some(_) => false,
                None => true,
            },
            Told::Directory { .. } => now.is_none_or(|now| now.is_dir()),
            Told::Link { target, .. } => {
                now.is_none() || fs::read_link(path).is_ok_and(|present| present == *target)
            }
            Told::Remove { .. } => now.is_none(),
            Told::Halt { .. } | Told::Mode { .. } | Told::Setting { .. } | Told::Module { .. } => true,
        })
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Told::File { path, .. } => write!(f, "wrote {}", path.display()),
            Told::Directory { path, .. } => write!(f, "made the directory {}", path.display()),
            Told::Link { path, target } => write!(f, "linked {} to {}", path.display(), target.display()),
            Told::Remove { path } => write!(f, "removed {}", path.display()),
            Told::Mode { path } => write!(f, "set the mode of {}", path.display()),
            Told::Service { name, .. } => write!(f, "installed the service {name}"),
            Told::Halt { name, .. } => write!(f, "stopped the service {name}"),
            Told::Setting { path, value } => write!(f, "set {} to {value}", path.display()),
            Told::Module { name } => write!(f, "loaded the module {name}"),
        }
    }
}

impl Entry {
    /// Whether its place is as it was before.
    pub(super) fn was_never_made(&self, kept: &Path) -> bool {
        match (&self.told, &self.before) {
            (Told::Setting { path, .. }, Before::Setting { value }) => {
                running::setting(path).is_ok_and(|now| now.as_ref() == Some(value))
            }
            (Told::Module { name }, _) => !running::is_loaded(name),
            _ => self.told.path().is_some_and(|path| self.before.stands(path, kept).unwrap_or(false)),
        }
    }

    /// Puts back what was there before the change; answers what stays all the same, and why.
    pub(super) fn restore(&self, manner: Manner, kept: &Path) -> Result<Option<String>, Failure> {
        match &self.told {
            Told::Halt { name, manager } => self.resume(*manager, name).map(|()| None),
            Told::Setting { path, value } => self.set_back(path, value, manner).map(|()| None),
            Told::Module { name } => Ok(running::unload(name)),
            _ => self.put_back(manner, kept).map(|()| None),
        }
    }

    fn put_back(&self, manner: Manner, kept: &Path) -> Result<(), Failure> {
        let Some(path) = self.told.path() else { return Ok(()) };
        drop(fs::remove_file(beside(path, self.id)));
        drop(remove_unfinished(path));
        if manner == Manner::Careful && !self.told.stands()? && !self.before.stands(path, kept)? {
            return Err(self.changed_since(path));
        }
        if let Told::Service { name, manager, .. } = &self.told {
            // Its definition goes with it; what stood there comes back below.
            manager.remove(name)?;
            // The directory of the definition may have gone with it, and what comes back needs one.
            if let (Before::Kept { .. }, Some(dir)) = (&self.before, path.parent()) {
                fs::create_dir_all(dir).map_err(|error| unmade(dir, &error))?;
            }
        }
        let restored = match (&self.told, &self.before) {
            // What is gone since needs no mode.
            (Told::Mode { .. }, Before::Mode { mode }) => absent(set_mode(path, *mode)),
            (Told::Mode { .. }, _) => Ok(()),
            (Told::Directory { kind, .. }, Before::Absent) => remove_dir(path, *kind),
            (Told::Directory { .. }, _) => Ok(()),
            (_, Before::Absent) => absent(fs::remove_file(path)),
            (_, Before::Kept { mode, uid, gid }) => put_back(path, self.id, kept, *mode, (*uid, *gid)),
            (
                _,
                Before::Directory { .. }
                | Before::Mode { .. }
                | Before::Service { .. }
                | Before::Setting { .. },
            ) => Ok(()),
        };
        if let (Told::Service { name, manager, .. }, Before::Kept { .. }, Ok(())) =
            (&self.told, &self.before, &restored)
        {
            manager.enrol(name)?;
            manager.start(name)?;
        }
        restored.map_err(|error| unrestored(path, &error))
    }

    /// Gives a setting of the kernel the value that ran before.
    fn set_back(&self, path: &Path, ours: &str, manner: Manner) -> Result<(), Failure> {
        let Before::Setting { value: before } = &self.before else { return Ok(()) };
        let Some(now) = running::setting(path)? else { return Ok(()) };
        if now == *before {
            return Ok(());
        }
        if manner == Manner::Careful && now != ours {
            return Err(self.changed_since(path));
        }
        running::set(path, before).map_err(|error| unrestored(path, &error))
    }

    fn changed_since(&self, path: &Path) -> Failure {
        Failure::new("KE-JOURNAL-005", format!("{} has been changed since", path.display()))
            .because(format!(
                "kedge {} it at {}, and somebody else wrote it later",
                self.told.verb(),
                self.at
            ))
            .fix("undo it by hand, or say --force")
    }
    /// Lets a service run, and start with the machine, as far as it did.
    fn resume(&self, manager: Manager, name: &str) -> Result<(), Failure> {
        let Before::Service { at_boot, running } = &self.before else { return Ok(()) };
        if *at_boot {
            manager.enrol(name)?;
        }
        if *running { manager.start(name) } else { Ok(()) }
    }
}

impl Told {
    fn verb(&self) -> &'static str {
        match self {
            Told::File { .. } => "wrote",
            Told::Directory { .. } => "made",
            Told::Link { .. } => "linked",
            Told::Remove { .. } => "removed",
            Told::Mode { .. } => "set the mode of",
            Told::Service { .. } => "installed",
            Told::Halt { .. } => "stopped",
            Told::Setting { .. } => "set",
            Told::Module { .. } => "loaded",
        }
    }
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode)).and_then(|()| sync_parent(path))
}

/// What stands at a path, links not followed.
fn look(path: &Path) -> Result<Option<Metadata>, Failure> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(unmade(path, &error)),
    }
}

/// The name that a file has until it is whole; an undo after a crash removes it.
fn beside(path: &Path, id: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".kedge-{id}"));
    PathBuf::from(name)
}

/// Makes something beside its place and moves it there in one step.
fn swap(path: &Path, id: u64, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let beside = beside(path, id);
    absent(fs::remove_file(&beside))?;
    let swapped = make(&beside).and_then(|()| fs::rename(&beside, path)).and_then(|()| sync_parent(path));
    if swapped.is_err() {
        drop(fs::remove_file(&beside));
    }
    swapped
}

fn write_synced(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// Copies a file, or a link's target, into the journal.
fn keep(path: &Path, now: &Metadata, kept: &Path) -> io::Result<()> {
    absent(fs::remove_file(kept))?;
    if now.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(path)?, kept)?;
        return sync_parent(kept);
    }
    if now.len() > KEPT_LIMIT {
        return Err(io::Error::other(format!("it is larger than {KEPT_LIMIT} bytes")));
    }
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(kept)?;
    io::copy(&mut File::open(path)?, &mut copy)?;
    copy.sync_all()?;
    sync_parent(kept)
}

fn put_back(path: &Path, id: u64, kept: &Path, mode: u32, owner: (u32, u32)) -> io::Result<()> {
    let link = fs::symlink_metadata(kept)?.is_symlink();
    swap(path, id, |beside| {
        if link {
            return std::os::unix::fs::symlink(fs::read_link(kept)?, beside);
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
        io::copy(&mut File::open(kept)?, &mut file)?;
        std::os::unix::fs::fchown(&file, Some(owner.0), Some(owner.1))?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()
    })
}

fn remove_dir(path: &Path, kind: Directory) -> io::Result<()> {
    match kind {
        Directory::Owned => {
            if let Some(mount) = mount_below(path) {
                return Err(io::Error::other(format!("{} is mounted", mount.display())));
            }
            absent(fs::remove_dir_all(path))
        }
        Directory::Shared => match drop_unfinished(path).and_then(|()| fs::remove_dir(path)) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
            other => absent(other),
        },
    }
}

/// What killed writers of kedge's have left in a directory that kedge made.
fn drop_unfinished(dir: &Path) -> io::Result<()> {
    absent(remove_all_unfinished(dir))
}

/// The first mount at or below a path: removing a tree must never reach into another file system.
fn mount_below(path: &Path) -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let points = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(point.replace("\\040", " ")));
    points.into_iter().find(|point| point.starts_with(path))
}

fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn unrestored(path: &Path, error: &io::Error) -> Failure {
    Failure::new("KE-JOURNAL-004", format!("cannot put {} back", path.display()))
        .because(error)
        .fix("mend the cause and run it again; what is done already stays done")
}

pub(super) fn unmade(path: &Path, error: &io::Error) -> Failure {
    Failure::new("KE-JOURNAL-006", format!("cannot change {}", path.display()))
        .because(error)
        .fix("run as root, and check that the file system is writable and has free space")
}

fn sha256(content: &[u8]) -> String {
    digest(&SHA256, content).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
