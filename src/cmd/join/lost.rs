//! A note of a join that is gone or damaged: whether there has to be one, and what the journal and the configuration tell in
//! its place. A join refuses such a machine; a reset goes by the guess, and tells what it cannot know. It changes nothing but
//! the note itself.

use super::note::Note;
use super::{plan, service};
use crate::base::{Failure, write_atomic};
use crate::config::edge::{Containerd, EdgeConfig};
use crate::host::cni::{self, Owner};
use crate::host::journal::{Deed, Entry};
use std::path::{Path, PathBuf};

/// Whether a join has written its note, as it has changed more than that: the note is what it writes first.
pub(super) fn is_due(entries: &[Entry], note: &Path, config: &Path) -> bool {
    let mut joined = entries.iter().filter(|entry| entry.deed == Deed::Join);
    let configured = joined.clone().any(|entry| entry.path() == Some(config));
    configured || joined.any(|entry| entry.path() == Some(note)) && joined.next().is_some()
}

/// The note of a join that is gone.
pub(super) fn gone() -> Failure {
    Failure::new("KE-JOIN-006", format!("the note of the join, {}, is gone", Note::path().display()))
        .because("the journal has lines of that join, and only its note says which of the daemon's files were there before")
        .fix("run `kedge reset edge`, which does without the note; then join again")
}

/// What stands for a note.
pub(in crate::cmd) struct Guess {
    pub note: Note,
    /// What is not known all the same, with what to do about it.
    unknown: Vec<(String, String)>,
    /// Files that the daemon may have made, or that were there before.
    unsure: Vec<PathBuf>,
    /// Whether an undo will remove the note.
    recorded: bool,
}

impl Guess {
    /// From the journal, and the configuration that the join has written to `config`.
    pub(in crate::cmd) fn of(entries: &[Entry], config: &Path) -> Guess {
        let joined: Vec<&Entry> = entries.iter().filter(|entry| entry.deed == Deed::Join).collect();
        let at = |path: &Path| joined.iter().find(|entry| entry.path() == Some(path));
        let mut guess = Guess {
            note: Note::default(),
            unknown: Vec::new(),
            unsure: Vec::new(),
            recorded: at(&Note::path()).is_some(),
        };
        let written = at(config);
        // Before either of them no daemon has run.
        if written.is_none() && !joined.iter().any(|entry| entry.service() == Some(service::NAME)) {
            return guess;
        }
        guess.note.config = config.to_owned();
        match EdgeConfig::load(config) {
            Ok(loaded) => guess.read(&loaded.config, &joined, written.is_none_or(|entry| entry.replaced())),
            Err(failure) => guess.unknown.push((
                format!("the pods of this node are not known ({failure})"),
                "look for pods with `crictl pods` and remove them with `crictl rmp -f`".to_owned(),
            )),
        }
        guess
    }

    fn read(&mut self, config: &EdgeConfig, joined: &[&Entry], takeover: bool) {
        let place = self.note.config.clone();
        let is_joins = |dir: &PathBuf| joined.iter().any(|entry| entry.path() == Some(dir.as_path()));
        let owned: Vec<PathBuf> = plan::owned(config, &place).into_iter().filter(is_joins).collect();
        let within = |path: &PathBuf| owned.iter().any(|dir| path.starts_with(dir));
        let paths = plan::run_time_paths(config).into_iter();
        let (made, unsure): (Vec<PathBuf>, Vec<PathBuf>) = paths.partition(within);
        if takeover {
            self.unknown.push((
                "how edgecore was started is not known".to_owned(),
                "start edgecore again, unless its service has".to_owned(),
            ));
        } else {
            self.unsure = unsure;
        }
        let own = config.runtime.dir.join("root").exists() || config.runtime.containerd == Containerd::Off;
        let mut dirs = joined.iter().filter_map(|entry| entry.path()?.parent());
        let is_ours = |dir: &&Path| matches!(cni::owner(dir), Owner::Kedge(_));
        let cni_conf_dir = dirs.find(is_ours).unwrap_or(&config.runtime.cni_conf_dir).to_owned();
        self.note = Note {
            node: config.node.to_string(),
            config: place,
            takeover,
            edgecore: None,
            made,
            runtime: match own {
                true => String::new(),
                false => format!("unix://{}", config.edged.runtime_socket.display()),
            },
            runtime_dir: config.runtime.dir.clone(),
            root: config.edged.root_dir.clone(),
            owned,
            cni_conf_dir,
            network: None,
        };
    }

