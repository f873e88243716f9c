//! `kedge edge backup`: a copy of the node's database and configuration, as every upgrade makes one.

use super::upgrade::Place;
use crate::base::{Exit, Failure, Output, Term};
use crate::cmd::edge_store::table;
use crate::config::edge::EdgeConfig;
use crate::daemon::upgrade::{backup, own_version};
use serde_json::json;

/// Back up the node's database and configuration
///
/// The copies are whole while the daemon runs on. The five newest are kept below /var/lib/kedge/backup.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  kedge edge backup\n  kedge edge backup --list -o json")]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// Show the backups that are there and make none
    #[arg(long)]
    list: bool,
    /// Say what would be copied, and copy nothing
    #[arg(long, conflicts_with = "list")]
    dry_run: bool,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    let site = args.place.site();
    let dir = &site.backups;
    if args.list {
        let all = backup::list(dir);
        match args.output {
            Output::Text => {
                let row = |backup: &backup::Backup| {
                    let bytes: u64 = backup.files.iter().map(|file| file.bytes).sum();
                    let size = format!("{} KiB", bytes.div_ceil(1024));
                    vec![backup.name.clone(), backup.created.clone(), backup.version.clone(), size]
                };
                term.data(&table(&["NAME", "CREATED", "VERSION", "SIZE"], all.iter().map(row)));
            }
            form => {
                term.value(&json!({"apiVersion": "kedge.io/v1", "kind": "BackupList", "items": all}), form)?
            }
        }
        return Ok(Exit::Done);
    }
    let database = EdgeConfig::load(&site.config)?.config.database;
    if args.dry_run {
        term.say(&format!(
            "would copy {} and {} below {}",
            database.display(),
            site.config.display(),
            dir.display()
        ));
        return Ok(Exit::Done);
    }
    let version = site.versions.links().current.unwrap_or_else(own_version);
    let made = backup::make(dir, &version.bare(), &database, &site.config)?;
    match args.output {
        Output::Text => term.data(&dir.join(&made.name).display().to_string()),
        form => {
            let path = dir.join(&made.name).display().to_string();
            term.value(
                &json!({"apiVersion": "kedge.io/v1", "kind": "Backup", "path": path, "backup": made}),
                form,
            )?;
        }
    }
    Ok(Exit::Done)
}
