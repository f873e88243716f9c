//! This machine: the container runtime's process and configuration, CNI, images, facts, ports, and the journal of what
//! kedge changed on it.

pub mod capabilities;
pub mod cni;
pub mod containerd;
mod descriptor;
pub mod facts;
pub mod images;
pub mod journal;
pub mod notice;
pub mod ports;
mod process;
mod programs;

pub use descriptor::raise_open_files_limit;
