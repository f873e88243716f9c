//! What can be typed after `kedge join`, and what it comes to: flags, join file and host name put together, all checked
//! before anything is looked at. keadm's flags keep their names; those that have no meaning here are answered by `cmd::keadm`.

use super::unpack;
use crate::base::{Exit, Failure, Output};
use crate::cmd::span::{DAY, Span};
use crate::config::Hidden;
use crate::config::join_file::{JoinFile, JoinPorts, is_host};
use crate::host::bundle::Bundle;
use crate::link::Endpoint;
use crate::model::{NodeName, parse_label};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Make this machine an edge node of a cloud
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge join --cloudcore-ipport 10.0.0.5:10000 --token \"$(cat token)\"\n  kedge join --join-file edge-7.yaml -l site=north --yes\n  tar xf edge-7.bundle kedge && ./kedge join --bundle edge-7.bundle\n\nExit status: 10 the machine is not fit, 11 the cloud cannot be reached, 12 token, certificate or name are refused,\n13 no container runtime works, 14 not Ready in time and rolled back."
)]
pub struct Args {
    /// Address of the cloud's hub
    #[arg(long, short = 'e', value_name = "HOST:PORT")]
    cloudcore_ipport: Option<String>,
    /// Join token of the cloud, as it is or in base64
    #[arg(long, short = 't', value_name = "TOKEN", env = "KEDGE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Name of the node [default: the host name]
    #[arg(long, short = 'i', value_name = "NAME")]
    edgenode_name: Option<String>,
    /// Port of the cloud's certificate service [default: 10002]
    #[arg(long, short = 's', value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    certport: Option<u16>,
    /// A file of `kedge token create --join-file` with address, token and labels
    #[arg(long, value_name = "FILE")]
    join_file: Option<PathBuf>,
    /// A file of `kedge bundle`: its join file, its images and its kedge are used, and no network but the cloud's
    #[arg(long, value_name = "FILE", conflicts_with = "join_file")]
    bundle: Option<PathBuf>,
    /// Socket of the container runtime [default: the well-known one that answers]
    #[arg(long, short = 'p', value_name = "URL")]
    remote_runtime_endpoint: Option<String>,
    /// Driver of control groups; auto asks the runtime
    #[arg(long, value_enum, value_name = "NAME", default_value = "auto")]
    cgroupdriver: Driver,
    /// Labels of the node; may be repeated
    #[arg(long, short = 'l', value_name = "KEY=VALUE", value_delimiter = ',', value_parser = parse_label)]
    labels: Vec<(String, String)>,
    /// How the hub is reached
    #[arg(long, value_enum, value_name = "NAME", default_value = "auto")]
    hub_protocol: Protocol,
    /// Set any key of edgecore.yaml; may be repeated
    #[arg(long, value_name = "PATH=VALUE,…")]
    set: Vec<String>,
    /// Take the place of the edgecore on this machine, with its certificates, database and pods
    #[arg(long)]
    takeover: bool,
    /// How long to wait until the node is Ready
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration)]
    timeout: Duration,
    /// Show what would be done, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Answer every question with yes
    #[arg(long, short = 'y')]
    pub(super) yes: bool,
    /// Form of the data: with json and yaml each milestone is an event, and the outcome is the last one
    #[arg(long, short, value_enum, default_value_t)]
    pub(super) output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Driver {
    Auto,
    Cgroupfs,
    Systemd,
}

