//! The embedded Kubernetes API on SQLite, for one machine and small sites. Knows neither wing; clients reach it over
//! HTTPS, its own controllers through [`Local`](local::Local).

pub mod apply;
pub mod catalog;
pub mod errors;
pub mod kinds;
pub mod local;
pub mod ops;
pub mod patch;
pub mod schema;
pub mod selector;
pub mod storage;
pub mod table;
pub mod types;
