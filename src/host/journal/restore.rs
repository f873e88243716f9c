//! How what was there before a change comes back. Restoring can be repeated after a crash at any point; what somebody else
//! has changed since is left unless it is forced. Only the journal restores.

use super::files::{absent, beside, put_back, remove_dir, set_mode, unmade};
use super::record::{Before, Told};
use super::{Entry, Manner, running};
use crate::base::{Failure, remove_unfinished};
use crate::host::service::Manager;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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

    /// The directory that the change has made, if it was one.
    pub(super) fn made_directory(&self) -> Option<&Path> {
        match (&self.told, &self.before) {
            (Told::Directory { path, .. }, Before::Absent) => Some(path),
            _ => None,
        }
    }

    /// Puts back what was there before the change; answers what stays all the same, and why. Of a directory that was
    /// made, the spared paths stay.
    pub(super) fn restore(
        &self,
        manner: Manner,
        kept: &Path,
        spared: &[PathBuf],
    ) -> Result<Option<String>, Failure> {
        match &self.told {
            Told::Halt { name, manager } => self.resume(*manager, name).map(|()| None),
            Told::Setting { path, value } => self.set_back(path, value, manner).map(|()| None),
            Told::Module { name } => Ok(running::unload(name)),
            _ => {
                self.put_back(manner, kept, spared)?;
                Ok((!spared.is_empty()).then(|| "it stays: other changes of kedge's are in it".to_owned()))
            }
        }
    }

    fn put_back(&self, manner: Manner, kept: &Path, spared: &[PathBuf]) -> Result<(), Failure> {
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
            (Told::Directory { kind, .. }, Before::Absent) => remove_dir(path, *kind, spared),
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

fn unrestored(path: &Path, error: &io::Error) -> Failure {
    Failure::new("KE-JOURNAL-004", format!("cannot put {} back", path.display()))
        .because(error)
        .fix("mend the cause and run it again; what is done already stays done")
}
