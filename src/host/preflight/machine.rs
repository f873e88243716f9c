//! The files that checks read, below `/`; in tests below a directory that stands for another machine.
//! Everything is read with a limit and nothing is written.

use std::path::{Path, PathBuf};

const FILE_LIMIT: u64 = 4 << 20;

/// A machine as its files tell it.
#[derive(Clone, Debug)]
pub(super) struct Machine(PathBuf);

impl Machine {
    /// The machine that this process runs on.
    pub(super) fn here() -> Machine {
        Machine(PathBuf::from("/"))
    }

    #[cfg(test)]
    pub(super) fn below(root: &Path) -> Machine {
        Machine(root.to_owned())
    }

    /// Where an absolute path of the machine is found.
    pub(super) fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let relative = absolute.as_ref().strip_prefix("/").unwrap_or(absolute.as_ref());
        self.0.join(relative)
    }

    /// A file's text; empty when it cannot be read.
    pub(super) fn text(&self, absolute: impl AsRef<Path>) -> String {
        let bytes = crate::base::read_limited(&self.path(absolute), FILE_LIMIT).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The first line of a file, trimmed; device-tree texts end with a zero byte.
    pub(super) fn line(&self, absolute: impl AsRef<Path>) -> String {
        let text = self.text(absolute);
        text.lines().next().unwrap_or("").trim_matches(['\0', ' ', '\t']).to_owned()
    }

    pub(super) fn exists(&self, absolute: impl AsRef<Path>) -> bool {
        self.path(absolute).exists()
    }

    /// The names in a directory, in order.
    pub(super) fn names(&self, absolute: impl AsRef<Path>) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(absolute)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Writes a file of a machine that a test makes up.
    #[cfg(test)]
    pub(super) fn put(&self, absolute: &str, text: &str) -> &Machine {
        let path = self.path(absolute);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }
}
