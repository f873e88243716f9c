//! Rows of `meta` and `meta_v2`: Kubernetes objects as JSON text under `{ns}/{kind}/{name}`.
//! Pure SQL over a connection; the door and the reader call it.

use crate::model::digest::{ContentHash, Holding};
use crate::model::{Kind, ObjectKey, Revision};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

/// One row of `meta` as it stands in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct MetaRow {
    pub key: String,
    pub kind: String,
    /// JSON when it parses, otherwise the text itself.
    pub value: Value,
}

/// An object made ready for its rows outside the writer thread.
pub(super) struct PreparedObject {
    key: String,
    kind: Kind,
    text: String,
    v2: Option<V2Row>,
}

struct V2Row {
    key: String,
    resource: String,
    namespace: String,
    name: String,
    revision: i64,
}

impl PreparedObject {
    pub(super) fn new(key: &ObjectKey, object: &Value) -> Self {
        PreparedObject {
            key: key.to_string(),
            kind: key.kind,
            text: object.to_string(),
            v2: V2Row::of(object),
        }
    }
}

impl V2Row {
    /// `None` for what does not look like a Kubernetes object.
    fn of(object: &Value) -> Option<V2Row> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let (kind, name) = (text("/kind")?, text("/metadata/name")?);
        let api_version = text("/apiVersion")?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let plural = plural(kind);
        let namespace = text("/metadata/namespace").unwrap_or("");
        Some(V2Row {
            key: format!(
                "/{}/{version}/{plural}/{}/{name}",
                if group.is_empty() { "core" } else { group },
                if namespace.is_empty() { "null" } else { namespace }
            ),
            resource: format!("{group}/{version}, Resource={plural}"),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            revision: text("/metadata/resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0),
        })
    }
}

/// The plural that Kubernetes' own kinds follow (`UnsafeGuessKindToResource`).
fn plural(kind: &str) -> String {
    let word = kind.to_ascii_lowercase();
    if word == "endpoints" {
        word
    } else if word.ends_with('s') || word.ends_with('x') || word.ends_with("ch") || word.ends_with("sh") {
        word + "es"
    } else if let Some(stem) = word.strip_suffix('y') {
        format!("{stem}ies")
    } else {
        word + "s"
    }
}

/// Whether one object is a newer revision of the other.
pub(super) fn overtakes(stored: &Value, other: &Value) -> bool {
    let uid = |object: &Value| object.pointer("/metadata/uid").and_then(Value::as_str).map(str::to_owned);
    let revision = |object: &Value| Revision::parse(object.pointer("/metadata/resourceVersion")?.as_str()?);
    uid(stored) == uid(other) && revision(other).is_some_and(|other| revision(stored) > Some(other))
}

/// `false` when the row has this value already.
pub(super) fn put(db: &Connection, object: &PreparedObject) -> rusqlite::Result<bool> {
    let stored: Option<bool> = db
        .prepare_cached("SELECT value = ?2 FROM meta WHERE key = ?1")?
        .query_row(params![object.key, object.text], |row| row.get::<_, Option<bool>>(0))
        .optional()?
        .flatten();
    if stored == Some(true) {
        return Ok(false);
    }
    put_raw(db, &object.key, object.kind, &object.text)?;
    if let Some(v2) = &object.v2 {
        db.prepare_cached(
            "INSERT OR REPLACE INTO meta_v2 (key, group_version_resource, namespace, name, resource_version, value) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![v2.key, v2.resource, v2.namespace, v2.name, v2.revision, object.text])?;
    }
    Ok(true)
}

pub(super) fn put_raw(db: &Connection, key: &str, kind: Kind, text: &str) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO meta (key, type, value) VALUES (?1, ?2, ?3)")?
        .execute(params![key, kind.as_str(), text])?;
    Ok(())
}

/// `false` when there was nothing, or the object there has another uid.
pub(super) fn delete(db: &Connection, key: &ObjectKey, uid: Option<&str>) -> rusqlite::Result<bool> {
    let path = key.to_string();
    let stored: Option<Value> = get_raw(db, &path)?;
    let found = stored.as_ref().and_then(|v| v.pointer("/metadata/uid")).and_then(Value::as_str);
    if let (Some(wanted), Some(found)) = (uid, found)
        && wanted != found
    {
        return Ok(false);
    }
    let removed = delete_raw(db, &path)?;
    if let Some(v2) = stored.as_ref().and_then(V2Row::of) {
        db.prepare_cached("DELETE FROM meta_v2 WHERE key = ?1")?.execute([v2.key])?;
    }
    if key.kind == Kind::Pod {
        delete_raw(db, &ObjectKey { kind: Kind::PodPatch, ..key.clone() }.to_string())?;
        if let Some(uid) = found {
            // A token bound to the pod names its uid in the key and is worthless without the pod.
            db.prepare_cached("DELETE FROM meta WHERE type = ?1 AND instr(key, ?2) > 0")?
                .execute(params![Kind::ServiceAccountToken.as_str(), format!("UID:\"{uid}\"")])?;
        }
    }
    Ok(removed)
}

