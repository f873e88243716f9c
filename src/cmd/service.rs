//! `kedge service`: kedge's daemons as services of this machine, the same with systemd, OpenRC and without either. Join and
//! init install them too; whatever is installed here is journalled. `keep` is what stands in for a service manager.

use super::edge_store::table;
use crate::base::{Exit, Failure, Output, Stop, Term};
use crate::config::cloud::{self, CloudConfig};
use crate::config::edge::{self, EdgeConfig};
use crate::host::journal::{Change, DIR, Deed, Entry, Journal, Manner};
use crate::host::service::{self, Manager, Places, STARTED, Service, Status};
use clap::Subcommand;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A daemon whose process is there for so long has read its configuration and opened its ports.
const STEADY: Duration = Duration::from_secs(2);
/// After so long one that does not stay is given up; its service manager goes on trying.
const UP_LIMIT: Duration = Duration::from_secs(12);
const LOOK: Duration = Duration::from_millis(200);

/// Install, start, stop and remove kedge's daemons as services of this machine
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  kedge service status\n  kedge service restart edge")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show which of kedge's services are installed, start with the machine, and run
    #[command(after_help = "Examples:\n  kedge service status\n  kedge service status -o json")]
    Status {
        /// Form of the output
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
    /// Start a service
    #[command(after_help = "Examples:\n  kedge service start edge\n  kedge service start cloud --dry-run")]
    Start(Chosen),
    /// Stop a service; containers run on
    #[command(after_help = "Examples:\n  kedge service stop edge\n  kedge service stop edge --dry-run")]
    Stop(Chosen),
    /// Stop a service where it runs, and start it; containers run on
    #[command(
        after_help = "Examples:\n  kedge service restart edge\n  kedge service restart cloud --dry-run"
    )]
    Restart(Chosen),
    /// Have a daemon start with this machine, and start it
    #[command(
        after_help = "Examples:\n  kedge service install edge\n  kedge service install cloud --print systemd > kedge-cloud.service"
    )]
    Install {
        #[command(flatten)]
        chosen: Chosen,
        /// The daemon's configuration file [default: its usual place below /etc/kubeedge/config]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Only print what this service manager would read
        #[arg(long, value_name = "MANAGER", value_enum)]
        print: Option<Manager>,
    },
    /// Undo `kedge service install`
    #[command(after_help = "Examples:\n  kedge service remove edge --dry-run\n  kedge service remove cloud")]
    Remove(Chosen),
    #[command(hide = true)]
    Keep {
        /// Name of the service
        name: String,
    },
}

#[derive(clap::Args)]
struct Chosen {
    /// Whose daemon
    #[arg(value_enum)]
    role: Role,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Role {
    Edge,
    Cloud,
}

impl Role {
    /// Where the daemon's configuration usually is.
    fn config(self) -> &'static str {
        match self {
            Role::Edge => edge::DEFAULT_PATH,
            Role::Cloud => cloud::DEFAULT_PATH,
        }
    }

    fn service(self) -> &'static str {
        match self {
            Role::Edge => service::EDGE,
            Role::Cloud => service::CLOUD,
        }
    }
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    match args.command {
        Command::Status { output } => status(output, term),
        Command::Start(chosen) => act(&chosen, Manager::start, "started", true, term),
        Command::Stop(chosen) => act(&chosen, Manager::stop, "stopped", false, term),
        Command::Restart(chosen) => act(&chosen, Manager::restart, "restarted", true, term),
        Command::Install { chosen, config, print } => install(&chosen, config, print, term),
        Command::Remove(chosen) => remove(&chosen, term),
        Command::Keep { name } => keep(&name, term),
    }
}

fn act(
    chosen: &Chosen,
    verb: fn(Manager, &str) -> Result<(), Failure>,
    done: &str,
    runs: bool,
    term: &Term,
) -> Result<Exit, Failure> {
    let (manager, name) = (Manager::here(), chosen.role.service());
    if chosen.dry_run {
        term.say(&format!("{name} would be {done} (service manager: {})", manager.name()));
        return Ok(Exit::Done);
    }
    if !manager.status(name)?.installed {
        return Err(manager.absent(name));
    }
    verb(manager, name)?;
    if runs {
        stays_up(manager, name)?;
    }
    term.say(&format!("{name} {done}"));
    Ok(Exit::Done)
}

/// Whether it is between two starts: kept running, and without a process. OpenRC does not tell on every kernel.
fn restarts(manager: Manager, status: &Status) -> bool {
    status.running && status.pid.is_none() && manager != Manager::OpenRc
}

