//! Events of the runtime, those of containerd among them. Declarations only; [`super`] says how they are written.

/// `runtime.v1.ContainerEventResponse`, as far as it names the container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerEvent {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(int32, tag = "2")]
    pub kind: i32,
}

/// `containerd.services.events.v1.SubscribeRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SubscribeRequest {
    #[prost(string, repeated, tag = "1")]
    pub filters: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: bytes::Bytes,
}

/// `containerd.services.events.v1.Envelope` without its time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EventEnvelope {
    #[prost(string, tag = "2")]
    pub namespace: String,
    #[prost(string, tag = "3")]
    pub topic: String,
    #[prost(message, optional, tag = "4")]
    pub event: Option<Any>,
}

/// The fields that containerd's `TaskExit` and `TaskDelete` share by number: who ended. `id` names the exec process
/// in `TaskExit` and is the container's own id for its first process.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TaskExit {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub id: String,
}
