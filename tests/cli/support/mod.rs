//! The harness: runs the binary and other real programs, waits for what they print or serve, cleans up behind them.

pub mod cloudcore;
pub mod edgecore;
pub mod fleet;
pub mod house;
pub mod letter;
pub mod machine;
pub mod peer;
pub mod planes;
pub mod pods;
pub mod registry;
pub mod relay;
pub mod releases;
pub mod replica;
pub mod service;
pub mod snapshot;
pub mod told;
pub mod world;

use std::fmt::Debug;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What a finished program left behind.
#[derive(Clone, Debug)]
pub struct Run {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    #[track_caller]
    pub fn assert_status(&self, expected: i32) {
        assert_eq!(self.status, expected, "{self:?}");
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        Run {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Path of the binary under test.
pub fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_kedge")
}

/// Runs the binary to its end.
pub fn kedge(args: &[&str]) -> Run {
    run(binary(), args)
}

/// Runs a program to its end.
#[track_caller]
pub fn run(program: &str, args: &[&str]) -> Run {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("cannot run {program}: {error}")).into()
}

/// Asks until there is an answer; the description and the last refusal appear when the time is up.
#[track_caller]
pub fn eventually<T, E: Debug>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<T, E>) -> T {
    let started = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(refusal) if started.elapsed() > limit => {
                panic!("not within {limit:?}: {what}; at last: {refusal:#?}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
