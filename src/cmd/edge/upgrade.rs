//! `kedge edge upgrade`: another version of kedge on this node, tried before it stays. It talks; the deed is
//! `daemon::upgrade`'s.

use crate::base::{Exit, Failure, Output, Stop, Term, aside};
use crate::cmd::span::{DAY, Span};
use crate::cmd::usage;
use crate::config::edge::DEFAULT_PATH;
use crate::daemon::upgrade::{Checked, Demands, Site, Work, verdict};
use crate::host::versions::{Deed, Entry};
use crate::model::Release;
use crate::model::image::is_digest;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Upgrade this node to another version of kedge
///
/// The new version is checked and tried first, and the old one comes back by itself when it does not get ready. Pods keep
/// running throughout.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge edge upgrade --to ./kedge-0.2.0 --wait\n  kedge edge upgrade --to 0.2.0 --wait --deadline 10m --yes\n  kedge edge upgrade --to 0.2.0 --selector site=lab --max-unavailable 10%\n  kedge edge upgrade confirm"
)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The kedge binary of the new version, its signature beside it as FILE.sig; or a version, which the cloud hands out
    #[arg(long, value_name = "FILE|VERSION", required = true)]
    to: Option<String>,
    /// Wait until the new version has proved good or the old one is back; nodes of the cluster are always waited for
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    fleet: super::waves::Flags,
    #[command(flatten)]
    place: Place,
    /// The public key (PEM) that counts, instead of those in /etc/kubeedge/upgrade-keys
    #[arg(long, value_name = "PEM")]
    key: Option<PathBuf>,
    /// The digest that the binary has to have
    #[arg(long, value_name = "sha256:HEX", value_parser = digest)]
    digest: Option<String>,
    /// How long the new version has to get ready, such as 90s or 5m
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = time)]
    deadline: Duration,
    /// Take a version that is older than what ran here
    #[arg(long)]
    allow_downgrade: bool,
    /// Ask nothing
    #[arg(long, short)]
    yes: bool,
    /// Check everything and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Form in which the outcome is shown
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

#[derive(clap::Subcommand)]
enum Command {
    Confirm(super::confirm::Args),
}

/// The daemon that a change of version is about.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Place {
    /// The edge daemon's configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH, env = CONFIG)]
    config: PathBuf,
}

const CONFIG: &str = "KEDGE_EDGE_CONFIG";

impl Place {
    /// Whether a flag names the configuration, and not the environment.
    fn is_typed(&self) -> bool {
        self.config != Path::new(DEFAULT_PATH)
            && std::env::var_os(CONFIG).as_deref() != Some(self.config.as_os_str())
    }

    pub(super) fn site(&self) -> Site {
        Site::of(&self.config)
    }
}

/// How a change is made once it is checked.
pub(super) struct Manner {
    pub wait: bool,
    pub yes: bool,
    pub dry_run: bool,
    pub deadline: Duration,
    pub output: Output,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    if let Some(Command::Confirm(args)) = args.command {
        return super::confirm::run(args, term);
    }
    let to = args.to.unwrap_or_default();
    if args.fleet.chosen() {
        if args.place.is_typed() {
            return Err(usage::wrong(
                "the argument '--config <FILE>' cannot be used with '--nodes' or '--selector'",
                "an upgrade of the cluster has nothing to do with this machine's configuration",
                "leave --config out",
            ));
        }
        let manner = super::waves::Manner { yes: args.yes, dry_run: args.dry_run, output: args.output };
        return super::waves::run(&args.fleet, &to, manner, term);
    }
    let site = args.place.site();
    let manner = Manner {
        wait: args.wait,
        yes: args.yes,
        dry_run: args.dry_run,
        deadline: args.deadline,
        output: args.output,
    };
    crate::pki::install_crypto_provider();
    let mut demands =
        Demands { version: None, digest: args.digest, key: args.key, downgrade: args.allow_downgrade };
    let source = source(&to)?;
    if let Source::Release(version) = &source {
        demands.version = Some(version.clone());
    }
    change(&site, Deed::Upgrade, &manner, term, |work| {
        let staged = match &source {
            Source::File(file) => work.stage_file(file)?,
            Source::Release(version) => work.stage_release(version)?,
        };
        work.check(staged, &demands)
    })
}

enum Source {
    File(PathBuf),
    Release(Release),
}

/// A version that is no file is asked for in the cloud.
fn source(to: &str) -> Result<Source, Failure> {
    match Release::parse(to) {
        _ if Path::new(to).is_file() => Ok(Source::File(PathBuf::from(to))),
        Some(version) => Ok(Source::Release(version)),
        None => Err(Failure::new("KE-UPGRADE-026", format!("--to {to} names no version of kedge"))
            .because("it is neither a file nor a version such as 0.2.0")
            .fix("name the kedge binary of the new version, or its version")
            .exit(Exit::Usage)),
    }
}

