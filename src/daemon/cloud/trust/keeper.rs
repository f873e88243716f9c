//! Keeps trust true while the cloud runs: files and Secrets that change are taken over, a server certificate is renewed
//! before it ends, a Secret that vanishes is written again. What cannot be used is told once and changes nothing.

use super::secrets::NAMESPACE;
use super::{CA_SECRET, SERVER_SECRET, due, establish};
use crate::base::{Backoff, BoxFuture, Crew, Failure, Module, Ready, Stop, now};
use crate::config::cloud::HubConfig;
use crate::daemon::cloud::hub::Trust;
use crate::daemon::cloud::kubernetes::{Event, Kube, Resource, Scope, follow, meta};
use crate::pki::WatchedFiles;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

const SELECTORS: [&str; 2] =
    ["fieldSelector=metadata.name%3Dcasecret", "fieldSelector=metadata.name%3Dcloudcoresecret"];
/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

pub(in crate::daemon::cloud) struct Keeper {
    pub kube: Kube,
    pub hub: HubConfig,
    pub trust: watch::Sender<Trust>,
}

impl Module for Keeper {
    fn name(&self) -> &'static str {
        "trust"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let mut crew = Crew::new();
            let (sender, mut events) = mpsc::channel(4);
            for selector in SELECTORS {
                let (kube, sender) = (self.kube.clone(), sender.clone());
                let scope = Scope { resource: Resource::SECRET, selector };
                crew.spawn(async move { drop(follow(kube, scope, sender).await) });
            }
            let hub = &self.hub;
            let paths = [&hub.ca_file, &hub.ca_key_file, &hub.cert_file, &hub.key_file];
            let mut files = WatchedFiles::new(paths.map(Clone::clone));
            let mut look = tokio::time::interval(LOOK);
            look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
            let (mut last_code, mut pending) = ("", None::<tokio::time::Instant>);
            ready.set();
            loop {
                let wanted = tokio::select! {
                    biased;
                    () = stop.raised() => return Ok(()),
                    event = events.recv() => is_ours(event)?,
                    _ = look.tick() => {
                        let retry = pending.is_some_and(|at| at <= tokio::time::Instant::now());
                        // Four small look-ups a second need no thread of their own.
                        files.have_changed() || retry || (pending.is_none() && self.is_due())
                    }
                };
                if !wanted {
                    continue;
                }
                let Some(outcome) = stop.or(self.look_again()).await else { return Ok(()) };
                match outcome {
                    Ok(()) => {
                        (last_code, pending) = ("", None);
                        backoff.reset();
                    }
                    Err(failure) => {
                        if failure.code != last_code {
                            tracing::warn!(code = failure.code, error = %failure, fix = failure.fix, "the cloud's certificates stay as they are");
                            last_code = failure.code;
                        }
                        pending = Some(tokio::time::Instant::now() + backoff.next_wait());
                    }
                }
            }
        })
    }
}

/// Whether an event is about one of the cloud's own Secrets; without one the watch has ended.
fn is_ours(event: Option<Event>) -> Result<bool, Failure> {
    match event {
        Some(Event::Applied { object, .. } | Event::Deleted(object)) => {
            let named = [CA_SECRET, SERVER_SECRET].contains(&meta(&object, "name"));
            Ok(named && meta(&object, "namespace") == NAMESPACE)
        }
        Some(Event::Listing | Event::Listed) => Ok(false),
        None => Err(Failure::new("KE-CLOUD-026", "the watch of the cloud's Secrets ended")
            .because("the part that follows it has broken off")
            .fix("nothing, it is begun anew; if it repeats, send `kedge bugreport` to the developers")),
    }
}

impl Keeper {
    fn is_due(&self) -> bool {
        let by = due(&self.trust.borrow().identity);
        // A certificate from a file cannot be renewed here; its owner replaces it.
        !self.hub.cert_file.exists() && by.is_some_and(|by| now().as_second() >= by)
    }

    async fn look_again(&self) -> Result<(), Failure> {
        let current = self.trust.borrow().clone();
        let new = establish(&self.kube, &self.hub, Some(&current)).await?;
        let authority = new.authority.cert_der() != current.authority.cert_der();
        let accepted = new.accepted_pem != current.accepted_pem;
        let identity = new.identity != current.identity;
        if authority || accepted || identity {
            tracing::info!(authority, accepted, identity, "the cloud's certificates have changed");
            self.trust.send_replace(new);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_clouds_own_secrets_count_and_the_watchs_end_is_told() {
        let event = |name: &str, namespace: &str| {
            let metadata = json!({"name": name, "namespace": namespace});
            Some(Event::Applied { object: json!({"metadata": metadata}), listed: false })
        };
        assert_eq!(is_ours(event(CA_SECRET, NAMESPACE)), Ok(true));
        assert_eq!(is_ours(event(CA_SECRET, "default")), Ok(false));
        assert_eq!(is_ours(event("other", NAMESPACE)), Ok(false));
        assert_eq!(is_ours(None).unwrap_err().committed().code, "KE-CLOUD-026");
    }
}
