//! `kedge config`: one setting of edgecore.yaml or cloudcore.yaml, and whether a file is fit to start with. What is wrong
//! is told all at once, with file, key, value and reason.

mod get;
mod set;
mod validate;

use crate::base::{Exit, Failure, Output, Term, read_limited};
use crate::config::survey::Role;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// No configuration is larger.
const FILE_LIMIT: u64 = 1 << 20;

/// Show, change and check edgecore.yaml and cloudcore.yaml
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge config validate\n  kedge config set modules.edgeHub.heartbeat=20 --dry-run"
)]
pub struct Args {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(clap::Subcommand)]
enum Deed {
    /// Change settings (KEY+=VALUE adds to a list); comments stay, the former file is kept for `kedge undo`
    #[command(
        after_help = "Examples:\n  kedge config set modules.edgeHub.heartbeat=20\n  kedge config set modules.edged.nodeLabels.zone=north --dry-run"
    )]
    Set {
        /// Settings and their values
        #[arg(value_name = "KEY=VALUE", required = true)]
        changes: Vec<String>,
        #[command(flatten)]
        file: FileFlags,
        /// Show what would change, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Form of the output
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
    /// Show settings, those that the file leaves out with their defaults
    #[command(
        after_help = "Examples:\n  kedge config get modules.edgeHub.heartbeat\n  kedge config get modules.edgeHub -o json"
    )]
    Get {
        /// The setting; all when left out
        key: Option<String>,
        #[command(flatten)]
        file: FileFlags,
        /// Form of the output
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
    /// Check files as a daemon would at its start; exit status 3 when one is not fit
    #[command(
        after_help = "Examples:\n  kedge config validate\n  kedge config validate --config ./edgecore.yaml --strict -o json"
    )]
    Validate {
        /// The files; those of this machine when left out
        #[arg(value_name = "FILE", conflicts_with = "config")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        file: FileFlags,
        /// Count warnings, such as unknown keys, as problems
        #[arg(long)]
        strict: bool,
        /// Form of the output
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
}

/// Which file is meant.
#[derive(clap::Args, Clone, Debug)]
struct FileFlags {
    /// The file [default: edgecore.yaml or cloudcore.yaml in /etc/kubeedge/config]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Whose configuration it is; the file's kind says so when left out
    #[arg(long, value_enum)]
    role: Option<Role>,
}

/// A configuration file as it is on disk.
struct Source {
    path: PathBuf,
    role: Role,
    text: String,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    match args.deed {
        Deed::Set { changes, file, dry_run, output } => set::run(&file, &changes, dry_run, output, term),
        Deed::Get { key, file, output } => get::run(&file, key.as_deref(), output, term),
        Deed::Validate { files, file, strict, output } => validate::run(&files, &file, strict, output, term),
    }
}

impl FileFlags {
    /// The files that are meant and exist: the named one, or the usual ones.
    fn paths(&self) -> Result<Vec<PathBuf>, Failure> {
        if let Some(path) = &self.config {
            return Ok(vec![path.clone()]);
        }
        let roles = self.role.map_or(vec![Role::Edge, Role::Cloud], |role| vec![role]);
        let usual = roles.into_iter().map(|role| PathBuf::from(role.default_path()));
        let found: Vec<PathBuf> = usual.filter(|path| path.is_file()).collect();
        if found.is_empty() {
            return Err(Failure::new("KE-CONFIG-007", "there is no configuration here")
                .because("neither edgecore.yaml nor cloudcore.yaml is in /etc/kubeedge/config")
                .fix("name the file with --config")
                .exit(Exit::Configuration));
        }
        Ok(found)
    }

    /// The one file that is meant.
    fn one(&self) -> Result<Source, Failure> {
        let paths = self.paths()?;
        match paths.as_slice() {
            [path] => self.open(path),
            _ => Err(Failure::new("KE-CONFIG-008", "this machine has two configurations")
                .because("edgecore.yaml and cloudcore.yaml are both in /etc/kubeedge/config")
                .fix("say which with --role edge or --role cloud")
                .exit(Exit::Usage)),
        }
    }

    fn open(&self, path: &Path) -> Result<Source, Failure> {
        let bytes = read_limited(path, FILE_LIMIT).map_err(|failure| failure.exit(Exit::Configuration))?;
        let text = String::from_utf8_lossy(&bytes);
        // A mark of the byte order is none of the text.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned();
        let said = || serde_yaml::from_str::<Value>(&text).ok().as_ref().and_then(Role::of);
        let named = || {
            let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
            Some(if name.contains("cloud") { Role::Cloud } else { Role::Edge })
        };
        let role = self.role.or_else(said).or_else(named).unwrap_or(Role::Edge);
        Ok(Source { path: path.to_owned(), role, text })
    }
}