/// Begins, checks, asks, switches and, where it is wanted, waits. A rollback goes the same way.
pub(super) fn change(
    site: &Site,
    deed: Deed,
    manner: &Manner,
    term: &Term,
    check: impl FnOnce(&mut Work<'_>) -> Result<Checked, Failure>,
) -> Result<Exit, Failure> {
    let mut tell = |step: &str| term.say(&format!("  {step}"));
    let mut work = Work::begin(site, deed, "person", &mut tell)?;
    let from = work.from.clone();
    let checked = match check(&mut work).and_then(|checked| work.check_launcher().map(|()| checked)) {
        Ok(checked) => checked,
        Err(failure) if manner.dry_run => return Err(failure),
        Err(failure) => return Err(work.refused(failure)),
    };
    let to = checked.version.clone();
    let change = Change { deed, from, to, output: manner.output, term };
    if manner.dry_run {
        let sentence = format!("can take the place of {}; nothing was changed", change.from.bare());
        return change.show("checked", &sentence);
    }
    let question = format!("Let kedge {} take the place of {}?", change.to.bare(), change.from.bare());
    if !crate::cmd::ask::offer(&question, manner.yes)? {
        change.show("declined", "is not wanted; nothing was changed")?;
        return Ok(Exit::Interrupted);
    }
    let running = work.is_running();
    if let Err(failure) = work.back_up().and_then(|_| work.switch(checked, manner.deadline)) {
        return Err(work.refused(failure));
    }
    if !running {
        return change.show("waiting", "is tried when the service starts: no daemon runs");
    }
    let id = work.hand_over()?;
    if !manner.wait {
        return change.show("tried", "is being tried; what becomes of it is shown by: kedge edge history");
    }
    let entry = await_outcome(site, id, manner.deadline)?;
    verdict(&entry)?;
    let interrupted = entry.interrupted.map_or(String::new(), |ms| {
        format!("; the daemon was interrupted for {:.2} s, pods were not", ms as f64 / 1000.0)
    });
    change.show("runs", &format!("runs{interrupted}"))
}

/// Waits for the outcome; an interruption ends the wait alone.
fn await_outcome(site: &Site, id: String, deadline: Duration) -> Result<Entry, Failure> {
    let site = site.clone();
    crate::cmd::block_on(async {
        let stop = Stop::new();
        crate::cmd::stop_on_signals(&stop)?;
        aside("wait for the outcome", move || site.await_outcome(&id, deadline, &stop)).await?
    })
}

/// A change of version, as it is told.
struct Change<'a> {
    deed: Deed,
    from: Release,
    to: Release,
    output: Output,
    term: &'a Term,
}

impl Change<'_> {
    /// Says what became of it.
    fn show(&self, state: &str, sentence: &str) -> Result<Exit, Failure> {
        match self.output {
            Output::Text => self.term.say(&format!("kedge {} {sentence}", self.to.bare())),
            form => {
                let document = json!({"apiVersion": "kedge.io/v1", "kind": "EdgeVersionChange", "deed": self.deed,
                    "from": self.from, "to": self.to, "state": state, "message": sentence});
                self.term.value(&document, form)?;
            }
        }
        Ok(Exit::Done)
    }
}

fn digest(text: &str) -> Result<String, String> {
    is_digest(text)
        .then(|| text.to_owned())
        .ok_or_else(|| "write sha256: and 64 hexadecimal digits".to_owned())
}

/// Whole seconds, or a time with its unit, up to a day.
fn time(text: &str) -> Result<Duration, String> {
    Span::new("90s or 5m", Duration::from_secs(5), DAY).in_seconds().read(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::upgrade::DEADLINE;

    #[test]
    fn flags_of_one_machine_and_of_a_fleet_do_not_mix() {
        let typed = |line: &str| {
            let line = format!("kedge edge upgrade --to 1.0.0 {line}");
            crate::cmd::tree().try_get_matches_from(line.split_whitespace()).map(drop)
        };
        let digest = format!("--digest sha256:{}", "0".repeat(64));
        for of_one in ["--key k.pem", &digest, "--deadline 5m", "--allow-downgrade"] {
            assert!(typed(of_one).is_ok(), "{of_one}");
            assert!(typed(&format!("--nodes a {of_one}")).is_err(), "{of_one}");
            assert!(typed(&format!("--selector a=b {of_one}")).is_err(), "{of_one}");
        }
        for of_fleet in [
            "--max-unavailable 2",
            "--failure-budget 1",
            "--node-timeout 90s",
            "--node-timeout 90",
            "--kube-config k",
        ] {
            assert!(typed(of_fleet).is_err(), "{of_fleet}");
            assert!(typed(&format!("--nodes a,b --wait {of_fleet}")).is_ok(), "{of_fleet}");
            assert!(
                typed(&format!("--selector a=b {of_fleet} --yes --dry-run -o json")).is_ok(),
                "{of_fleet}"
            );
        }
        for wrong in
            ["--nodes a --selector b=c", "--nodes a --node-timeout 0", "--nodes a --node-timeout 1.5s"]
        {
            assert!(typed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_and_sources_are_read_strictly() {
        assert_eq!(time("5m"), Ok(DEADLINE));
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("7"), Ok(Duration::from_secs(7)));
        assert_eq!(time("1h"), Ok(Duration::from_secs(3600)));
        for bad in ["", "m", "1s", "-5m", "25h", "1.5m30", "7.5s", "99999m", "5 m", "18446744073709551615m"] {
            assert!(time(bad).is_err(), "{bad}");
        }
        assert!(matches!(source("v0.2.0"), Ok(Source::Release(_))));
        assert!(matches!(source("/bin/sh"), Ok(Source::File(_))));
        let failure = source("no/such/file").err().unwrap();
        assert_eq!((failure.code, failure.exit), ("KE-UPGRADE-026", Exit::Usage));
        failure.is_as_committed();
    }
}
