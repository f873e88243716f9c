//! `kedge config set`: changes settings in the text of the file, so that comments stay, checks the result before it is
//! written, and shows the difference. A file of this machine goes through the install journal; any other gets a copy
//! beside it.

use super::{FileFlags, Source};
use crate::base::{Exit, Failure, Output, Term, diff, write_atomic};
use crate::config::set::assignments;
use crate::config::shown::without_secrets;
use crate::config::survey::unended;
use crate::config::{Problem, edit, refuse, yaml};
use crate::host::journal::{self, Change, Deed, Journal, Manner};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Configurations of the machine itself.
const OF_THE_MACHINE: &str = "/etc/kubeedge";

pub(super) fn run(
    file: &FileFlags,
    changes: &[String],
    dry_run: bool,
    output: Output,
    term: &Term,
) -> Result<Exit, Failure> {
    let source = file.one()?;
    let before: Value = crate::config::read_yaml(&source.path)?;
    if !before.is_object() && !before.is_null() {
        // Nothing of it could stay.
        let wrong = Problem::new("(whole file)", "", "must be a map of settings");
        return Err(refuse(&source.path.display().to_string(), &[wrong]));
    }
    let known = source.role.survey(&before)?.problems;
    let (text, comments_lost) = edited(&source, changes)?;
    let after: Value = yaml(text.as_bytes()).unwrap_or_default();
    // A file that is wrong already can be mended one setting at a time; no change may add a problem.
    let survey = source.role.survey(&after)?;
    let new: Vec<_> = survey.problems.into_iter().filter(|problem| !known.contains(problem)).collect();
    if !new.is_empty() {
        let failure = refuse(&source.path.display().to_string(), &new);
        return Err(failure.fix("give another value; nothing was changed"));
    }
    let shown = diff(&without_secrets(&source.text), &without_secrets(&text));
    if shown.is_empty() && text == source.text {
        show(&source, &shown, dry_run, output, term)?;
        term.say("nothing to change");
        return Ok(Exit::Done);
    }
    if comments_lost {
        term.say("warning: the file is written anew, its comments are lost: a setting stands in a form that cannot be edited");
    }
    if let Some(warning) = unended(source.text.as_bytes()) {
        term.say(&format!("warning: {}: {warning}", source.path.display()));
    }
    if dry_run {
        show(&source, &shown, dry_run, output, term)?;
        term.say("nothing was changed");
        return Ok(Exit::Done);
    }
    // A program takes the difference for what was done.
    let kept = write(&source.path, &text)?;
    show(&source, &shown, dry_run, output, term)?;
    term.say(&format!("{} is changed; {kept}; restart the daemon to use it", source.path.display()));
    Ok(Exit::Done)
}

/// The difference; `lines` has none where everything stands there already.
fn show(source: &Source, lines: &str, dry_run: bool, output: Output, term: &Term) -> Result<(), Failure> {
    match output {
        Output::Text if lines.is_empty() => Ok(()),
        Output::Text => {
            term.data(lines);
            Ok(())
        }
        form => {
            let lines: Vec<&str> = lines.lines().collect();
            let document = json!({"apiVersion": "kedge.io/v1", "kind": "ConfigChange", "file": source.path.display().to_string(),
                "role": source.role, "dryRun": dry_run, "difference": lines});
            term.value(&document, form)
        }
    }
}

/// The text with all changes, and whether comments were lost on the way.
fn edited(source: &Source, changes: &[String]) -> Result<(String, bool), Failure> {
    let defaults = source.role.defaults()?;
    let (mut text, mut lost) = (source.text.clone(), false);
    for change in changes {
        if let Some((key, value)) = change.split_once("+=") {
            let path = source.role.path(key.trim())?;
            let list = longer(&text, &path, &defaults, value.trim()).ok_or_else(|| {
                Failure::new("KE-CONFIG-003", format!("{key} cannot be added to"))
                    .because("it is no list")
                    .fix(format!("write {key}=VALUE"))
                    .exit(crate::base::Exit::Usage)
            })?;
            let edited = edit::set(&text, &path, &list)?;
            (text, lost) = (edited.text, lost || edited.comments_lost);
            continue;
        }
        let wanted = match assignments(&defaults, change) {
            Ok(wanted) => wanted,
            Err(failure) => {
                // The key alone tells better what is near to it in the whole file.
                let key = change.split_once('=').map_or(change.as_str(), |(key, _)| key).trim();
                source.role.path(key)?;
                return Err(failure);
            }
        };
        for (path, value) in leaves(&wanted, &defaults) {
            let edited = edit::set(&text, &path, &value)?;
            (text, lost) = (edited.text, lost || edited.comments_lost);
        }
    }
    Ok((text, lost))
}

