//! The gRPC health check, `grpc.health.v1.Health/Check`.

use std::time::Duration;

use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;

#[derive(Clone, PartialEq, prost::Message)]
struct CheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

pub async fn check(host: &str, port: i32, service: &str, timeout: Duration) -> Result<(), String> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let address = format!("{host}:{port}");
    let call = async {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|e| e.to_string())?;
        let channel = endpoint.connect().await.map_err(|_| {
            format!("timeout: failed to connect service {address:?} within {}", podsync::duration::go(timeout))
        })?;
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.map_err(|e| e.to_string())?;
        let codec = tonic_prost::ProstCodec::<CheckRequest, CheckResponse>::default();
        let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        let request = tonic::Request::new(CheckRequest { service: service.to_owned() });
        client.unary(request, path, codec).await.map_err(|e| format!("error: health rpc probe failed: {e}"))
    };
    match tokio::time::timeout(timeout, call).await {
        Ok(Ok(answer)) if answer.get_ref().status == SERVING => Ok(()),
        Ok(Ok(answer)) => Err(format!("service unhealthy (responded with {:?})", answer.get_ref().status)),
        Ok(Err(error)) => Err(error),
        Err(_) => {
            Err(format!("timeout: failed to connect service {address:?} within {}", podsync::duration::go(timeout)))
        }
    }
}
