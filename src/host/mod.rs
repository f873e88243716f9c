//! This machine: the container runtime's process and configuration, CNI, images, facts, ports.

pub mod capabilities;
pub mod ports;
