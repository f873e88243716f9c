//! `kedge help`: topics that no single command explains, and the help of any command by its words. The topics are text
//! files inside the binary, which `kedge man` turns into pages too.

use crate::base::{Exit, Failure, Term, nearest};
use std::fmt::Write;

/// A page on something that concerns several commands.
pub(super) struct Topic {
    pub name: &'static str,
    text: &'static str,
}

/// In the order of a newcomer's needs.
pub(super) const TOPICS: [Topic; 10] = [
    Topic { name: "join", text: include_str!("topics/join.txt") },
    Topic { name: "offline", text: include_str!("topics/offline.txt") },
    Topic { name: "certificates", text: include_str!("topics/certificates.txt") },
    Topic { name: "ports", text: include_str!("topics/ports.txt") },
    Topic { name: "files", text: include_str!("topics/files.txt") },
    Topic { name: "services", text: include_str!("topics/services.txt") },
    Topic { name: "upgrade", text: include_str!("topics/upgrade.txt") },
    Topic { name: "airgap", text: include_str!("topics/airgap.txt") },
    Topic { name: "keadm", text: include_str!("topics/keadm.txt") },
    Topic { name: "exit-codes", text: include_str!("topics/exit-codes.txt") },
];

impl Topic {
    /// The first line.
    pub(super) fn title(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default()
    }

    /// What follows the title.
    pub(super) fn body(&self) -> &'static str {
        self.text.split_once("\n\n").map_or("", |(_, body)| body)
    }

    pub(super) fn find(name: &str) -> Option<&'static Topic> {
        TOPICS.iter().find(|topic| topic.name == name)
    }
}

/// Show help on a topic or a command
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  kedge help offline\n  kedge help edge run")]
pub struct Args {
    /// A topic, or the words of a command; the topics are listed when left out
    #[arg(value_name = "TOPIC|COMMAND")]
    words: Vec<String>,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    let text = match words.as_slice() {
        [] => overview(),
        [name] => match Topic::find(name) {
            Some(topic) => told(topic),
            None => help_of(&words)?,
        },
        words => help_of(words)?,
    };
    term.data(text.trim_end());
    Ok(Exit::Done)
}

fn overview() -> String {
    let mut text = super::tree().render_help().to_string();
    text += "\nTopics:\n";
    for topic in &TOPICS {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "  {:<14}{}", topic.name, topic.title());
    }
    text += "\n`kedge help TOPIC` shows one; `kedge COMMAND --help` shows a command with examples.";
    text
}

fn told(topic: &Topic) -> String {
    let mut text = topic.text.to_owned();
    if super::tree().find_subcommand(topic.name).is_some() {
        // A topic may have the name of a command.
        let _infallible =
            write!(text, "\n`kedge {} --help` shows the command with all its flags.", topic.name);
    }
    text
}

/// The help of the command with these words.
fn help_of(words: &[&str]) -> Result<String, Failure> {
    let mut tree = super::tree();
    tree.build();
    find(&tree, words).map(|command| command.clone().render_long_help().to_string())
}

/// The command with these words, in a tree that is built.
pub(super) fn find<'t>(tree: &'t clap::Command, words: &[&str]) -> Result<&'t clap::Command, Failure> {
    let mut command = tree;
    for word in words {
        command = match command.find_subcommand(word) {
            Some(found) if !found.is_hide_set() => found,
            _ => return Err(unknown(tree, command, words, word)),
        };
    }
    Ok(command)
}

fn unknown(tree: &clap::Command, above: &clap::Command, words: &[&str], word: &str) -> Failure {
    let commands = above.get_subcommands().filter(|command| !command.is_hide_set());
    let mut known: Vec<&str> = commands.map(clap::Command::get_name).collect();
    if std::ptr::eq(tree, above) {
        known.extend(TOPICS.iter().map(|topic| topic.name));
    }
    let fix = match nearest(word, known) {
        Some(near) => format!("did you mean {near}? `kedge help` lists topics and commands"),
        None => "`kedge help` lists topics and commands".to_owned(),
    };
    Failure::new("KE-HELP-001", format!("there is no topic and no command {:?}", words.join(" ")))
        .because(match words {
            [_] => "neither a topic nor a command has this name".to_owned(),
            _ => format!("`kedge {}` has no command {word:?}", above.get_name()),
        })
        .fix(fix)
        .exit(Exit::Usage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{cloud, edge};

    #[test]
    fn topics_have_a_title_fit_a_terminal_and_name_their_own_facts() {
        for topic in &TOPICS {
            assert!(!topic.title().is_empty() && !topic.body().is_empty(), "{}", topic.name);
            assert!(topic.text.lines().all(|line| line.chars().count() <= 80), "{}", topic.name);
        }
        let says = |name: &str, fact: &str| {
            assert!(Topic::find(name).unwrap().text.contains(fact), "{name} does not say {fact:?}");
        };
        for exit in [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Configuration,
            Exit::Unreachable,
            Exit::TimedOut,
            Exit::Preflight,
            Exit::Network,
            Exit::Identity,
            Exit::Runtime,
            Exit::RolledBack,
            Exit::Interrupted,
        ] {
            says("exit-codes", &format!("\n  {:>3}   ", exit.code()));
        }
        for path in [edge::DEFAULT_PATH, cloud::DEFAULT_PATH, crate::host::journal::DIR] {
            says("files", path);
        }
        for port in ["10000", "10001", "10002", "10003", "10004", "1883", "1884", "10550", "9060", "9443"] {
            says("ports", &format!(" {port}/"));
        }
    }

    #[test]
    fn a_command_is_shown_by_its_words_and_a_typo_is_understood() {
        assert!(help_of(&["edge", "run"]).unwrap().contains("Usage: kedge edge run"));
        assert!(overview().contains("airgap") && overview().contains("Usage: kedge"));
        let failure = help_of(&["oflline"]).unwrap_err();
        assert_eq!((failure.code, failure.exit), ("KE-HELP-001", Exit::Usage));
        failure.is_as_committed();
        assert!(failure.fix.contains("offline"), "{}", failure.fix);
        assert!(help_of(&["edge", "rum"]).unwrap_err().fix.contains("mean run?"));
        assert!(help_of(&["service", "keep"]).is_err(), "what is hidden stays so");
    }
}
