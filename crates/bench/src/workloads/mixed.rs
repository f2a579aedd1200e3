//! What an API server without a cache would ask: gets, lists by the page, guarded updates.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use rand::Rng;

use super::txn_put::unchanged;
use super::{Client, Clients, KEYS, value};
use crate::connection::Connection;
use crate::environment::Environment;
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::response_op::Response;
use crate::pb::etcdserverpb::{PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse};

const OBJECT_BYTES: usize = 2_048;
const PREFIXES: usize = 20;
const PAGE: i64 = 10;

pub struct Workload;

fn key(n: usize) -> Bytes {
    format!("/registry/pods/namespace-{:02}/pod-{:06}", n % PREFIXES, n / PREFIXES).into()
}

/// The first key of a namespace and the one behind its last: `0` follows `/`.
fn namespace(n: usize) -> (Bytes, Bytes) {
    let name = format!("/registry/pods/namespace-{:02}", n % PREFIXES);
    (format!("{name}/").into(), format!("{name}0").into())
}

#[async_trait::async_trait]
impl super::Workload for Workload {
    async fn prepare(&self, environment: &Environment, clients: usize) -> Result<Clients> {
        let put = |n| PutRequest { key: key(n), value: value(OBJECT_BYTES), ..PutRequest::default() };
        environment.write_all((0..KEYS).map(put).collect()).await?;
        // Revisions as they were last seen by anyone, like the cache that updates start from.
        // Zero is never right: the first update of a key learns its revision from the refusal.
        let seen: Arc<[AtomicI64]> = (0..KEYS).map(|_| AtomicI64::new(0)).collect();
        let client = |n| -> Box<dyn Client> {
            Box::new(ApiServer { store: environment.connection(n), seen: seen.clone(), value: value(OBJECT_BYTES) })
        };
        Ok((0..clients).map(client).collect())
    }
}

struct ApiServer {
    store: Connection,
    seen: Arc<[AtomicI64]>,
    value: Bytes,
}

impl ApiServer {
    async fn get(&mut self, n: usize) -> Result<()> {
        let answer = self.store.range(&RangeRequest { key: key(n), ..RangeRequest::default() }).await?;
        let object = answer.kvs.first().context("an object is missing")?;
        self.seen[n].fetch_max(object.mod_revision, Ordering::Relaxed);
        Ok(())
    }

    async fn list(&mut self, n: usize) -> Result<()> {
        let (key, range_end) = namespace(n);
        let page = RangeRequest { key, range_end, limit: PAGE, ..RangeRequest::default() };
        let answer = self.store.range(&page).await?;
        ensure!(answer.more && answer.kvs.len() as i64 == PAGE, "a page is not full");
        Ok(())
    }

    async fn update(&mut self, n: usize) -> Result<()> {
        let key = key(n);
        loop {
            let put = PutRequest { key: key.clone(), value: self.value.clone(), ..PutRequest::default() };
            let get = RangeRequest { key: key.clone(), ..RangeRequest::default() };
            let txn = TxnRequest {
                compare: vec![unchanged(&key, self.seen[n].load(Ordering::Relaxed))],
                success: vec![RequestOp { request: Some(Request::RequestPut(put)) }],
                failure: vec![RequestOp { request: Some(Request::RequestRange(get)) }],
            };
            let answer = self.store.txn(&txn).await?;
            let revision = revision_of(&answer).context("a transaction tells no revision")?;
            self.seen[n].fetch_max(revision, Ordering::Relaxed);
            if answer.succeeded {
                return Ok(());
            }
        }
    }
}

/// At which revision the object now stands.
fn revision_of(answer: &TxnResponse) -> Option<i64> {
    if answer.succeeded {
        return Some(answer.header.as_ref()?.revision);
    }
    match answer.responses.first()?.response.as_ref()? {
        Response::ResponseRange(range) => Some(range.kvs.first()?.mod_revision),
        _ => None,
    }
}

#[async_trait::async_trait]
impl Client for ApiServer {
    async fn request(&mut self) -> Result<u64> {
        let (n, dice) = (rand::rng().random_range(0..KEYS), rand::rng().random_range(0..100));
        match dice {
            0..45 => self.get(n).await.map(|()| 0),
            45..90 => self.list(n).await.map(|()| 0),
            _ => self.update(n).await.map(|()| 1),
        }
    }
}
