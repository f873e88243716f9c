//! One method per CRI call. A call waits for the socket and the answer together for at most its own limit; the channel
//! connects on first use and again after the runtime restarts, so a [`Runtime`] outlives the runtime's process.

use super::messages::*;
use crate::base::deepest;
use hyper_util::rt::TokioIo;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

const QUICK: Duration = Duration::from_secs(10);
const CREATE: Duration = Duration::from_secs(120);
const SANDBOX: Duration = Duration::from_secs(240);
const PULL: Duration = Duration::from_secs(1800);
/// A list of a thousand containers with annotations stays far below this.
const ANSWER_LIMIT: usize = 16 << 20;

/// A CRI call that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("the container runtime at {socket} cannot be reached: {why}")]
    Unreachable { socket: String, why: String },
    #[error("{call} did not answer within {seconds} s")]
    TimedOut { call: &'static str, seconds: u64 },
    #[error("{message}")]
    NotFound { call: &'static str, message: String },
    #[error("{message}")]
    AlreadyExists { call: &'static str, message: String },
    #[error("the runtime does not know {call}")]
    Unimplemented { call: &'static str },
    #[error("{message}")]
    Refused { call: &'static str, message: String },
}

impl CallError {
    /// Whether the named thing does not exist, which is success for every removal.
    pub fn is_not_found(&self) -> bool {
        matches!(self, CallError::NotFound { .. })
    }

    /// Whether the runtime itself is away, so that trying again later is right.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, CallError::Unreachable { .. } | CallError::TimedOut { .. })
    }
}

/// A connection to one container runtime; cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    channel: Channel,
    socket: Arc<Path>,
}

impl Runtime {
    /// A client for this socket path or `unix://` URL; connects with the first call.
    pub fn new(endpoint: &str) -> Runtime {
        let path = PathBuf::from(endpoint.strip_prefix("unix://").unwrap_or(endpoint));
        let socket: Arc<Path> = path.into();
        let target = socket.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let target = target.clone();
            async move { UnixStream::connect(&*target).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://localhost")
            .connect_timeout(QUICK)
            .connect_with_connector_lazy(connector);
        Runtime { channel, socket }
    }

    /// The socket this client speaks to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub async fn version(&self) -> Result<VersionResponse, CallError> {
        let request = VersionRequest { version: "v1".to_owned() };
        self.call("Version", "/runtime.v1.RuntimeService/Version", request, QUICK).await
    }

    /// Asks in the way that runtimes before CRI v1 understand: only to tell why one of them cannot be used.
    pub async fn version_before_v1(&self) -> Result<VersionResponse, CallError> {
        let request = VersionRequest { version: "v1alpha2".to_owned() };
        self.call("Version", "/runtime.v1alpha2.RuntimeService/Version", request, QUICK).await
    }

    /// How the runtime is set up for control groups; older runtimes do not know the question.
    pub async fn runtime_config(&self) -> Result<RuntimeConfigResponse, CallError> {
        self.call("RuntimeConfig", "/runtime.v1.RuntimeService/RuntimeConfig", Empty {}, QUICK).await
    }

    /// The runtime's conditions; with `verbose` also its configuration as JSON.
    pub async fn status(&self, verbose: bool) -> Result<StatusResponse, CallError> {
        self.call("Status", "/runtime.v1.RuntimeService/Status", StatusRequest { verbose }, QUICK).await
    }

    /// Creates and starts a sandbox; answers its id.
    pub async fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Result<String, CallError> {
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        let answer: SandboxId =
            self.call("RunPodSandbox", "/runtime.v1.RuntimeService/RunPodSandbox", request, SANDBOX).await?;
        Ok(answer.pod_sandbox_id)
    }

    /// Kills what runs in the sandbox and gives its network back; done already is success.
    pub async fn stop_pod_sandbox(&self, id: &str) -> Result<(), CallError> {
        let request = SandboxId { pod_sandbox_id: id.to_owned() };
        let answer: Result<Empty, _> =
            self.call("StopPodSandbox", "/runtime.v1.RuntimeService/StopPodSandbox", request, CREATE).await;
        gone_is_done(answer)
    }

    /// Removes a sandbox with its containers; gone already is success.
    pub async fn remove_pod_sandbox(&self, id: &str) -> Result<(), CallError> {
        let request = SandboxId { pod_sandbox_id: id.to_owned() };
        let answer: Result<Empty, _> = self
            .call("RemovePodSandbox", "/runtime.v1.RuntimeService/RemovePodSandbox", request, CREATE)
            .await;
        gone_is_done(answer)
    }

    pub async fn pod_sandbox_status(
        &self,
        id: &str,
        verbose: bool,
    ) -> Result<PodSandboxStatusResponse, CallError> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose };
        self.call("PodSandboxStatus", "/runtime.v1.RuntimeService/PodSandboxStatus", request, QUICK).await
    }

    /// Sandboxes that carry all these labels.
    pub async fn list_pod_sandbox(&self, label_selector: Labels) -> Result<Vec<PodSandbox>, CallError> {
        let filter = PodSandboxFilter { id: String::new(), label_selector };
        let request = ListPodSandboxRequest { filter: Some(filter) };
        let answer: ListPodSandboxResponse =
            self.call("ListPodSandbox", "/runtime.v1.RuntimeService/ListPodSandbox", request, QUICK).await?;
        Ok(answer.items)
    }

    /// Creates a container; answers its id.
    pub async fn create_container(
        &self,
        sandbox: &str,
        config: ContainerConfig,
        sandbox_config: PodSandboxConfig,
    ) -> Result<String, CallError> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let answer: ContainerId = self
            .call("CreateContainer", "/runtime.v1.RuntimeService/CreateContainer", request, CREATE)
            .await?;
        Ok(answer.container_id)
    }

    pub async fn start_container(&self, id: &str) -> Result<(), CallError> {
        let request = ContainerId { container_id: id.to_owned() };
        let _: Empty =
            self.call("StartContainer", "/runtime.v1.RuntimeService/StartContainer", request, CREATE).await?;
        Ok(())
    }

    /// Sends the stop signal, waits up to `grace`, then kills; stopped already is success.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), CallError> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = StopContainerRequest { container_id: id.to_owned(), timeout };
        let limit = grace.saturating_add(CREATE);
        let answer: Result<Empty, _> =
            self.call("StopContainer", "/runtime.v1.RuntimeService/StopContainer", request, limit).await;
        gone_is_done(answer)
    }

    /// Removes a container; gone already is success.
    pub async fn remove_container(&self, id: &str) -> Result<(), CallError> {
        let request = ContainerId { container_id: id.to_owned() };
        let answer: Result<Empty, _> =
            self.call("RemoveContainer", "/runtime.v1.RuntimeService/RemoveContainer", request, CREATE).await;
        gone_is_done(answer)
    }

    /// Containers that match the filter; an empty filter matches all.
    pub async fn list_containers(&self, filter: ContainerFilter) -> Result<Vec<Container>, CallError> {
        let request = ListContainersRequest { filter: Some(filter) };
        let answer: ListContainersResponse =
            self.call("ListContainers", "/runtime.v1.RuntimeService/ListContainers", request, QUICK).await?;
        Ok(answer.containers)
    }

    pub async fn container_status(
        &self,
        id: &str,
        verbose: bool,
    ) -> Result<ContainerStatusResponse, CallError> {
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose };
        self.call("ContainerStatus", "/runtime.v1.RuntimeService/ContainerStatus", request, QUICK).await
    }

    /// What running containers that carry all these labels use.
    pub async fn list_container_stats(
        &self,
        label_selector: Labels,
    ) -> Result<Vec<ContainerStats>, CallError> {
        let request = ListContainerStatsRequest { filter: Some(ContainerStatsFilter { label_selector }) };
        let path = "/runtime.v1.RuntimeService/ListContainerStats";
        let answer: ListContainerStatsResponse =
            self.call("ListContainerStats", path, request, QUICK).await?;
        Ok(answer.stats)
    }

    /// What sandboxes that carry all these labels use; older runtimes do not know the question.
    pub async fn list_pod_sandbox_stats(
        &self,
        label_selector: Labels,
    ) -> Result<Vec<PodSandboxStats>, CallError> {
        let request = ListPodSandboxStatsRequest { filter: Some(PodSandboxStatsFilter { label_selector }) };
        let path = "/runtime.v1.RuntimeService/ListPodSandboxStats";
        let answer: ListPodSandboxStatsResponse =
            self.call("ListPodSandboxStats", path, request, QUICK).await?;
        Ok(answer.stats)
    }

    /// Runs a command in a container and waits for it, at most `limit`.
    pub async fn exec_sync(
        &self,
        id: &str,
        cmd: Vec<String>,
        limit: Duration,
    ) -> Result<ExecSyncResponse, CallError> {
        let timeout = i64::try_from(limit.as_secs().max(1)).unwrap_or(i64::MAX);
        let request = ExecSyncRequest { container_id: id.to_owned(), cmd, timeout };
        let limit = limit.saturating_add(Duration::from_secs(2));
        self.call("ExecSync", "/runtime.v1.RuntimeService/ExecSync", request, limit).await
    }

    /// Asks for the URL of a streaming exec session.
    pub async fn exec(&self, request: ExecRequest) -> Result<String, CallError> {
        let answer: StreamUrl = self.call("Exec", "/runtime.v1.RuntimeService/Exec", request, QUICK).await?;
        Ok(answer.url)
    }

    /// Asks for the URL of a session with a container's first process.
    pub async fn attach(&self, request: AttachRequest) -> Result<String, CallError> {
        let answer: StreamUrl =
            self.call("Attach", "/runtime.v1.RuntimeService/Attach", request, QUICK).await?;
        Ok(answer.url)
    }

    /// Asks for the URL of a session with ports of a sandbox.
    pub async fn port_forward(&self, request: PortForwardRequest) -> Result<String, CallError> {
        let path = "/runtime.v1.RuntimeService/PortForward";
        let answer: StreamUrl = self.call("PortForward", path, request, QUICK).await?;
        Ok(answer.url)
    }

    /// Tells the runtime to open the container's log file anew, after it was renamed.
    pub async fn reopen_container_log(&self, id: &str) -> Result<(), CallError> {
        let request = ContainerId { container_id: id.to_owned() };
        let _: Empty = self
            .call("ReopenContainerLog", "/runtime.v1.RuntimeService/ReopenContainerLog", request, QUICK)
            .await?;
        Ok(())
    }

    /// The image if the runtime has it.
    pub async fn image_status(&self, image: &str) -> Result<Option<Image>, CallError> {
        let request =
            ImageStatusRequest { image: Some(ImageSpec { image: image.to_owned() }), verbose: false };
        let answer: ImageStatusResponse =
            self.call("ImageStatus", "/runtime.v1.ImageService/ImageStatus", request, QUICK).await?;
        Ok(answer.image)
    }

    /// Pulls an image; answers the reference under which the runtime has it.
    pub async fn pull_image(&self, image: &str, auth: Option<AuthConfig>) -> Result<String, CallError> {
        let request = PullImageRequest { image: Some(ImageSpec { image: image.to_owned() }), auth };
        let answer: PullImageResponse =
            self.call("PullImage", "/runtime.v1.ImageService/PullImage", request, PULL).await?;
        Ok(answer.image_ref)
    }

    pub async fn list_images(&self) -> Result<Vec<Image>, CallError> {
        let request = ListImagesRequest { filter: None };
        let answer: ListImagesResponse =
            self.call("ListImages", "/runtime.v1.ImageService/ListImages", request, QUICK).await?;
        Ok(answer.images)
    }

    /// Removes an image; gone already is success.
    pub async fn remove_image(&self, image: &str) -> Result<(), CallError> {
        let request = RemoveImageRequest { image: Some(ImageSpec { image: image.to_owned() }) };
        let answer: Result<Empty, _> =
            self.call("RemoveImage", "/runtime.v1.ImageService/RemoveImage", request, CREATE).await;
        gone_is_done(answer)
    }

    async fn call<Q, A>(
        &self,
        call: &'static str,
        path: &'static str,
        request: Q,
        limit: Duration,
    ) -> Result<A, CallError>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let exchange = async {
            let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(ANSWER_LIMIT);
            grpc.ready().await.map_err(|error| self.unreachable(&error))?;
            let answer = grpc
                .unary(Request::new(request), PathAndQuery::from_static(path), ProstCodec::default())
                .await
                .map_err(|status| self.understand(call, &status))?;
            Ok(answer.into_inner())
        };
        match tokio::time::timeout(limit, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::TimedOut { call, seconds: limit.as_secs() }),
        }
    }

    /// Opens a stream of messages; the caller reads it to its end.
    pub(super) async fn subscribe<Q, A>(
        &self,
        call: &'static str,
        path: &'static str,
        request: Q,
    ) -> Result<tonic::Streaming<A>, CallError>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(ANSWER_LIMIT);
        grpc.ready().await.map_err(|error| self.unreachable(&error))?;
        let answer = grpc
            .server_streaming(Request::new(request), PathAndQuery::from_static(path), ProstCodec::default())
            .await
            .map_err(|status| self.understand(call, &status))?;
        Ok(answer.into_inner())
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> CallError {
        CallError::Unreachable { socket: self.socket.display().to_string(), why: deepest(error) }
    }

    fn understand(&self, call: &'static str, status: &tonic::Status) -> CallError {
        let message = status.message().to_owned();
        match status.code() {
            Code::NotFound => CallError::NotFound { call, message },
            Code::AlreadyExists => CallError::AlreadyExists { call, message },
            Code::Unimplemented => CallError::Unimplemented { call },
            // A status made by our own transport has a source; one that the runtime sent has none.
            Code::Unavailable => self.unreachable(status),
            Code::Unknown if std::error::Error::source(status).is_some() => self.unreachable(status),
            _ => CallError::Refused { call, message },
        }
    }
}

fn gone_is_done(answer: Result<Empty, CallError>) -> Result<(), CallError> {
    match answer {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_absent_socket_is_named_in_the_error() {
        let runtime = Runtime::new("unix:///nonexistent/cri.sock");
        let error = runtime.version().await.unwrap_err();
        assert!(error.is_unreachable(), "{error:?}");
        assert!(error.to_string().contains("/nonexistent/cri.sock"), "{error}");
    }

    #[test]
    fn credentials_stay_out_of_debug_output() {
        let auth = AuthConfig { password: "hunter2".into(), ..AuthConfig::default() };
        assert!(!format!("{auth:?}").contains("hunter2"));
    }
}
