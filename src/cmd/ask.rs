//! Asking a person before something is changed: once, on a terminal only; `--yes` answers. Every question of every command
//! goes through here, an answer that cannot be read changes nothing, and whoever answers with Ctrl-C finds the terminal as it
//! was. A command that was told no ends with `Exit::Interrupted`, so that a script does not take it for done.

use crate::base::{Exit, Failure};
use dialoguer::console::Term;
use std::io::{ErrorKind, IsTerminal, Stderr, Write};
use std::os::fd::{AsRawFd, RawFd};

/// Whether somebody can be asked.
pub(super) fn possible() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Whether to go on. Without a terminal nobody can answer, which is a failure that names `--yes`.
pub(super) fn confirm(question: &str, yes: bool) -> Result<bool, Failure> {
    if yes || possible() {
        return offer(question, yes);
    }
    Err(Failure::new("KE-ASK-001", "this changes the machine and wants an answer")
        .because("there is no terminal to ask on")
        .fix("say --yes, or look with --dry-run first")
        .exit(Exit::Usage))
}

/// Whether to go on. Without a terminal it goes on: whoever runs the command from a script means it.
pub(super) fn offer(question: &str, yes: bool) -> Result<bool, Failure> {
    if yes || !possible() {
        return Ok(true);
    }
    put(question)
}

fn put(question: &str) -> Result<bool, Failure> {
    let terminal = Term::read_write_pair(std::io::stdin(), Shown(std::io::stderr()));
    let answer = dialoguer::Confirm::new().with_prompt(question).default(false).interact_on(&terminal);
    answer.map_err(|dialoguer::Error::IO(error)| {
        if error.kind() == ErrorKind::Interrupted {
            return Failure::new("KE-ASK-001", "the question was not answered")
                .because("interrupted; nothing was changed")
                .fix("say --yes, or answer with y or n")
                .exit(Exit::Interrupted);
        }
        unread(&error, "--yes")
    })
}

/// What is typed as an answer; `flag` says the same without a question.
pub(super) fn text(question: &str, flag: &str) -> Result<String, Failure> {
    let input = dialoguer::Input::<String>::new().with_prompt(question).allow_empty(true);
    input.interact_text().map_err(|dialoguer::Error::IO(error)| unread(&error, flag))
}

fn unread(error: &std::io::Error, flag: &str) -> Failure {
    Failure::new("KE-TERM-002", "the answer cannot be read, and nothing was changed")
        .because(error)
        .fix(format!("say {flag}, or run it on a terminal that can be read"))
        .exit(Exit::Usage)
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
