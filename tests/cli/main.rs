//! The binary from the outside, as a person or a script meets it. `support` holds the harness; each file is a topic.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on says so by panicking")]

mod authorization;
mod basics;
mod bootstrap;
mod cloudcore;
mod cluster;
mod codes;
mod codes_join;
mod devices;
mod doctor;
mod doctor_fix;
mod doctor_ways;
mod edgecore;
mod faults;
mod fleet;
mod fleet_upgrade;
mod full_disk;
mod hazards;
mod help;
mod hostile;
mod house;
mod init;
mod join;
mod join_events;
mod kubectl;
mod lifecycle;
mod manual;
mod metrics;
mod mqtt_external;
mod offline;
mod pods;
mod replicas;
mod reset;
mod router;
mod said;
mod service;
mod sessions;
mod support;
mod takeover;
mod terminal;
mod toolbox;
mod traps;
mod up;
mod upgrade;
mod waves;
