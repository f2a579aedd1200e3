//! GET of one object and LIST, both from the watch cache.

use std::sync::Arc;

use api::ApiError;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Call;
use super::present::{self, Include};
use crate::cache::{Cache, Entry, Listed, Selection};
use crate::http::accept::{Encoding, Shape};
use crate::http::query::Query;
use crate::http::reply::{Chunks, JSON, Payload, Pieces, Reply};
use crate::object::{self, EventType};
use crate::store;
use crate::wire;

/// Objects read from the store at once for a page at an old revision.
const STORE_PAGE: i64 = 500;

pub async fn get(call: &Call<'_>) -> Result<Reply, ApiError> {
    let Call { api, kind, request } = call;
    let info = &request.info;
    let cache = api.cache(kind).ok_or_else(ApiError::no_such_path)?;
    match revision(&request.query)? {
        None => drop(api.caches.fresh().await?),
        Some(0) => {}
        Some(revision) => api.caches.wait_for(revision).await?,
    }
    let entry = cache
        .get(&kind.key(&info.namespace, &info.name))
        .ok_or_else(|| ApiError::not_found(kind.row.group_resource(), &info.name))?;
    present::object(call, StatusCode::OK, kind.served_bytes(&entry.body))
}

fn revision(query: &Query) -> Result<Option<u64>, ApiError> {
    let Some(text) = query.filled("resourceVersion") else { return Ok(None) };
    let invalid = || {
        ApiError::bad_request(format!("Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"))
    };
    text.parse().map(Some).map_err(|_| invalid())
}

/// Where a page of a list begins: upstream's own layout of the token, opaque to clients.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Continue {
    v: String,
    rv: u64,
    start: String,
}

impl Continue {
    fn encode(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("three plain fields encode"))
    }

    fn decode(token: &str) -> Result<Self, ApiError> {
        let invalid =
            |why: String| ApiError::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|e| invalid(e.to_string()))?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|e| invalid(e.to_string()))?;
        match token.v.as_str() {
            "meta.k8s.io/v1" if !token.start.is_empty() => Ok(token),
            "meta.k8s.io/v1" => Err(invalid("encoded start key is empty".to_owned())),
            other => Err(invalid(format!("server does not recognize this encoded version {other:?}"))),
        }
    }
}

/// The versions of a list that a client will take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Latest,
    Any,
    NotOlderThan(u64),
    Exact(u64),
}

impl Wanted {
    fn parse(query: &Query, limit: usize) -> Result<Self, ApiError> {
        let version = revision(query)?;
        let matching = query.filled("resourceVersionMatch");
        match (matching, version) {
            (Some("NotOlderThan"), Some(0)) | (None, Some(0)) => Ok(Self::Any),
            (Some("NotOlderThan"), Some(revision)) => Ok(Self::NotOlderThan(revision)),
            (Some("Exact"), Some(0)) => {
                Err(invalid_match("Forbidden: resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\""))
            }
            (Some("Exact"), Some(revision)) => Ok(Self::Exact(revision)),
            (Some("NotOlderThan" | "Exact"), None) => {
                Err(invalid_match("Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"))
            }
            (Some(other), _) => Err(invalid_match(&format!(
                "Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""
            ))),
            // Without a match, a limited list at a revision is that revision exactly.
            (None, Some(revision)) if limit > 0 => Ok(Self::Exact(revision)),
            (None, Some(revision)) => Ok(Self::NotOlderThan(revision)),
            (None, None) => Ok(Self::Latest),
        }
    }
}

fn invalid_match(why: &str) -> ApiError {
    let message = format!("ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: {why}");
    ApiError::new(422, "Invalid", message)
}

/// A page and the revision it is of.
struct Page {
    items: Vec<Arc<Entry>>,
    revision: u64,
    next_after: Option<String>,
    remaining: Option<u64>,
}

