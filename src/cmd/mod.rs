//! One command, one file: `Args` says what can be typed, `run` does the deed. Commands open daemons and stores by
//! their doors; they alone talk to the person, through `Term`.

mod ask;
mod bugreport;
mod bundle;
mod cert;
mod cloud;
mod completion;
mod config;
mod containers;
mod device;
mod doctor;
mod edge;
mod edge_place;
mod edge_store;
mod embedded;
mod exec;
mod explain;
mod failure_tests;
mod gettoken;
mod help;
mod init;
mod join;
mod keadm;
mod lang;
mod limits;
mod logs;
mod man;
mod meta;
mod pods;
mod reset;
mod run_flags;
mod service;
mod span;
mod standing;
mod status;
mod token;
mod tree_tests;
mod twin;
mod undo;
mod up;
mod usage;
mod version;

use crate::base::{Exit, Failure, Stop, Term, listen, threads, unwritten};
use clap::{CommandFactory, Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use std::pin::Pin;
use tokio::signal::unix::{Signal, SignalKind};

/// Where `kedge up` keeps everything unless told otherwise.
pub const DATA_DIR: &str = "/var/lib/kedge";

#[derive(Parser)]
#[command(name = "kedge", version, about = "Kubernetes workloads and devices where networks are bad", long_about = None)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
struct Cli {
    /// Print nothing but data and errors
    #[arg(long, short, global = true)]
    quiet: bool,
    /// No colour and no spinner, even on a terminal
    #[arg(long, global = true)]
    plain: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Bugreport(bugreport::Args),
    Bundle(bundle::Args),
    Cert(cert::Args),
    Cloud(cloud::Args),
    Completion(completion::Args),
    Config(config::Args),
    Device(device::Args),
    Doctor(doctor::Args),
    Edge(edge::Args),
    Exec(exec::Args),
    Explain(explain::Args),
    Gettoken(gettoken::Args),
    Help(help::Args),
    Init(init::Args),
    Join(join::Args),
    Man(man::Args),
    Limits(limits::Args),
    Logs(logs::Args),
    Meta(meta::Args),
    Pods(pods::Args),
    Reset(reset::Args),
    Service(service::Args),
    Status(status::Args),
    Token(token::Args),
    Twin(twin::Args),
    Undo(undo::Args),
    Up(up::Args),
    Version(version::Args),
}

/// The command tree, as completions and man pages are made from it.
pub fn tree() -> clap::Command {
    Cli::command()
}

/// Flags of every command that reads or runs one machine's data.
#[derive(clap::Args, Clone, Debug)]
pub struct DataDir {
    /// Where `kedge up` keeps everything
    #[arg(long, value_name = "DIR", default_value = DATA_DIR, env = "KEDGE_DATA_DIR")]
    pub data_dir: PathBuf,
}

/// Runs the command line of this process; returns its exit status.
pub fn main() -> u8 {
    crate::host::names::keep_to_files_and_dns();
    let line = match keadm::read(&tree(), std::env::args_os()) {
        Ok(line) => line,
        Err(failure) => return usage::tell(&failure),
    };
    let cli = match Cli::try_parse_from(&line.words) {
        Ok(cli) => cli,
        Err(error) => {
            if let Some(failure) = usage::failure(&error, &line.command) {
                return usage::tell(&failure);
            }
            let asked_for = !error.use_stderr();
            let printed = error.print().and_then(|()| std::io::stdout().flush());
            if let Some(failure) = printed.err().filter(|_| asked_for).as_ref().and_then(unwritten) {
                return usage::tell(&failure);
            }
            return if asked_for { Exit::Done } else { Exit::Usage }.code();
        }
    };
    let term = Term::new(cli.quiet, cli.plain);
    for note in &line.notes {
        term.say(&format!("note: {note}"));
    }
    let done = run(cli.command, &term);
    match done.and_then(|exit| term.whole().map(|()| exit)) {
        Ok(exit) => exit.code(),
        Err(failure) => {
            term.failure(&failure);
            failure.exit.code()
        }
    }
}

fn run(command: Command, term: &Term) -> Result<Exit, Failure> {
    match command {
        Command::Bugreport(args) => bugreport::run(args, term),
        Command::Bundle(args) => bundle::run(args, term),
        Command::Cert(args) => cert::run(args, term),
        Command::Cloud(args) => cloud::run(args, term),
        Command::Completion(args) => completion::run(args, term),
        Command::Config(args) => config::run(args, term),
        Command::Device(args) => device::run(args, term),
        Command::Doctor(args) => doctor::run(args, term),
        Command::Edge(args) => edge::run(args, term),
        Command::Exec(args) => exec::run(args, term),
        Command::Explain(args) => explain::run(args, term),
        Command::Gettoken(args) => gettoken::run(args, term),
        Command::Help(args) => help::run(args, term),
        Command::Init(args) => init::run(args, term),
        Command::Join(args) => join::run(args, term),
        Command::Man(args) => man::run(args, term),
        Command::Limits(args) => limits::run(args, term),
        Command::Logs(args) => logs::run(args, term),
        Command::Meta(args) => meta::run(args, term),
        Command::Pods(args) => pods::run(args, term),
        Command::Reset(args) => reset::run(args, term),
        Command::Service(args) => service::run(args, term),
        Command::Status(args) => status::run(args, term),
        Command::Token(args) => token::run(args, term),
        Command::Twin(args) => twin::run(args, term),
        Command::Undo(args) => undo::run(args, term),
        Command::Up(args) => up::run(args, term),
        Command::Version(args) => version::run(args, term),
    }
}

/// Runs a daemon or a client command on a runtime of its own.
pub fn block_on<'a, T: 'a>(work: impl Future<Output = Result<T, Failure>> + 'a) -> Result<T, Failure> {
    crate::host::raise_open_files_limit();
    let runtime = threads(2)?;
    let work: Pin<Box<dyn Future<Output = Result<T, Failure>> + 'a>> = Box::pin(work);
    let outcome = runtime.block_on(work);
    // A blocked thread (a reader on a dead disk, say) must not hold the exit.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    outcome
}

/// Raises the stop on Ctrl-C, SIGTERM, or a terminal that goes; a second one ends the process at once. A terminal goes
/// with more than one signal, of which none is anybody's impatience; who runs under nohup never hears of it.
pub fn stop_on_signals(stop: &Stop) -> Result<(), Failure> {
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = if ignores_hangup() { None } else { Some(listen(SignalKind::hangup())?) };
    let stop = stop.clone();
    #[expect(clippy::disallowed_methods, reason = "it belongs to the process, which it ends")]
    tokio::spawn(async move {
        loop {
            let impatient = tokio::select! {
                _ = interrupt.recv() => true,
                _ = terminate.recv() => true,
                () = heard(&mut hangup) => false,
            };
            if impatient && stop.is_raised() {
                #[expect(clippy::disallowed_methods, reason = "the second signal does not wait for anybody")]
                std::process::exit(i32::from(Exit::Interrupted.code()));
            }
            stop.raise();
        }
    });
    Ok(())
}

/// Completes with the next signal of this kind, or never.
async fn heard(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether this process was started with SIGHUP ignored, as by nohup.
fn ignores_hangup() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignored(&status, HANGUP))
}

const HANGUP: u32 = 1;

/// Whether the kernel's account of a process says that it ignores a signal.
fn ignored(status: &str, number: u32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (number - 1)) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_hangup_is_read_from_the_kernels_account() {
        assert!(ignored("Name:\tkedge\nSigIgn:\t0000000000001001\n", HANGUP));
        assert!(!ignored("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n", HANGUP));
        assert!(!ignored("", HANGUP));
    }
}
