//! The embedded Kubernetes API on SQLite, for one machine and small sites. Knows neither wing; clients reach it over
//! HTTPS, its own controllers through [`Local`].

pub mod kinds;
pub mod local;
pub mod patch;
pub mod schema;
pub mod selector;
pub mod types;
