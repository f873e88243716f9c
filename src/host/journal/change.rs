//! One change of this machine: what may be changed, whether it is so already, and how it is made. Making can be repeated
//! after a crash at any point. Only the journal makes.

use super::files::{look, set_mode, sha256, swap, sync_parent, unmade, write_synced};
use super::record::Told;
use super::running;
use crate::base::{Failure, read_limited};
use crate::host::service::{Manager, Service};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;

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
    /// It goes with everything in it but what other deeds have made; nobody but kedge writes there.
    Owned,
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
