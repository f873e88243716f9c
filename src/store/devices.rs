//! Rows of `device` and `device_twin`, and the way between a twin row and the property that travels.
//! `device_twin.*_meta` hold `{"timestamp":n}`, `*_version` hold `{"cloud":n,"edge":n}`, `metadata` holds the type
//! metadata without the type (protocol.md §10.1).

use super::state;
use crate::model::DeviceId;
use crate::model::twin::{TwinProperty, TwinValue, TwinVersion, TypeMetadata, ValueMetadata};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

/// A device as KubeEdge's table keeps it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DeviceRow {
    #[serde(serialize_with = "as_text")]
    pub id: DeviceId,
    pub name: String,
    pub description: String,
    pub state: String,
    /// RFC 3339, empty when the device is not online.
    pub last_online: String,
}

fn as_text<S: serde::Serializer>(id: &DeviceId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

impl DeviceRow {
    /// A device of which only the identity is known.
    pub fn new(id: DeviceId) -> Self {
        let name = id.name.clone();
        DeviceRow { id, name, description: String::new(), state: String::new(), last_online: String::new() }
    }
}

/// One property of a device as KubeEdge's table keeps it; the JSON columns are text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TwinRow {
    pub name: String,
    pub description: String,
    pub expected: Option<String>,
    pub actual: Option<String>,
    pub expected_meta: Option<String>,
    pub actual_meta: Option<String>,
    pub expected_version: Option<String>,
    pub actual_version: Option<String>,
    pub optional: bool,
    pub attr_type: String,
    pub metadata: Option<String>,
}

impl TwinRow {
    /// The row for a property.
    pub fn from_property(name: &str, property: &TwinProperty) -> Self {
        let half = |value: &Option<TwinValue>| {
            let value = value.as_ref();
            (value.and_then(|v| v.value.clone()), value.and_then(|v| v.metadata.as_ref()).and_then(json))
        };
        let (expected, expected_meta) = half(&property.expected);
        let (actual, actual_meta) = half(&property.actual);
        let metadata = property.metadata.as_ref();
        TwinRow {
            name: name.to_owned(),
            description: String::new(),
            expected,
            actual,
            expected_meta,
            actual_meta,
            expected_version: property.expected_version.as_ref().and_then(json),
            actual_version: property.actual_version.as_ref().and_then(json),
            optional: property.optional.unwrap_or(true),
            attr_type: metadata.map(|m| m.value_type.clone()).unwrap_or_default(),
            metadata: metadata.map(|m| &m.extra).filter(|extra| !extra.is_empty()).and_then(json),
        }
    }

    /// The property of this row; columns that do not parse count as empty.
    pub fn to_property(&self) -> TwinProperty {
        let half = |value: &Option<String>, meta: &Option<String>| {
            let metadata: Option<ValueMetadata> = parse(meta.as_deref());
            (value.is_some() || metadata.is_some()).then(|| TwinValue { value: value.clone(), metadata })
        };
        let extra = parse(self.metadata.as_deref()).unwrap_or_default();
        TwinProperty {
            expected: half(&self.expected, &self.expected_meta),
            actual: half(&self.actual, &self.actual_meta),
            optional: Some(self.optional),
            metadata: Some(TypeMetadata { value_type: self.attr_type.clone(), extra }),
            expected_version: parse::<TwinVersion>(self.expected_version.as_deref()),
            actual_version: parse::<TwinVersion>(self.actual_version.as_deref()),
        }
    }
}

/// What a device event changes; stored all or none.
#[derive(Clone, Debug, Default)]
pub struct DeviceChange {
    pub devices: Vec<DeviceRow>,
    /// Devices that go, with their attributes and twins; before anything is put.
    pub devices_gone: Vec<DeviceId>,
    pub twins: Vec<(DeviceId, TwinRow)>,
    pub twins_gone: Vec<(DeviceId, String)>,
    /// Room, key and value in `kedge_state`; without a value the key goes.
    pub states: Vec<(&'static str, String, Option<Value>)>,
}

impl DeviceChange {
    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
            && self.devices_gone.is_empty()
            && self.twins.is_empty()
            && self.twins_gone.is_empty()
            && self.states.is_empty()
    }
}

pub(super) fn change(db: &Connection, change: &DeviceChange) -> rusqlite::Result<()> {
    for id in &change.devices_gone {
        delete(db, id)?;
    }
    for row in &change.devices {
        put(db, row)?;
    }
    for (id, row) in &change.twins {
        put_twin(db, id, row)?;
    }
    for (id, property) in &change.twins_gone {
        delete_twin(db, id, property)?;
    }
    for (room, key, value) in &change.states {
        match value {
            Some(value) => state::put(db, room, key, &value.to_string())?,
            None => state::delete(db, room, key)?,
        }
    }
    Ok(())
}

fn json<T: serde::Serialize>(value: &T) -> Option<String> {
    serde_json::to_string(value).ok()
}

fn parse<T: serde::de::DeserializeOwned>(text: Option<&str>) -> Option<T> {
    text.filter(|text| !text.is_empty()).and_then(|text| serde_json::from_str(text).ok())
}

const DEVICE_COLUMNS: &str = "id, name, description, state, last_online";

