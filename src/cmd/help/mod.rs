//! `kedge help`: topics that no single command explains, and the help of any command by its words. The topics are text
//! files inside the binary, in English and Chinese; `kedge man` turns the English ones into pages too.

use super::lang::Lang;
use crate::base::{Exit, Failure, Term, nearest};
use std::fmt::Write;

/// A page on something that concerns several commands.
pub(super) struct Topic {
    pub name: &'static str,
    text: &'static str,
    zh: &'static str,
}

const fn topic(name: &'static str, text: &'static str, zh: &'static str) -> Topic {
    Topic { name, text, zh }
}

/// In the order of a newcomer's needs.
pub(super) const TOPICS: [Topic; 10] = [
    topic("join", include_str!("topics/join.txt"), include_str!("topics/zh/join.txt")),
    topic("offline", include_str!("topics/offline.txt"), include_str!("topics/zh/offline.txt")),
    topic(
        "certificates",
        include_str!("topics/certificates.txt"),
        include_str!("topics/zh/certificates.txt"),
    ),
    topic("ports", include_str!("topics/ports.txt"), include_str!("topics/zh/ports.txt")),
    topic("files", include_str!("topics/files.txt"), include_str!("topics/zh/files.txt")),
    topic("services", include_str!("topics/services.txt"), include_str!("topics/zh/services.txt")),
    topic("upgrade", include_str!("topics/upgrade.txt"), include_str!("topics/zh/upgrade.txt")),
    topic("airgap", include_str!("topics/airgap.txt"), include_str!("topics/zh/airgap.txt")),
    topic("keadm", include_str!("topics/keadm.txt"), include_str!("topics/zh/keadm.txt")),
    topic("exit-codes", include_str!("topics/exit-codes.txt"), include_str!("topics/zh/exit-codes.txt")),
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

    fn in_lang(&self, lang: Lang) -> &'static str {
        match lang {
            Lang::En => self.text,
            Lang::Zh => self.zh,
        }
    }

    pub(super) fn find(name: &str) -> Option<&'static Topic> {
        TOPICS.iter().find(|topic| topic.name == name)
    }
}

/// Show help on a topic or a command
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  kedge help offline --lang zh\n  kedge help edge run")]
pub struct Args {
    /// A topic, or the words of a command; the topics are listed when left out
    #[arg(value_name = "TOPIC|COMMAND")]
    words: Vec<String>,
    /// Language of the topics; that of the environment (LC_ALL, LC_MESSAGES, LANG) when left out
    #[arg(long, value_enum)]
    lang: Option<Lang>,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    let lang = Lang::chosen(args.lang);
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    let text = match words.as_slice() {
        [] => overview(lang),
        [name] => match Topic::find(name) {
            Some(topic) => told(topic, lang),
            None => help_of(&words)?,
        },
        words => help_of(words)?,
    };
    term.data(text.trim_end());
    Ok(Exit::Done)
}

fn overview(lang: Lang) -> String {
    let mut text = super::tree().render_help().to_string();
    let (topics, hint) = match lang {
        Lang::En => {
            ("Topics:", "`kedge help TOPIC` shows one; `kedge COMMAND --help` shows a command with examples.")
        }
        Lang::Zh => {
            ("主题:", "`kedge help TOPIC` 显示一个主题；`kedge COMMAND --help` 显示一个命令及其示例。")
        }
    };
    // Writing to a string cannot fail.
    let _infallible = writeln!(text, "\n{topics}");
    for topic in &TOPICS {
        let title = topic.in_lang(lang).lines().next().unwrap_or_default();
        let _infallible = writeln!(text, "  {:<14}{title}", topic.name);
    }
    text + "\n" + hint
}

fn told(topic: &Topic, lang: Lang) -> String {
    let mut text = topic.in_lang(lang).to_owned();
    if super::tree().find_subcommand(topic.name).is_some() {
        // A topic may have the name of a command.
        let name = topic.name;
        text += &match lang {
            Lang::En => format!("\n`kedge {name} --help` shows the command with all its flags."),
            Lang::Zh => format!("\n`kedge {name} --help` 显示该命令及其全部参数。"),
        };
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
            _ => format!("`{}` has no command {word:?}", above.get_bin_name().unwrap_or(above.get_name())),
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
    fn a_topic_says_the_same_in_chinese() {
        let fact = regex::Regex::new(
            r"`[^`]+`|--[a-z][a-z-]+|/[a-z][\w./*-]+\w|KE-[A-Z]+-[0-9]{3}|\b[0-9]+/(?:tcp|udp)",
        );
        let typed = regex::Regex::new(r"^ +(?:\./)?(?:kedge|keadm) ([a-z-]+).*?(?:  |$)");
        let (fact, typed) = (fact.unwrap(), typed.unwrap());
        for topic in &TOPICS {
            let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            let (en, zh) = (one_line(topic.text), one_line(topic.zh));
            let mut said: Vec<&str> = fact.find_iter(&en).map(|found| found.as_str()).collect();
            let lines = topic.text.lines().filter_map(|line| typed.captures(line));
            let is_command = |word: &str| super::super::tree().find_subcommand(word).is_some();
            said.extend(
                lines
                    .filter(|line| is_command(&line[1]))
                    .filter_map(|line| Some(line.get(0)?.as_str().trim())),
            );
            said.retain(|said| !zh.contains(said));
            assert!(said.is_empty(), "{} does not say {said:?} in Chinese", topic.name);
            let parts = |text: &str| text.split("\n\n").count();
            assert_eq!(parts(topic.text), parts(topic.zh), "{} has other parts in Chinese", topic.name);
            // Chinese letters take two columns.
            let columns =
                |line: &str| line.chars().map(|c| if c > '\u{2e7f}' { 2 } else { 1 }).sum::<usize>();
            assert!(topic.zh.lines().all(|line| columns(line) <= 80), "{}", topic.name);
        }
        for exit in [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 130] {
            assert!(Topic::find("exit-codes").unwrap().zh.contains(&format!("\n  {exit:>3}   ")), "{exit}");
        }
    }

    #[test]
    fn a_command_is_shown_by_its_words_and_a_typo_is_understood() {
        assert!(help_of(&["edge", "run"]).unwrap().contains("Usage: kedge edge run"));
        for lang in [Lang::En, Lang::Zh] {
            assert!(overview(lang).contains("airgap") && overview(lang).contains("Usage: kedge"));
        }
        let failure = help_of(&["oflline"]).unwrap_err();
        assert_eq!((failure.code, failure.exit), ("KE-HELP-001", Exit::Usage));
        assert!(failure.fix.contains("offline"), "{}", failure.fix);
        assert!(help_of(&["edge", "rum"]).unwrap_err().fix.contains("mean run?"));
        assert!(help_of(&["edge", "run", "x"]).unwrap_err().why.contains("`kedge edge run`"));
        assert!(help_of(&["service", "keep"]).is_err(), "what is hidden stays so");
    }
}
