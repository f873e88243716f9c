//! An upgrade of the cloud that waits until somebody on the node agrees: what waits and what was agreed to are small files
//! beside the slots, so that both survive restarts. The jobs' room waits, `kedge edge upgrade confirm` agrees.

use crate::base::{Failure, read_limited, write_atomic};
use crate::host::versions::Versions;
use crate::model::Release;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

const SMALL: u64 = 64 << 10;

/// What is to be agreed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Agreement {
    /// The job of the cloud.
    pub job: String,
    pub version: Release,
}

fn asked(versions: &Versions) -> PathBuf {
    versions.dir().join("waiting.json")
}

fn given(versions: &Versions) -> PathBuf {
    versions.dir().join("agreed.json")
}

fn read(path: PathBuf) -> Option<Agreement> {
    serde_json::from_slice(&read_limited(&path, SMALL).ok()?).ok()
}

fn write(path: PathBuf, agreement: &Agreement) -> Result<(), Failure> {
    let text = serde_json::to_vec(agreement).map_err(|error| {
        Failure::new("KE-UPGRADE-016", "the agreement cannot be written")
            .because(error)
            .fix("send `kedge bugreport` to the developers, with the command that was run")
    })?;
    write_atomic(&path, &text, 0o600)
}

/// Asks for an agreement.
pub fn ask(versions: &Versions, wanted: &Agreement) -> Result<(), Failure> {
    write(asked(versions), wanted)
}

/// Whether it is what waits; another one that asks takes its place.
pub fn is_asked(versions: &Versions, wanted: &Agreement) -> bool {
    read(asked(versions)).as_ref() == Some(wanted)
}

/// What waits and was not agreed to.
pub fn waiting(versions: &Versions) -> Option<Agreement> {
    let wanted = read(asked(versions))?;
    (!is_given(versions, &wanted)).then_some(wanted)
}

/// Agrees.
pub fn give(versions: &Versions, wanted: &Agreement) -> Result<(), Failure> {
    write(given(versions), wanted)
}

pub fn is_given(versions: &Versions, wanted: &Agreement) -> bool {
    read(given(versions)).as_ref() == Some(wanted)
}

/// Forgets what was asked and agreed to: its job has ended. What another job waits for stays.
pub fn forget(versions: &Versions, wanted: &Agreement) {
    for path in [asked(versions), given(versions)] {
        if read(path.clone()).as_ref() == Some(wanted) {
            drop(std::fs::remove_file(path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agreement_counts_for_its_job_and_version_alone() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::at(dir.path());
        let wanted = |job: &str| Agreement { job: job.to_owned(), version: Release::parse("1.2.3").unwrap() };
        assert_eq!(waiting(&versions), None);
        ask(&versions, &wanted("a")).unwrap();
        assert_eq!(waiting(&versions), Some(wanted("a")));
        give(&versions, &wanted("a")).unwrap();
        assert!(is_given(&versions, &wanted("a")) && !is_given(&versions, &wanted("b")));
        assert_eq!(waiting(&versions), None);
        forget(&versions, &wanted("b"));
        assert!(is_given(&versions, &wanted("a")) && is_asked(&versions, &wanted("a")));
        ask(&versions, &wanted("b")).unwrap();
        assert!(is_asked(&versions, &wanted("b")) && !is_asked(&versions, &wanted("a")));
        forget(&versions, &wanted("a"));
        assert!(!is_given(&versions, &wanted("a")));
        assert_eq!(waiting(&versions), Some(wanted("b")));
    }
}
