//! The built-in collections that controllers work on.

use crate::daemon::apiserver::local::Collection;

pub(super) const PODS: Collection = Collection::of("", "pods");
pub(super) const NODES: Collection = Collection::of("", "nodes");
pub(super) const NAMESPACES: Collection = Collection::of("", "namespaces");
pub(super) const SERVICES: Collection = Collection::of("", "services");
pub(super) const ENDPOINTS: Collection = Collection::of("", "endpoints");
pub(super) const CONFIG_MAPS: Collection = Collection::of("", "configmaps");
pub(super) const SERVICE_ACCOUNTS: Collection = Collection::of("", "serviceaccounts");
pub(super) const CLAIMS: Collection = Collection::of("", "persistentvolumeclaims");
pub(super) const ENDPOINT_SLICES: Collection = Collection::of("discovery.k8s.io", "endpointslices");
pub(super) const LEASES: Collection = Collection::of("coordination.k8s.io", "leases");
pub(super) const DEPLOYMENTS: Collection = Collection::of("apps", "deployments");
pub(super) const REPLICA_SETS: Collection = Collection::of("apps", "replicasets");
pub(super) const DAEMON_SETS: Collection = Collection::of("apps", "daemonsets");
pub(super) const STATEFUL_SETS: Collection = Collection::of("apps", "statefulsets");
pub(super) const JOBS: Collection = Collection::of("batch", "jobs");
pub(super) const CRON_JOBS: Collection = Collection::of("batch", "cronjobs");
