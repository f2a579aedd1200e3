//! The stream of Raft's messages to one peer: what has gathered is one batch; lost, it is opened again.

use std::collections::VecDeque;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prost::Message as _;
use raft::prelude::Message;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::client::PeerClient;
use super::hello::REMOVED;
use super::wire;
use crate::metrics::ToPeer;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::MessageBatch;
use crate::raft_node::Input;

/// Batches waiting for a slow peer; Raft resends what is dropped beyond.
const MAX_QUEUED: usize = 4_096;
/// Batches handed to the connection and not taken by it yet.
const MAX_UNSENT: usize = 4;
pub const MAX_BATCH_BYTES: usize = 4 << 20;
const RETRY: Duration = Duration::from_millis(100);
/// Between two questions to a peer that need no answer: clocks are compared with each.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// The same failure is said again after so many tries.
const SAY_EVERY: u32 = 100;

pub struct Link {
    pub urls: Vec<String>,
    pub channel: Channel,
    queue: mpsc::Sender<Vec<Message>>,
    connected: Arc<AtomicBool>,
    task: JoinHandle<()>,
    gauges: ToPeer,
}

impl Link {
    /// Needs a runtime.
    pub fn start(
        member: &pb::Member,
        channel: Channel,
        client: PeerClient,
        inputs: UnboundedSender<Input>,
        (removed, gauges): (CancellationToken, ToPeer),
    ) -> Link {
        let (queue, queued) = mpsc::channel(MAX_QUEUED);
        let connected = Arc::new(AtomicBool::new(false));
        let runner =
            Runner { client, inputs, removed, connected: connected.clone(), failures: 0, gauges: gauges.clone() };
        let task = tokio::spawn(runner.run(queued));
        Link { urls: member.peer_ur_ls.clone(), channel, queue, connected, task, gauges }
    }

    /// False when the peer does not keep up.
    pub fn send(&self, messages: Vec<Message>) -> bool {
        let taken = self.queue.try_send(messages).is_ok();
        if !taken {
            self.gauges.failures.inc();
        }
        taken
    }

    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
        down(&self.connected, &self.gauges);
    }
}

struct Runner {
    client: PeerClient,
    inputs: UnboundedSender<Input>,
    removed: CancellationToken,
    connected: Arc<AtomicBool>,
    failures: u32,
    gauges: ToPeer,
}

impl Runner {
    async fn run(mut self, mut queued: mpsc::Receiver<Vec<Message>>) {
        loop {
            let ended = self.stream(&mut queued).await;
            down(&self.connected, &self.gauges);
            let _ = self.inputs.send(Input::Unreachable(self.client.to));
            match ended {
                Ok(()) => return,
                Err(status) if status.code() == Code::PermissionDenied && status.message() == REMOVED => {
                    tracing::error!("{REMOVED}");
                    return self.removed.cancel();
                }
                Err(status) => self.failed(&status),
            }
            // What is older than the connection is of no use to the peer any more.
            while queued.try_recv().is_ok() {}
            tokio::time::sleep(RETRY).await;
        }
    }

    fn failed(&mut self, status: &Status) {
        if self.failures.is_multiple_of(SAY_EVERY) {
            let peer = format!("{:x}", self.client.to);
            tracing::warn!(peer, why = status.message(), "lost the connection to a peer; trying again");
        }
        self.failures += 1;
    }

    /// Until the connection ends, or the link does.
    async fn stream(&mut self, queued: &mut mpsc::Receiver<Vec<Message>>) -> Result<(), Status> {
        let (batches, receiver) = mpsc::channel(MAX_UNSENT);
        let mut client = self.client.clone();
        let mut call = Box::pin(async move { client.messages(ReceiverStream::new(receiver)).await });
        let mut asked = Box::pin(is_there(self.client.clone()));
        let mut answered = false;
        let mut again = tokio::time::interval_at(Instant::now() + ASK_AGAIN, ASK_AGAIN);
        let mut left = VecDeque::new();
        loop {
            // More than one batch's worth may come at once.
            let messages = tokio::select! {
                biased;
                ended = &mut call => {
                    return Err(ended.err().unwrap_or_else(|| Status::unavailable("the peer ended the connection")));
                }
                there = &mut asked, if !answered => {
                    answered = true;
                    if there {
                        self.up();
                    }
                    continue;
                }
                _ = again.tick(), if answered => {
                    asked = Box::pin(is_there(self.client.clone()));
                    answered = false;
                    continue;
                }
                messages = queued.recv(), if left.is_empty() => match messages {
                    Some(messages) => messages,
                    None => return Ok(()),
                },
                () = ready(()), if !left.is_empty() => Vec::new(),
            };
            left.extend(messages);
            let batch = batch(&mut left, queued);
            self.gauges.sent_bytes.inc_by(u64::try_from(batch.encoded_len()).unwrap_or(u64::MAX));
            tokio::select! {
                ended = &mut call => {
                    return Err(ended.err().unwrap_or_else(|| Status::unavailable("the peer ended the connection")));
                }
                // When nobody takes it any more, the call has ended and says so.
                _ = batches.send(batch) => {}
            }
        }
    }

    /// The peer answers, and has not refused the stream.
    fn up(&mut self) {
        if !self.connected.swap(true, Ordering::Relaxed) {
            tracing::info!(peer = format!("{:x}", self.client.to), "connected to a peer");
            self.failures = 0;
            self.gauges.active.inc();
        }
    }
}

/// Asks, by the connection that the stream of messages uses: members that do not lead have little to send each other,
/// and what is not answered tells nothing. A refusal of the stream is on its way before the answer is.
async fn is_there(mut peer: PeerClient) -> bool {
    let answered = peer.members().await.is_ok();
    tokio::time::sleep(RETRY).await;
    answered
}

fn down(connected: &AtomicBool, gauges: &ToPeer) {
    if connected.swap(false, Ordering::Relaxed) {
        gauges.active.dec();
    }
}

/// Ends with the message by which it has grown large enough: no message is cut in two, and none waits for a peer to take
/// more than [`MAX_BATCH_BYTES`] and one message at a time.
fn batch(left: &mut VecDeque<Message>, queued: &mut mpsc::Receiver<Vec<Message>>) -> MessageBatch {
    let mut batch = MessageBatch::default();
    let mut bytes = 0;
    while bytes < MAX_BATCH_BYTES {
        let Some(message) = left.pop_front() else {
            let Ok(more) = queued.try_recv() else { break };
            left.extend(more);
            continue;
        };
        bytes += message.entries.iter().map(|e| e.data.len()).sum::<usize>();
        batch.messages.push(wire::to_wire(message));
    }
    batch
}

#[cfg(test)]
mod tests {
    use raft::prelude::Entry;

    use super::*;

    /// One who lags is sent hundreds of megabytes at once.
    #[test]
    fn a_batch_is_not_larger_than_peers_take() {
        let message = |bytes: usize| Message {
            entries: vec![Entry { data: vec![0; bytes], ..Entry::default() }],
            ..Message::default()
        };
        let (queue, mut queued) = mpsc::channel(4);
        let mut left: VecDeque<Message> = (0..10).map(|_| message(1 << 20)).collect();
        queue.try_send(vec![message(1 << 10), message(5 << 20), message(1 << 20)]).expect("there is room");
        let mut sizes = Vec::new();
        loop {
            let batch = batch(&mut left, &mut queued);
            if batch.messages.is_empty() {
                break;
            }
            sizes.push(batch.messages.len());
        }
        assert_eq!(sizes, [4, 4, 4, 1]);
    }
}
