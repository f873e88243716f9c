//! A command line that cannot be understood, told as every other failure is: what is wrong, why, what to type. `cmd::main`
//! is its only caller; whoever asks for help gets help.

use crate::base::{Exit, Failure, Term};
use clap::error::ErrorKind;

/// Prints a failure that came before the flags were known; returns its exit status.
pub(super) fn tell(failure: &Failure) -> u8 {
    Term::new(false, false).failure(failure);
    failure.exit.code()
}

/// A failure of usage; the parser's own words stand in it.
pub(super) fn wrong(what: impl Into<String>, why: impl std::fmt::Display, fix: impl Into<String>) -> Failure {
    Failure::new("KE-USAGE-001", what).because(why).fix(fix).exit(Exit::Usage)
}

/// What the parser says of a line with these commands in it; `None` where it shows help or the version.
pub(super) fn failure(error: &clap::Error, command: &str) -> Option<Failure> {
    let shows = [
        ErrorKind::DisplayHelp,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
        ErrorKind::DisplayVersion,
    ];
    if shows.contains(&error.kind()) {
        return None;
    }
    let text = error.render().to_string();
    let mut parts = text.split("\n\n");
    let said = parts.next().unwrap_or_default();
    let (mut tips, mut usage) = (Vec::new(), None);
    for part in parts {
        let words = one_line(part);
        if let Some(tip) = words.strip_prefix("tip: ") {
            tips.push(tip.to_owned());
        } else if let Some(line) = words.strip_prefix("Usage: ") {
            usage = Some(format!("the usage is `{line}`"));
        }
    }
    let (what, why) = split(said.strip_prefix("error: ").unwrap_or(said));
    let help = if command.is_empty() { "kedge --help".to_owned() } else { format!("kedge {command} --help") };
    tips.push(format!("`{help}` shows what can be typed"));
    let why = why.or(usage).unwrap_or_else(|| match error.kind() {
        ErrorKind::InvalidValue => "nothing was given, or an empty text".to_owned(),
        _ => "it cannot be understood".to_owned(),
    });
    Some(wrong(what, why, tips.join("; ")))
}

/// What is wrong, and the reason where one is told: behind a colon, or in brackets on a line of its own.
fn split(said: &str) -> (String, Option<String>) {
    if let Some((what, values)) = said.split_once("\n  [") {
        return (what.to_owned(), Some(values.trim_end_matches([']', '\n']).to_owned()));
    }
    let lines = one_line(said);
    match lines.split_once("': ") {
        Some((what, why)) => (format!("{what}'"), Some(why.to_owned())),
        None => (lines, None),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Option<Failure> {
        let words: Vec<&str> = line.split(' ').collect();
        let error = super::super::tree().try_get_matches_from(&words).unwrap_err();
        let command: Vec<&str> =
            words.iter().skip(1).take_while(|word| !word.starts_with('-')).copied().collect();
        failure(&error, &command.join(" "))
    }

    #[test]
    fn every_kind_of_wrong_line_has_a_cause_and_a_way_out() {
        for (line, what, why, fix) in [
            (
                "kedge frobnicate",
                "unrecognized subcommand 'frobnicate'",
                "kedge [OPTIONS] <COMMAND>",
                "--help",
            ),
            ("kedge pods --namespce x", "unexpected argument '--namespce'", "the usage is", "'--namespace'"),
            ("kedge join --certport 0", "invalid value '0'", "0 is not in 1..=65535", "kedge join --help"),
            (
                "kedge init --mode x",
                "invalid value 'x'",
                "possible values: cluster, host",
                "kedge init --help",
            ),
            (
                "kedge edge upgrade",
                "not provided: --to <FILE|VERSION>",
                "the usage is",
                "kedge edge upgrade --help",
            ),
            (
                "kedge edge upgrade --to",
                "a value is required",
                "nothing was given",
                "kedge edge upgrade --help",
            ),
            (
                "kedge join --bundle a --join-file b",
                "cannot be used with",
                "the usage is",
                "kedge join --help",
            ),
        ] {
            let failure = typed(line).unwrap_or_else(|| panic!("{line} is no failure"));
            assert_eq!((failure.code, failure.exit), ("KE-USAGE-001", Exit::Usage), "{line}");
            failure.is_as_committed();
            assert!(failure.what.contains(what), "{line}: {failure:?}");
            assert!(failure.why.contains(why) && failure.fix.contains(fix), "{line}: {failure:?}");
            let text = format!("{}{}{}", failure.what, failure.why, failure.fix);
            assert!(!text.contains('\n') && !text.contains("error:"), "{line}: {failure:?}");
        }
        for asked in ["kedge --help", "kedge --version", "kedge edge", "kedge join --help"] {
            assert_eq!(typed(asked), None, "{asked}");
        }
    }
}