impl Driver {
    /// The word for the configuration; `None` asks the runtime.
    pub(super) fn word(self) -> Option<&'static str> {
        match self {
            Driver::Auto => None,
            Driver::Cgroupfs => Some("cgroupfs"),
            Driver::Systemd => Some("systemd"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Protocol {
    Auto,
    Websocket,
    Quic,
}

/// Where the cloud is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CloudAt {
    /// Host names or addresses, the preferred one first; never empty.
    pub hosts: Vec<String>,
    pub ports: JoinPorts,
}

/// What a person wants.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub node: NodeName,
    /// Whether the name was said, or is the host's.
    pub named: bool,
    /// `None`: the configuration that is taken over says it.
    pub cloud: Option<CloudAt>,
    pub token: Option<Hidden>,
    pub labels: BTreeMap<String, String>,
    pub runtime: Option<String>,
    pub driver: Driver,
    pub set: Vec<String>,
    pub takeover: bool,
    pub timeout: Duration,
    /// What binary and images come from, where there is no network.
    pub bundle: Option<Arc<Bundle>>,
    /// What deserves a look in the join file.
    pub notices: Vec<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    Span::new("90s or 5m", Duration::from_millis(1), DAY).read(text)
}

fn usage(code: &'static str, what: impl Into<String>) -> Failure {
    Failure::new(code, what).exit(Exit::Usage)
}

impl Args {
    /// Puts flags, join file and host name together; flags win.
    pub(super) fn wish(&self) -> Result<Wish, Failure> {
        let mut notices = Vec::new();
        if self.hub_protocol == Protocol::Quic {
            return Err(usage("KE-JOIN-003", "--hub-protocol quic is not offered")
                .because("this kedge reaches its cloud by WebSocket")
                .fix("leave the flag out, and name the hub's WebSocket port, usually 10000"));
        }
        let bundle = self.bundle.as_deref().map(unpack::open).transpose()?;
        let file = match &bundle {
            Some(bundle) => Some(JoinFile::parse(&bundle.join_file()?, "join.yaml")?),
            None => self.join_file.as_deref().map(JoinFile::load).transpose()?,
        };
        for problem in file.iter().flat_map(|file| &file.warnings) {
            notices.push(format!("the join file: {problem}"));
        }
        let file = file.map(|file| file.config);
        let cloud = self.cloud(file.as_ref())?;
        if cloud.is_none() && !self.takeover {
            return Err(usage("KE-JOIN-001", "the cloud's address is missing")
                .because("neither a flag nor a join file nor a bundle tells it")
                .fix("say --cloudcore-ipport HOST:10000, --join-file FILE or --bundle FILE"));
        }
        let token = self.token.clone().map(Hidden::new);
        let token = token.or_else(|| file.as_ref().map(|file| file.token.clone()));
        let mut labels = file.as_ref().map(|file| file.labels.clone()).unwrap_or_default();
        labels.extend(self.labels.iter().cloned());
        let wanted = file.as_ref().and_then(|file| file.node.as_ref()).map(ToString::to_string);
        let said = self.edgenode_name.clone().or(wanted);
        Ok(Wish {
            named: said.is_some(),
            node: node_name(said)?,
            cloud,
            token: token.filter(|token| !token.reveal().trim().is_empty()),
            labels,
            runtime: self.remote_runtime_endpoint.clone().map(endpoint).transpose()?,
            driver: self.cgroupdriver,
            set: self.set.clone(),
            takeover: self.takeover,
            timeout: self.timeout,
            bundle,
            notices,
        })
    }

