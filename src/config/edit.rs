//! Changes one setting in the text of a configuration and leaves the rest, comments above all, as it is. What its simple
//! reading of lines does not understand is written anew as a whole: the result is always compared with what was meant.
//! Pure; `kedge config set` calls it.

use crate::base::{Exit, Failure};
use serde_json::{Map, Value};

/// A changed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    pub text: String,
    /// The text was written anew, and what was said in comments is gone.
    pub comments_lost: bool,
}

/// Sets the value at this path of keys.
pub fn set(text: &str, path: &[String], value: &Value) -> Result<Edited, Failure> {
    let read = |text: &str| serde_yaml::from_str::<Value>(text);
    let mut meant = read(text).map_err(|error| {
        Failure::new("KE-CONFIG-001", "the configuration is not valid YAML")
            .because(error)
            .fix("correct the line that is named")
            .exit(Exit::Configuration)
    })?;
    put(&mut meant, path, value);
    if let Some(edited) = in_place(text, path, value)
        && read(&edited).is_ok_and(|got| got == meant)
    {
        return Ok(Edited { text: edited, comments_lost: false });
    }
    let text_anew = serde_yaml::to_string(&meant).map_err(|error| {
        Failure::new("KE-CONFIG-001", "the configuration cannot be written as YAML").because(error)
    })?;
    let comments_lost = text.lines().any(|line| comment_start(line).is_some());
    Ok(Edited { text: text_anew, comments_lost })
}

fn put(document: &mut Value, path: &[String], value: &Value) {
    let mut slot = document;
    for key in path {
        if !slot.is_object() {
            *slot = Value::Object(Map::new());
        }
        let Some(map) = slot.as_object_mut() else { return };
        slot = map.entry(key.clone()).or_insert(Value::Null);
    }
    slot.clone_from(value);
}

/// A line `key: rest` of a block mapping.
struct Setting {
    line: usize,
    indent: usize,
    rest: String,
}

/// The edit by lines; `None` where the text is of a form that is not understood.
fn in_place(text: &str, path: &[String], value: &Value) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let (mut from, mut to, mut indent) = (0, lines.len(), 0);
    let mut parent: Option<Setting> = None;
    for (depth, key) in path.iter().enumerate() {
        let Some(found) = child(&lines, (from, to), key) else {
            return insert(&lines, parent.as_ref(), (from, to, indent), path.get(depth..)?, value);
        };
        let end = block_end(&lines, &found, to);
        if depth + 1 == path.len() {
            return replace(&lines, &found, end, value);
        }
        (from, to, indent) = (found.line + 1, end, found.indent + 2);
        parent = Some(found);
    }
    None
}

fn indent_of(line: &str) -> Option<usize> {
    let bare = line.trim_start_matches(' ');
    if bare.trim().is_empty() || bare.starts_with('#') || bare.starts_with("---") {
        return None;
    }
    Some(line.len() - bare.len())
}

/// The mapping line of a key among the direct children of a range.
fn child(lines: &[&str], (from, to): (usize, usize), key: &str) -> Option<Setting> {
    let range = || (from..to).filter_map(|number| Some((number, *lines.get(number)?)));
    let level = range().find_map(|(_, line)| indent_of(line))?;
    range().find_map(|(number, line)| {
        let bare = line.get(level..)?;
        let (name, rest) = bare.split_once(':')?;
        let matches = indent_of(line) == Some(level)
            && name.trim_matches(['"', '\'']) == key
            && (rest.is_empty() || rest.starts_with(' '));
        matches.then(|| Setting { line: number, indent: level, rest: rest.trim().to_owned() })
    })
}

/// The line after the last one that belongs to a setting.
fn block_end(lines: &[&str], setting: &Setting, to: usize) -> usize {
    let belongs = |line: &str| {
        indent_of(line).is_none_or(|indent| {
            indent > setting.indent || (indent == setting.indent && line.trim_start().starts_with("- "))
        })
    };
    let mut end = setting.line + 1;
    for (number, line) in lines.iter().enumerate().take(to).skip(setting.line + 1) {
        if !belongs(line) {
            break;
        }
        // Comments and blank lines before the next setting stay where they are.
        if indent_of(line).is_some() {
            end = number + 1;
        }
    }
    end
}

