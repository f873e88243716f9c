//! `kedge config get`: what a daemon would use, and whether the file says so or it is the default. Secrets are hidden.

use super::FileFlags;
use crate::base::{Exit, Failure, Output, Term};
use crate::config::{overlay, shown};
use serde_json::{Value, json};

pub(super) fn run(file: &FileFlags, key: Option<&str>, output: Output, term: &Term) -> Result<Exit, Failure> {
    let source = file.one()?;
    let given: Value = crate::config::read_yaml(&source.path)?;
    let mut merged = source.role.defaults()?;
    // What is wrong in the file is validate's to tell; here its value shows as far as it has the right type.
    let _told_by_validate = overlay(&mut merged, &given);
    shown::mask(&mut merged);
    let path = key.map(|key| source.role.path(key)).transpose()?.unwrap_or_default();
    let at = |document: &Value| path.iter().try_fold(document, |place, key| place.get(key)).cloned();
    let value = at(&merged).unwrap_or(Value::Null);
    let from = if at(&given).is_some_and(|value| !value.is_null()) { "file" } else { "default" };
    match (output, &value) {
        (Output::Text, Value::String(text)) => term.data(text),
        (Output::Text, Value::Object(_) | Value::Array(_)) => term.value(&value, Output::Yaml)?,
        (Output::Text, other) => term.data(&other.to_string()),
        (form, _) => {
            let document = json!({"apiVersion": "kedge.io/v1", "kind": "Setting", "file": source.path.display().to_string(),
                "role": source.role, "key": path.join("."), "value": value, "from": from});
            term.value(&document, form)?;
        }
    }
    Ok(Exit::Done)
}
