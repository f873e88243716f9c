//! Controllers that keep the cluster in order: garbage, namespaces, service accounts, endpoints, nodes, old Events.

pub(super) mod accounts;
pub(super) mod endpoints;
pub(super) mod eviction;
pub(super) mod expiry;
pub(super) mod garbage;
pub(super) mod namespaces;
pub(super) mod nodes;
pub(super) mod orphaned_pods;
