//! Rows of `kedge_state`: small values that a module keeps for its next start, by room and key.
//! Pure SQL over a connection; the door and the reader call it.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

pub(super) fn put(db: &Connection, room: &str, key: &str, text: &str) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO kedge_state (room, key, value) VALUES (?1, ?2, ?3)")?
        .execute(params![room, key, text])?;
    Ok(())
}

pub(super) fn get(db: &Connection, room: &str, key: &str) -> rusqlite::Result<Option<Value>> {
    let text: Option<String> = db
        .prepare_cached("SELECT value FROM kedge_state WHERE room = ?1 AND key = ?2")?
        .query_row([room, key], |row| row.get(0))
        .optional()?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

pub(super) fn list(db: &Connection, room: &str) -> rusqlite::Result<Vec<(String, Value)>> {
    let mut statement =
        db.prepare_cached("SELECT key, value FROM kedge_state WHERE room = ?1 ORDER BY key")?;
    let mut rows = statement.query([room])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (key, text): (String, String) = (row.get(0)?, row.get(1)?);
        if let Ok(value) = serde_json::from_str(&text) {
            found.push((key, value));
        }
    }
    Ok(found)
}

pub(super) fn delete(db: &Connection, room: &str, key: &str) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM kedge_state WHERE room = ?1 AND key = ?2")?.execute([room, key])?;
    Ok(())
}
