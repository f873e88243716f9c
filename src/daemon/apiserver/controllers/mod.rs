//! The controllers of the embedded API: scheduler, workloads, endpoints, nodes, namespaces, garbage.
//!
//! A change in a collection → `runner::follow` → a controller's `keys` → its `queue` → `reconcile`: reads what is from
//! the API's own memory, lets a pure `decide` compare it with what is wanted, carries the difference out.
//! Controllers know each other only through the objects they write. The composition starts them with the API.

mod cluster;
mod collections;
mod events;
mod queue;
mod read;
mod runner;
mod scheduler;
#[cfg(test)]
mod tests;
mod workload;

use super::local::Local;
use crate::base::{BoxFuture, Crew, Failure, Module, Ready, Stop};
use cluster::{accounts, endpoints, eviction, expiry, garbage, namespaces, nodes, orphaned_pods};
use events::Recorder;
use runner::{World, run};
use workload::{cron_job, daemon_set, deployment, job, replica_set, stateful_set};

/// What controllers must be told.
#[derive(Clone, Debug)]
pub struct ControllerOptions {
    /// Certificate authority that pods find in `kube-root-ca.crt`.
    pub cluster_ca_pem: String,
}

/// The modules that run all controllers.
pub fn modules(local: Local, options: ControllerOptions) -> Vec<Box<dyn Module>> {
    vec![Box::new(Controllers { local, options })]
}

struct Controllers {
    local: Local,
    options: ControllerOptions,
}

impl Module for Controllers {
    fn name(&self) -> &'static str {
        "controllers"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let mut crew = Crew::new();
            let (events, notes) = Recorder::new();
            crew.spawn(events::write(self.local.clone(), notes));
            let world = World { local: self.local.clone(), events };
            start_workloads(&mut crew, &world, &stop);
            self.start_cluster(&mut crew, &world, &stop);
            ready.set();
            attend(crew, &stop).await
        })
    }
}

/// Lets the controllers work until the stop, or until one of them has ended.
async fn attend(mut crew: Crew, stop: &Stop) -> Result<(), Failure> {
    let ended = stop.or(crew.ended()).await;
    crew.abort().await;
    match ended {
        Some(Some(Err(why))) => Err(Failure::new("KE-API-020", "a controller stopped")
            .because(why)
            .fix("nothing, it is started again; if it repeats, send `kedge bugreport` to the developers")),
        _ => Ok(()),
    }
}

fn start_workloads(crew: &mut Crew, world: &World, stop: &Stop) {
    let (own, stop) = (|| world.clone(), || stop.clone());
    crew.spawn(run(scheduler::Scheduler(own()), own(), stop()));
    crew.spawn(run(replica_set::ReplicaSets(own()), own(), stop()));
    crew.spawn(run(deployment::Deployments(own()), own(), stop()));
    crew.spawn(run(daemon_set::DaemonSets(own()), own(), stop()));
    crew.spawn(run(stateful_set::StatefulSets(own()), own(), stop()));
    crew.spawn(run(job::Jobs(own()), own(), stop()));
    crew.spawn(run(cron_job::CronJobs(own()), own(), stop()));
}

impl Controllers {
    fn start_cluster(&self, crew: &mut Crew, world: &World, stop: &Stop) {
        let (own, stop) = (|| world.clone(), || stop.clone());
        let accounts = accounts::Accounts { world: own(), ca_pem: self.options.cluster_ca_pem.clone() };
        crew.spawn(run(accounts, own(), stop()));
        crew.spawn(run(endpoints::Endpoints(own()), own(), stop()));
        crew.spawn(run(nodes::Nodes::new(own()), own(), stop()));
        crew.spawn(run(eviction::Eviction(own()), own(), stop()));
        crew.spawn(run(orphaned_pods::OrphanedPods::new(own()), own(), stop()));
        crew.spawn(run(namespaces::Namespaces(own()), own(), stop()));
        crew.spawn(run(garbage::Garbage::new(own()), own(), stop()));
        crew.spawn(run(expiry::Expiry(own()), own(), stop()));
    }
}
