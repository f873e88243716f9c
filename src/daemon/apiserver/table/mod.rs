//! Objects as the `meta.k8s.io/v1` Table that `kubectl get` prints. The request path calls [`render`] when a client
//! accepts tables; nothing is stored.
//!
//! `builtin` columns per kind · `pod` the status word of a pod · `path` the columns of CRDs · `text` ages and words

mod builtin;
mod path;
mod pod;
mod text;

use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

/// What each row carries of its object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

/// A column of a built-in kind.
struct Column {
    name: &'static str,
    kind: &'static str,
    /// Above zero it is shown by `-o wide` only.
    priority: u8,
    cell: fn(&Value, Timestamp) -> Value,
}

/// Renders a list of one kind; `crd_columns` are a CRD version's `additionalPrinterColumns`.
#[expect(clippy::too_many_arguments, reason = "what a table shows, told once")]
pub fn render(
    group: &str,
    kind: &str,
    objects: &[Arc<Value>],
    crd_columns: Option<&[Value]>,
    include: Include,
    list_metadata: Value,
    now: Timestamp,
) -> Value {
    let (definitions, rows) = match crd_columns {
        Some(columns) => custom(columns, objects, include, now),
        None => built_in(builtin::columns(group, kind), objects, include, now),
    };
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata,
        "columnDefinitions": definitions,
        "rows": rows,
    })
}

fn built_in(
    columns: &[Column],
    objects: &[Arc<Value>],
    include: Include,
    now: Timestamp,
) -> (Vec<Value>, Vec<Value>) {
    let definitions = columns
        .iter()
        .map(|column| definition(column.name, column.kind, "", column.priority.into()))
        .collect();
    let rows = objects.iter().map(|object| {
        let cells = columns.iter().map(|column| (column.cell)(object, now)).collect();
        row(cells, object, include)
    });
    (definitions, rows.collect())
}

fn custom(
    columns: &[Value],
    objects: &[Arc<Value>],
    include: Include,
    now: Timestamp,
) -> (Vec<Value>, Vec<Value>) {
    let text = |column: &Value, name: &str| column[name].as_str().unwrap_or_default().to_owned();
    let columns: Vec<path::Column> = columns
        .iter()
        .map(|column| {
            path::Column::new(&text(column, "name"), &text(column, "type"), &text(column, "jsonPath"))
        })
        .zip(columns)
        .map(|(parsed, column)| parsed.described(&text(column, "description"), column["priority"].as_i64()))
        .collect();
    let mut definitions = vec![definition("Name", "string", "name", 0)];
    if columns.is_empty() {
        definitions.push(definition("Age", "date", "", 0));
    }
    definitions.extend(columns.iter().map(path::Column::definition));
    let rows = objects.iter().map(|object| {
        let mut cells = vec![text::name(object, now)];
        if columns.is_empty() {
            cells.push(text::age(object, now));
        }
        cells.extend(columns.iter().map(|column| column.cell(object, now)));
        row(cells, object, include)
    });
    (definitions, rows.collect())
}

fn definition(name: &str, kind: &str, format: &str, priority: i64) -> Value {
    let format = if name == "Name" { "name" } else { format };
    json!({"name": name, "type": kind, "format": format, "description": "", "priority": priority})
}

fn row(cells: Vec<Value>, object: &Value, include: Include) -> Value {
    let mut row = json!({"cells": cells});
    match include {
        Include::None => {}
        Include::Object => row["object"] = object.clone(),
        Include::Metadata => {
            row["object"] = json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
            });
        }
    }
    row
}

#[cfg(test)]
mod tests;
