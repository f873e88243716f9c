//! Asking a person before something is changed: once, on a terminal only; `--yes` answers. Whoever answers with Ctrl-C
//! finds the terminal as it was.

use crate::base::{Exit, Failure};
use dialoguer::console::Term;
use std::io::{ErrorKind, IsTerminal, Stderr, Write};
use std::os::fd::{AsRawFd, RawFd};

/// Whether to go on. Without a terminal nobody can answer, which is a failure that names `--yes`.
pub(super) fn confirm(question: &str, yes: bool) -> Result<bool, Failure> {
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::new("KE-ASK-001", "this changes the machine and wants an answer")
            .because("there is no terminal to ask on")
            .fix("say --yes, or look with --dry-run first")
            .exit(Exit::Usage));
    }
    put(question)
}

/// Puts a question to whoever sits at the terminal.
pub(super) fn put(question: &str) -> Result<bool, Failure> {
    let unread = |error: &dyn std::fmt::Display| {
        Failure::new("KE-ASK-001", "the answer cannot be read")
            .because(error)
            .fix("say --yes")
            .exit(Exit::Usage)
    };
    let terminal = Term::read_write_pair(std::io::stdin(), Shown(std::io::stderr()));
    let answer = dialoguer::Confirm::new().with_prompt(question).default(false).interact_on(&terminal);
    answer.map_err(|dialoguer::Error::IO(error)| {
        if error.kind() == ErrorKind::Interrupted {
            return Failure::new("KE-ASK-001", "the question was not answered")
                .because("interrupted; nothing was changed")
                .exit(Exit::Interrupted);
        }
        unread(&error)
    })
}

/// Stderr without the words that hide the cursor: Ctrl-C ends the process in the middle of the question, and nobody would
/// show it again.
#[derive(Debug)]
struct Shown(Stderr);

const HIDE: &[u8] = b"\x1b[?25l";

impl Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes == HIDE { Ok(bytes.len()) } else { self.0.write(bytes) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl AsRawFd for Shown {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