fn status(output: Output, term: &Term) -> Result<Exit, Failure> {
    let manager = Manager::here();
    let both = [service::EDGE, service::CLOUD].map(|name| manager.status(name).map(|status| (name, status)));
    let mut lines = Vec::new();
    for status in both {
        lines.push(status?);
    }
    match output {
        Output::Text => {
            let word = |holds: bool| if holds { "yes" } else { "no" }.to_owned();
            let cells = lines.iter().map(|(name, status)| {
                let pid = status.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
                let (installed, at_boot) = (word(status.installed), word(status.at_boot));
                let log = if status.installed { manager.log_hint(name) } else { "-".to_owned() };
                let running =
                    if restarts(manager, status) { "restarting".to_owned() } else { word(status.running) };
                vec![(*name).to_owned(), installed, at_boot, running, pid, log]
            });
            term.data(&table(&["SERVICE", "INSTALLED", "AT BOOT", "RUNNING", "PID", "LOG"], cells));
            if manager == Manager::Plain && lines.iter().any(|(_, status)| status.installed) {
                term.say(
                    "no service manager: `kedge service start` is needed after a restart of this machine",
                );
            }
        }
        form => {
            let items: Vec<_> = lines
                .iter()
                .map(|(name, status)| {
                    json!({"name": name, "installed": status.installed, "atBoot": status.at_boot,
                        "running": status.running, "restarting": restarts(manager, status), "pid": status.pid, "log": manager.log_hint(name),
                        "definition": manager.definition_path(name)})
                })
                .collect();
            let document = json!({"apiVersion": "kedge.io/v1", "kind": "ServiceList",
                "manager": manager, "items": items});
            term.value(&document, form)?;
        }
    }
    Ok(Exit::Done)
}

fn install(
    chosen: &Chosen,
    config: Option<PathBuf>,
    print: Option<Manager>,
    term: &Term,
) -> Result<Exit, Failure> {
    let program = std::env::current_exe().map_err(|error| {
        Failure::new("KE-SERVICE-009", "this program does not know its own file")
            .because(error)
            .fix("mount /proc, and run it from a file that stays, such as /usr/local/bin/kedge")
    })?;
    let config = config.unwrap_or_else(|| Path::new(chosen.role.config()).to_owned());
    let service = match chosen.role {
        Role::Edge => Service::edge(&program, &config),
        Role::Cloud => Service::cloud(&program, &config),
    };
    service.check()?;
    // What is only printed may be for another machine.
    if let Some(manager) = print {
        term.data(manager.definition(&service).content.trim_end());
        return Ok(Exit::Done);
    }
    match chosen.role {
        Role::Edge => EdgeConfig::load(&config).map(drop)?,
        Role::Cloud => CloudConfig::load(&config).map(drop)?,
    }
    let manager = Manager::here();
    let place = manager.definition_path(&service.name);
    if chosen.dry_run {
        term.say(&format!("{} would be written, and {} started", place.display(), service.name));
        return Ok(Exit::Done);
    }
    let mut journal = Journal::open(Path::new(DIR), Deed::Configure)?;
    let change = Change::Service(service.clone());
    let before = journal.entries().len();
    journal.apply(&change)?;
    journal.finish()?;
    if journal.entries().len() > before {
        drop(journal);
        stays_up(manager, &service.name)?;
    }
    term.say(&format!("{} is installed and runs; log: {}", service.name, manager.log_hint(&service.name)));
    Ok(Exit::Done)
}

/// Waits until the daemon's process has stayed for a while.
fn stays_up(manager: Manager, name: &str) -> Result<(), Failure> {
    let began = Instant::now();
    let mut seen: Option<(Option<u32>, Instant)> = None;
    while began.elapsed() < UP_LIMIT {
        let status = manager.status(name)?;
        // OpenRC does not tell the process of a daemon on every kernel.
        let up = status.running && (status.pid.is_some() || manager == Manager::OpenRc);
        match seen.filter(|(pid, _)| up && *pid == status.pid) {
            Some((_, since)) if since.elapsed() >= STEADY => return Ok(()),
            Some(_) => {}
            None => seen = up.then(|| (status.pid, Instant::now())),
        }
        std::thread::sleep(LOOK);
    }
    let log = manager.log_hint(name);
    Err(Failure::new("KE-SERVICE-011", format!("{name} is installed and does not stay up"))
        .because(manager.last_words(name).unwrap_or_else(|| format!("its log is read with `{log}`")))
        .fix(format!("mend what it says: it is started again and again; its log: {log}")))
}

fn remove(chosen: &Chosen, term: &Term) -> Result<Exit, Failure> {
    let name = chosen.role.service();
    let mut entries = Journal::read(Path::new(DIR))?;
    entries.retain(|entry| entry.deed == Deed::Configure);
    let Some(place) = entries.iter().find(|entry| entry.service() == Some(name)).and_then(Entry::path) else {
        return Err(Failure::new(
            "KE-SERVICE-010",
            format!("`kedge service install` has not installed {name}"),
        )
        .because("the journal of this machine has no such entry")
        .fix("what join or init has installed is removed by `kedge reset edge` or `kedge reset cloud`"));
    };
    if chosen.dry_run {
        term.say(&format!("{name} would be stopped and removed"));
        return Ok(Exit::Done);
    }
    // With the directories that were made for it, as far as nobody else uses them.
    let ours = |entry: &Entry| {
        entry.deed == Deed::Configure && entry.path().is_some_and(|path| place.starts_with(path))
    };
    let mut undone = Journal::open(Path::new(DIR), Deed::Configure)?.undo(Manner::Careful, ours);
    match undone.leftovers.pop() {
        Some(failure) => Err(failure),
        None => {
            term.say(&format!("{name} is stopped and removed"));
            Ok(Exit::Done)
        }
    }
}

fn keep(name: &str, term: &Term) -> Result<Exit, Failure> {
    // Away from the terminal and the session that it was started from; refused to a group's leader, which has left.
    let _leader = rustix::process::setsid();
    super::block_on(async {
        let stop = Stop::new();
        super::stop_on_signals(&stop)?;
        service::keep(&Places::usual(name), stop, || term.data(STARTED)).await?;
        Ok(Exit::Done)
    })
}
