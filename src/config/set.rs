//! `--set path=value,…`: changes to a configuration document as they are typed, in keadm's grammar. The default document
//! says which paths exist and of which kind their values are. Commands use it; it writes nothing.

use super::survey::Role;
use crate::base::{Exit, Failure, nearest};
use serde_json::{Map, Value};

/// Items and characters that one `--set` may have.
const LIMIT: usize = 64 << 10;

/// Reads changes such as `modules.edgeStream.enable=true,kedge.images={/a,/b}` into a document that holds only what they
/// set. Keys are found whatever their case; a dot in a key is written `\.`; `name[0]` changes one entry of a list.
pub fn assignments(defaults: &Value, text: &str) -> Result<Value, Failure> {
    if text.len() > LIMIT {
        return Err(wrong(defaults, text.get(..40).unwrap_or_default(), "it is longer than 64 KiB"));
    }
    let mut document = Value::Object(Map::new());
    for item in split(text, ',') {
        let item = item.trim();
        if item.is_empty() {
            continue;
        }
        let Some((path, value)) = item.split_once('=') else {
            return Err(wrong(defaults, item, "it has no `=`"));
        };
        let steps = steps(path.trim()).ok_or_else(|| wrong(defaults, path, "it is no path such as a.b.c"))?;
        lay(&mut document, defaults, &steps, value.trim()).map_err(|why| wrong(defaults, path, why))?;
    }
    Ok(document)
}

/// Lays one document over another: maps are merged, everything else is replaced.
pub fn lay_over(base: &mut Value, above: &Value) {
    match (base, above) {
        (Value::Object(base), Value::Object(above)) => {
            for (key, value) in above {
                lay_over(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, above) => *base = above.clone(),
    }
}

fn wrong(defaults: &Value, what: &str, why: impl std::fmt::Display) -> Failure {
    let (side, example) = match Role::of(defaults) {
        Some(Role::Cloud) => ("cloud", "modules.cloudHub.nodeLimit=2000"),
        Some(Role::Edge) | None => ("edge", "modules.edgeStream.enable=true"),
    };
    Failure::new("KE-CONFIG-003", format!("the setting {what} cannot be used"))
        .because(why)
        .fix(format!("`kedge {side} config --defaultconfig` shows every key; write {example}"))
        .exit(Exit::Usage)
}

/// One step of a path: a key of a map, or a place in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    for part in split(path, '.') {
        let (key, rest) = part.split_once('[').map_or((part.as_str(), ""), |(key, rest)| (key, rest));
        if key.is_empty() {
            return None;
        }
        steps.push(Step::Key(key.replace("\\.", ".")));
        for index in rest.split_terminator(']').filter(|_| !rest.is_empty()) {
            steps
                .push(Step::Index(index.trim_start_matches('[').parse().ok().filter(|index| *index < 1000)?));
        }
    }
    Some(steps)
}

/// Splits outside of quotes and brackets; a backslash keeps the separator and stays where it stands before a dot.
fn split(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut depth, mut quote) = (0_usize, None);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let last = parts.last_mut();
        let Some(last) = last else { break };
        match letter {
            '\\' if letters.peek() == Some(&separator) => {
                if separator == '.' {
                    last.push('\\');
                }
                last.extend(letters.next());
                continue;
            }
            '"' | '\'' if quote.is_none() => quote = Some(letter),
            _ if quote == Some(letter) => quote = None,
            '{' | '[' if quote.is_none() => depth += 1,
            '}' | ']' if quote.is_none() => depth = depth.saturating_sub(1),
            _ => {}
        }
        if letter == separator && depth == 0 && quote.is_none() {
            parts.push(String::new());
        } else {
            last.push(letter);
        }
    }
    parts
}

fn lay(place: &mut Value, known: &Value, steps: &[Step], text: &str) -> Result<(), String> {
    let Some((step, rest)) = steps.split_first() else {
        *place = typed(known, text)?;
        return Ok(());
    };
    match step {
        Step::Key(key) => {
            let (key, below) = find(known, key)?;
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            let Some(fields) = place.as_object_mut() else { return Ok(()) };
            lay(fields.entry(key).or_insert(Value::Null), below, rest, text)
        }
        Step::Index(index) => {
            let Value::Array(default) = known else { return Err("it is no list".to_owned()) };
            if !place.is_array() {
                *place = Value::Array(default.clone());
            }
            let Some(entries) = place.as_array_mut() else { return Ok(()) };
            if *index > entries.len() {
                return Err(format!("the list has {} entries", entries.len()));
            }
            if *index == entries.len() {
                entries.push(Value::Null);
            }
            let Some(entry) = entries.get_mut(*index) else { return Ok(()) };
            lay(entry, default.get(*index).unwrap_or(&Value::Null), rest, text)
        }
    }
}

/// The key as the document writes it, and its default. A map without keys, and a null, take any key.
fn find<'a>(known: &'a Value, key: &str) -> Result<(String, &'a Value), String> {
    match known {
        Value::Object(fields) if !fields.is_empty() => {
            let same = |name: &&String| name.eq_ignore_ascii_case(key);
            if let Some((name, value)) = fields.get_key_value(key) {
                return Ok((name.clone(), value));
            }
            if let Some(name) = fields.keys().find(same) {
                return Ok((name.clone(), fields.get(name).unwrap_or(&Value::Null)));
            }
            let near = nearest(key, fields.keys().map(String::as_str))
                .map(|name| format!("; did you mean {name}?"))
                .unwrap_or_default();
            Err(format!("there is no key {key}{near}"))
        }
        Value::Object(_) | Value::Null => Ok((key.to_owned(), &Value::Null)),
        _ => Err(format!("there is nothing below it, so no {key}")),
    }
}

