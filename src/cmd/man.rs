//! `kedge man`: manual pages of all commands (section 1), from the command tree, and of all topics (section 7). They need
//! no file beside the binary.

use super::help::{TOPICS, Topic, find};
use crate::base::{Exit, Failure, Term, write_atomic};
use clap_mangen::Man;
use std::fs;
use std::path::{Path, PathBuf};

/// Print a manual page, or write all of them into a directory
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  kedge man edge run | man -l -\n  kedge man --dir /usr/local/share/man")]
pub struct Args {
    /// The words of a command, or a topic; kedge itself when left out
    #[arg(value_name = "TOPIC|COMMAND")]
    words: Vec<String>,
    /// Write all pages below this directory, in man1 and man7
    #[arg(long, value_name = "DIR", conflicts_with = "words")]
    dir: Option<PathBuf>,
    /// List the files, and write none
    #[arg(long, requires = "dir")]
    dry_run: bool,
}

/// A page and the file that it belongs into, such as `man1/kedge-edge.1`.
struct Page {
    file: PathBuf,
    text: Vec<u8>,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    let mut tree = super::tree();
    tree.build();
    let Some(dir) = &args.dir else {
        let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
        let page = match words.as_slice() {
            // A command comes first: its topic has the same name in section 7.
            [name] if find(&tree, &words).is_err() => match Topic::find(name) {
                Some(topic) => of_topic(topic),
                None => of_command(find(&tree, &words)?),
            },
            words => of_command(find(&tree, words)?),
        };
        term.data(String::from_utf8_lossy(&page.text).trim_end());
        return Ok(Exit::Done);
    };
    let mut pages = Vec::new();
    commands(&tree, &mut pages);
    pages.extend(TOPICS.iter().map(of_topic));
    for page in &pages {
        let path = dir.join(&page.file);
        if !args.dry_run {
            write(&path, &page.text)?;
        }
        term.say(&path.display().to_string());
    }
    Ok(Exit::Done)
}

fn write(path: &Path, text: &[u8]) -> Result<(), Failure> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(|error| {
            Failure::new("KE-FILE-003", format!("cannot make the directory {}", dir.display()))
                .because(error)
                .fix("run as root, or choose a directory you may write to")
        })?;
    }
    write_atomic(path, text, 0o644)
}

/// The page of a command and of all that can be seen below it.
fn commands(command: &clap::Command, pages: &mut Vec<Page>) {
    pages.push(of_command(command));
    for child in command.get_subcommands().filter(|child| !child.is_hide_set()) {
        commands(child, pages);
    }
}

fn of_command(command: &clap::Command) -> Page {
    let man = Man::new(command.clone()).manual("kedge").source(concat!("kedge ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    // A vector takes everything.
    let _infallible = man.render(&mut text);
    Page { file: Path::new("man1").join(man.get_filename()), text }
}

fn of_topic(topic: &Topic) -> Page {
    let mut text = format!(
        ".TH KEDGE\\-{} 7 \"\" \"kedge {}\" kedge\n.SH NAME\nkedge\\-{} \\- {}\n",
        escaped(&topic.name.to_uppercase()),
        env!("CARGO_PKG_VERSION"),
        escaped(topic.name),
        escaped(topic.title()),
    );
    text += ".SH DESCRIPTION\n.nf\n";
    for line in topic.body().lines() {
        // A heading stands at the margin in capitals; the columns that some have belong to the text.
        let heading = line.starts_with(|c: char| c.is_ascii_uppercase()) && !line.contains("  ");
        let line = escaped(line);
        text += &if heading { format!(".fi\n.SS {line}\n.nf\n") } else { format!("{line}\n") };
    }
    text += ".fi\n";
    Page { file: PathBuf::from(format!("man7/kedge-{}.7", topic.name)), text: text.into_bytes() }
}

/// Text that means itself to roff.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('…', "\\[u2026]");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_looks_like_a_request_is_text() {
        assert_eq!(escaped(".so x"), "\\&.so x");
        assert_eq!(escaped("a\\b --c"), "a\\eb \\-\\-c");
    }
}
