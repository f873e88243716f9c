//! Hears at once when a container ends: containerd's own event stream, else CRI's, else a listing every second.
//! The pod room reads it. It says which container changed, never what to do about it.

use super::client::{CallError, Runtime};
use super::messages::{ContainerEvent, Empty, EventEnvelope, SubscribeRequest, TaskExit};
use prost::Message;
use std::pin::Pin;
use std::time::Duration;

/// Something changed in the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// This container or sandbox ended.
    Ended { id: String },
    /// Anything may have changed: the runtime tells no more than that.
    LookAgain,
}

/// A subscription; it ends when the runtime does.
pub struct Events(Source);

enum Source {
    /// Asked for, but the runtime answers only with its first event.
    Opening(Pin<Box<dyn Future<Output = Result<Source, CallError>> + Send>>),
    Containerd(tonic::Streaming<EventEnvelope>),
    Cri(tonic::Streaming<ContainerEvent>),
    Relist(tokio::time::Interval),
}

const RELIST: Duration = Duration::from_secs(1);
/// Long enough for a refusal to arrive; a subscription that is accepted stays silent.
const REFUSAL: Duration = Duration::from_millis(20);

impl Runtime {
    /// Subscribes to the best source of events that this runtime has.
    pub async fn events(&self) -> Result<Events, CallError> {
        self.version().await?;
        let mut opening: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(open(self.clone()));
        match tokio::time::timeout(REFUSAL, &mut opening).await {
            Ok(source) => source.map(Events),
            Err(_) => Ok(Events(Source::Opening(opening))),
        }
    }
}

async fn open(runtime: Runtime) -> Result<Source, CallError> {
    let filters = vec![
        r#"namespace==k8s.io,topic=="/tasks/exit""#.to_owned(),
        r#"namespace==k8s.io,topic=="/tasks/delete""#.to_owned(),
    ];
    let containerd = runtime
        .subscribe(
            "Events/Subscribe",
            "/containerd.services.events.v1.Events/Subscribe",
            SubscribeRequest { filters },
        )
        .await;
    match containerd {
        Ok(stream) => return Ok(Source::Containerd(stream)),
        Err(CallError::Unimplemented { .. }) => {}
        Err(error) => return Err(error),
    }
    let cri = runtime
        .subscribe("GetContainerEvents", "/runtime.v1.RuntimeService/GetContainerEvents", Empty {})
        .await;
    match cri {
        Ok(stream) => Ok(Source::Cri(stream)),
        Err(CallError::Unimplemented { .. }) => Ok(Source::Relist(tokio::time::interval(RELIST))),
        Err(error) => Err(error),
    }
}

impl Events {
    /// The next event; `None` when the stream has ended and must be opened again. Cancel-safe.
    pub async fn next(&mut self) -> Option<RuntimeEvent> {
        loop {
            match &mut self.0 {
                Source::Opening(opening) => self.0 = opening.await.ok()?,
                Source::Containerd(stream) => {
                    let envelope = stream.message().await.ok()??;
                    if let Some(event) = read(&envelope) {
                        return Some(event);
                    }
                }
                Source::Cri(stream) => {
                    let event = stream.message().await.ok()??;
                    return Some(RuntimeEvent::Ended { id: event.container_id });
                }
                Source::Relist(interval) => {
                    interval.tick().await;
                    return Some(RuntimeEvent::LookAgain);
                }
            }
        }
    }
}

/// Exits of exec processes (probes) are left out: they would wake the pod for nothing.
fn read(envelope: &EventEnvelope) -> Option<RuntimeEvent> {
    let exit = TaskExit::decode(envelope.event.as_ref()?.value.clone()).ok()?;
    let whole = envelope.topic != "/tasks/exit" || exit.id == exit.container_id;
    whole.then_some(RuntimeEvent::Ended { id: exit.container_id })
}

#[cfg(test)]
mod tests {
    use super::super::messages::Any;
    use super::*;

    fn envelope(topic: &str, container: &str, id: &str) -> EventEnvelope {
        let exit = TaskExit { container_id: container.into(), id: id.into() };
        let any = Any { type_url: String::new(), value: exit.encode_to_vec().into() };
        EventEnvelope { namespace: "k8s.io".into(), topic: topic.into(), event: Some(any) }
    }

    #[test]
    fn ends_of_containers_are_told_and_ends_of_exec_processes_are_not() {
        let ended = Some(RuntimeEvent::Ended { id: "c1".into() });
        assert_eq!(read(&envelope("/tasks/exit", "c1", "c1")), ended);
        assert_eq!(read(&envelope("/tasks/exit", "c1", "probe")), None);
    }

    #[test]
    fn an_event_that_cannot_be_read_is_skipped() {
        let mut broken = envelope("/tasks/exit", "c1", "c1");
        broken.event = Some(Any { type_url: String::new(), value: vec![0xff, 0xff].into() });
        assert_eq!(read(&broken), None);
    }
}