/// The value in the kind of its default.
fn typed(known: &Value, text: &str) -> Result<Value, String> {
    let bare = unquoted(text);
    match known {
        Value::Bool(_) => match bare {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            other => Err(format!("true or false is expected, not {other}")),
        },
        Value::Number(_) => {
            let number = bare
                .parse::<i64>()
                .ok()
                .map(Value::from)
                .or_else(|| bare.parse::<f64>().ok().map(Value::from));
            number.filter(Value::is_number).ok_or_else(|| format!("a number is expected, not {bare}"))
        }
        Value::String(_) => Ok(Value::from(bare)),
        Value::Array(_) => {
            let inner = enclosed(text, '{', '}').or_else(|| enclosed(text, '[', ']'));
            let parts = split(inner.unwrap_or(text), ',').into_iter().map(|part| part.trim().to_owned());
            Ok(parts.filter(|part| !part.is_empty()).map(|part| scalar(&part)).collect())
        }
        Value::Object(_) => {
            let inner = enclosed(text, '{', '}').ok_or("a map is expected, such as {key:value}")?;
            map(inner).ok_or_else(|| "a map is expected, such as {key:value}".to_owned())
        }
        Value::Null => match enclosed(text, '{', '}') {
            Some(inner) => Ok(map(inner).unwrap_or_else(|| list(inner))),
            None => Ok(scalar(text)),
        },
    }
}

fn map(inner: &str) -> Option<Value> {
    let pairs = split(inner, ',').into_iter().map(|pair| {
        let (key, value) = pair.split_once(':')?;
        Some((unquoted(key.trim()).to_owned(), scalar(value.trim())))
    });
    pairs.collect::<Option<Map<_, _>>>().map(Value::Object)
}

fn list(inner: &str) -> Value {
    split(inner, ',').iter().map(|part| scalar(part.trim())).collect()
}

fn scalar(text: &str) -> Value {
    if unquoted(text).len() != text.len() {
        return Value::from(unquoted(text));
    }
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from),
    }
}

fn enclosed(text: &str, open: char, close: char) -> Option<&str> {
    text.strip_prefix(open)?.strip_suffix(close)
}

fn unquoted(text: &str) -> &str {
    enclosed(text, '"', '"').or_else(|| enclosed(text, '\'', '\'')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn defaults() -> Value {
        json!({"modules": {"edgeStream": {"enable": false, "server": "127.0.0.1:10004"}, "edged": {
            "nodeLabels": {}, "taints": [], "kubelet": {"maxPods": 110, "clusterDNS": ["10.0.0.1"]}}},
            "free": null})
    }

    #[test]
    fn values_take_the_kind_of_their_defaults() {
        let text = r#"modules.edgeStream.enable=true,Modules.EdgeStream.Server="1.2.3.4:1, x",modules.edged.kubelet.maxPods=7,
            modules.edged.kubelet.clusterDNS={10.0.0.2,10.0.0.3},modules.edged.nodeLabels.a\.b/c=1,free={k:v,n:1}"#;
        let expected = json!({"modules": {"edgeStream": {"enable": true, "server": "1.2.3.4:1, x"}, "edged": {
            "nodeLabels": {"a.b/c": 1}, "kubelet": {"maxPods": 7, "clusterDNS": ["10.0.0.2", "10.0.0.3"]}}},
            "free": {"k": "v", "n": 1}});
        assert_eq!(assignments(&defaults(), text).unwrap(), expected);
    }

    #[test]
    fn one_entry_of_a_list_is_changed() {
        let set = |text: &str| assignments(&defaults(), text);
        let dns = |value: &Value| value["modules"]["edged"]["kubelet"]["clusterDNS"].clone();
        assert_eq!(
            dns(&set("modules.edged.kubelet.clusterDNS[1]=10.0.0.9").unwrap()),
            json!(["10.0.0.1", "10.0.0.9"])
        );
        let taint = set("modules.edged.taints[0].key=a,modules.edged.taints[0].effect=NoSchedule").unwrap();
        assert_eq!(taint["modules"]["edged"]["taints"], json!([{"key": "a", "effect": "NoSchedule"}]));
        assert!(set("modules.edged.kubelet.clusterDNS[7]=x").is_err());
    }

    #[test]
    fn what_cannot_be_set_is_told_with_what_is_near() {
        for (text, words) in [
            ("modules.edgeStreem.enable=true", "did you mean edgeStream?"),
            ("modules.edgeStream.enable=maybe", "true or false"),
            ("modules.edged.kubelet.maxPods=many", "a number"),
            ("modules.edgeStream.enable.x=1", "nothing below"),
            ("modules", "no `=`"),
            ("a..b=1", "no path"),
        ] {
            let failure = assignments(&defaults(), text).unwrap_err();
            assert_eq!((failure.code, failure.exit), ("KE-CONFIG-003", Exit::Usage));
            failure.is_as_committed();
            assert!(failure.why.contains(words), "{text}: {failure}");
        }
    }

    #[test]
    fn documents_are_laid_over_each_other() {
        let mut base = json!({"a": {"b": 1, "c": [1]}, "d": 1});
        lay_over(&mut base, &json!({"a": {"c": [2], "e": {}}, "d": {"f": 1}}));
        assert_eq!(base, json!({"a": {"b": 1, "c": [2], "e": {}}, "d": {"f": 1}}));
    }
}
