//! This machine's service manager: systemd, OpenRC, or none, and then kedge's own keeper. One [`Service`] becomes the
//! manager's definition; installing, starting, stopping and removing can be repeated. The install journal and
//! `kedge service` come here. Programs are called by their arguments, never through a shell, each with a time limit.
//!
//! Flow: [`Manager::here`] looks, [`Manager::definition`] renders (pure), the other verbs act.

pub(in crate::host) mod call;
mod keep;
mod openrc;
mod plain;
mod systemd;
mod tests;

pub use keep::keep;
pub use plain::{Places, STARTED};

use crate::base::{Failure, write_atomic};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The names of kedge's services.
pub const EDGE: &str = "kedge-edge";
pub const CLOUD: &str = "kedge-cloud";

/// A program that a machine keeps running, from its start on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Lower-case letters, digits and `-`, at most 64.
    pub name: String,
    /// One line.
    pub description: String,
    /// A kedge binary, by its absolute path.
    pub program: PathBuf,
    pub args: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub reach: Reach,
}

/// What the program may touch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reach {
    /// The whole machine: it mounts volumes that the container runtime must see, and containers inherit its limits.
    Machine,
    /// It serves and writes below these directories only.
    Paths(Vec<PathBuf>),
}

/// What a service manager reads of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    pub path: PathBuf,
    pub content: String,
    pub mode: u32,
}

/// Who keeps services running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Manager {
    Systemd,
    #[value(name = "openrc")]
    #[serde(rename = "openrc")]
    OpenRc,
    /// None: kedge keeps its daemon itself, until the machine's restart.
    Plain,
}

/// How a service stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub installed: bool,
    /// Whether it starts with the machine.
    pub at_boot: bool,
    pub running: bool,
    /// The service's own process, where the manager tells it.
    pub pid: Option<u32>,
}

impl Service {
    /// The edge daemon with its configuration file: the launcher, which becomes the version that is current.
    pub fn edge(program: &Path, config: &Path) -> Service {
        Service {
            name: EDGE.to_owned(),
            description: "kedge, the daemon of an edge node".to_owned(),
            program: program.to_owned(),
            args: vec!["edge".into(), "launch".into(), "--config".into(), config.display().to_string()],
            environment: BTreeMap::new(),
            reach: Reach::Machine,
        }
    }

    /// The cloud daemon with its configuration file.
    pub fn cloud(program: &Path, config: &Path) -> Service {
        let writes = ["/etc/kubeedge", "/var/lib/kubeedge", "/var/lib/kedge"];
        Service {
            name: CLOUD.to_owned(),
            description: "kedge, the cloud that edge nodes join".to_owned(),
            program: program.to_owned(),
            args: vec!["cloud".into(), "run".into(), "--config".into(), config.display().to_string()],
            environment: BTreeMap::new(),
            reach: Reach::Paths(writes.map(PathBuf::from).to_vec()),
        }
    }

    /// Refuses what no service manager could express, or what could break out of a definition.
    pub fn check(&self) -> Result<(), Failure> {
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let named = !self.name.is_empty() && self.name.len() <= 64 && self.name.chars().all(word);
        let variable =
            |name: &String| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let program = self.program.display().to_string();
        let texts = self.args.iter().chain(self.environment.values()).chain([&self.description, &program]);
        let wrong = if !named {
            format!("the name {:?} is not made of a-z, 0-9 and -", self.name)
        } else if !self.program.is_absolute() {
            format!("{program} is not an absolute path")
        } else if let Some(name) = self.environment.keys().find(|name| !variable(name)) {
            format!("{name:?} cannot be the name of a variable")
        } else if texts.into_iter().any(|text| text.chars().any(char::is_control)) {
            "a line break or another control character is in it".to_owned()
        } else {
            return Ok(());
        };
        Err(Failure::new("KE-SERVICE-001", format!("{} cannot be made a service", self.name))
            .because(wrong)
            .fix("give the service a name, a program by its whole path, and texts of one line"))
    }
}

impl Manager {
    /// The manager that runs this machine.
    pub fn here() -> Manager {
        // Both directories are made by the running manager, not by its package.
        if Path::new("/run/systemd/system").exists() {
            Manager::Systemd
        } else if Path::new("/run/openrc/softlevel").exists() {
            Manager::OpenRc
        } else {
            Manager::Plain
        }
    }