fn replace(lines: &[&str], found: &Setting, end: usize, value: &Value) -> Option<String> {
    let line = lines.get(found.line)?;
    let colon = line.find(':')?;
    let (head, rest) = line.split_at(colon + 1);
    let comment = comment_start(rest).and_then(|at| rest.get(at..)).map(|text| format!("  {text}"));
    let mut out: Vec<String> = lines.get(..found.line)?.iter().map(|line| (*line).to_owned()).collect();
    out.push(format!("{head} {}{}", flow(value)?, comment.unwrap_or_default()));
    out.extend(lines.get(end..)?.iter().map(|line| (*line).to_owned()));
    Some(out.join("\n") + "\n")
}

/// Adds the missing keys as the last children of the deepest one that is there.
fn insert(
    lines: &[&str],
    parent: Option<&Setting>,
    (from, to, usual): (usize, usize, usize),
    missing: &[String],
    value: &Value,
) -> Option<String> {
    let mut out: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    if let Some(parent) = parent {
        let rest = parent.rest.split(" #").next()?.trim();
        match rest {
            "" => {}
            "{}" | "null" | "~" => {
                let line = out.get_mut(parent.line)?;
                let colon = line.find(':')?;
                line.truncate(colon + 1);
            }
            _ => return None,
        }
    }
    let inside = lines.get(from..to)?;
    let indent = inside.iter().find_map(|line| indent_of(line)).unwrap_or(usual);
    let at = inside.iter().rposition(|line| indent_of(line).is_some()).map_or(from, |last| from + last + 1);
    let (last, before) = missing.split_last()?;
    let mut added = Vec::new();
    let mut depth = indent;
    for key in before {
        added.push(format!("{}{}:", " ".repeat(depth), plain(key)?));
        depth += 2;
    }
    added.push(format!("{}{}: {}", " ".repeat(depth), plain(last)?, flow(value)?));
    out.splice(at..at, added);
    Some(out.join("\n") + "\n")
}

/// Where a comment begins in a line: at a `#` outside quotes, at the start or after a blank.
fn comment_start(line: &str) -> Option<usize> {
    let mut quote = None;
    let mut before = ' ';
    for (at, letter) in line.char_indices() {
        match (quote, letter) {
            (None, '#') if before.is_whitespace() => return Some(at),
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), letter) if letter == open => quote = None,
            _ => {}
        }
        before = letter;
    }
    None
}

/// A value on one line: plain where YAML reads the same from it, else as JSON, which is YAML too.
fn flow(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => plain(text),
        other => serde_json::to_string(other).ok(),
    }
}

/// KubeEdge's YAML is that of version 1.1, in which `yes` is no text and `1_000` is a number.
fn is_other_to_kubeedge(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let number = lower.replace('_', "");
    matches!(lower.as_str(), "y" | "n" | "yes" | "no" | "on" | "off")
        || number.parse::<f64>().is_ok() && number.starts_with(|first: char| "+-.0123456789".contains(first))
        || ["0b", "0o", "0x"].iter().any(|prefix| number.trim_start_matches(['+', '-']).starts_with(prefix))
}

