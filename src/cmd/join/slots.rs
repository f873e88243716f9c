//! The slots of a node that joins: its binary becomes the first one and the service runs from there, so that the node can
//! be upgraded and go back. Slots and backups lie in directories that the journal knows as kedge's own.

use crate::base::{Failure, aside};
use crate::daemon::upgrade::{Site, backup, own_version, seed};
use crate::host::journal::{Change, Directory};
use crate::host::versions;
use crate::model::Release;
use std::path::Path;

/// What is kept of versions on a machine.
pub(in crate::cmd) const DIRS: [&str; 2] = [versions::DIR, backup::DIR];

/// The directories, which go with everything in them where the join has made them.
pub(super) fn changes() -> impl Iterator<Item = Change> {
    let modes = [0o755, 0o700];
    let owned =
        |(path, mode): (&str, u32)| Change::Directory { path: path.into(), mode, kind: Directory::Owned };
    DIRS.into_iter().zip(modes).map(owned)
}

/// What [`fill`] would do with this very binary, for `--dry-run`.
pub(super) fn told() -> String {
    format!("install kedge {} below {}", own_version().bare(), versions::DIR)
}

/// Makes this very binary the first slot; the configuration stands in its place already. Answers what runs from now on.
pub(super) async fn fill(place: &Path) -> Result<String, Failure> {
    let place = place.to_owned();
    let binary = std::env::current_exe().ok().filter(|own| own.is_file());
    let binary = binary.unwrap_or_else(|| "/proc/self/exe".into());
    let version = aside("install the binary", move || seeded(&place, &binary)).await??;
    let own = own_version();
    Ok(match version == own {
        true => format!("kedge {} runs from {}", version.bare(), versions::DIR),
        false => format!(
            "kedge {} is installed here and stays; `kedge edge upgrade` changes it to another such as this one, {}",
            version.bare(),
            own.bare()
        ),
    })
}

/// A machine that has slots keeps the version that is current there. Blocking.
pub(super) fn seeded(place: &Path, binary: &Path) -> Result<Release, Failure> {
    let site = Site::of(place);
    let version = seed(&site, binary)?;
    match site.versions.slot(&version) {
        Some(slot) if !slot.launches => Err(Failure::new("KE-JOIN-017", "the daemon cannot be started")
            .because(format!("{} does not run", site.versions.binary(&version).display()))
            .fix(format!(
                "check that {} is on a file system that may run programs (no noexec)",
                versions::DIR
            ))),
        _ => Ok(version),
    }
}