/// The present list with one more entry, unless it is in it; `None` where the setting is no list.
fn longer(text: &str, path: &[String], defaults: &Value, entry: &str) -> Option<Value> {
    let given: Value = serde_yaml::from_str(text).ok()?;
    let at = |document: &Value| path.iter().try_fold(document, |place, key| place.get(key)).cloned();
    let mut list = at(&given).filter(|value| !value.is_null()).or_else(|| at(defaults))?;
    let entries = list.as_array_mut()?;
    if !entries.iter().any(|known| known == entry) {
        entries.push(Value::from(entry));
    }
    Some(list)
}

/// The values that are set, by their paths. A map that the defaults know key by key is gone into.
fn leaves(wanted: &Value, defaults: &Value) -> Vec<(Vec<String>, Value)> {
    let Some(map) = wanted.as_object().filter(|map| !map.is_empty() && defaults.is_object()) else {
        return vec![(Vec::new(), wanted.clone())];
    };
    let mut found = Vec::new();
    for (key, value) in map {
        for (mut path, value) in leaves(value, defaults.get(key).unwrap_or(&Value::Null)) {
            path.insert(0, key.clone());
            found.push((path, value));
        }
    }
    found
}

/// Writes the file whole or not at all; says where the former one is kept.
fn write(path: &Path, text: &str) -> Result<String, Failure> {
    let mode = std::fs::metadata(path).map_or(0o600, |meta| meta.permissions().mode() & 0o777);
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let of_the_machine = absolute.starts_with(OF_THE_MACHINE);
    // What a link leads to is changed, and the link stays.
    let (absolute, path) = match std::fs::canonicalize(path) {
        Ok(real) if path.is_symlink() => (real.clone(), real),
        _ => (absolute, path.to_owned()),
    };
    let path = path.as_path();
    if of_the_machine {
        let mut journal = Journal::open(Path::new(journal::DIR), Deed::Configure)?;
        let change = Change::File { path: absolute, content: text.as_bytes().to_vec(), mode };
        if let Err(failure) = journal.apply(&change) {
            // A journal that was made for this alone goes again.
            drop(journal.undo(Manner::Careful, |_| false));
            return Err(failure);
        }
        journal.finish()?;
        return Ok("`kedge undo` brings the former one back".to_owned());
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".bak");
    let beside = PathBuf::from(beside);
    let former = crate::base::read_limited(path, super::FILE_LIMIT)?;
    write_atomic(&beside, &former, mode)?;
    write_atomic(path, text.as_bytes(), mode)?;
    Ok(format!("the former one is {}", beside.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::survey::Role;

    #[test]
    fn what_is_set_is_found_by_its_path() {
        let defaults = json!({"a": {"b": 1, "labels": {}}, "free": null});
        let wanted = json!({"a": {"b": 2, "labels": {"x.y": "z"}}, "free": {"k": 1}});
        let path = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            leaves(&wanted, &defaults),
            [
                (path(&["a", "b"]), json!(2)),
                (path(&["a", "labels", "x.y"]), json!("z")),
                (path(&["free"]), json!({"k": 1}))
            ]
        );
    }

    #[test]
    fn secrets_are_not_in_a_difference() {
        let file = |edge_hub: &str| {
            format!("modules:\n  edgeHub:\n    heartbeat: 15\n    {edge_hub}\n    messageQPS: 30\n")
        };
        for written in [
            "token: s3cret",
            "token: >-\n      s3cret",
            "token: |\n      s3cret\n      s3cret",
            "token: \"s3\\\n      s3cret\"",
            "token: 's3cret\n\n      s3cret'",
            "token:\n      s3cret",
            "websocket: {enable: true, token: s3cret}\n    token: s3cret",
        ] {
            let former = file(written);
            for change in ["modules.edgeHub.heartbeat=20", "modules.edgeHub.token=s3cret-2"] {
                let source = Source { path: "edgecore.yaml".into(), role: Role::Edge, text: former.clone() };
                let (text, _) = edited(&source, &[change.to_owned()]).unwrap();
                let shown = diff(&without_secrets(&former), &without_secrets(&text));
                assert!(!shown.contains("s3cret"), "{written}, {change} -> {shown}");
                assert!(change.contains("token") || shown.contains("+    heartbeat: 20"), "{shown}");
            }
        }
    }
}
