//! `kedge bugreport`: one archive with what a stranger needs to understand this machine's kedge, and nothing that is a
//! secret. Every text goes through the scrubber, which knows the forms of secrets and this machine's own ones by value.
//!
//! parts (configuration, status, checks, logs, store, journal, machine) -> scrub -> tar

mod parts;
mod scrub;

use super::edge_place::EdgePlace;
use crate::base::{Exit, Failure, Output, Term, now, write_atomic};
use scrub::Scrubber;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Larger parts keep their end, which is the newest of a log.
pub(super) const PART_LIMIT: usize = 4 << 20;

/// Write an archive for the developers: configuration, status, checks, logs, store summary; never keys or Secrets
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  kedge bugreport\n  kedge bugreport -F /tmp/report.tar --dry-run")]
pub struct Args {
    /// The archive to write [default: kedge-bugreport-TIME.tar in this directory]
    #[arg(long, short = 'F', value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    place: EdgePlace,
    /// List what would be in the archive, and write none
    #[arg(long)]
    dry_run: bool,
    /// Form of the list
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// One file of the archive.
struct Part {
    name: String,
    text: String,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    let at = now();
    let stem = format!("kedge-bugreport-{}", at.strftime("%Y%m%dT%H%M%SZ"));
    let file = args.file.unwrap_or_else(|| PathBuf::from(format!("{stem}.tar")));
    if file.exists() && !args.dry_run {
        return Err(Failure::new("KE-BUGREPORT-001", format!("{} is there already", file.display()))
            .because("an archive is written anew only, so that none is lost")
            .fix("name another file with -F"));
    }
    let scrubber = Scrubber::new(parts::secrets(&args.place));
    let mut parts = parts::collect(&args.place);
    for part in &mut parts {
        part.text = scrubber.clean(&shortened(std::mem::take(&mut part.text)));
    }
    if !args.dry_run {
        // The archive is read by people: nobody else on this machine needs to.
        let archive = archive(&stem, at.as_second(), &parts).map_err(|error| {
            Failure::new("KE-FILE-001", format!("cannot write {}", file.display()))
                .because(error)
                .fix("name another file with -F")
        })?;
        write_atomic(&file, &archive, 0o600)?;
    }
    show(&file, &parts, args.dry_run, args.output, term)?;
    Ok(Exit::Done)
}

fn shortened(text: String) -> String {
    if text.len() <= PART_LIMIT {
        return text;
    }
    let from = text.len() - PART_LIMIT;
    // A whole line begins the rest; a cut secret would not be recognised.
    let start = text
        .as_bytes()
        .iter()
        .skip(from)
        .position(|byte| *byte == b'\n')
        .map_or(text.len(), |at| from + at + 1);
    format!("(shortened: the first {start} bytes are left out)\n{}", text.get(start..).unwrap_or_default())
}

fn archive(stem: &str, at: i64, parts: &[Part]) -> std::io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    let built = parts.iter().try_for_each(|part| {
        let mut header = tar::Header::new_gnu();
        header.set_size(part.text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(at).unwrap_or(0));
        builder.append_data(&mut header, format!("{stem}/{}", part.name), part.text.as_bytes())
    });
    built.and_then(|()| builder.into_inner())
}

fn show(file: &Path, parts: &[Part], dry_run: bool, output: Output, term: &Term) -> Result<(), Failure> {
    if output != Output::Text {
        let list: Vec<_> =
            parts.iter().map(|part| json!({"name": part.name, "bytes": part.text.len()})).collect();
        let shown = json!({"apiVersion": "kedge.io/v1", "kind": "BugReport", "written": !dry_run,
            "file": file.display().to_string(), "parts": list});
        return term.value(&shown, output);
    }
    for part in parts {
        term.say(&format!("{:>9}  {}", part.text.len(), part.name));
    }
    if dry_run {
        term.say("nothing was written");
    } else {
        term.say("secrets are left out; look through it all the same before you pass it on");
        term.data(&file.display().to_string());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_logs_keep_their_end_from_a_whole_line() {
        let line = "0123456789\n";
        let text = line.repeat(PART_LIMIT / line.len() + 100);
        let kept = shortened(text.clone());
        assert!(kept.len() < text.len() && kept.ends_with(line));
        assert_eq!(kept.lines().nth(1), Some("0123456789"));
    }
}
