//! A snapshot as a stream: encoded as fast as the client reads it, never whole in memory.

use std::future::ready;
use std::time::Instant;

use futures::StreamExt;

use super::maintenance::Snapshots;
use crate::config::ETCD_VERSION;
use crate::pb::etcdserverpb as pb;
use crate::shared::Shared;
use crate::snapshot::Writer;

pub fn stream(shared: &Shared) -> Snapshots {
    let (head, records) = {
        let state = shared.state.read();
        (state.head(), state.kv.records())
    };
    let header = shared.header(head.revision);
    let (gauges, begun) = (shared.gauges.clone(), Instant::now());
    let writer = Writer::new(&head, records);
    let pieces = futures::stream::unfold(writer, move |mut writer| {
        let Some(blob) = writer.next() else {
            gauges.snapshots.observe(begun.elapsed());
            return ready(None);
        };
        let response = pb::SnapshotResponse {
            header: Some(header),
            remaining_bytes: writer.remaining(),
            blob,
            version: ETCD_VERSION.to_owned(),
        };
        ready(Some((Ok(response), writer)))
    });
    pieces.boxed()
}
