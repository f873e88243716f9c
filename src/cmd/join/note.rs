//! What a join notes beside the journal: which node this is, and which paths the daemon makes that were not there before.
//! Join writes it first, through the journal; reset and a roll-back read it to leave nothing.

use super::edgecore::Line;
use crate::base::{Failure, is_there, read_limited};
use crate::host::cni::Network;
use crate::host::journal;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const PATH: &str = journal::NOTE;
const LIMIT: u64 = 1 << 20;

/// The note of the last join.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Note {
    pub node: String,
    /// The configuration file that the daemon reads.
    pub config: PathBuf,
    /// Whether an edgecore gave its place.
    pub takeover: bool,
    /// How that edgecore was started, where no service manager did it.
    pub edgecore: Option<Line>,
    /// Paths that the daemon makes and that were absent before the first join.
    pub made: Vec<PathBuf>,
    /// The runtime's endpoint; empty for an own containerd.
    pub runtime: String,
    /// Where kedge keeps its own containerd and the addresses of its pod network.
    pub runtime_dir: PathBuf,
    /// Where the pods' volumes are.
    pub root: PathBuf,
    /// Directories that the join has made and that are kedge's with everything in them.
    pub owned: Vec<PathBuf>,
    /// Where the runtime reads pod networks.
    pub cni_conf_dir: PathBuf,
    /// The pod network that kedge brings, where the runtime had none.
    pub network: Option<Network>,
}

impl Note {
    pub(in crate::cmd) fn path() -> PathBuf {
        PathBuf::from(PATH)
    }

    /// The note of the join that this machine has; `None` where there is none. KE-JOIN-006 is one that is damaged.
    pub fn read() -> Result<Option<Note>, Failure> {
        if !is_there(Path::new(PATH))? {
            return Ok(None);
        }
        let content = read_limited(Path::new(PATH), LIMIT)?;
        serde_json::from_slice(&content).map(Some).map_err(|error| {
            Failure::new("KE-JOIN-006", format!("the note of the join, {PATH}, cannot be read"))
                .because(error)
                .fix("run `kedge reset edge`, which does without the note; then join again")
        })
    }

    /// Whether a path lies in a directory that goes as a whole.
    pub fn owns(&self, path: &Path) -> bool {
        self.owned.iter().any(|dir| path.starts_with(dir))
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // A struct of plain fields always serialises.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let note = Note { node: "n".to_owned(), made: vec!["/a".into()], takeover: true, ..Note::default() };
        assert_eq!(serde_json::from_slice::<Note>(&note.to_bytes()).unwrap(), note);
        assert_eq!(serde_json::from_slice::<Note>(b"{\"node\":\"n\",\"new\":1}").unwrap().node, "n");
    }
}
