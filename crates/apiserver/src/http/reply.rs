//! The answer of a handler, and the one place that turns it (or its refusal) into an HTTP response.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::ApiError;
use bytes::Bytes;
use futures::Stream;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use serde::Serialize;
use serde_json::Value;

use super::accept::{Accept, Encoding};
use super::gzip::GzipBody;
use crate::cache::Entry;
use crate::wire;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

pub const JSON: &str = "application/json";
pub const YAML: &str = "application/yaml";
pub const TEXT: &str = "text/plain; charset=utf-8";

/// Smaller answers are not worth compressing.
const GZIP_FROM: u64 = 128 << 10;

pub enum Payload {
    Bytes(Bytes),
    /// Pieces in order, joined without copying.
    Pieces(Pieces),
    /// The same, known beforehand.
    Chunks(Chunks),
    Stream(Body),
}

/// A list: a head, shared objects between commas, a tail. The list says of which kind its items are, so they do not.
pub struct Pieces {
    head: Option<Bytes>,
    items: std::vec::IntoIter<Arc<Entry>>,
    /// How every item's encoding begins, brace included.
    type_meta: String,
    first: bool,
    pending: Option<Bytes>,
    tail: Option<Bytes>,
    left: u64,
}

impl Pieces {
    pub fn list(head: Bytes, items: Vec<Arc<Entry>>, tail: Bytes, type_meta: String) -> Self {
        let commas = items.len().saturating_sub(1);
        let items_len: usize = items.iter().map(|i| 1 + untyped(&i.body, &type_meta).len()).sum();
        Self {
            left: (head.len() + tail.len() + commas + items_len) as u64,
            head: Some(head),
            items: items.into_iter(),
            type_meta,
            first: true,
            pending: None,
            tail: Some(tail),
        }
    }
}

/// What follows the brace of an object and its kind and version.
fn untyped<'a>(body: &'a [u8], type_meta: &str) -> &'a [u8] {
    body.strip_prefix(type_meta.as_bytes()).unwrap_or(&body[1..])
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let piece = if let Some(head) = self.head.take() {
            head
        } else if let Some(body) = self.pending.take() {
            body
        } else if let Some(item) = self.items.next() {
            self.pending = Some(item.body.slice_ref(untyped(&item.body, &self.type_meta)));
            Bytes::from_static(if std::mem::take(&mut self.first) { b"{" } else { b",{" })
        } else {
            self.tail.take()?
        };
        self.left -= piece.len() as u64;
        Some(piece)
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.next().map(|piece| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Parts of a body, in order.
pub struct Chunks {
    parts: std::vec::IntoIter<Bytes>,
    left: u64,
}

impl Chunks {
    pub fn new(parts: Vec<Bytes>) -> Self {
        Self { left: parts.iter().map(|part| part.len() as u64).sum(), parts: parts.into_iter() }
    }
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let part = self.parts.next()?;
        self.left -= part.len() as u64;
        Some(part)
    }
}

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.next().map(|part| Ok(Frame::data(part))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// What a handler answers with.
pub struct Reply {
    pub code: StatusCode,
    pub content_type: HeaderValue,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub payload: Payload,
}

impl Reply {
    pub fn new(code: StatusCode, content_type: &'static str, payload: Payload) -> Self {
        Self { code, content_type: HeaderValue::from_static(content_type), headers: Vec::new(), payload }
    }

    /// An already encoded object.
    pub fn bytes(code: StatusCode, body: Bytes) -> Self {
        Self::new(code, JSON, Payload::Bytes(body))
    }

    pub fn json(code: StatusCode, value: &impl Serialize) -> Self {
        let body = serde_json::to_vec(value).expect("API types have string keys and encode into memory");
        Self::bytes(code, Bytes::from(body))
    }

    pub fn ok(value: &impl Serialize) -> Self {
        Self::json(StatusCode::OK, value)
    }

    pub fn text(code: StatusCode, text: impl Into<String>) -> Self {
        Self::new(code, TEXT, Payload::Bytes(Bytes::from(text.into())))
    }

    /// A path that no handler knows; upstream's mux says it in plain text.
    pub fn not_found() -> Self {
        Self::text(StatusCode::NOT_FOUND, "404 page not found\n")
    }

    pub fn stream(
        content_type: &'static str,
        stream: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
    ) -> Self {
        use futures::StreamExt;
        let body = StreamBody::new(stream.map(|chunk| chunk.map(Frame::data)));
        Self::new(StatusCode::OK, content_type, Payload::Stream(body.boxed_unsync()))
    }

    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub fn failure(error: &ApiError) -> Self {
        let code = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut status = serde_json::to_value(error.status()).expect("a Status always encodes");
        // Upstream always writes a list meta, even an empty one.
        if status["metadata"].is_null() {
            status["metadata"] = serde_json::json!({});
        }
        let mut reply = Self::json(code, &status);
        let retry = error.status().details.as_ref().and_then(|d| d.retry_after_seconds).filter(|s| *s > 0);
        if let Some(seconds) = retry {
            reply.headers.push((header::RETRY_AFTER, HeaderValue::from(seconds)));
        }
        reply
    }
}

/// The one place that writes a response.
pub fn respond(
    result: Result<Reply, ApiError>,
    accept: Accept,
    audit_id: &HeaderValue,
    warnings: &[String],
) -> Response<Body> {
    let mut reply = result.unwrap_or_else(|error| Reply::failure(&error));
    reshape(&mut reply, accept);
    let (body, gzipped) = body(reply.payload, accept.gzip);
    let mut response = Response::new(body);
    *response.status_mut() = reply.code;
    let headers = response.headers_mut();
    if reply.code != StatusCode::SWITCHING_PROTOCOLS {
        headers.insert(header::CONTENT_TYPE, reply.content_type);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    }
    headers.insert("audit-id", audit_id.clone());
    for warning in warnings {
        let text = warning.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            headers.append(header::WARNING, value);
        }
    }
    for (name, value) in reply.headers {
        headers.append(name, value);
    }
    if gzipped {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        headers.remove(header::CONTENT_LENGTH);
    }
    response
}

