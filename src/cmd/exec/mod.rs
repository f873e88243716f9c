//! `kedge exec`: a command in a container of this node, through the runtime alone: no daemon and no cloud is needed. Its
//! exit status is the command's.

mod terminal;

use super::containers::{self, Which, Whose};
use super::edge_store::DatabaseArgs;
use crate::base::{Exit, Failure, Term, unwritten};
use crate::cri::Runtime;
use crate::cri::messages::{Container, ExecRequest};
use crate::cri::session::{self, Output, Streams};
use std::io::Write;
use terminal::RawTerminal;
use tokio::sync::mpsc;

/// Run a command in a container of this node
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge exec web-0 -- cat /etc/hosts\n  kedge exec -n lab -c main -it web-0 -- sh"
)]
pub struct Args {
    /// The pod's name
    pod: String,
    /// The pod's namespace
    #[arg(long, short, value_name = "NS", default_value = "default")]
    namespace: String,
    /// The container; the only one when left out
    #[arg(long, short, value_name = "NAME")]
    container: Option<String>,
    /// Pass standard input to the command
    #[arg(long, short = 'i')]
    stdin: bool,
    /// Give the command a terminal
    #[arg(long, short = 't')]
    tty: bool,
    /// The container runtime's socket; found when not given
    #[arg(long, value_name = "ENDPOINT")]
    runtime_endpoint: Option<String>,
    #[command(flatten)]
    database: DatabaseArgs,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    let raw = if args.tty && args.stdin { RawTerminal::enter() } else { None };
    if args.tty && args.stdin && raw.is_none() {
        term.say("warning: standard input is no terminal");
    }
    let ended = super::block_on(serve(&args));
    // The terminal is as it was before anything is printed.
    drop(raw);
    ended
}

async fn serve(args: &Args) -> Result<Exit, Failure> {
    let (runtime, container) = find(args).await?;
    let streams = Streams { stdin: args.stdin, tty: args.tty };
    let request = ExecRequest {
        container_id: container.id,
        cmd: args.command.clone(),
        tty: args.tty,
        stdin: args.stdin,
        stdout: true,
        stderr: !args.tty,
    };
    let url = runtime.exec(request).await.map_err(|error| not_run(args, &error))?;
    let (inputs, input) = mpsc::channel(16);
    let (output, mut outputs) = mpsc::channel(16);
    if args.tty {
        terminal::follow_size(inputs.clone());
    }
    if args.stdin {
        terminal::read_input(inputs.clone());
    }
    drop(inputs);
    let (mut ended, mut lost) = (None, None);
    let told = async {
        while let Some(piece) = outputs.recv().await {
            match piece {
                Output::Stdout(bytes) => {
                    if let Err(error) = write(&mut std::io::stdout().lock(), &bytes) {
                        lost.get_or_insert(error);
                    }
                }
                Output::Stderr(bytes) => drop(write(&mut std::io::stderr().lock(), &bytes)),
                Output::Ended(status) => ended = Some(Ok(status)),
                Output::Failed(why) => ended = Some(Err(why)),
            }
        }
    };
    let (talked, ()) = tokio::join!(session::run(&url, streams, input, output), told);
    // A reader that has gone away has seen enough.
    if let (Some(Ok(_)), Some(failure)) = (&ended, lost.as_ref().and_then(unwritten)) {
        return Err(failure);
    }
    match (ended, talked) {
        (Some(Ok(0)), _) => Ok(Exit::Done),
        (Some(Ok(status)), _) => Ok(Exit::Passed(status)),
        (Some(Err(why)), _) => Err(not_run(args, &why)),
        (None, Err(error)) => Err(not_run(args, &error)),
        (None, Ok(())) => Err(not_run(args, &"the session ended early")),
    }
}

fn write(to: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes).and_then(|()| to.flush())
}

fn not_run(args: &Args, why: &impl std::fmt::Display) -> Failure {
    let command = args.command.first().map(String::as_str).unwrap_or_default();
    Failure::new("KE-EXEC-001", format!("{command} cannot be run in {}/{}", args.namespace, args.pod))
        .because(why)
        .fix("check the command's path in the container; `kedge pods` shows what runs")
}

/// The running container that is meant, and the runtime that has it.
async fn find(args: &Args) -> Result<(Runtime, Container), Failure> {
    let endpoints = match &args.runtime_endpoint {
        Some(endpoint) => vec![endpoint.clone()],
        None => super::pods::endpoints(&args.database.path()),
    };
    let whose = Whose { namespace: &args.namespace, pod: &args.pod, container: args.container.as_deref() };
    let (runtime, running) = whose.containers(&endpoints, Which::Running).await?;
    let chosen = whose.choose(running.iter().map(containers::name).collect())?;
    let of_name = running.into_iter().filter(|container| containers::name(container) == chosen);
    // The newest of one name is the one that counts.
    let newest = of_name.max_by_key(|container| container.created_at);
    newest.map(|container| (runtime, container)).ok_or_else(|| not_run(args, &"the container has ended"))
}
