//! `kedge init`: the control plane, into a cluster or onto this machine. Looks at everything first, applies step by step,
//! waits until the cloud serves, and prints the line with which a machine joins. Running it again brings it up to date.

mod host;
mod invitation;
mod order;
mod reach;
mod report;

use super::span::{DAY, Span};
use super::token::files::Places;
use crate::base::{Exit, Failure, Output, Steps, Term, aside};
use crate::config::Hidden;
use crate::config::join_file::is_host;
use crate::daemon::cloud::TokenDesk;
use crate::daemon::cloud::setup::{self, Applied, Mode, Seen, SetupDesk, Wanted};
use crate::host::check::{Finding, State};
use crate::pki::Authority;
use order::Order;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Set up the control plane in a Kubernetes cluster or on this machine
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge init --advertise-address 203.0.113.5\n  kedge init --mode host --kube-config ~/.kube/config --dry-run > cloud.yaml"
)]
pub struct Args {
    /// The cluster's kubeconfig [default: $KUBECONFIG, then ~/.kube/config]
    #[arg(long = "kube-config", visible_alias = "kubeconfig", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Addresses or names under which nodes reach the cloud, separated by commas
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', value_parser = address)]
    advertise_address: Vec<String>,
    /// Where the cloud runs: as a Deployment in the cluster, or as a service of this machine
    #[arg(long, value_enum, default_value = "cluster")]
    mode: Place,
    /// Settings of cloudcore.yaml, such as modules.cloudHub.nodeLimit=2000, over those made before; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Three replicas on three machines; --ha=false goes back to one [default: as it was, or one]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ha: Option<bool>,
    /// The container image of the cloud [default: the one that was chosen before, or this version's]
    #[arg(long, value_name = "IMAGE", value_parser = image)]
    image: Option<String>,
    /// Keep DaemonSets of the cluster's own network off edge nodes
    #[arg(long)]
    keep_daemonsets_off_edge: bool,
    /// Take over fields that others manage, and go on beside a cloudcore
    #[arg(long)]
    force: bool,
    /// Write a join file instead of printing a token; one that is still good stays, the token of any other is revoked
    #[arg(long, value_name = "FILE")]
    join_file: Option<PathBuf>,
    /// How long to wait until the cloud serves; 0 does not wait
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = duration)]
    wait: Duration,
    /// Look at everything, print what would be applied, and change nothing
    #[arg(long, short = 'd')]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// How to print what was done
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Place {
    Cluster,
    Host,
}

fn address(text: &str) -> Result<String, String> {
    let valid = is_host(text);
    valid
        .then(|| text.to_owned())
        .ok_or_else(|| "an address or a host name is expected, without a port".to_owned())
}

