//! One request on its way through the server: who asks, for what, how the answer should look.

use api::ApiError;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use jiff::Timestamp;
use parking_lot::Mutex;

use super::accept::Accept;
use super::body;
use super::info::RequestInfo;
use super::query::Query;
use crate::authn::User;

/// More warnings than this are not sent: header space is bounded at the other end.
const MAX_WARNINGS: usize = 64;

pub struct Request {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub info: RequestInfo,
    pub query: Query,
    pub accept: Accept,
    pub user: User,
    pub now: Timestamp,
    pub audit_id: HeaderValue,
    body: Mutex<Option<Incoming>>,
    upgrade: Mutex<Option<OnUpgrade>>,
    warnings: Mutex<Vec<String>>,
}

impl Request {
    pub fn new(request: http::Request<Incoming>, info: RequestInfo, query: Query, audit_id: HeaderValue) -> Self {
        let (mut parts, body) = request.into_parts();
        let upgrade = parts.extensions.remove::<OnUpgrade>();
        Self {
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            info,
            query,
            accept: Accept::default(),
            user: User::anonymous(),
            now: Timestamp::now(),
            audit_id,
            body: Mutex::new(Some(body)),
            upgrade: Mutex::new(upgrade),
            warnings: Mutex::default(),
        }
    }

    /// The whole body; a second reader finds it empty.
    pub async fn read_body(&self) -> Result<Bytes, ApiError> {
        let Some(incoming) = self.take_body() else { return Ok(Bytes::new()) };
        body::read(incoming).await
    }

    pub fn take_body(&self) -> Option<Incoming> {
        self.body.lock().take()
    }

    pub fn take_upgrade(&self) -> Option<OnUpgrade> {
        self.upgrade.lock().take()
    }

    pub fn warn(&self, text: impl Into<String>) {
        let (mut warnings, text) = (self.warnings.lock(), text.into());
        if warnings.len() < MAX_WARNINGS && !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().clone()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
}
