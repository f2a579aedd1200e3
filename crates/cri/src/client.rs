//! The calls the kubelet makes, one thin method each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request};

use crate::v1::image_service_client::ImageServiceClient;
use crate::v1::runtime_service_client::RuntimeServiceClient;
use crate::v1::*;

/// Upstream's `runtimeRequestTimeout`.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// A sandbox waits for its network.
const SANDBOX_TIMEOUT: Duration = Duration::from_secs(240);
/// A pull has no useful bound of its own; this one only catches a hung runtime.
const PULL_TIMEOUT: Duration = Duration::from_secs(3600);
/// Lists of a full node exceed gRPC's default of 4 MiB.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("container runtime endpoint {0:?}: only unix sockets are supported")]
    Endpoint(String),
    /// The runtime's own words, as upstream shows them.
    #[error("rpc error: code = {code} desc = {message}")]
    Rpc { call: &'static str, code: &'static str, not_found: bool, unimplemented: bool, message: String },
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Rpc { not_found: true, .. })
    }

    pub fn is_unimplemented(&self) -> bool {
        matches!(self, Error::Rpc { unimplemented: true, .. })
    }

    /// The runtime gave up because the time it was given was over.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Error::Rpc { code: "DeadlineExceeded", .. })
    }

    /// The runtime's message without the RPC envelope.
    pub fn message(&self) -> String {
        match self {
            Error::Rpc { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }
}

/// gRPC code names as Go prints them.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

fn rpc_error(call: &'static str, status: tonic::Status) -> Error {
    Error::Rpc {
        call,
        code: code_name(status.code()),
        not_found: status.code() == Code::NotFound,
        unimplemented: status.code() == Code::Unimplemented,
        message: status.message().to_owned(),
    }
}

/// `unix:///run/containerd/containerd.sock` or a bare path.
pub fn socket_path(endpoint: &str) -> Result<PathBuf> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    if path.starts_with('/') { Ok(PathBuf::from(path)) } else { Err(Error::Endpoint(endpoint.to_owned())) }
}

/// Cheap to clone; all clones share one HTTP/2 connection.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

fn lazy_channel(path: &Path) -> Channel {
    let path = path.to_owned();
    // The URI is never resolved: the connector dials the socket.
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
    }))
}

macro_rules! calls {
    ($($(#[$doc:meta])* $field:ident . $name:ident($request:ident) -> $response:ident within $timeout:expr;)*) => {
        $( $(#[$doc])* pub async fn $name(&self, message: $request) -> Result<$response> {
            let mut request = Request::new(message);
            request.set_timeout($timeout);
            let mut service = self.$field.clone();
            // Boxed: the generated futures are large, and callers hold several.
            match tokio::time::timeout($timeout, Box::pin(service.$name(request))).await {
                Ok(Ok(response)) => Ok(response.into_inner()),
                Ok(Err(status)) => Err(rpc_error(stringify!($name), status)),
                Err(_) => Err(rpc_error(
                    stringify!($name),
                    tonic::Status::deadline_exceeded("context deadline exceeded"),
                )),
            }
        } )*
    };
}

impl Client {
    /// Whether [`Client::new`] would take it.
    pub fn check_endpoint(endpoint: &str) -> Result<()> {
        socket_path(endpoint).map(drop)
    }

    /// Dials nothing yet.
    pub fn new(endpoint: &str) -> Result<Client> {
        let channel = lazy_channel(&socket_path(endpoint)?);
        Ok(Client {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES),
            images: ImageServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES),
            channel,
        })
    }

    /// The connection, for the runtime's other services on the same socket.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    calls! {
        runtime.version(VersionRequest) -> VersionResponse within CALL_TIMEOUT;
        runtime.run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse within SANDBOX_TIMEOUT;
        runtime.stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse within CALL_TIMEOUT;
        runtime.remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse within CALL_TIMEOUT;
        runtime.pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse within CALL_TIMEOUT;
        runtime.list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse within CALL_TIMEOUT;
        runtime.create_container(CreateContainerRequest) -> CreateContainerResponse within CALL_TIMEOUT;
        runtime.start_container(StartContainerRequest) -> StartContainerResponse within CALL_TIMEOUT;
        runtime.remove_container(RemoveContainerRequest) -> RemoveContainerResponse within CALL_TIMEOUT;
        runtime.list_containers(ListContainersRequest) -> ListContainersResponse within CALL_TIMEOUT;
        runtime.container_status(ContainerStatusRequest) -> ContainerStatusResponse within CALL_TIMEOUT;
        runtime.update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse within CALL_TIMEOUT;
        runtime.reopen_container_log(ReopenContainerLogRequest) -> ReopenContainerLogResponse within CALL_TIMEOUT;
        runtime.exec(ExecRequest) -> ExecResponse within CALL_TIMEOUT;
        runtime.attach(AttachRequest) -> AttachResponse within CALL_TIMEOUT;
        runtime.port_forward(PortForwardRequest) -> PortForwardResponse within CALL_TIMEOUT;
        runtime.container_stats(ContainerStatsRequest) -> ContainerStatsResponse within CALL_TIMEOUT;
        runtime.list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse within CALL_TIMEOUT;
        runtime.update_runtime_config(UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse within CALL_TIMEOUT;
        runtime.status(StatusRequest) -> StatusResponse within CALL_TIMEOUT;
        runtime.runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse within CALL_TIMEOUT;
        images.list_images(ListImagesRequest) -> ListImagesResponse within CALL_TIMEOUT;
        images.image_status(ImageStatusRequest) -> ImageStatusResponse within CALL_TIMEOUT;
        images.pull_image(PullImageRequest) -> PullImageResponse within PULL_TIMEOUT;
        images.remove_image(RemoveImageRequest) -> RemoveImageResponse within CALL_TIMEOUT;
        images.image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse within CALL_TIMEOUT;
    }

    /// Sends the stop signal and kills after `grace_seconds`; returns when the container is gone.
    pub async fn stop_container(&self, container_id: &str, grace_seconds: i64) -> Result<()> {
        let limit = CALL_TIMEOUT + Duration::from_secs(grace_seconds.max(0).unsigned_abs());
        let mut request =
            Request::new(StopContainerRequest { container_id: container_id.to_owned(), timeout: grace_seconds });
        request.set_timeout(limit);
        let mut service = self.runtime.clone();
        Box::pin(service.stop_container(request)).await.map_err(|status| rpc_error("stop_container", status))?;
        Ok(())
    }

    /// Runs a command to its end; a zero `timeout` means none of the caller's own.
    pub async fn exec_sync(&self, container_id: &str, cmd: Vec<String>, timeout: Duration) -> Result<ExecSyncResponse> {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let mut request =
            Request::new(ExecSyncRequest { container_id: container_id.to_owned(), cmd, timeout: seconds });
        request.set_timeout(if timeout.is_zero() { CALL_TIMEOUT } else { timeout + CALL_TIMEOUT });
        let mut service = self.runtime.clone();
        let answer = Box::pin(service.exec_sync(request)).await;
        answer.map(tonic::Response::into_inner).map_err(|status| rpc_error("exec_sync", status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(socket_path(text).ok(), expected.map(PathBuf::from), "{text}");
        };
        check("unix:///run/containerd/containerd.sock", Some("/run/containerd/containerd.sock"));
        check("/run/x.sock", Some("/run/x.sock"));
        check("tcp://127.0.0.1:1", None);
        check("", None);
    }
}