pub async fn list(call: &Call<'_>) -> Result<Reply, ApiError> {
    let Call { api, kind, request } = call;
    let query = &request.query;
    let selection = Selection::parse(&kind.row, &request.info.namespace, query)?;
    let cache = api.cache(kind).ok_or_else(ApiError::no_such_path)?;
    let limit = usize::try_from(query.integer("limit")?.unwrap_or(0)).unwrap_or(0);
    let page = match query.filled("continue") {
        Some(token) => {
            if revision(query)?.is_some_and(|r| r != 0) {
                return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
            }
            let token = Continue::decode(token)?;
            let after = token.start.trim_end_matches('\0').to_owned();
            at_revision(call, cache, &selection, Some(after), token.rv, limit).await?
        }
        None => match Wanted::parse(query, limit)? {
            Wanted::Exact(revision) => {
                api.caches.wait_for(revision).await?;
                at_revision(call, cache, &selection, None, revision, limit).await?
            }
            Wanted::Latest => {
                api.caches.fresh().await?;
                cached(call, cache, &selection, limit)
            }
            Wanted::NotOlderThan(revision) => {
                api.caches.wait_for(revision).await?;
                cached(call, cache, &selection, limit)
            }
            Wanted::Any => cached(call, cache, &selection, limit),
        },
    };
    write(call, page)
}

fn cached(call: &Call<'_>, cache: &Cache, selection: &Selection, limit: usize) -> Page {
    // Read first: the list can only be newer than this.
    let progress = call.api.caches.revision();
    let Listed { items, revision, next_after, remaining } = cache.list(selection, None, limit);
    Page { items, revision: revision.max(progress), next_after, remaining }
}

/// A list as of a revision: from the cache while nothing of the kind has changed since, else from the store.
async fn at_revision(
    call: &Call<'_>,
    cache: &Cache,
    selection: &Selection,
    after: Option<String>,
    revision: u64,
    limit: usize,
) -> Result<Page, ApiError> {
    let listed = cache.list(selection, after.as_deref(), limit);
    if listed.revision <= revision && call.api.caches.revision() >= revision {
        let Listed { items, next_after, remaining, .. } = listed;
        return Ok(Page { items, revision, next_after, remaining });
    }
    from_store(call, selection, after, revision, limit).await
}

async fn from_store(
    call: &Call<'_>,
    selection: &Selection,
    after: Option<String>,
    revision: u64,
    limit: usize,
) -> Result<Page, ApiError> {
    let Call { api, kind, .. } = call;
    let base = format!("{}/{}/", api.store.prefix(), kind.storage_path);
    let prefix = format!("{base}{}", selection.key_prefix());
    let mut start = after.map_or_else(|| prefix.clone(), |after| format!("{base}{after}\0"));
    let mut items: Vec<Arc<Entry>> = Vec::new();
    loop {
        let page = match api.store.page(&prefix, &start, revision, STORE_PAGE).await {
            Err(store::Error::Compacted) => return Err(expired(call, &start, &base)),
            page => page?,
        };
        let total = page.items.len() as u64;
        for (at, stored) in page.items.iter().enumerate() {
            start = format!("{}\0", stored.key);
            let key = stored.key.strip_prefix(&base).unwrap_or_default();
            let decoded = Entry::decode(kind.kept_as(), EventType::Added, key, &stored.value, stored.revision);
            let (entry, _) = decoded.map_err(ApiError::internal)?;
            if selection.matches(&entry) {
                items.push(Arc::new(entry));
            }
            if limit > 0 && items.len() == limit {
                let left = page.count.saturating_sub(at as u64 + 1).max(u64::from(page.more || total > at as u64 + 1));
                let next_after = (left > 0).then(|| key.to_owned());
                let remaining = next_after.as_ref().filter(|_| selection.is_plain()).map(|_| left);
                return Ok(Page { items, revision, next_after, remaining });
            }
        }
        if !page.more {
            return Ok(Page { items, revision, next_after: None, remaining: None });
        }
    }
}

