//! `kedge edge launch`: what the service runs. It becomes the daemon of the current version, and watches one that is being
//! tried.

use super::upgrade::Place;
use crate::base::{Exit, Failure, Term};
use crate::cmd::run_flags::LogFlags;
use crate::config::edge::EdgeConfig;
use crate::daemon::upgrade::{LAUNCHED, Then, launch};
use crate::host::versions::{Link, Versions};
use crate::model::Release;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Run the edge daemon in the version that is current, as the service does
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge edge launch --config /etc/kubeedge/config/edgecore.yaml\n  kedge edge launch --dry-run"
)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// Check configuration and slots, say which version would run, and end
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    log: LogFlags,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    let site = args.place.site();
    if args.dry_run {
        EdgeConfig::load(&site.config)?;
        let disk = site.versions.read()?;
        let current = disk.links.current.as_ref().map_or_else(|| "this binary".to_owned(), Release::bare);
        term.say(&format!("{current} would run with {}", site.config.display()));
        return Ok(Exit::Done);
    }
    args.log.start();
    let mut arguments = vec!["--config".into(), site.config.clone().into_os_string()];
    arguments.extend(args.log.arguments());
    let with = |verb: &str| -> Vec<OsString> {
        ["edge".into(), verb.into()].into_iter().chain(arguments.iter().cloned()).collect()
    };
    match launch(&site, &with("run"))? {
        Then::Daemon(binaries) => Err(become_first(binaries, &with("run"), true)),
        Then::Launcher(binaries) => Err(become_first(binaries, &with("launch"), false)),
        Then::End(0) => Ok(Exit::Done),
        Then::End(_) => Ok(Exit::Failed),
    }
}

/// Starts the launcher anew in this process's place; returns only when nothing can be started.
pub(super) fn relaunch(arguments: impl IntoIterator<Item = OsString>) -> Failure {
    let launcher = Versions::default().binary_of(Link::Launcher);
    let own = std::env::current_exe().unwrap_or_default();
    let line: Vec<OsString> = ["edge".into(), "launch".into()].into_iter().chain(arguments).collect();
    become_first(vec![launcher, own, PathBuf::from("/proc/self/exe")], &line, false)
}

/// Whether the kernel would start the file itself; the C library hands anything else to a shell.
fn is_program(path: &Path) -> io::Result<bool> {
    let mut magic = [0; 4];
    match File::open(path)?.read_exact(&mut magic) {
        Ok(()) => Ok(magic == *b"\x7fELF"),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// This process becomes the first of the programs that can be started.
fn become_first(programs: Vec<PathBuf>, arguments: &[OsString], daemon: bool) -> Failure {
    let mut why = "there is no binary to start".to_owned();
    for program in programs {
        let error = match is_program(&program) {
            Ok(true) => {
                let mut command = Command::new(&program);
                command.args(arguments);
                if daemon {
                    command.env(LAUNCHED, std::process::id().to_string());
                }
                command.exec()
            }
            Ok(false) => io::Error::new(io::ErrorKind::InvalidData, "it is no program"),
            Err(error) => error,
        };
        tracing::error!(program = %program.display(), %error, "a version cannot be started");
        why = format!("{}: {error}", program.display());
    }
    Failure::new("KE-UPGRADE-023", "no version of kedge can be started on this machine")
        .because(why)
        .fix("put a kedge binary in its place: kedge edge upgrade --to FILE")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_program_is_never_handed_to_a_shell() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("kedge");
        let trace = dir.path().join("ran");
        std::fs::write(&script, format!("touch {}\n", trace.display())).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, executable).unwrap();
        let failure = become_first(vec![script, dir.path().join("missing")], &[], true);
        assert_eq!(failure.code, "KE-UPGRADE-023");
        failure.is_as_committed();
        assert!(failure.why.contains("missing") && !trace.exists(), "{failure}");
        std::fs::write(dir.path().join("short"), "\x7f").unwrap();
        assert!(!is_program(&dir.path().join("short")).unwrap());
        assert!(is_program(Path::new("/proc/self/exe")).unwrap());
    }
}