    /// What is said of it to a person.
    pub fn name(self) -> &'static str {
        match self {
            Manager::Systemd => "systemd",
            Manager::OpenRc => "OpenRC",
            Manager::Plain => "none",
        }
    }

    /// What this manager reads of a service.
    pub fn definition(self, service: &Service) -> Definition {
        let path = self.definition_path(&service.name);
        let (content, mode) = match self {
            Manager::Systemd => (systemd::render(service), 0o644),
            Manager::OpenRc => (openrc::render(service), 0o755),
            Manager::Plain => (plain::render(service), 0o600),
        };
        Definition { path, content, mode }
    }

    /// Where this manager reads a service.
    pub fn definition_path(self, name: &str) -> PathBuf {
        match self {
            Manager::Systemd => systemd::path(name),
            Manager::OpenRc => openrc::path(name),
            Manager::Plain => Places::usual(name).definition,
        }
    }

    /// Command that shows the service's log.
    pub fn log_hint(self, name: &str) -> String {
        match self {
            Manager::Systemd => format!("journalctl -u {name}"),
            Manager::OpenRc => format!("tail {}", openrc::log(name).display()),
            Manager::Plain => format!("tail {}", Places::usual(name).log.display()),
        }
    }

    /// What the service has said last of what it failed with, for a person who waits for it; else its log's last line.
    pub fn last_words(self, name: &str) -> Option<String> {
        match self {
            Manager::Systemd => systemd::last_words(name),
            Manager::OpenRc => plain::last_words(&openrc::log(name)),
            Manager::Plain => plain::last_words(&Places::usual(name).log),
        }
    }

    /// Whether the service is installed exactly so, starts with the machine where it can, and runs.
    pub fn holds(self, service: &Service) -> Result<bool, Failure> {
        let definition = self.definition(service);
        if fs::read_to_string(&definition.path).ok().as_ref() != Some(&definition.content) {
            return Ok(false);
        }
        let status = self.status(&service.name)?;
        Ok(status.running && (status.at_boot || self == Manager::Plain))
    }

    /// Writes the definition and has the service start with the machine; starts nothing.
    pub fn install(self, service: &Service) -> Result<(), Failure> {
        service.check()?;
        let definition = self.definition(service);
        if let Some(dir) = definition.path.parent() {
            fs::create_dir_all(dir).map_err(|error| unwritable(dir, &error))?;
        }
        write_atomic(&definition.path, definition.content.as_bytes(), definition.mode)?;
        self.enrol(&service.name)
    }

    /// Has a service whose definition lies in its place start with the machine.
    pub fn enrol(self, name: &str) -> Result<(), Failure> {
        match self {
            Manager::Systemd => systemd::enable(name),
            Manager::OpenRc => openrc::enable(name),
            Manager::Plain => Ok(()),
        }
    }

    /// Has a service no longer start with the machine; its definition stays.
    pub fn dismiss(self, name: &str) -> Result<(), Failure> {
        match self {
            Manager::Systemd => systemd::disable(name),
            Manager::OpenRc => openrc::disable(name),
            Manager::Plain => Ok(()),
        }
    }

    /// Starts the service; one that runs stays as it is.
    pub fn start(self, name: &str) -> Result<(), Failure> {
        self.must_be_installed(name)?;
        match self {
            Manager::Systemd => systemd::start(name),
            Manager::OpenRc => openrc::start(name),
            Manager::Plain => plain::start(&Places::usual(name)),
        }
    }

    /// Stops the service, but not what it has started: containers run on. One that is not there is stopped.
    pub fn stop(self, name: &str) -> Result<(), Failure> {
        match self {
            Manager::Systemd => systemd::stop(name),
            Manager::OpenRc => openrc::stop(name),
            Manager::Plain => plain::stop(&Places::usual(name)),
        }
    }

    /// Stops the service where it runs, and starts it.
    pub fn restart(self, name: &str) -> Result<(), Failure> {
        self.must_be_installed(name)?;
        match self {
            Manager::Systemd => systemd::restart(name),
            Manager::OpenRc => openrc::restart(name),
            Manager::Plain => {
                let places = Places::usual(name);
                plain::stop(&places)?;
                plain::start(&places)
            }
        }
    }

    /// How the service stands.
    pub fn status(self, name: &str) -> Result<Status, Failure> {
        match self {
            Manager::Systemd => systemd::status(name),
            Manager::OpenRc => openrc::status(name),
            Manager::Plain => plain::status(&Places::usual(name)),
        }
    }

    /// Stops the service and takes away its definition, its place at boot and its log.
    pub fn remove(self, name: &str) -> Result<(), Failure> {
        self.stop(name)?;
        match self {
            Manager::Systemd => systemd::remove(name),
            Manager::OpenRc => openrc::remove(name),
            Manager::Plain => plain::remove(&Places::usual(name)),
        }
    }

    fn must_be_installed(self, name: &str) -> Result<(), Failure> {
        let path = self.definition_path(name);
        // A definition that a package brought lies elsewhere; systemd itself knows.
        if path.exists() || self == Manager::Systemd {
            return Ok(());
        }
        Err(self.absent(name))
    }

    /// The failure of who asks something of a service that is not installed.
    pub fn absent(self, name: &str) -> Failure {
        Failure::new("KE-SERVICE-003", format!("the service {name} is not installed here"))
            .because(format!("there is no {}", self.definition_path(name).display()))
            .fix("install it with `kedge join` or `kedge init`")
    }
}

/// Removes a file that may be gone.
fn absent(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unwritable(path, &error)),
        _ => Ok(()),
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new("KE-SERVICE-004", format!("cannot change {}", path.display()))
        .because(error)
        .fix("run as root, and check that the file system is writable")
}