/// The 410 carries a token with which the client may go on, inconsistently.
fn expired(call: &Call<'_>, start: &str, base: &str) -> ApiError {
    if call.request.query.filled("continue").is_none() {
        return ApiError::expired(store::TOO_OLD);
    }
    let error = ApiError::expired(store::EXPIRED);
    let after = start.strip_prefix(base).unwrap_or_default().trim_end_matches('\0');
    if after.is_empty() {
        return error;
    }
    let token =
        Continue { v: "meta.k8s.io/v1".to_owned(), rv: call.api.caches.revision(), start: format!("{after}\0") };
    error.with_continue(token.encode())
}

fn write(call: &Call<'_>, mut page: Page) -> Result<Reply, ApiError> {
    let Call { kind, request, .. } = call;
    if kind.kept.is_some() {
        page.items.iter_mut().for_each(|entry| *entry = entry.in_version(kind));
    }
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".to_owned(), page.revision.to_string().into());
    if let Some(after) = page.next_after {
        let token = Continue { v: "meta.k8s.io/v1".to_owned(), rv: page.revision, start: format!("{after}\0") };
        metadata.insert("continue".to_owned(), token.encode().into());
    }
    if let Some(remaining) = page.remaining {
        metadata.insert("remainingItemCount".to_owned(), remaining.into());
    }
    let metadata = Value::Object(metadata);
    let row = &kind.row;
    match request.accept.shape {
        Shape::Object if request.accept.encoding == Encoding::Protobuf && kind.message.is_some() => {
            let list = |node| wire::list(&row.api_version(), &row.list_kind(), &metadata, &page.items, node);
            let parts =
                kind.message.as_ref().and_then(list).ok_or_else(|| ApiError::internal("a list has no message"))?;
            Ok(Reply::new(StatusCode::OK, protobuf::MEDIA_TYPE, Payload::Chunks(Chunks::new(parts))))
        }
        Shape::Object => {
            let head = format!(
                r#"{{"kind":"{}","apiVersion":"{}","metadata":{metadata},"items":["#,
                row.list_kind(),
                row.api_version()
            );
            let pieces = Pieces::list(head.into(), page.items, Bytes::from_static(b"]}\n"), object::type_meta(row));
            Ok(Reply::new(StatusCode::OK, JSON, Payload::Pieces(pieces)))
        }
        Shape::Metadata => {
            let items: Vec<Value> = page.items.iter().map(|e| present::partial(&e.value())).collect();
            let list = json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items,
            });
            Ok(Reply::ok(&list))
        }
        Shape::Table => {
            let include = Include::parse(request)?;
            let rows = page.items.iter().map(|e| present::row(row, &e.value(), request.now, include)).collect();
            Ok(Reply::ok(&present::table(row, metadata, rows)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continue_token_survives_and_nonsense_does_not() {
        let token = Continue { v: "meta.k8s.io/v1".to_owned(), rv: 7, start: "ns/a\0".to_owned() };
        assert_eq!(Continue::decode(&token.encode()).expect("its own token"), token);
        for bad in ["", "!!", "e30"] {
            assert_eq!(Continue::decode(bad).expect_err("refused").code(), 400, "{bad}");
        }
    }

    #[test]
    fn versions_wanted() {
        let check = |query: &str, limit, expected: Option<Wanted>| {
            assert_eq!(Wanted::parse(&Query::parse(query), limit).ok(), expected, "{query}");
        };
        check("", 0, Some(Wanted::Latest));
        check("resourceVersion=0", 0, Some(Wanted::Any));
        check("resourceVersion=5", 0, Some(Wanted::NotOlderThan(5)));
        check("resourceVersion=5", 10, Some(Wanted::Exact(5)));
        check("resourceVersion=5&resourceVersionMatch=Exact", 0, Some(Wanted::Exact(5)));
        check("resourceVersion=5&resourceVersionMatch=NotOlderThan", 10, Some(Wanted::NotOlderThan(5)));
        check("resourceVersionMatch=Exact", 0, None);
        check("resourceVersion=0&resourceVersionMatch=Exact", 0, None);
        check("resourceVersion=x", 0, None);
    }
}