pub(super) fn list(db: &Connection) -> rusqlite::Result<Vec<DeviceRow>> {
    let mut statement = db.prepare_cached(&format!("SELECT {DEVICE_COLUMNS} FROM device ORDER BY id"))?;
    let rows = statement.query_map([], device_row)?;
    // An id that is no device id cannot be addressed by anything; it is passed over.
    rows.filter_map(Result::transpose).collect()
}

pub(super) fn get(db: &Connection, id: &DeviceId) -> rusqlite::Result<Option<DeviceRow>> {
    let found = db
        .prepare_cached(&format!("SELECT {DEVICE_COLUMNS} FROM device WHERE id = ?1"))?
        .query_row([id.to_string()], device_row)
        .optional()?;
    Ok(found.flatten())
}

fn device_row(row: &Row<'_>) -> rusqlite::Result<Option<DeviceRow>> {
    let id: String = row.get(0)?;
    let Some(id) = DeviceId::parse(&id) else { return Ok(None) };
    let text = |column| row.get::<_, Option<String>>(column).map(Option::unwrap_or_default);
    Ok(Some(DeviceRow { id, name: text(1)?, description: text(2)?, state: text(3)?, last_online: text(4)? }))
}

fn put(db: &Connection, row: &DeviceRow) -> rusqlite::Result<()> {
    db.prepare_cached(&format!(
        "INSERT OR REPLACE INTO device ({DEVICE_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5)"
    ))?
    .execute(params![row.id.to_string(), row.name, row.description, row.state, row.last_online])?;
    Ok(())
}

fn delete(db: &Connection, id: &DeviceId) -> rusqlite::Result<()> {
    let id = id.to_string();
    db.prepare_cached("DELETE FROM device WHERE id = ?1")?.execute([&id])?;
    db.prepare_cached("DELETE FROM device_attr WHERE deviceid = ?1")?.execute([&id])?;
    db.prepare_cached("DELETE FROM device_twin WHERE deviceid = ?1")?.execute([&id])?;
    Ok(())
}

pub(super) fn twins(db: &Connection, id: &DeviceId) -> rusqlite::Result<Vec<TwinRow>> {
    let mut statement = db.prepare_cached(
        "SELECT name, description, expected, actual, expected_meta, actual_meta, expected_version, actual_version, \
         optional, attr_type, metadata FROM device_twin WHERE deviceid = ?1 ORDER BY name",
    )?;
    let rows = statement.query_map([id.to_string()], |row| {
        Ok(TwinRow {
            name: row.get::<_, Option<String>>(0)?.unwrap_or_default(),
            description: row.get::<_, Option<String>>(1)?.unwrap_or_default(),
            expected: row.get(2)?,
            actual: row.get(3)?,
            expected_meta: row.get(4)?,
            actual_meta: row.get(5)?,
            expected_version: row.get(6)?,
            actual_version: row.get(7)?,
            optional: row.get::<_, Option<bool>>(8)?.unwrap_or(true),
            attr_type: row.get::<_, Option<String>>(9)?.unwrap_or_default(),
            metadata: row.get(10)?,
        })
    })?;
    rows.collect()
}

fn put_twin(db: &Connection, id: &DeviceId, row: &TwinRow) -> rusqlite::Result<()> {
    let id = id.to_string();
    let values = params![
        id,
        row.name,
        row.description,
        row.expected,
        row.actual,
        row.expected_meta,
        row.actual_meta,
        row.expected_version,
        row.actual_version,
        row.optional,
        row.attr_type,
        row.metadata
    ];
    // KubeEdge's table has no unique key on device and name, so an upsert is an update or else an insert.
    let mut update = db.prepare_cached(
        "UPDATE device_twin SET description=?3, expected=?4, actual=?5, expected_meta=?6, actual_meta=?7, \
         expected_version=?8, actual_version=?9, optional=?10, attr_type=?11, metadata=?12 \
         WHERE deviceid=?1 AND name=?2",
    )?;
    if update.execute(values)? == 0 {
        db.prepare_cached(
            "INSERT INTO device_twin (deviceid, name, description, expected, actual, expected_meta, actual_meta, \
             expected_version, actual_version, optional, attr_type, metadata) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(values)?;
    }
    Ok(())
}

fn delete_twin(db: &Connection, id: &DeviceId, property: &str) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM device_twin WHERE deviceid = ?1 AND name = ?2")?
        .execute(params![id.to_string(), property])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_all_of_a_property() {
        let property: TwinProperty = serde_json::from_str(
            r#"{"expected":{"value":"","metadata":{"timestamp":5}},"actual":{"value":"21.5"},"optional":false,
                "metadata":{"type":"float","unit":"C"},"expected_version":{"cloud":1,"edge":2}}"#,
        )
        .unwrap();
        let row = TwinRow::from_property("temperature", &property);
        assert_eq!(row.expected_meta.as_deref(), Some(r#"{"timestamp":5}"#));
        assert_eq!(row.expected_version.as_deref(), Some(r#"{"cloud":1,"edge":2}"#));
        assert_eq!((row.attr_type.as_str(), row.metadata.as_deref()), ("float", Some(r#"{"unit":"C"}"#)));
        assert_eq!(row.to_property(), property);
    }
}