    fn cloud(&self, file: Option<&JoinFile>) -> Result<Option<CloudAt>, Failure> {
        let mut ports = file.map(|file| file.ports).unwrap_or_default();
        ports.https = self.certport.unwrap_or(ports.https);
        let Some(text) = &self.cloudcore_ipport else {
            return Ok(file.map(|file| CloudAt { hosts: file.addresses.clone(), ports }));
        };
        let bad = || {
            usage("KE-JOIN-001", format!("the cloud's address {text:?} cannot be used"))
                .because("it is not HOST:PORT")
                .fix("write it as --cloudcore-ipport 10.0.0.5:10000")
        };
        let endpoint = Endpoint::parse(text, ports.websocket).ok_or_else(bad)?;
        if !is_host(&endpoint.host) || endpoint.port == 0 {
            return Err(bad());
        }
        ports.websocket = endpoint.port;
        Ok(Some(CloudAt { hosts: vec![endpoint.host], ports }))
    }
}

fn node_name(said: Option<String>) -> Result<NodeName, Failure> {
    let host = || rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let name = said.unwrap_or_else(host);
    NodeName::new(name.clone()).map_err(|why| {
        usage("KE-JOIN-004", format!("{name:?} cannot be a node's name"))
            .because(why)
            .fix("name the node with --edgenode-name")
    })
}

/// The endpoint of a container runtime with its scheme.
pub(in crate::cmd) fn endpoint(text: String) -> Result<String, Failure> {
    let path = text.strip_prefix("unix://").unwrap_or(&text);
    if !path.starts_with('/') {
        return Err(usage("KE-JOIN-005", format!("the runtime's endpoint {text:?} cannot be used"))
            .because("it is not the path of a unix socket")
            .fix("write it as unix:///run/containerd/containerd.sock"));
    }
    Ok(format!("unix://{path}"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    pub(in crate::cmd::join) fn typed(line: &str) -> Result<Wish, Failure> {
        let words = std::iter::once("join").chain(line.split_whitespace());
        Line::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}")).args.wish()
    }

    #[test]
    fn keadms_line_is_understood() {
        let wish = typed("-e 10.0.0.5:10000 -t abc -i edge-7 -s 20002 -p /run/x.sock --cgroupdriver=systemd -l a=b,c= --hub-protocol websocket").unwrap();
        assert_eq!((wish.node.as_str(), wish.named, wish.driver), ("edge-7", true, Driver::Systemd));
        let cloud = wish.cloud.unwrap();
        assert_eq!(cloud.hosts, ["10.0.0.5"]);
        assert_eq!((cloud.ports.websocket, cloud.ports.https, cloud.ports.tunnel), (10000, 20002, 10004));
        assert_eq!(wish.runtime.as_deref(), Some("unix:///run/x.sock"));
        assert_eq!(wish.labels.get("a").map(String::as_str), Some("b"));
        assert_eq!(wish.timeout, Duration::from_secs(120));
        let v6 = typed("-e [fd00::1] -t x -i n").unwrap().cloud.unwrap();
        assert_eq!((v6.hosts, v6.ports.websocket), (vec!["fd00::1".to_owned()], 10000));
    }

    #[test]
    fn nonsense_is_a_usage_error_with_a_way_out() {
        for (line, code) in [
            ("-e c -t x -i n --hub-protocol quic", "KE-JOIN-003"),
            ("-t x -i n", "KE-JOIN-001"),
            ("-e a:b:c -t x -i n", "KE-JOIN-001"),
            ("-e host:0 -t x -i n", "KE-JOIN-001"),
            ("-e c -t x -i Not_A_Name", "KE-JOIN-004"),
            ("-e c -t x -i n -p tcp://x:1", "KE-JOIN-005"),
        ] {
            let failure = typed(line).unwrap_err();
            assert_eq!((failure.code, failure.exit), (code, Exit::Usage), "{line}");
            assert!(!failure.fix.is_empty(), "{line}");
        }
        for line in [
            "join -e",
            "join --timeout 0s",
            "join --certport 0",
            "join --cgroupdriver x",
            "join -l =x",
            "join -l nokey",
        ] {
            assert!(Line::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn a_join_file_says_what_flags_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("join.yaml");
        let hash = "ab".repeat(32);
        let text = format!(
            "apiVersion: kedge/v1\nkind: JoinFile\ncloud: {{addresses: [c1, c2], ports: {{https: 7}}}}\ntoken: {hash}.a.b.c\n\
             caHash: {hash}\nnode: {{name: edge-7, labels: {{site: north}}}}"
        );
        std::fs::write(&file, text).unwrap();
        let wish = typed(&format!("--join-file {} -l a=b", file.display())).unwrap();
        assert_eq!(wish.node.as_str(), "edge-7");
        assert_eq!(wish.labels.keys().map(String::as_str).collect::<Vec<_>>(), ["a", "site"]);
        let cloud = wish.cloud.unwrap();
        assert_eq!((cloud.hosts.len(), cloud.ports.https), (2, 7));
        let other = typed(&format!("--join-file {} -e c3 -i n", file.display())).unwrap();
        assert_eq!((other.node.as_str(), other.cloud.unwrap().hosts), ("n", vec!["c3".to_owned()]));
        assert!(other.token.is_some());
    }
}
