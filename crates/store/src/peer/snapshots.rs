//! A snapshot on its way to a peer: the file of `etcdctl snapshot save`, piece by piece, as fast as the peer takes it.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::client::PeerClient;
use super::wire;
use crate::error::Refusal;
use crate::pb::kvraft::SnapshotPiece;
use crate::raft_node::{Arrived, Input, Outgoing};
use crate::snapshot::{Reader, Writer};
use crate::state::State;

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

/// Snapshots that come in: one at a time, the newest, because each takes as much memory as the state. While one is being
/// written down the next one waits at its sender.
#[derive(Default)]
pub struct Incoming {
    /// The term of the newest, and what ends it when a newer one comes.
    newest: Mutex<(u64, CancellationToken)>,
    turn: Arc<AsyncMutex<()>>,
    /// Cancelled when this member ends: then it has no use for any.
    drain: CancellationToken,
}

impl Incoming {
    pub fn new(drain: CancellationToken) -> Incoming {
        Incoming { drain, ..Incoming::default() }
    }

    /// Takes a snapshot in, record by record, for Raft.
    pub async fn receive<S>(&self, mut pieces: S) -> Result<Input, Status>
    where
        S: Stream<Item = Result<SnapshotPiece, Status>> + Unpin,
    {
        let first = pieces.next().await.ok_or_else(|| Status::invalid_argument("an empty snapshot"))??;
        let message = first.message.and_then(wire::from_wire);
        let message = message.ok_or_else(|| Status::invalid_argument("a snapshot that nothing announces"))?;
        let outdated = self.begin(message.term)?;
        let receiving = async {
            let turn = self.turn.clone().lock_owned().await;
            let state = Box::new(read(pieces).await?);
            Ok(Arrived { state, turn: Some(turn) })
        };
        let arrived = outdated.run_until_cancelled(receiving).await.unwrap_or_else(|| Err(self.why_ended()))?;
        Ok(Input::Snapshot(message, arrived))
    }

    /// Raft takes none of an earlier term. Whoever sends another in the same term has given up the one before.
    fn begin(&self, term: u64) -> Result<CancellationToken, Status> {
        let mut newest = self.newest.lock();
        if term < newest.0 {
            return Err(superseded());
        }
        let outdated = self.drain.child_token();
        let (_, earlier) = std::mem::replace(&mut *newest, (term, outdated.clone()));
        earlier.cancel();
        Ok(outdated)
    }

    fn why_ended(&self) -> Status {
        if self.drain.is_cancelled() { Refusal::Stopped.into() } else { superseded() }
    }
}

async fn read(mut pieces: impl Stream<Item = Result<SnapshotPiece, Status>> + Unpin) -> Result<State, Status> {
    let mut reader = Reader::default();
    failpoint!("snapshot-in-receive");
    while let Some(piece) = pieces.next().await {
        reader.take(&piece?.blob).map_err(damaged)?;
    }
    let state = tokio::task::spawn_blocking(move || reader.finish()).await;
    let state = state.map_err(|_| Status::internal("the snapshot was not read"))?.map_err(damaged)?;
    failpoint!("snapshot-received");
    Ok(state)
}

fn superseded() -> Status {
    Status::aborted("a newer snapshot takes the place of this one")
}

fn damaged(error: anyhow::Error) -> Status {
    Status::data_loss(format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::prelude::Message;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::UnboundedReceiverStream;
    use tonic::Code;

    type Pieces = mpsc::UnboundedSender<Result<SnapshotPiece, Status>>;

    /// A snapshot of a leader of this term, announced and not sent yet.
    fn announced(term: u64) -> (Pieces, UnboundedReceiverStream<Result<SnapshotPiece, Status>>) {
        let (pieces, receiver) = mpsc::unbounded_channel();
        let message = wire::to_wire(Message { term, from: term, to: 9, ..Message::default() });
        let piece = SnapshotPiece { message: Some(message), ..SnapshotPiece::default() };
        pieces.send(Ok(piece)).expect("it is waited for");
        (pieces, receiver.into())
    }

    fn send_all(pieces: &Pieces) {
        let state = State::default();
        for blob in Writer::new(&state.head(), state.kv.records()) {
            pieces.send(Ok(SnapshotPiece { blob, ..SnapshotPiece::default() })).expect("it is waited for");
        }
    }

    #[tokio::test]
    async fn a_newer_snapshot_ends_the_one_that_comes_in() {
        let incoming = Incoming::default();
        let ((older_pieces, older), (pieces, newer)) = (announced(3), announced(4));
        send_all(&pieces);
        drop(pieces);
        // The first of them is never sent whole.
        let (older, newer) = tokio::join!(incoming.receive(older), incoming.receive(newer));
        assert_eq!(older.err().map(|status| status.code()), Some(Code::Aborted));
        assert!(older_pieces.is_closed(), "nothing more of it is taken");
        assert!(matches!(newer, Ok(Input::Snapshot(message, _)) if message.term == 4));
    }

    /// As long as the one before has not been written down, it would be one state more in memory.
    #[tokio::test]
    async fn the_next_snapshot_waits_until_the_one_before_is_in_place() {
        let incoming = Incoming::default();
        let received = async |term| {
            let (pieces, receiver) = announced(term);
            send_all(&pieces);
            drop(pieces);
            incoming.receive(receiver).await
        };
        let first = received(3).await.expect("it is whole");
        let second = received(4);
        tokio::pin!(second);
        assert!(futures::poll!(second.as_mut()).is_pending());
        drop(first);
        assert!(matches!(second.await, Ok(Input::Snapshot(message, _)) if message.term == 4));
    }

    /// It would keep the member from ending for as long as it takes.
    #[tokio::test]
    async fn a_member_that_ends_takes_no_more_of_a_snapshot() {
        let drain = CancellationToken::new();
        let incoming = Incoming::new(drain.clone());
        let (pieces, receiver) = announced(3);
        let receiving = incoming.receive(receiver);
        tokio::pin!(receiving);
        assert!(futures::poll!(receiving.as_mut()).is_pending());
        drain.cancel();
        assert_eq!(receiving.await.err().map(|status| status.code()), Some(Code::Unavailable));
        assert!(pieces.is_closed());
    }

    #[tokio::test]
    async fn an_older_snapshot_ends_nothing() {
        let incoming = Incoming::default();
        let ((pieces, newer), (older_pieces, older)) = (announced(4), announced(3));
        send_all(&pieces);
        let receive_older = async {
            let refused = incoming.receive(older).await;
            drop(pieces);
            refused
        };
        let (newer, older) = tokio::join!(incoming.receive(newer), receive_older);
        assert_eq!(older.err().map(|status| status.code()), Some(Code::Aborted));
        assert!(older_pieces.is_closed());
        assert!(matches!(newer, Ok(Input::Snapshot(message, _)) if message.term == 4));
    }
}
