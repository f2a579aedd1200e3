//! Members talking to each other: Raft's messages in one stream per direction, snapshots in streams of their own, a few
//! questions that only the leader can answer.
//!
//! Invariants
//! - Nothing here waits for a peer: what a peer does not take in time is dropped and Raft is told.
//! - Nothing is sent twice: a link that breaks drops what it had. Raft's own messages may come twice, but a command that
//!   a follower forwards would be applied twice.
//! - A connection is used only after both ends agreed on the cluster and on who they are.

mod client;
mod connect;
mod hello;
mod join;
mod link;
mod server;
mod snapshots;
mod wire;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use raft::prelude::{Message, MessageType};
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

pub use client::PeerClient;
pub use connect::Connector;
pub use hello::Hello;
pub use join::{Joiner, assert_new, join};
pub use server::routes;

use crate::metrics::Gauges;
use crate::pb::etcdserverpb as pb;
use crate::raft_node::{Input, Outbound, Outgoing};
use link::Link;

/// How long a link that is not wanted any more still sends what it has.
const FLUSH: Duration = Duration::from_secs(1);

/// The peers as they are known now, with a link to each.
pub struct Peers {
    hello: Hello,
    connector: Connector,
    inputs: UnboundedSender<Input>,
    links: Mutex<HashMap<u64, Link>>,
    /// Snapshots on their way, by peer: cancelled, one is not heard of again.
    snapshots: Mutex<HashMap<u64, CancellationToken>>,
    /// Peers that were removed while this member ran.
    gone: Mutex<BTreeSet<u64>>,
    /// Links run here, on the raft thread.
    runtime: tokio::runtime::Handle,
    gauges: Arc<Gauges>,
    /// Cancelled when this member was removed, or a peer says so.
    pub removed: CancellationToken,
}

impl Peers {
    pub fn new(
        hello: Hello,
        connector: Connector,
        inputs: UnboundedSender<Input>,
        runtime: tokio::runtime::Handle,
        gauges: Arc<Gauges>,
    ) -> Arc<Peers> {
        Arc::new(Peers {
            hello,
            connector,
            inputs,
            links: Mutex::default(),
            snapshots: Mutex::default(),
            gone: Mutex::default(),
            runtime,
            gauges,
            removed: CancellationToken::new(),
        })
    }

    pub fn client(&self, id: u64) -> Option<PeerClient> {
        self.links.lock().get(&id).map(|link| PeerClient::new(link.channel.clone(), self.hello, id))
    }

    pub fn is_gone(&self, id: u64) -> bool {
        self.gone.lock().contains(&id)
    }

    /// Whether a peer's stream of messages is open.
    pub fn is_connected(&self, id: u64) -> bool {
        self.links.lock().get(&id).is_some_and(Link::is_connected)
    }
}

impl Outbound for Arc<Peers> {
    fn send(&self, messages: Vec<Message>) {
        let mut by_peer: HashMap<u64, Vec<Message>> = HashMap::new();
        for message in messages {
            by_peer.entry(message.to).or_default().push(message);
        }
        let links = self.links.lock();
        for (to, messages) in by_peer {
            let beats = messages.iter().any(|message| message.get_msg_type() == MessageType::MsgHeartbeat);
            let sent = links.get(&to).is_some_and(|link| link.send(messages));
            if !sent {
                if beats {
                    self.gauges.unsent_heartbeats.inc();
                }
                // The raft thread is the one that asks: its queue is there.
                let _ = self.inputs.send(Input::Unreachable(to));
            }
        }
    }

    fn send_snapshot(&self, outgoing: Outgoing) {
        let (to, term) = (outgoing.message.to, outgoing.message.term);
        let Some(client) = self.client(to) else {
            let _ = self.inputs.send(Input::SnapshotSent { to, term, arrived: false });
            return;
        };
        let unwanted = CancellationToken::new();
        if let Some(earlier) = self.snapshots.lock().insert(to, unwanted.clone()) {
            earlier.cancel();
        }
        let inputs = self.inputs.clone();
        self.runtime.spawn(async move {
            let Some(sent) = unwanted.run_until_cancelled(snapshots::send(client, outgoing)).await else {
                tracing::info!(to = format!("{to:x}"), "a snapshot is not wanted any more");
                return;
            };
            if let Err(error) = &sent {
                tracing::warn!(to = format!("{to:x}"), %error, "a snapshot did not arrive");
            }
            let _ = inputs.send(Input::SnapshotSent { to, term, arrived: sent.is_ok() });
        });
    }

    fn stop_snapshots(&self) {
        self.snapshots.lock().drain().for_each(|(_, unwanted)| unwanted.cancel());
    }

    fn set_removed(&self) {
        self.removed.cancel();
    }

    fn remove_others(&self, members: &[pb::Member]) {
        let others = || members.iter().filter(|m| m.id != self.hello.from);
        let mut links = self.links.lock();
        for (id, link) in links.extract_if(|id, link| !others().any(|m| m.id == *id && m.peer_ur_ls == link.urls)) {
            if !others().any(|m| m.id == id) {
                self.gone.lock().insert(id);
                self.snapshots.lock().remove(&id).inspect(CancellationToken::cancel);
            }
            // What it was last sent may be that it was removed.
            self.runtime.spawn(async move {
                tokio::time::sleep(FLUSH).await;
                drop(link);
            });
        }
    }

    fn add_members(&self, members: &[pb::Member]) {
        let mut links = self.links.lock();
        for member in members.iter().filter(|m| m.id != self.hello.from) {
            let linked = links.get(&member.id).is_some_and(|link| link.urls == member.peer_ur_ls);
            if linked || member.peer_ur_ls.is_empty() {
                continue;
            }
            let _entered = self.runtime.enter();
            let channel = self.connector.channel(&member.peer_ur_ls);
            let client = PeerClient::new(channel.clone(), self.hello, member.id);
            let gauges = self.gauges.peers.to(self.hello.from, member.id);
            let link = Link::start(member, channel, client, self.inputs.clone(), (self.removed.clone(), gauges));
            links.insert(member.id, link);
        }
    }
}