fn plain(text: &str) -> Option<String> {
    let reads_the_same =
        serde_yaml::from_str::<Value>(text).is_ok_and(|read| read == Value::String(text.to_owned()));
    let simple = !text.is_empty()
        && !text.contains(['#', '\n', ':', '{', '[', ',', '&', '*', '!', '|', '>', '%', '@', '`', '"', '\'']);
    let address = text.split_once("://").is_none_or(|(_, rest)| !rest.contains(": "))
        && !text.contains([' ', '#', '\n', '{', '[', '"', '\'']);
    if reads_the_same && (simple || address) && !is_other_to_kubeedge(text) {
        return Some(text.to_owned());
    }
    serde_json::to_string(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_text_stays_one_for_every_reader() {
        for text in ["yes", "No", "on", "OFF", "y", "1_000", "0b1", "0x1F", "-1_0.5", "true", "~", "12"] {
            assert_eq!(plain(text), Some(format!("\"{text}\"")));
        }
        for text in ["edge-1", "north", "10.0.0.5:10000", "unix:///run/x.sock", "yesterday", "v1"] {
            assert_eq!(plain(text).as_deref(), Some(text));
        }
    }

    fn path(text: &str) -> Vec<String> {
        text.split('.').map(str::to_owned).collect()
    }

    const FILE: &str = "\
# the node
modules:
  edged:            # pods
    hostnameOverride: old # its name
    nodeLabels: {}
    clusterDNS:
    - 10.0.0.1
    # about the pods
    maxPods: 110

  edgeHub:
    token: a#b
database:
  dataSource: /x
";

    #[test]
    fn a_value_is_replaced_and_everything_else_stays() {
        for (key, value, old, new) in [
            (
                "modules.edged.hostnameOverride",
                json!("new"),
                "hostnameOverride: old # its name",
                "hostnameOverride: new  # its name",
            ),
            ("modules.edged.maxPods", json!(5), "maxPods: 110", "maxPods: 5"),
            (
                "modules.edged.clusterDNS",
                json!(["1.1.1.1"]),
                "clusterDNS:\n    - 10.0.0.1",
                "clusterDNS: [\"1.1.1.1\"]",
            ),
            ("modules.edgeHub.token", json!("x: #y"), "token: a#b", "token: \"x: #y\""),
            ("database.dataSource", json!(""), "dataSource: /x", "dataSource: \"\""),
        ] {
            let edited = set(FILE, &path(key), &value).unwrap();
            assert!(!edited.comments_lost, "{key}");
            assert_eq!(edited.text, FILE.replace(old, new), "{key}");
        }
    }

    #[test]
    fn a_missing_key_is_added_below_its_parent() {
        let edited = set(FILE, &path("modules.edgeHub.websocket.server"), &json!("c:10000")).unwrap();
        assert_eq!(
            edited.text,
            FILE.replace("    token: a#b\n", "    token: a#b\n    websocket:\n      server: c:10000\n")
        );
        let edited = set(FILE, &path("modules.edged.nodeLabels.zone"), &json!("true")).unwrap();
        assert_eq!(edited.text, FILE.replace("nodeLabels: {}", "nodeLabels:\n      zone: \"true\""));
        let edited = set("", &path("a.b"), &json!(1)).unwrap();
        assert_eq!(edited.text, "a:\n  b: 1\n");
    }

    #[test]
    fn what_is_not_understood_is_written_anew_and_says_so() {
        let edited =
            set("# c\nmodules: {edged: {maxPods: 1}}\n", &path("modules.edged.maxPods"), &json!(2)).unwrap();
        assert!(edited.comments_lost);
        let read: Value = serde_yaml::from_str(&edited.text).unwrap();
        assert_eq!(read, json!({"modules": {"edged": {"maxPods": 2}}}));
        assert!(!set("{a: 1}\n", &path("a"), &json!(2)).unwrap().comments_lost);
        assert!(set("a: [", &path("a"), &json!(2)).is_err());
    }

    proptest::proptest! {
        /// Whatever the file looks like, the result means what was asked for.
        #[test]
        fn the_result_means_what_was_meant(
            keys in proptest::collection::vec("[a-c]", 1..4),
            value in "[ -~]{0,12}",
            lines in proptest::collection::vec("( {0,2}){0,2}[a-c]: ?(|1|x|'q'|\\{\\}|# c)", 0..8),
        ) {
            let text = lines.join("\n");
            if let Ok(mut meant) = serde_yaml::from_str::<Value>(&text) {
                put(&mut meant, &keys, &Value::String(value.clone()));
                let edited = set(&text, &keys, &Value::String(value)).unwrap();
                proptest::prop_assert_eq!(serde_yaml::from_str::<Value>(&edited.text).unwrap(), meant);
            }
        }
    }
}