/// Pretty JSON and YAML are for people: the answer is decoded and written again. So is what is asked for as protobuf and
/// is not kept as such, if its kind has a message.
fn reshape(reply: &mut Reply, accept: Accept) {
    let json = reply.content_type.as_bytes() == JSON.as_bytes();
    if !json || !(accept.pretty || accept.encoding != Encoding::Json) {
        return;
    }
    let joined = match &mut reply.payload {
        Payload::Bytes(bytes) => bytes.clone(),
        Payload::Pieces(pieces) => Bytes::from(pieces.by_ref().fold(Vec::new(), |mut all, piece| {
            all.extend_from_slice(&piece);
            all
        })),
        Payload::Chunks(_) | Payload::Stream(_) => return,
    };
    let parsed = serde_json::from_slice::<Value>(&joined);
    let written = parsed.ok().and_then(|value| match accept.encoding {
        Encoding::Yaml => serde_saphyr::to_string(&value).ok().map(|text| (YAML, text.into_bytes())),
        Encoding::Protobuf => wire::object(&value).map(|bytes| (protobuf::MEDIA_TYPE, bytes)),
        Encoding::Json => serde_json::to_vec_pretty(&value).ok().map(|bytes| (JSON, bytes)),
    });
    let (content_type, bytes) = written.map_or((JSON, joined), |(kind, bytes)| (kind, Bytes::from(bytes)));
    reply.content_type = HeaderValue::from_static(content_type);
    reply.payload = Payload::Bytes(bytes);
}

fn body(payload: Payload, gzip: bool) -> (Body, bool) {
    match payload {
        Payload::Bytes(bytes) if gzip && bytes.len() as u64 > GZIP_FROM => {
            (GzipBody::new(std::iter::once(bytes)).boxed_unsync(), true)
        }
        Payload::Bytes(bytes) => (Full::new(bytes).map_err(|never| match never {}).boxed_unsync(), false),
        Payload::Pieces(pieces) if gzip && pieces.left > GZIP_FROM => (GzipBody::new(pieces).boxed_unsync(), true),
        Payload::Pieces(pieces) => (pieces.boxed_unsync(), false),
        Payload::Chunks(chunks) if gzip && chunks.left > GZIP_FROM => (GzipBody::new(chunks).boxed_unsync(), true),
        Payload::Chunks(chunks) => (chunks.boxed_unsync(), false),
        Payload::Stream(body) => (body, false),
    }
}
