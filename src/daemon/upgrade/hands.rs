//! What the decisions about slots do to this node: daemons of a slot end, the database and the configuration of a backup
//! take the place of the present ones.

use super::running::end_daemons;
use super::{Site, backup};
use crate::base::Failure;
use crate::config::edge::EdgeConfig;
use crate::host::versions::{self, Exchange};
use crate::model::Release;
use crate::store;
use std::path::PathBuf;
use std::time::Duration;

/// The hands of this node.
pub(super) struct Hands<'a> {
    pub site: &'a Site,
    /// How long a daemon may take to end; `None` leaves daemons alone: the caller has none or is none.
    pub farewell: Option<Duration>,
}

impl Hands<'_> {
    /// The database of the configuration, or of the newest backup where a version has made that unreadable.
    fn database(&self) -> Option<PathBuf> {
        let configured = EdgeConfig::load(&self.site.config).ok().map(|loaded| loaded.config.database);
        configured
            .or_else(|| backup::list(&self.site.backups).iter().rev().find_map(backup::Backup::database))
    }
}

impl versions::Hands for Hands<'_> {
    fn layout(&self) -> Option<u32> {
        store::layout(&self.database()?)
    }

    fn end(&mut self, version: &Release) {
        if let Some(limit) = self.farewell {
            end_daemons(&self.site.versions, version, limit);
        }
    }

    fn keep(&mut self, name: &str, version: &Release) -> Result<(), Failure> {
        let Some(database) = self.database() else { return Ok(()) };
        backup::keep(&self.site.backups, name, &version.bare(), &database, &self.site.config)
    }

    fn exchange(&mut self, exchange: &Exchange) -> Result<(), Failure> {
        let Some(database) = self.database() else { return Ok(()) };
        tracing::warn!(
            back = exchange.back,
            aside = exchange.aside,
            "database and configuration are exchanged"
        );
        backup::exchange(&self.site.backups, exchange, &database, &self.site.config)
    }
}
