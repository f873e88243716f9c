//! Parses, runs, prints the failure, sets the exit status. Nothing else lives here.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(kedge::cmd::main())
}
