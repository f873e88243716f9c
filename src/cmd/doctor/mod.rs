//! `kedge doctor`: every check of this machine and of the kedge on it, with what was measured, why it matters and one
//! command to mend it; `--fix` mends what can be mended. The checks that need nothing installed come from `host`.

mod closure;
mod cluster;
mod daemon;
mod devices;
mod drop_in;
mod edge_api;
mod fix;
mod here;
mod identity;
mod link;
mod mappers;
mod mesh;
mod offline;
mod packets;
mod peers;
mod place;
mod reach;
mod report;
mod store;
mod workloads;

use super::DataDir;
use super::edge_store::table;
use crate::base::{Exit, Failure, Output, Term, nearest};
use crate::host::check::{self, Check, Finding, Means, State};
use crate::host::preflight::{cloud_checks, edge_checks};
use place::{Asked, Place, Role};
use report::{API_VERSION, Form, Report, Summary};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For everything together, the end of threads that hang included.
const BUDGET: Duration = Duration::from_secs(8);
const PRE_BUDGET: Duration = Duration::from_millis(1900);

/// Look for what is wrong on this machine, and say how to mend it
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(
    after_help = "Examples:\n  kedge doctor --pre\n  kedge doctor --only KE-LINK,store -o json\n  kedge doctor --fix=KE-CRI-002 --dry-run\n\nExit: 0 fine, 1 a failure, 2 usage, 3 warnings with --strict, 4 could not run.\n\nExecutables kedge-doctor-* in PATH, and those in /etc/kedge/doctor.d, are run too,\nbut not with --pre. Each prints findings in the form of -o json."
)]
pub struct Args {
    #[command(subcommand)]
    deed: Option<Deed>,
    /// Only what a machine needs before kedge is on it
    #[arg(long)]
    pre: bool,
    /// Which side of kedge to look at; found when not given
    #[arg(long, value_enum)]
    role: Option<Role>,
    /// Only these checks: codes, beginnings of codes, or groups
    #[arg(long, value_name = "CHECKS", value_delimiter = ',')]
    only: Vec<String>,
    /// All but these checks
    #[arg(long, value_name = "CHECKS", value_delimiter = ',')]
    skip: Vec<String>,
    /// List the checks and run none
    #[arg(long, conflicts_with = "fix")]
    list: bool,
    /// Count warnings as failures, with exit status 3
    #[arg(long)]
    strict: bool,
    /// Mend what can be mended, or one code of it; shows what changes and asks first
    #[arg(long, value_name = "CODE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    fix: Option<String>,
    /// Mend without asking
    #[arg(long, short, requires = "fix")]
    yes: bool,
    /// Show what --fix would change, and change nothing
    #[arg(long, requires = "fix")]
    dry_run: bool,
    /// The configuration file; found when not given
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The cluster to look at with the role cloud
    #[arg(long, value_name = "FILE")]
    kube_config: Option<PathBuf>,
    #[command(flatten)]
    data: DataDir,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: Form,
}

#[derive(clap::Subcommand)]
enum Deed {
    Offline(offline::Args),
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    if let Some(Deed::Offline(args)) = &args.deed {
        return offline::run(args, term);
    }
    if args.pre && args.kube_config.is_some() {
        return Err(crate::cmd::usage::wrong(
            "the argument '--kube-config <FILE>' cannot be used with '--pre'",
            "--pre looks at this machine alone, and at no cluster",
            "leave one of the two out",
        ));
    }
    crate::pki::install_crypto_provider();
    let asked = Asked {
        role: args.role,
        config: args.config.as_deref(),
        data_dir: &args.data.data_dir,
        kube_config: args.kube_config.as_deref(),
    };
    let place = Place::find(&asked)?;
    if place.is_none() && !args.pre && !args.list {
        return Err(Failure::new("KE-DOCTOR-001", "kedge is not set up on this machine")
            .because(format!(
                "there is no configuration in /etc/kubeedge/config and no data in {}",
                args.data.data_dir.display()
            ))
            .fix("kedge doctor --pre looks at the machine alone; --config and --data-dir name another place")
            .exit(Exit::Unreachable));
    }
    let place = Arc::new(place.unwrap_or_else(|| Place::empty(args.role.unwrap_or(Role::Edge))));
    if args.list {
        list(&selected(&args, &place)?, place.role, args.output, term)?;
        return Ok(Exit::Done);
    }
    let started = Instant::now();
    let checks = selected(&args, &place)?;
    let findings = crate::cmd::block_on(look(&args, checks))?;
    let report = Report { role: place.role, findings, took: started.elapsed() };
    match &args.fix {
        Some(code) => mend(&args, &place, &report, code, term),
        None => print(&report, &args, term),
    }
}

