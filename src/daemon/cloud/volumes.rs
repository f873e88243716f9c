//! Volume operations of a storage driver beside the cloud: it writes a letter to a unix socket, the node that the letter
//! names carries it out, its result is the answer (protocol.md §1.6, §4.7). The switchboard hands results in. A driver that
//! says nothing, or too much, disturbs nobody.

use super::hub::Hub;
use crate::base::{BoxFuture, Crew, Failure, Gone, Module, Ready, Stop, create_private_dir};
use crate::model::NodeName;
use crate::wire::csi::{LETTER_LIMIT, Letter, VolumeResult, refuse_letter};
use crate::wire::{Down, MessageId};
use serde_json::Value;
use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long a node may take; KubeEdge's cloud waits as long.
const NODE_LIMIT: Duration = Duration::from_secs(60);
const DRIVER_LIMIT: Duration = Duration::from_secs(5);
/// Operations at a time.
const AT_ONCE: usize = 64;

type Waiters = HashMap<(NodeName, MessageId), oneshot::Sender<VolumeResult>>;

/// Where results of nodes find who waits for them.
#[derive(Clone, Default)]
pub(super) struct Desk(Arc<Mutex<Waiters>>);

impl Desk {
    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A result: only the node that was asked can give it.
    pub(super) fn hand_in(&self, node: &NodeName, result: &VolumeResult) {
        match self.waiters().remove(&(node.clone(), result.of.clone())) {
            // Who asked may have gone.
            Some(waiter) => drop(waiter.send(result.clone())),
            None => tracing::debug!(%node, "nobody waits for the result of a volume operation"),
        }
    }
}

/// The module that serves the socket.
pub(super) struct Volumes {
    pub path: PathBuf,
    pub desk: Desk,
    pub hub: Hub,
}

impl Module for Volumes {
    fn name(&self) -> &'static str {
        "volumes"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            ready.set();
            let listener = match self.bind() {
                Ok(listener) => listener,
                // Few clusters have such a driver: the cloud goes on without its socket.
                Err(failure) => {
                    tracing::warn!(code = failure.code, error = %failure, "storage drivers are not served");
                    stop.raised().await;
                    return Ok(());
                }
            };
            let mut crew = Crew::new();
            while let Some(accepted) = stop.or(listener.accept()).await {
                let Ok((stream, _)) = accepted else { continue };
                if crew.len() >= AT_ONCE {
                    tracing::warn!("too many volume operations at a time; one is dropped");
                    continue;
                }
                crew.spawn(serve(stream, self.desk.clone(), self.hub.clone()));
            }
            drop(std::fs::remove_file(&self.path));
            Ok(())
        })
    }
}

impl Volumes {
    pub(super) fn bind(&self) -> Result<UnixListener, Failure> {
        let unopened = |why: String| {
            Failure::new(
                "KE-CLOUD-040",
                format!("cannot open the storage drivers' socket {}", self.path.display()),
            )
            .because(why)
            .fix("check that its directory exists and is writable, or switch modules.cloudHub.unixsocket off")
        };
        if let Some(dir) = self.path.parent().filter(|dir| !dir.exists()) {
            create_private_dir(dir).map_err(|failure| unopened(failure.to_string()))?;
        }
        drop(std::fs::remove_file(&self.path));
        let bound = UnixListener::bind(&self.path).and_then(|listener| {
            std::fs::set_permissions(&self.path, std::fs::Permissions::from_mode(0o600))?;
            Ok(listener)
        });
        bound.map_err(|error| unopened(error.to_string()))
    }
}

async fn serve(mut stream: UnixStream, desk: Desk, hub: Hub) {
    let answer = match timeout(DRIVER_LIMIT, letter(&mut stream)).await {
        Ok(Ok(letter)) => {
            let outcome = carry_out(&letter, &desk, &hub).await;
            letter.answer(outcome)
        }
        Ok(Err(why)) => refuse_letter(why),
        Err(_) => refuse_letter("the letter has no end"),
    };
    drop(timeout(DRIVER_LIMIT, stream.write_all(answer.as_bytes())).await);
}

/// Reads until the letter is whole: the driver does not close its side.
async fn letter(stream: &mut UnixStream) -> Result<Letter, &'static str> {
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 4096];
        let read = stream.read(&mut part).await.map_err(|_| "the letter cannot be read")?;
        bytes.extend_from_slice(part.get(..read).unwrap_or_default());
        if bytes.len() > LETTER_LIMIT {
            return Err("the letter is too large");
        }
        match Letter::decode(&bytes) {
            Some(letter) => return letter,
            None if read == 0 => return Err("the letter is not JSON"),
            None => {}
        }
    }
}

async fn carry_out(letter: &Letter, desk: &Desk, hub: &Hub) -> Result<Value, String> {
    let Letter { node, order, .. } = letter;
    if !hub.nodes().borrow().contains_key(node) {
        return Err(format!("node {node} is not connected"));
    }
    let key = (node.clone(), order.id.clone());
    let (waiter, result) = oneshot::channel();
    desk.waiters().insert(key.clone(), waiter);
    let told = hub.tell(node.clone(), Down::Volume(order.clone())).await;
    let outcome = match told {
        Err(Gone) => Err("the cloud ends".to_owned()),
        Ok(()) => match timeout(NODE_LIMIT, result).await {
            Ok(Ok(result)) => result.outcome,
            Ok(Err(_)) | Err(_) => Err(format!("node {node} gives no result")),
        },
    };
    desk.waiters().remove(&key);
    outcome
}