fn delete_raw(db: &Connection, key: &str) -> rusqlite::Result<bool> {
    Ok(db.prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([key])? > 0)
}

pub(super) fn get(db: &Connection, key: &ObjectKey) -> rusqlite::Result<Option<Value>> {
    get_raw(db, &key.to_string())
}

pub(super) fn get_raw(db: &Connection, key: &str) -> rusqlite::Result<Option<Value>> {
    let text: Option<String> = db
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| row.get::<_, Option<String>>(0))
        .optional()?
        .flatten();
    Ok(text.and_then(|text| read(key, &text)))
}

/// The token with the latest row among those whose key begins and ends so.
pub(super) fn token_between(db: &Connection, before: &str, after: &str) -> rusqlite::Result<Option<Value>> {
    let key: Option<String> = db
        .prepare_cached(
            "SELECT key FROM meta WHERE type = ?1 AND substr(key, 1, length(?2)) = ?2 \
             AND substr(key, -length(?3)) = ?3 ORDER BY rowid DESC LIMIT 1",
        )?
        .query_row(params![Kind::ServiceAccountToken.as_str(), before, after], |row| row.get(0))
        .optional()?;
    key.map_or(Ok(None), |key| get_raw(db, &key))
}

pub(super) fn list(db: &Connection, kind: Kind) -> rusqlite::Result<Vec<(ObjectKey, Value)>> {
    let mut statement =
        db.prepare_cached("SELECT key, value FROM meta WHERE type = ?1 AND value IS NOT NULL ORDER BY key")?;
    let mut rows = statement.query([kind.as_str()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (key, text): (String, String) = (row.get(0)?, row.get(1)?);
        // KubeEdge keeps tokens and mappers under keys of other forms; they are no objects.
        let Some(parsed) = ObjectKey::parse(&key) else { continue };
        if let Some(value) = read(&key, &text) {
            found.push((parsed, value));
        }
    }
    Ok(found)
}

/// What stands under keys of these kinds; one object at a time is in memory.
pub(super) fn holdings(db: &Connection, kinds: &[Kind]) -> rusqlite::Result<Vec<Holding>> {
    let mut statement =
        db.prepare_cached("SELECT key, value FROM meta WHERE type = ?1 AND value IS NOT NULL")?;
    let mut found = Vec::new();
    for kind in kinds {
        let mut rows = statement.query([kind.as_str()])?;
        while let Some(row) = rows.next()? {
            let (path, text): (String, String) = (row.get(0)?, row.get(1)?);
            let Some(key) = ObjectKey::parse(&path) else { continue };
            let object = read(&path, &text).unwrap_or_default();
            let uid = object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned();
            found.push(Holding { key, uid, content: ContentHash::of(&object) });
        }
    }
    Ok(found)
}

/// All rows, or those of one type, as they stand.
pub(super) fn rows(db: &Connection, kind: Option<&str>) -> rusqlite::Result<Vec<MetaRow>> {
    let mut statement =
        db.prepare("SELECT key, type, value FROM meta WHERE ?1 IS NULL OR type = ?1 ORDER BY key")?;
    let found = statement.query_map([kind], meta_row)?;
    found.collect()
}

pub(super) fn row(db: &Connection, key: &str) -> rusqlite::Result<Option<MetaRow>> {
    db.query_row("SELECT key, type, value FROM meta WHERE key = ?1", [key], meta_row).optional()
}

fn meta_row(row: &Row<'_>) -> rusqlite::Result<MetaRow> {
    let text: Option<String> = row.get(2)?;
    let text = text.unwrap_or_default();
    Ok(MetaRow {
        key: row.get(0)?,
        kind: row.get::<_, Option<String>>(1)?.unwrap_or_default(),
        value: serde_json::from_str(&text).unwrap_or(Value::String(text)),
    })
}

fn read(key: &str, text: &str) -> Option<Value> {
    match serde_json::from_str(text) {
        Ok(value) => Some(value),
        Err(_) => {
            tracing::warn!(key, "a stored object is not JSON and is passed over");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plurals_follow_kubernetes() {
        let cases = [
            ("Pod", "pods"),
            ("Ingress", "ingresses"),
            ("NetworkPolicy", "networkpolicies"),
            ("Endpoints", "endpoints"),
        ];
        for (kind, expected) in cases {
            assert_eq!(plural(kind), expected);
        }
    }

    #[test]
    fn second_generation_keys_are_kubeedges() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "d", "resourceVersion": "7"}});
        let row = V2Row::of(&pod).unwrap();
        assert_eq!(
            (row.key.as_str(), row.resource.as_str(), row.revision),
            ("/core/v1/pods/d/a", "/v1, Resource=pods", 7)
        );
        let node = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "n"}});
        assert_eq!(V2Row::of(&node).unwrap().key, "/apps/v1/deployments/null/n");
        assert!(V2Row::of(&json!("text")).is_none());
    }
}
