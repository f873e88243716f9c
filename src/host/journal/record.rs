//! A change as the journal writes it down: what was done, without content, and what was there before. The form is read by
//! later versions too and only ever grows.

use super::change::{Change, Directory};
use super::files::{KEPT_LIMIT, keep, look, sha256, unmade};
use super::running;
use crate::base::{Failure, read_limited};
use crate::host::service::Manager;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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

    /// Whether the change was never made: a crash came between its record and its deed, or an undo was cut short.
    pub(super) fn stands(&self, path: &Path, kept: &Path) -> Result<bool, Failure> {
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
    pub(super) fn stands(&self) -> Result<bool, Failure> {
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

    pub(super) fn verb(&self) -> &'static str {
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
