//! A snapshot as a stream: encoded as fast as the client reads it, never whole in memory.

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
    let writer = Writer::new(&head, records);
    let pieces = futures::stream::unfold(writer, move |mut writer| async move {
        let blob = writer.next()?;
        let response = pb::SnapshotResponse {
            header: Some(header),
            remaining_bytes: writer.remaining(),
            blob,
            version: ETCD_VERSION.to_owned(),
        };
        Some((Ok(response), writer))
    });
    pieces.boxed()
}
