//! This machine: the container runtime's process and configuration, CNI, images, facts, ports, checks of all that, and
//! the journal of what kedge changed on it; its service manager.

pub mod bundle;
pub mod capabilities;
pub mod check;
pub mod cni;
pub mod containerd;
mod descriptor;
pub mod dns;
pub mod facts;
pub mod forward;
pub mod images;
pub mod journal;
pub mod mounts;
pub mod names;
pub mod neighbours;
pub mod notice;
pub mod ports;
pub mod preflight;
mod process;
mod programs;
pub mod remedy;
pub mod routes;
pub mod service;
pub mod usage;
pub mod versions;

pub use descriptor::raise_open_files_limit;
pub use process::Watched;
