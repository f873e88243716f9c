//! Waits until the daemon that was started is Ready, and tells each milestone as it is reached. It asks the daemon's
//! status socket and looks after the daemon itself; it changes nothing.

use super::account::Account;
use super::milestones::{Milestone, OF_THE_DAEMON, Progress, progress};
use crate::base::Stop;
use crate::daemon::status;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// How often the daemon is asked.
const PACE: Duration = Duration::from_millis(100);

/// What is said of a daemon that does not answer.
pub(super) const SILENT: &str = "the daemon does not answer on its status socket";

/// Why the node is not Ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    Interrupted,
    /// The time is up; the milestone was pending for this reason.
    TimedOut {
        pending: Milestone,
        why: String,
        fix: String,
    },
    /// The daemon does not run any more; its last words.
    Ended(String),
}

/// What to wait for.
pub(super) struct Watch<'a, F> {
    pub socket: &'a Path,
    pub limit: Duration,
    pub stop: &'a Stop,
    /// The daemon's last words once it has ended for good.
    pub ended: F,
}

impl<F: Fn() -> Option<String>> Watch<'_, F> {
    /// Returns when the last milestone is reached.
    pub(super) async fn until_ready(&self, account: &mut Account<'_>) -> Result<(), Missed> {
        let deadline = Instant::now() + self.limit;
        let mut waiting = OF_THE_DAEMON.into_iter();
        let mut pending = waiting.next();
        let mut document = Value::Null;
        let mut begun = None;
        while let Some(milestone) = pending {
            if begun != Some(milestone) {
                account.begin(milestone);
                begun = Some(milestone);
            }
            if let Progress::Reached(detail) = progress(milestone, &document) {
                account.reached(milestone, &detail);
                pending = waiting.next();
                continue;
            }
            if Instant::now() >= deadline {
                return Err(late(milestone, &document));
            }
            if self.stop.or(tokio::time::sleep(PACE)).await.is_none() {
                return Err(Missed::Interrupted);
            }
            if let Some(words) = (self.ended)() {
                return Err(Missed::Ended(words));
            }
            document = ask(self.socket.to_owned()).await;
        }
        Ok(())
    }
}

/// What the daemon says; null while it does not answer.
pub(super) async fn ask(socket: PathBuf) -> Value {
    let asked = tokio::task::spawn_blocking(move || status::ask(&socket));
    asked.await.ok().and_then(Result::ok).unwrap_or_default()
}

/// Whether the daemon behind the socket is this node and Ready.
pub(super) fn is_ready(document: &Value, node: &str) -> bool {
    let reached = |milestone| matches!(progress(milestone, document), Progress::Reached(_));
    document.pointer("/node/name").and_then(Value::as_str) == Some(node)
        && OF_THE_DAEMON.into_iter().all(reached)
}

fn late(pending: Milestone, document: &Value) -> Missed {
    if document.is_null() {
        let fix = "mend what the daemon says and join again".to_owned();
        return Missed::TimedOut { pending, why: SILENT.to_owned(), fix };
    }
    match progress(pending, document) {
        Progress::Pending { why, fix } => Missed::TimedOut { pending, why, fix },
        Progress::Reached(why) => Missed::TimedOut { pending, why, fix: String::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Module, Ready};
    use crate::base::{Output, Term};
    use crate::daemon::status::{Facts, StatusSocket};
    use serde_json::json;
    use std::sync::{Arc, Mutex};

    fn watch<'a>(socket: &'a Path, stop: &'a Stop) -> Watch<'a, impl Fn() -> Option<String>> {
        Watch { socket, limit: Duration::from_millis(300), stop, ended: || None }
    }

    fn account(term: &Term) -> Account<'_> {
        Account::new(Output::Text, false, term)
    }

    #[tokio::test]
    async fn the_last_milestone_ends_the_wait_and_the_pending_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let document = Arc::new(Mutex::new(json!({"link": {"link": "up"}, "node": {"name": "n"}})));
        let told = document.clone();
        let facts: Facts = Arc::new(move || {
            let now = told.lock().unwrap().clone();
            Box::pin(async move { now })
        });
        let stop = Stop::new();
        let mut module = StatusSocket::new(socket.clone(), facts);
        let test = async {
            let missed =
                watch(&socket, &stop).until_ready(&mut account(&Term::new(true, true))).await.unwrap_err();
            assert!(matches!(missed, Missed::TimedOut { pending: Milestone::Node, .. }), "{missed:?}");
            let ready = json!({"link": {"link": "up"}, "runtime": {"state": "ready"},
                "node": {"name": "n", "registered": true, "ready": true, "confirmed": true}});
            assert!(is_ready(&ready, "n") && !is_ready(&ready, "other"));
            *document.lock().unwrap() = ready;
            watch(&socket, &stop).until_ready(&mut account(&Term::new(true, true))).await.unwrap();
            stop.raise();
        };
        let (ended, ()) = tokio::join!(module.run(stop.clone(), Ready::detached("status")), test);
        ended.unwrap();
    }

    #[tokio::test]
    async fn a_daemon_that_ends_and_an_interruption_end_the_wait() {
        let stop = Stop::new();
        let nowhere = Path::new("/nonexistent/s");
        let silent =
            watch(nowhere, &stop).until_ready(&mut account(&Term::new(true, true))).await.unwrap_err();
        assert!(matches!(silent, Missed::TimedOut { pending: Milestone::Session, .. }), "{silent:?}");
        let ended = || Some("its last words".to_owned());
        let ended = Watch { socket: nowhere, limit: Duration::from_secs(9), stop: &stop, ended };
        let words = ended.until_ready(&mut account(&Term::new(true, true))).await.unwrap_err();
        assert_eq!(words, Missed::Ended("its last words".to_owned()));
        stop.raise();
        assert_eq!(
            watch(nowhere, &stop).until_ready(&mut account(&Term::new(true, true))).await,
            Err(Missed::Interrupted)
        );
    }
}
