//! Manners of the whole command tree: every command says what it does and shows two examples that can be typed, and every
//! flag has a help line.

#![cfg(test)]

use super::tree;
use clap::Command;

/// Every command that can be seen, with its words.
fn commands() -> Vec<(String, Command)> {
    fn below(command: &Command, words: &str, found: &mut Vec<(String, Command)>) {
        found.push((words.to_owned(), command.clone()));
        for child in command.get_subcommands().filter(|child| !child.is_hide_set()) {
            below(child, &format!("{words} {}", child.get_name()), found);
        }
    }
    let mut found = Vec::new();
    let mut whole = tree();
    whole.build();
    below(&whole, "kedge", &mut found);
    found
}

/// The lines that show how a command is typed.
fn examples(command: &Command) -> Vec<String> {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let shown = text.lines().skip_while(|line| !line.starts_with("Examples:")).skip(1);
    shown.take_while(|line| line.starts_with("  ")).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn every_command_says_in_one_sentence_what_it_does() {
    let mut wrong = Vec::new();
    for (words, command) in commands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let sentence =
            !about.is_empty() && !about.ends_with('.') && !about.contains(". ") && !about.contains('\n');
        if !sentence || !about.starts_with(char::is_uppercase) {
            wrong.push(format!("{words}: {about:?}"));
        }
    }
    assert!(wrong.is_empty(), "about lines that are not one sentence:\n{}", wrong.join("\n"));
}

#[test]
fn every_command_shows_two_examples() {
    let few = |(words, command): (String, Command)| {
        let shown = examples(&command).len();
        // The root's commands are its examples.
        (shown < 2 && words != "kedge").then(|| format!("{words}: {shown}"))
    };
    let wrong: Vec<String> = commands().into_iter().filter_map(few).collect();
    assert!(wrong.is_empty(), "commands without two examples:\n{}", wrong.join("\n"));
}

#[test]
fn every_flag_has_a_help_line() {
    let mut wrong = Vec::new();
    for (words, command) in commands() {
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            if help.is_empty() || help.ends_with('.') {
                wrong.push(format!("{words}: {} {help:?}", arg.get_id()));
            }
        }
    }
    assert!(wrong.is_empty(), "flags without help, or with a full stop:\n{}", wrong.join("\n"));
}

#[test]
fn every_example_can_be_typed() {
    let mut wrong = Vec::new();
    for (words, command) in commands() {
        for line in examples(&command) {
            let Some(typed) = typed(&line) else { continue };
            if typed.get(1).is_some_and(|word| word == "join") && tree().find_subcommand("join").is_none() {
                // What a token is for is told before the command is there.
                continue;
            }
            if let Err(error) = tree().try_get_matches_from(&typed) {
                let first = error.to_string().lines().next().unwrap_or_default().to_owned();
                wrong.push(format!("{words}: `{line}`: {first}"));
            }
        }
    }
    assert!(wrong.is_empty(), "examples that are refused:\n{}", wrong.join("\n"));
}

/// The words of kedge's own part of a shell line; `None` where another program starts it.
fn typed(line: &str) -> Option<Vec<String>> {
    let line = line.split(" | ").next()?.split(" > ").next()?.split(" # ").next()?.split(" && ").next()?;
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.trim().chars() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, ' ') => words.push(String::new()),
            _ => words.last_mut()?.push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    (words.first()? == "kedge").then_some(words)
}