    /// Writes the note that was guessed, so that a reset that cannot do everything can be run again: the configuration will
    /// be gone by then. The undo of the join removes it.
    pub(in crate::cmd) fn keep(&self) -> Result<(), Failure> {
        if self.note.node.is_empty() || !self.recorded {
            return Ok(());
        }
        write_atomic(&Note::path(), &self.note.to_bytes(), 0o600)
    }

    /// What nobody knows any more, as far as it is there.
    pub(in crate::cmd) fn doubt(&self) -> Option<Failure> {
        let mut unknown = self.unknown.clone();
        let unsure: Vec<String> =
            self.unsure.iter().filter(|path| path.exists()).map(|path| path.display().to_string()).collect();
        if !unsure.is_empty() {
            let what = format!("these may be the daemon's, or from before the join: {}", unsure.join(", "));
            unknown.push((what, format!("if nobody else needs them: rm -r {}", unsure.join(" "))));
        }
        let (what, fixes): (Vec<String>, Vec<String>) = unknown.into_iter().unzip();
        if what.is_empty() {
            return None;
        }
        let note = Note::path();
        let failure = Failure::new(
            "KE-JOIN-006",
            format!("the note of the join, {}, is gone or damaged", note.display()),
        )
        .because(what.join("; "))
        .fix(fixes.join("; "));
        Some(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::edge::MIN_CONFIG;
    use crate::host::journal::{Change, Journal};
    use std::fs;

    fn file(path: &Path, content: &str) -> Change {
        Change::File { path: path.to_owned(), content: content.as_bytes().to_vec(), mode: 0o600 }
    }

    /// What a join has recorded that made these changes.
    fn joined(dir: &Path, changes: &[Change]) -> Vec<Entry> {
        let place = dir.join("journal");
        let mut journal = Journal::open(&place, Deed::Join).unwrap();
        changes.iter().for_each(|change| journal.apply(change).unwrap());
        Journal::read(&place).unwrap()
    }

    #[test]
    fn a_note_is_due_once_a_join_has_gone_past_it() {
        let dir = tempfile::tempdir().unwrap();
        let (note, config) = (dir.path().join("join.json"), dir.path().join("edgecore.yaml"));
        let due = |changes: &[Change]| is_due(&joined(dir.path(), changes), &note, &config);
        assert!(!due(&[]));
        assert!(!due(&[file(&note, "{}")]), "it may never have been written");
        assert!(due(&[file(&dir.path().join("server.key"), "")]));
        assert_eq!(gone().committed().code, "KE-JOIN-006");
        // What a roll-back could not take back has no note.
        let dir = tempfile::tempdir().unwrap();
        let left = joined(dir.path(), &[file(&dir.path().join("left"), "")]);
        assert!(!is_due(&left, &note, &config));
        let config = dir.path().join("edgecore.yaml");
        assert!(is_due(&joined(dir.path(), &[file(&config, "")]), &note, &config));
    }

    #[test]
    fn the_configuration_stands_for_a_note_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("edgecore.yaml");
        let text = format!("{MIN_CONFIG}\n# of a join");
        let entries = joined(dir.path(), &[file(&config, &text)]);
        let guess = Guess::of(&entries, &config);
        assert_eq!((guess.note.node.as_str(), guess.note.takeover), ("edge-1", false));
        assert_eq!(guess.note.config, config);
        assert!(guess.note.owned.is_empty() && !guess.unsure.is_empty(), "{:?}", guess.unsure);
        // Nothing has run without it.
        let before = Guess::of(&[], &config);
        assert_eq!((before.note.clone(), before.doubt()), (Note::default(), None));
    }

    #[test]
    fn the_pods_of_an_edgecore_are_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("edgecore.yaml");
        fs::write(&config, MIN_CONFIG).unwrap();
        let text = format!("{MIN_CONFIG}\n# of a join");
        let entries = joined(dir.path(), &[file(&config, &text)]);
        let guess = Guess::of(&entries, &config);
        assert!(guess.note.takeover);
        let doubt = guess.doubt().unwrap();
        assert!(doubt.why.contains("edgecore") && !doubt.fix.contains("rm "), "{doubt:?}");
        doubt.is_as_committed();
    }

    #[test]
    fn pods_that_nobody_knows_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("edgecore.yaml");
        let entries = joined(dir.path(), &[file(&config, "modules: [")]);
        let guess = Guess::of(&entries, &config);
        assert_eq!(guess.note.node, "");
        let doubt = guess.doubt().unwrap();
        assert_eq!(doubt.code, "KE-JOIN-006");
        assert!(doubt.why.contains("not known"), "{doubt:?}");
    }
}