async fn look(args: &Args, checks: Vec<Check>) -> Result<Vec<Finding>, Failure> {
    let budget = if args.pre { PRE_BUDGET } else { BUDGET };
    let mut findings = check::run(checks, Means::here(), budget).await;
    if !args.pre {
        // What is installed already runs as root; who looks without it sees less, and nothing is broken by that.
        for finding in findings.iter_mut().filter(|finding| finding.code == "KE-HOST-001") {
            if finding.state == State::Failed {
                finding.state = State::Warning;
                finding.why = "checks that need root were skipped".to_owned();
            }
        }
    }
    Ok(findings)
}

/// Every check of a role, in the order of the report.
fn all(args: &Args, place: &Arc<Place>) -> Vec<Check> {
    let wanted = place.wanted();
    let mut checks = match place.role {
        Role::Edge => edge_checks(&wanted),
        Role::Cloud => cloud_checks(&wanted),
    };
    if args.pre {
        return checks;
    }
    checks.extend(daemon::checks(place));
    match place.role {
        Role::Edge => {
            checks.extend(identity::checks(place));
            checks.extend(link::checks(place));
            checks.extend(store::checks(place));
            checks.extend(workloads::checks(place));
            checks.extend(edge_api::checks(place));
            checks.extend(mesh::checks(place));
            checks.extend(peers::checks(place));
            checks.extend(devices::checks(place));
            checks.extend(mappers::checks(place));
        }
        Role::Cloud => checks.extend(cluster::checks(place)),
    }
    checks.extend(drop_in::checks(place.role));
    checks.sort_by_key(|check| check.group);
    checks
}

/// The checks that `--only` and `--skip` leave; a word that means no check is a mistake.
fn selected(args: &Args, place: &Arc<Place>) -> Result<Vec<Check>, Failure> {
    let mut checks = all(args, place);
    for word in args.only.iter().chain(&args.skip) {
        if !checks.iter().any(|check| check.is_meant(word)) {
            let near = nearest(&word.to_uppercase(), checks.iter().map(|check| check.id));
            let fix = near.map_or_else(
                || "kedge doctor --list".to_owned(),
                |near| format!("did you mean {near}? kedge doctor --list shows all"),
            );
            return Err(Failure::new("KE-DOCTOR-002", format!("no check has the code {word}"))
                .because("checks are named by group, by code, or by the beginning of a code")
                .fix(fix)
                .exit(Exit::Usage));
        }
    }
    let meant = |words: &[String], check: &Check| words.iter().any(|word| check.is_meant(word));
    checks.retain(|check| (args.only.is_empty() || meant(&args.only, check)) && !meant(&args.skip, check));
    if checks.is_empty() {
        return Err(Failure::new("KE-DOCTOR-002", "--only and --skip leave no check")
            .because("nothing would be looked at, and nothing found")
            .fix("skip less: kedge doctor --list shows the checks")
            .exit(Exit::Usage));
    }
    Ok(checks)
}

