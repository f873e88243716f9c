//! Columns that a CRD declares: the part of JSONPath that `additionalPrinterColumns` use, read once per table.
//! `.a.b`, `.a['b.c']`, `[0]`, `[*]` and `[?(@.type=="Ready")]`; anything else shows nothing.

use super::definition;
use super::text::{UNKNOWN, since};
use jiff::Timestamp;
use serde_json::Value;

const MAX_STEPS: usize = 32;

pub(super) struct Column {
    name: String,
    kind: String,
    description: String,
    priority: i64,
    steps: Option<Vec<Step>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
    All,
    Where { field: Vec<String>, value: String },
}

impl Column {
    pub(super) fn new(name: &str, kind: &str, path: &str) -> Column {
        Column {
            name: name.to_owned(),
            kind: kind.to_owned(),
            description: String::new(),
            priority: 0,
            steps: steps(path),
        }
    }

    pub(super) fn described(mut self, description: &str, priority: Option<i64>) -> Column {
        description.clone_into(&mut self.description);
        self.priority = priority.unwrap_or(0);
        self
    }

    pub(super) fn definition(&self) -> Value {
        let mut definition = definition(&self.name, &self.kind, "", self.priority);
        definition["description"] = self.description.clone().into();
        definition
    }

    pub(super) fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let mut found = vec![object];
        for step in self.steps.iter().flatten() {
            found = found.into_iter().flat_map(|value| follow(step, value)).collect();
        }
        if self.steps.is_none() {
            return Value::Null;
        }
        match found.as_slice() {
            [] | [Value::Null] => Value::Null,
            [one] if self.kind == "date" => since(one, now).unwrap_or_else(|| UNKNOWN.to_owned()).into(),
            [one] => shown(one, &self.kind),
            many => many.iter().map(|value| plain(value)).collect::<Vec<_>>().join(",").into(),
        }
    }
}

fn shown(value: &Value, kind: &str) -> Value {
    match (kind, value) {
        ("integer" | "number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        _ => plain(value).into(),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn follow<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::Index(index) => value.get(index).into_iter().collect(),
        Step::All => match value {
            Value::Array(items) => items.iter().collect(),
            Value::Object(fields) => fields.values().collect(),
            _ => Vec::new(),
        },
        Step::Where { field, value: wanted } => {
            let matches = |item: &&Value| {
                field
                    .iter()
                    .try_fold(*item, |value, name| value.get(name))
                    .is_some_and(|v| plain(v) == *wanted)
            };
            value.as_array().map(Vec::as_slice).unwrap_or_default().iter().filter(matches).collect()
        }
    }
}

fn steps(path: &str) -> Option<Vec<Step>> {
    let path = path.trim();
    let mut rest = path.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(path);
    rest = rest.strip_prefix('$').unwrap_or(rest);
    let mut steps = Vec::new();
    while !rest.is_empty() && steps.len() < MAX_STEPS {
        if let Some(inner) = rest.strip_prefix('[') {
            let end = closing(inner)?;
            steps.push(bracket(inner.get(..end)?)?);
            rest = inner.get(end + 1..)?;
            continue;
        }
        rest = rest.strip_prefix('.')?;
        let (name, left) = field(rest);
        rest = left;
        match name.as_str() {
            "" if rest.starts_with('[') || rest.is_empty() => {}
            "" => return None,
            "*" => steps.push(Step::All),
            _ => steps.push(Step::Field(name)),
        }
    }
    Some(steps)
}

/// A name up to the next `.` or `[`; a backslash takes the next character as it is.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => return (name, text.get(at..).unwrap_or_default()),
            c => name.push(c),
        }
    }
    (name, "")
}

fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, ']') => return Some(at),
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    None
}

fn bracket(text: &str) -> Option<Step> {
    let text = text.trim();
    if text == "*" {
        return Some(Step::All);
    }
    if let Some(name) = unquoted(text) {
        return Some(Step::Field(name.to_owned()));
    }
    if let Some(condition) = text.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        let (path, value) = condition.split_once("==")?;
        let path = path.trim().strip_prefix("@.")?;
        let value = value.trim();
        let field = path.split('.').map(str::to_owned).collect();
        return Some(Step::Where { field, value: unquoted(value).unwrap_or(value).to_owned() });
    }
    text.parse().ok().map(Step::Index)
}

fn unquoted(text: &str) -> Option<&str> {
    let inner = |quote| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inner('\'').or_else(|| inner('"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn cell(path: &str, kind: &str) -> Value {
        let object = json!({
            "metadata": {"labels": {"a.b/c": "x"}},
            "spec": {"n": 3, "list": ["p", "q"]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
        });
        Column::new("c", kind, path).cell(&object, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn paths_of_printer_columns_are_followed() {
        assert_eq!(cell(".spec.n", "integer"), json!(3));
        assert_eq!(cell(".spec.n", "string"), json!("3"));
        assert_eq!(cell(".spec.missing", "string"), Value::Null);
        assert_eq!(cell(".metadata.labels['a.b/c']", "string"), json!("x"));
        assert_eq!(cell(r".metadata.labels.a\.b/c", "string"), json!("x"));
        assert_eq!(cell(r#".status.conditions[?(@.type=="Ready")].status"#, "string"), json!("True"));
        assert_eq!(cell("{.spec.list[1]}", "string"), json!("q"));
        assert_eq!(cell(".spec.list[*]", "string"), json!("p,q"));
    }

    proptest! {
        #[test]
        fn any_path_is_safe(path in "\\PC{0,30}") {
            let _ = cell(&path, "string");
        }
    }
}
