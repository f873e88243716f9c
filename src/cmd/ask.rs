//! Asking a person before something is changed: once, on a terminal only; `--yes` answers.

use crate::base::{Exit, Failure};
use std::io::IsTerminal;

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
    let answer = dialoguer::Confirm::new().with_prompt(question).default(false).interact();
    answer.map_err(|error| {
        Failure::new("KE-ASK-001", "the answer cannot be read")
            .because(error)
            .fix("say --yes")
            .exit(Exit::Usage)
    })
}
