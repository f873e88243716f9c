//! KubeEdge's custom resources: their names, scopes and schemas, and the CustomResourceDefinitions made from them.
//! The cloud installs them and `manifests/crds/` holds the same as YAML; a test compares. Objects of these kinds stay JSON:
//! nothing here parses one into a struct.

mod definitions;
mod schema;

pub use definitions::{Resource, all, all_crds};

#[cfg(test)]
mod tests;