fn image(text: &str) -> Result<String, String> {
    let valid = setup::is_image(text);
    valid
        .then(|| text.to_owned())
        .ok_or_else(|| "an image is expected, such as registry.example/kedge:1.0".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    Span::new("90s or 5m", Duration::ZERO, DAY).read(text)
}

impl Args {
    fn mode(&self) -> Mode {
        match self.mode {
            Place::Cluster => Mode::Cluster,
            Place::Host => Mode::Host,
        }
    }

    fn kubeconfig(&self) -> Result<PathBuf, Failure> {
        let path = crate::cmd::cloud::kubeconfig(self.kubeconfig.as_deref()).unwrap_or_default();
        // One that was named and cannot be used is told by its name, as every command does.
        if self.kubeconfig.is_some() || path.is_file() {
            return Ok(path);
        }
        Err(Failure::new("KE-INIT-001", format!("there is no kubeconfig {}", path.display()))
            .because("the control plane is put into a Kubernetes cluster")
            .fix("name the cluster's with --kube-config; without a cluster, `kedge up` and `kedge cloud run --embedded` bring their own API")
            .exit(Exit::Configuration))
    }
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    crate::pki::install_crypto_provider();
    order::fit(&args)?;
    if let Some(path) = &args.join_file {
        // What is there and no join file is told before anything is changed.
        Places::look(vec![path.clone()], true)?.are_open()?;
    }
    let settings = order::settings(&args.set)?;
    if args.dry_run {
        return dry(&args, settings, term);
    }
    let kubeconfig = args.kubeconfig()?;
    super::block_on(install(args, settings, kubeconfig, term))
}

/// Prints what would be applied. Without a cluster at hand nothing is looked at.
fn dry(args: &Args, settings: Value, term: &Term) -> Result<Exit, Failure> {
    let kubeconfig = match args.kubeconfig() {
        Err(failure) if args.kubeconfig.is_some() || args.advertise_address.is_empty() => {
            return Err(failure);
        }
        found => found.ok(),
    };
    let (seen, kept, wanted, rehearsed) = super::block_on(async {
        let Some(kubeconfig) = kubeconfig else {
            term.say("there is no kubeconfig: the cluster was not looked at");
            let order = Order::over(args, settings, None).await?;
            return Ok((Seen::default(), Vec::new(), order.plan(args, &Seen::default())?, Ok(())));
        };
        let desk = SetupDesk::open(&kubeconfig).await?;
        let order = Order::over(args, settings, Some(&desk)).await?;
        let seen = look(args, &order, &desk).await?;
        let wanted = order.plan(args, &seen)?;
        let kept = order.kept(args, &seen, &wanted);
        // What is refused before is not asked for.
        let rehearsed = match refused(&seen.findings) {
            None => desk.rehearse(&wanted, args.force).await,
            Some(_) => Ok(()),
        };
        Ok::<_, Failure>((seen, kept, wanted, rehearsed))
    })?;
    report::findings(&seen.findings, term);
    report::kept(&kept, term);
    let mut all = crate::model::resources::all_crds();
    all.extend(setup::objects(&wanted));
    term.data(setup::to_yaml(&all).trim_end());
    if wanted.mode == Mode::Host {
        host::say(&wanted, term);
    }
    rehearsed?;
    term.say("nothing was changed; Secrets are made at the first start and are not shown");
    let failed = seen.findings.iter().any(|it| it.state == State::Failed);
    Ok(if failed { Exit::Preflight } else { Exit::Done })
}

/// Everything that can be known before anything is changed.
async fn look(args: &Args, order: &Order, desk: &SetupDesk) -> Result<Seen, Failure> {
    let mut seen = order.look(args, desk).await?;
    for finding in seen.findings.iter_mut().filter(|_| args.force) {
        // The operator has been told and goes on.
        if finding.code == "KE-INIT-005" && finding.state == State::Failed {
            finding.state = State::Warning;
        }
    }
    let told = order.addresses(&seen).to_vec();
    reach::judge(&mut seen.findings, &told, desk.server()).await;
    Ok(seen)
}

fn refused(findings: &[Finding]) -> Option<Failure> {
    let failed: Vec<&Finding> = findings.iter().filter(|it| it.state == State::Failed).collect();
    let first = failed.first()?;
    let count = if failed.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", failed.len()) };
    let names: Vec<String> = failed.iter().map(|it| format!("{} ({})", it.name, it.code)).collect();
    Some(
        Failure::new("KE-INIT-010", format!("the preflight has found {count}; nothing was changed"))
            .because(names.join(", "))
            .fix(first.fix.clone())
            .exit(Exit::Preflight),
    )
}

/// Asks a person, where there is one.
fn agreed(args: &Args, desk: &SetupDesk, term: &Term) -> Result<bool, Failure> {
    let question = format!("Set up kedge in cluster {} at {}?", desk.cluster(), desk.server());
    let agreed = super::ask::offer(&question, args.yes)?;
    if !agreed {
        term.say("nothing was changed");
    }
    Ok(agreed)
}

async fn install(args: Args, settings: Value, kubeconfig: PathBuf, term: &Term) -> Result<Exit, Failure> {
    let mut steps = term.steps(if args.wait.is_zero() { 6 } else { 7 });
    steps.begin("looking at the cluster");
    let desk = SetupDesk::open(&kubeconfig).await?;
    let order = Order::over(&args, settings, Some(&desk)).await?;
    let seen = look(&args, &order, &desk).await?;
    steps.reached(&format!("looked at cluster {} ({})", desk.cluster(), desk.server()));
    report::findings(&seen.findings, term);
    if let Some(failure) = refused(&seen.findings) {
        return Err(failure);
    }
    let wanted = order.plan(&args, &seen)?;
    let kept = order.kept(&args, &seen, &wanted);
    report::kept(&kept, term);
    desk.rehearse(&wanted, args.force).await?;
    if !agreed(&args, &desk, term)? {
        return Ok(Exit::Interrupted);
    }
    let (applied, authority) = apply(&args, &desk, &wanted, &mut steps).await?;
    for gone in desk.without_surplus(&wanted).await {
        term.say(&format!("  {gone} and is gone"));
    }
    for neighbour in seen.neighbours.iter().filter(|_| args.keep_daemonsets_off_edge) {
        desk.keep_off(neighbour).await?;
        term.say(&format!(
            "  {}/{} stays off edge nodes; back with: {}",
            neighbour.namespace,
            neighbour.name,
            neighbour.undo_command()
        ));
    }
    let addresses = order.addresses(&seen);
    if !args.wait.is_zero() {
        steps.begin("waiting for the cloud to serve");
        desk.serves(&wanted, addresses, &authority, args.wait).await?;
        steps.reached(&format!("the cloud serves at {}", addresses.join(", ")));
    }
    steps.begin("making a join token");
    let cloud = invitation::Cloud { config: &wanted.config, addresses, authority: &authority };
    let desk_of_tokens = TokenDesk::open(&kubeconfig).await?;
    let invitation = invitation::make(args.join_file.as_deref(), &cloud, &desk_of_tokens).await?;
    steps.reached(&invitation.told);
    if let Some(path) = args.join_file.as_deref().filter(|_| invitation.revoked) {
        term.say(&format!(
            "the token of the former {} is revoked: nobody joins with a copy of that file",
            path.display()
        ));
    }
    let done = report::Done {
        cluster: desk.cluster(),
        mode: if args.mode == Place::Host { "host" } else { "cluster" },
        addresses,
        objects: &applied,
        kept: &kept,
        kept_off: if args.keep_daemonsets_off_edge { &seen.neighbours } else { &[] },
        join: &invitation.line,
    };
    report::done(&done, args.output, term)?;
    Ok(Exit::Done)
}

async fn apply(
    args: &Args,
    desk: &SetupDesk,
    wanted: &Wanted,
    steps: &mut Steps,
) -> Result<(Vec<Applied>, Arc<Authority>), Failure> {
    steps.begin("applying definitions");
    let mut applied = desk.definitions(args.force).await?;
    steps.reached("the API serves KubeEdge's definitions");
    steps.begin("applying namespace and rights");
    // The authority needs the namespace; what runs needs the authority.
    let objects = setup::objects(wanted);
    let (first, rest): (Vec<&Value>, Vec<&Value>) = objects.iter().partition(|it| !runs(it));
    for object in first {
        applied.push(desk.put(wanted, object, args.force).await?);
    }
    steps.reached("namespace kubeedge, rights and configuration");
    steps.begin("making the authority");
    let authority = desk.authority(wanted).await?;
    steps.reached(&format!("the authority of this cloud, sha256 {}", authority.hash()));
    match wanted.mode {
        Mode::Cluster => {
            steps.begin("applying the Deployment");
            for object in rest {
                applied.push(desk.put(wanted, object, args.force).await?);
            }
            steps.reached("the Deployment is applied");
        }
        Mode::Host => {
            steps.begin("setting up the service");
            let access = desk.access(Path::new(setup::HOST_KUBECONFIG)).await?;
            let (owned, access) = (wanted.clone(), Hidden::new(access));
            let told = aside("set the service up", move || host::install(&owned, &access)).await??;
            steps.reached(&told);
        }
    }
    Ok((applied, authority))
}

fn runs(object: &Value) -> bool {
    ["Deployment", "Service", "PodDisruptionBudget", "DaemonSet"].iter().any(|kind| object["kind"] == *kind)
}
