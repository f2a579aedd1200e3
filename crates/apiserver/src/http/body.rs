//! Request bodies: bounded, and read only when a handler wants them.

use std::time::Duration;

use api::ApiError;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// What a body may be.
const MEDIA_TYPES: &[&str] = &["application/json", "application/yaml", protobuf::MEDIA_TYPE];

/// Upstream's bound: twice the largest etcd request.
pub const MAX_BODY: usize = 3 << 20;

/// How much of a body that is too large is read and thrown away: a client that is still sending when its stream is
/// reset never sees the refusal.
const MAX_DRAINED: usize = 16 << 20;

const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

pub async fn read(mut body: Incoming) -> Result<Bytes, ApiError> {
    let mut collected = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| ApiError::bad_request(format!("unable to read the request body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        match length {
            0..=MAX_BODY => collected.extend_from_slice(&data),
            _ if length > MAX_BODY + MAX_DRAINED => break,
            _ => collected = BytesMut::new(),
        }
    }
    if length > MAX_BODY {
        return Err(ApiError::too_large(format!("Request entity too large: limit is {MAX_BODY}")));
    }
    Ok(collected.freeze())
}

/// Reads a body that nobody wants, for a while, so that its sender comes to read the refusal.
pub async fn discard(mut body: Incoming) {
    let reading = async {
        let mut length = 0;
        while let Some(Ok(frame)) = body.frame().await {
            length += frame.data_ref().map_or(0, Bytes::len);
            if length > MAX_DRAINED {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, reading).await;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// The media type of the body, without parameters.
pub fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

pub fn encoding(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    match media_type(headers) {
        "" | "application/json" => Ok(Encoding::Json),
        "application/yaml" => Ok(Encoding::Yaml),
        protobuf::MEDIA_TYPE => Ok(Encoding::Protobuf),
        _ => Err(ApiError::unsupported_media_type(MEDIA_TYPES)),
    }
}
