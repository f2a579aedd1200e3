//! A snapshot on its way to a peer: the file of `etcdctl snapshot save`, piece by piece, as fast as the peer takes it.

use tokio_stream::StreamExt;
use tonic::{Status, Streaming};

use super::client::PeerClient;
use super::wire;
use crate::pb::kvraft::SnapshotPiece;
use crate::raft_node::{Input, Outgoing};
use crate::snapshot::{Reader, Writer};

pub async fn send(mut client: PeerClient, outgoing: Outgoing) -> Result<(), Status> {
    let Outgoing { message, captured } = outgoing;
    let index = captured.head.applied_index;
    tracing::info!(to = format!("{:x}", client.to), index, "sending a snapshot");
    let announced = SnapshotPiece { message: Some(wire::to_wire(message)), ..SnapshotPiece::default() };
    let pieces = Writer::new(&captured.head, captured.records.clone());
    drop(captured);
    let pieces = pieces.map(|blob| SnapshotPiece { blob, ..SnapshotPiece::default() });
    client.snapshot(futures::stream::iter(std::iter::once(announced).chain(pieces))).await
}

/// Takes a snapshot in, record by record, and hands it to Raft.
pub async fn receive(mut pieces: Streaming<SnapshotPiece>) -> Result<Input, Status> {
    let first = pieces.next().await.ok_or_else(|| Status::invalid_argument("an empty snapshot"))??;
    let message = first.message.and_then(wire::from_wire);
    let message = message.ok_or_else(|| Status::invalid_argument("a snapshot that nothing announces"))?;
    let mut reader = Reader::default();
    failpoint!("snapshot-in-receive");
    while let Some(piece) = pieces.next().await {
        reader.take(&piece?.blob).map_err(damaged)?;
    }
    let state = tokio::task::spawn_blocking(move || reader.finish()).await;
    let state = state.map_err(|_| Status::internal("the snapshot was not read"))?.map_err(damaged)?;
    failpoint!("snapshot-received");
    Ok(Input::Snapshot(message, Box::new(state)))
}

fn damaged(error: anyhow::Error) -> Status {
    Status::data_loss(format!("{error:#}"))
}
