//! kedge: KubeEdge's cloud and edge in one binary. The list below is the layer map: what stands above may be
//! used by what stands below, never back. The test at the end reads the imports and enforces it.

pub mod base;

pub mod config;
pub mod model;
pub mod wire;

pub mod cri;
pub mod host;
pub mod link;
pub mod pki;
pub mod store;

pub mod daemon;

pub mod cmd;

#[cfg(test)]
mod layers;
