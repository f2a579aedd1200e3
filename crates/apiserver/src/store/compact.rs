//! Compaction: every interval the history older than one interval is dropped. Several API servers agree through a
//! key that holds the last compacted revision; its version is the token of the compare-and-swap, so only one of them
//! compacts per interval, as upstream does with the same key.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, Txn, TxnOp, TxnOpResponse};
use tokio_util::sync::CancellationToken;

use super::{Error, Store, persist, unsigned};

const KEY: &str = "compact_rev_key";

/// Runs until stopped. A zero interval turns compaction off.
pub async fn run(store: Store, interval: Duration, stop: CancellationToken) {
    if interval.is_zero() {
        return;
    }
    let (mut version, mut revision) = (0, 0);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        match compact(&store, version, revision).await {
            Ok(next) => (version, revision) = next,
            Err(error) => tracing::warn!(%error, "compaction failed"),
        }
    }
}

/// Compacts to the revision seen one interval ago if nobody else has; returns what to pass next time.
async fn compact(store: &Store, version: i64, revision: u64) -> Result<(i64, u64), Error> {
    let txn = || {
        Txn::new()
            .when([Compare::version(KEY, CompareOp::Equal, version)])
            .and_then([TxnOp::put(KEY, revision.to_string(), None)])
            .or_else([TxnOp::get(KEY, None)])
    };
    let answer = persist(Error::Write, |_| {
        let (mut kv, txn) = (store.kv(), txn());
        async move { kv.txn(txn).await }
    })
    .await?;
    let current = answer.header().map(|h| unsigned(h.revision())).ok_or(Error::Protocol)?;
    if !answer.succeeded() {
        let seen = answer.op_responses().into_iter().find_map(|op| match op {
            TxnOpResponse::Get(get) => get.kvs().first().map(etcd_client::KeyValue::version),
            _ => None,
        });
        return Ok((seen.unwrap_or(0), current));
    }
    if revision > 0 {
        persist(Error::Write, |_| {
            let mut kv = store.kv();
            async move { kv.compact(super::signed(revision), None).await }
        })
        .await?;
        tracing::debug!(revision, "compacted the store");
    }
    Ok((version + 1, current))
}
