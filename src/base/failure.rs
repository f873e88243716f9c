//! The one error type that reaches a person: what happened, why, what to do, under a stable code.
//! Modules turn their own errors into it at their door; `main` prints it and takes the exit code from it.
//! It never carries a secret or the payload of a message.

use std::fmt;

/// Exit status of the program; the numbers are part of the command-line contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done,
    Failed,
    Usage,
    Configuration,
    Unreachable,
    TimedOut,
    /// A join found the machine unfit, and changed nothing.
    Preflight,
    /// A join could not reach the cloud.
    Network,
    /// A join was refused: token, certificate or name.
    Identity,
    /// A join found no container runtime that works.
    Runtime,
    /// A join waited too long for Ready and undid what it had done.
    RolledBack,
    /// By a signal, or by a person who answered a question with no.
    Interrupted,
    /// The status of a command that was run for the person.
    Passed(u8),
}

impl Exit {
    /// The process exit status.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Configuration => 3,
            Exit::Unreachable => 4,
            Exit::TimedOut => 5,
            Exit::Preflight => 10,
            Exit::Network => 11,
            Exit::Identity => 12,
            Exit::Runtime => 13,
            Exit::RolledBack => 14,
            Exit::Interrupted => 130,
            Exit::Passed(status) => status,
        }
    }
}

/// A failed deed, told in three sentences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Stable code such as `KE-PORT-001`.
    pub code: &'static str,
    /// What happened, lower case, no full stop.
    pub what: String,
    /// The deepest useful cause, with the name of the thing; empty when there is none.
    pub why: String,
    /// The next step, a command if there is one; empty when there is none.
    pub fix: String,
    pub exit: Exit,
}

impl Failure {
    /// Starts a failure that ends the program with status 1.
    pub fn new(code: &'static str, what: impl Into<String>) -> Self {
        Failure { code, what: what.into(), why: String::new(), fix: String::new(), exit: Exit::Failed }
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, why: impl fmt::Display) -> Self {
        self.why = why.to_string();
        self
    }

    /// Adds the next step.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }

    /// Sets the exit status.
    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.what, self.code)?;
        if !self.why.is_empty() {
            write!(f, ": {}", self.why)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
impl Failure {
    /// All that it says, and the exit status, is as committed for the test that asks, in `tests/snapshots`.
    #[track_caller]
    pub(crate) fn is_as_committed(&self) {
        let Failure { code, what, why, fix, exit } = self;
        let text = format!("exit {}\nerror: {what}\n  because: {why}\n  fix: {fix}\n", exit.code());
        let test = super::met::asking();
        let (area, name) = test.split_once("::").unwrap_or_else(|| panic!("{test:?} is no thread of a test"));
        let place = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
        super::met::is_as_committed(&place.join(format!("{area}.txt")), name, code, &text, "--lib");
    }

    /// The same of one that is looked at in passing.
    #[track_caller]
    pub(crate) fn committed(self) -> Self {
        self.is_as_committed();
        self
    }
}

/// The cause behind all others; what lies above it often only says that a request failed.
pub fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_and_why_on_one_line() {
        let failure = Failure::new("KE-X-001", "the port is taken").because("pid 7 holds it").fix("stop it");
        assert_eq!(failure.to_string(), "the port is taken [KE-X-001]: pid 7 holds it");
    }
}
