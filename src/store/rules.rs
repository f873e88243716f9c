//! Rows of `sub_topics` and `target_urls` (protocol.md §10.1): what rules of the cloud have this node listen to.
//! Pure SQL over a connection; the door calls it.

use rusqlite::Connection;

/// Which list of a node's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleList {
    /// MQTT topics that are uploaded.
    Topics,
    /// URLs that programs on the node may call through the cloud.
    Urls,
}

impl RuleList {
    fn table(self) -> (&'static str, &'static str) {
        match self {
            RuleList::Topics => ("sub_topics", "topic"),
            RuleList::Urls => ("target_urls", "url"),
        }
    }
}

pub(super) fn put(db: &Connection, list: RuleList, row: &str) -> rusqlite::Result<()> {
    let (table, column) = list.table();
    db.prepare_cached(&format!("INSERT OR REPLACE INTO {table} ({column}) VALUES (?1)"))?.execute([row])?;
    Ok(())
}

pub(super) fn delete(db: &Connection, list: RuleList, row: &str) -> rusqlite::Result<()> {
    let (table, column) = list.table();
    db.prepare_cached(&format!("DELETE FROM {table} WHERE {column} = ?1"))?.execute([row])?;
    Ok(())
}

pub(super) fn all(db: &Connection, list: RuleList) -> rusqlite::Result<Vec<String>> {
    let (table, column) = list.table();
    let mut statement = db.prepare_cached(&format!(
        "SELECT {column} FROM {table} WHERE {column} IS NOT NULL ORDER BY {column}"
    ))?;
    let rows = statement.query_map([], |row| row.get(0))?;
    rows.collect()
}
