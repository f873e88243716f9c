//! Controllers that keep pods: ReplicaSet, Deployment, DaemonSet, StatefulSet, Job, CronJob.
//!
//! Each file has a pure `decide` (objects in, plan out) and a controller that carries the plan out. `family` is what
//! they share: whose pods are whose, how a pod is made from a template, how a status is written.

pub(super) mod cron_job;
pub(super) mod daemon_set;
pub(super) mod deployment;
mod family;
pub(super) mod job;
pub(super) mod replica_set;
mod rollout;
mod schedule;
pub(super) mod stateful_set;
