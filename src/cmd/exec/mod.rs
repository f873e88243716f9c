//! `kedge exec`: a command in a container of this node, through the runtime alone: no daemon and no cloud is needed. Its
//! exit status is the command's.

mod terminal;

use super::edge_store::DatabaseArgs;
use crate::base::{Exit, Failure, Term};
use crate::cri::Runtime;
use crate::cri::messages::{Container, ContainerFilter, ContainerState, ExecRequest};
use crate::cri::session::{self, Output, Streams};
use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;
use terminal::RawTerminal;
use tokio::sync::mpsc;

const ASK_LIMIT: Duration = Duration::from_secs(5);

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
    let mut ended = None;
    let told = async {
        while let Some(piece) = outputs.recv().await {
            match piece {
                Output::Stdout(bytes) => write(&mut std::io::stdout().lock(), &bytes),
                Output::Stderr(bytes) => write(&mut std::io::stderr().lock(), &bytes),
                Output::Ended(status) => ended = Some(Ok(status)),
                Output::Failed(why) => ended = Some(Err(why)),
            }
        }
    };
    let (talked, ()) = tokio::join!(session::run(&url, streams, input, output), told);
    match (ended, talked) {
        (Some(Ok(0)), _) => Ok(Exit::Done),
        (Some(Ok(status)), _) => Ok(Exit::Passed(status)),
        (Some(Err(why)), _) => Err(not_run(args, &why)),
        (None, Err(error)) => Err(not_run(args, &error)),
        (None, Ok(())) => Err(not_run(args, &"the session ended early")),
    }
}

/// A reader that has gone away has seen enough.
fn write(to: &mut impl Write, bytes: &[u8]) {
    drop(to.write_all(bytes).and_then(|()| to.flush()));
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
    let labels = HashMap::from([
        ("io.kubernetes.pod.namespace".to_owned(), args.namespace.clone()),
        ("io.kubernetes.pod.name".to_owned(), args.pod.clone()),
    ]);
    let mut answered = false;
    for endpoint in &endpoints {
        let runtime = Runtime::new(endpoint);
        let filter = ContainerFilter {
            label_selector: labels.clone().into_iter().collect(),
            ..ContainerFilter::default()
        };
        let Ok(Ok(found)) = tokio::time::timeout(ASK_LIMIT, runtime.list_containers(filter)).await else {
            continue;
        };
        answered = true;
        let running: Vec<Container> =
            found.into_iter().filter(|container| container.state == ContainerState::Running as i32).collect();
        if !running.is_empty() {
            return Ok((runtime, choose(args, running)?));
        }
    }
    if !answered {
        return Err(Failure::new("KE-RUNTIME-008", "the container runtime does not answer")
            .because(if endpoints.is_empty() {
                "no runtime's socket was found".to_owned()
            } else {
                endpoints.join(", ")
            })
            .fix("start it, or name its socket with --runtime-endpoint")
            .exit(Exit::Unreachable));
    }
    Err(Failure::new(
        "KE-POD-003",
        format!("no container of {}/{} runs on this node", args.namespace, args.pod),
    )
    .fix("list the pods of this node with `kedge pods`"))
}

fn choose(args: &Args, mut running: Vec<Container>) -> Result<Container, Failure> {
    let name = |container: &Container| {
        container.labels.get("io.kubernetes.container.name").cloned().unwrap_or_default()
    };
    running.sort_by_key(|container| (name(container), container.created_at));
    let names: Vec<String> = running.iter().map(name).collect();
    let wanted = match &args.container {
        Some(wanted) => wanted.clone(),
        None if names.iter().all(|other| Some(other) == names.first()) => {
            names.first().cloned().unwrap_or_default()
        }
        None => {
            return Err(Failure::new(
                "KE-EXEC-002",
                format!("{}/{} has several containers", args.namespace, args.pod),
            )
            .because(names.join(", "))
            .fix("say which with -c")
            .exit(Exit::Usage));
        }
    };
    let known = names.join(", ");
    // The newest of one name is the one that counts.
    running.into_iter().rev().find(|container| name(container) == wanted).ok_or_else(|| {
        Failure::new(
            "KE-POD-004",
            format!("the pod {}/{} has no running container {wanted}", args.namespace, args.pod),
        )
        .because(format!("it has {known}"))
        .fix("name one of them with -c")
    })
}
