//! The way of every request: name it, admit it, authenticate, impersonate, authorize, dispatch; then write the answer
//! in one place.

use std::sync::Arc;
use std::time::Instant;

use api::ApiError;
use daemon::trust::ClientTrust;
use http::{HeaderValue, Response};
use hyper::body::Incoming;

use super::accept::Accept;
use super::body;
use super::inflight::Inflight;
use super::info::RequestInfo;
use super::query::Query;
use super::reply::{Body, Reply, respond};
use super::request::Request;
use crate::authn::{self, Certified, impersonation};
use crate::authz::Attributes;
use crate::state::Api;
use crate::{documents, rest};

pub struct Chain {
    pub api: Arc<Api>,
    pub inflight: Inflight,
    /// Whose client certificates name users.
    pub clients: Arc<ClientTrust>,
}

/// The answer to HEAD: the headers of GET, its length among them, and no body (HTTP/2 takes one for a violation).
fn without_body(response: Response<Body>) -> Response<Body> {
    use http_body::Body as _;
    use http_body_util::BodyExt;
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers.insert(http::header::CONTENT_LENGTH, http::HeaderValue::from(length));
    }
    let empty = http_body_util::Empty::new().map_err(|never: std::convert::Infallible| match never {});
    Response::from_parts(head, empty.boxed_unsync())
}

impl Chain {
    /// Answers a request of a connection whose client showed this certificate.
    pub async fn serve(&self, incoming: http::Request<Incoming>, certificate: Certified<'_>) -> Response<Body> {
        let started = Instant::now();
        let query = Query::parse(incoming.uri().query().unwrap_or_default());
        let info = RequestInfo::parse(incoming.method(), incoming.uri().path(), &query);
        let audit_id = audit_id(&incoming);
        let mut request = Request::new(incoming, info, query, audit_id);
        let result = self.admitted(&mut request, certificate).await;
        if let Err(error) = &result {
            tracing::debug!(path = request.info.path, verb = request.info.verb, user = request.user.name, %error, "refused");
            if let Some(body) = request.take_body() {
                body::discard(body).await;
            }
        }
        let mut response = respond(result, request.accept, &request.audit_id, &request.warnings());
        if request.method == http::Method::HEAD {
            response = without_body(response);
        }
        // What is not in the table gets no series of its own: names are the client's to invent.
        let known = self.api.catalog.find(&request.info.group, &request.info.version, &request.info.resource).is_some();
        let counted = if known {
            request.info
        } else {
            RequestInfo { verb: request.method.as_str().to_owned(), ..RequestInfo::default() }
        };
        self.api.metrics.request(&counted, response.status().as_u16(), started.elapsed());
        response
    }

    async fn admitted(&self, request: &mut Request, certificate: Certified<'_>) -> Result<Reply, ApiError> {
        let _place = self.inflight.enter(&request.info, &self.api.metrics)?;
        let handled = self.handle(request, certificate);
        // The answer of a watch or stream begins at once; its length is its own affair.
        match tokio::time::timeout(self.api.config.request_timeout, handled).await {
            Ok(result) => result,
            Err(_) => Err(ApiError::timeout("request did not complete within the allotted timeout", 0)),
        }
    }

    async fn handle(&self, request: &mut Request, certificate: Certified<'_>) -> Result<Reply, ApiError> {
        let api = &self.api;
        let accept = Accept::parse(&request.headers, &request.query);
        // Refusals, too, are written as the client likes to read them.
        request.accept.pretty = accept.as_ref().is_ok_and(|a| a.pretty);
        let user = authn::authenticate(certificate, &request.headers, &api.tokens).await?;
        request.user = impersonation::apply(user, &request.headers, &api.rbac)?;
        api.rbac.authorize(&request.user, &Attributes::from(&request.info))?;
        if !request.info.is_resource {
            request.accept.gzip = accept.is_ok_and(|a| a.gzip);
            return documents::handle(api, request);
        }
        request.accept = match accept {
            Ok(accept) => accept,
            // A stream is in nobody's media type.
            Err(_) if request.info.is_long_running() && request.info.verb != "watch" => Accept::default(),
            Err(error) => return Err(error),
        };
        rest::handle(api, request).await
    }
}

/// The client's own id for the request, or a new one.
fn audit_id(request: &http::Request<Incoming>) -> HeaderValue {
    const MAX_AUDIT_ID: usize = 64;
    let given = request.headers().get("audit-id").filter(|v| !v.is_empty() && v.len() <= MAX_AUDIT_ID);
    given.cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()).expect("a uuid is a valid header value")
    })
}
