//! Compare and put: each client follows the revision of a key of its own.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;

use super::{Client, Clients, VALUE_BYTES, value};
use crate::connection::Connection;
use crate::environment::Environment;
use crate::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::pb::etcdserverpb::{Compare, PutRequest, RequestOp, TxnRequest, request_op};

pub struct Workload;

#[async_trait::async_trait]
impl super::Workload for Workload {
    async fn prepare(&self, environment: &Environment, clients: usize) -> Result<Clients> {
        let client = |n| -> Box<dyn Client> {
            let key = format!("/bench/txn/{n:06}").into();
            Box::new(Swapper { store: environment.connection(n), key, mod_revision: 0, value: value(VALUE_BYTES) })
        };
        Ok((0..clients).map(client).collect())
    }
}

struct Swapper {
    store: Connection,
    key: Bytes,
    mod_revision: i64,
    value: Bytes,
}

#[async_trait::async_trait]
impl Client for Swapper {
    async fn request(&mut self) -> Result<u64> {
        let put = PutRequest { key: self.key.clone(), value: self.value.clone(), ..PutRequest::default() };
        let txn = TxnRequest {
            compare: vec![unchanged(&self.key, self.mod_revision)],
            success: vec![RequestOp { request: Some(request_op::Request::RequestPut(put)) }],
            failure: Vec::new(),
        };
        let answer = self.store.txn(&txn).await?;
        ensure!(answer.succeeded, "nobody else writes this key, and yet it changed");
        self.mod_revision = answer.header.context("an answer without a header")?.revision;
        Ok(1)
    }
}

/// Holds if the key was last written at this revision.
pub fn unchanged(key: &Bytes, mod_revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::ModRevision(mod_revision)),
        ..Compare::default()
    }
}