fn list(checks: &[Check], role: Role, form: Form, term: &Term) -> Result<(), Failure> {
    let word = |yes: bool| if yes { "yes" } else { "-" };
    let mended = |check: &Check| -> Vec<&'static str> {
        check.codes().filter(|code| fix::mends(code, role)).collect()
    };
    let cost = |check: &Check| json!(check.cost).as_str().unwrap_or_default().to_owned();
    match form {
        Form::Text | Form::Short | Form::Junit => {
            let rows = checks.iter().map(|check| {
                vec![
                    check.id.to_owned(),
                    check.group.word(),
                    cost(check),
                    word(check.needs_root).to_owned(),
                    word(check.needs_net).to_owned(),
                    word(!mended(check).is_empty()).to_owned(),
                    check.name.to_owned(),
                ]
            });
            term.data(&table(&["CODE", "GROUP", "COST", "ROOT", "NETWORK", "FIXABLE", "CHECK"], rows));
        }
        Form::Json | Form::Jsonl | Form::Yaml => {
            let items: Vec<Value> = checks
                .iter()
                .map(|check| {
                    json!({"code": check.id, "group": check.group, "name": check.name, "cost": check.cost,
                        "limitMs": u64::try_from(check.cost.limit().as_millis()).unwrap_or(u64::MAX),
                        "needsRoot": check.needs_root, "needsNet": check.needs_net,
                        "fixable": !mended(check).is_empty(), "fixes": mended(check)})
                })
                .collect();
            let document = json!({"apiVersion": API_VERSION, "kind": "CheckList", "items": items});
            term.value(&document, if form == Form::Yaml { Output::Yaml } else { Output::Json })?;
        }
    }
    Ok(())
}

fn print(report: &Report, args: &Args, term: &Term) -> Result<Exit, Failure> {
    match args.output {
        Form::Text => term.data(&report.text(term.is_plain())),
        Form::Json => term.value(&report.document(), Output::Json)?,
        Form::Yaml => term.value(&report.document(), Output::Yaml)?,
        Form::Jsonl => term.data(&report.lines()),
        Form::Junit => term.data(&report.junit()),
        Form::Short => {
            let text = report.short();
            if !text.is_empty() {
                term.data(&text);
            }
        }
    }
    Ok(Summary::of(&report.findings).exit(args.strict))
}

/// Shows the repairs, asks, makes them, and looks at the same things again.
fn mend(args: &Args, place: &Arc<Place>, report: &Report, code: &str, term: &Term) -> Result<Exit, Failure> {
    let chosen = fix::chosen(&report.findings, code)?;
    let repairs: Vec<fix::Repair> =
        chosen.iter().filter_map(|finding| fix::plan(finding, Some(place))).collect();
    if repairs.is_empty() {
        term.say("there is nothing that doctor can fix");
        let exit = print(report, args, term)?;
        // Something was to be mended, and there is nothing to change: it stays as it is.
        return Ok(if chosen.is_empty() { exit } else { Exit::Failed });
    }
    if args.dry_run {
        match args.output {
            Form::Text | Form::Short | Form::Junit => term.data(&fix::show(&repairs)),
            Form::Json | Form::Jsonl => term.value(&fix::document(&repairs), Output::Json)?,
            Form::Yaml => term.value(&fix::document(&repairs), Output::Yaml)?,
        }
        return Ok(Exit::Done);
    }
    if !crate::host::capabilities::is_root() {
        return Err(Failure::new("KE-DOCTOR-004", "repairs change this machine and need root")
            .because("they write files below /etc, settings of the kernel, and the install journal")
            .fix("run the same command with sudo, or add --dry-run")
            .exit(Exit::Unreachable));
    }
    term.say(&fix::show(&repairs));
    if !crate::cmd::block_on(fix::make(&repairs, args.yes, term))? {
        term.say("nothing was changed");
        print(report, args, term)?;
        return Ok(Exit::Interrupted);
    }
    term.say("`kedge undo` takes it back");
    let codes: Vec<String> = repairs.iter().map(|repair| repair.code.clone()).collect();
    let mut checks = selected(args, place)?;
    checks.retain(|check| codes.iter().any(|code| check.is_meant(code)));
    let started = Instant::now();
    let findings = crate::cmd::block_on(look(args, checks))?;
    let again = Report { role: place.role, findings, took: started.elapsed() };
    let exit = print(&again, args, term)?;
    let open = fix::still_open(report, &again, &repairs, code);
    if open.is_empty() {
        return Ok(exit);
    }
    term.say(&format!("still open: {}", open.join(", ")));
    Ok(Exit::Failed)
}
