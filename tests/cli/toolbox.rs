//! The operator's smaller commands, from the outside.

mod bugreport;
mod bundle;
mod cert;
mod config;
mod exec;
mod explain;
mod logs;
mod odd;
mod status;
