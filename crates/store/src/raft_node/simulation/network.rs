//! The network between members: late, out of order, twice, or not at all.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use rand::rngs::StdRng;

use crate::raft_node::Outgoing;
use raft::prelude::{Message, MessageType};

pub enum Packet {
    Message(Message),
    Snapshot(Outgoing),
}

#[derive(Default)]
pub struct Network {
    /// By the time of arrival, and the order of sending.
    flying: BTreeMap<(u64, u64), (u64, Packet)>,
    sent: u64,
    /// Pairs that do not reach each other, one way.
    cut: BTreeSet<(u64, u64)>,
    pub unreliable: bool,
    pub dropped: u64,
    /// Snapshots that did not arrive: from whom, to whom.
    broken: Vec<(u64, u64)>,
}

impl Network {
    pub fn unreliable() -> Network {
        Network { unreliable: true, ..Network::default() }
    }

    pub fn send(&mut self, now: u64, from: u64, packet: Packet, rng: &mut StdRng) {
        let to = match &packet {
            Packet::Message(message) => message.to,
            Packet::Snapshot(outgoing) => outgoing.message.to,
        };
        let lost = self.unreliable && rng.random_bool(0.05);
        if self.cut.contains(&(from, to)) || lost {
            self.dropped += 1;
            if matches!(packet, Packet::Snapshot(_)) {
                // The stream breaks, and its sender notices.
                self.broken.push((from, to));
            }
            return;
        }
        // Links are streams that resend nothing: a forwarded command, which is no message of Raft's own and must not be
        // applied twice, arrives once or never. All else Raft has to bear twice.
        let repeatable = matches!(&packet, Packet::Message(message) if message.msg_type() != MessageType::MsgPropose);
        let again = match &packet {
            Packet::Message(message) if repeatable && self.unreliable && rng.random_bool(0.03) => Some(message.clone()),
            _ => None,
        };
        self.fly(now, to, packet, rng);
        if let Some(message) = again {
            self.fly(now, to, Packet::Message(message), rng);
        }
    }

    fn fly(&mut self, now: u64, to: u64, packet: Packet, rng: &mut StdRng) {
        let delay = match &packet {
            Packet::Snapshot(_) => rng.random_range(5..200),
            Packet::Message(_) if self.unreliable && rng.random_bool(0.05) => rng.random_range(20..400),
            Packet::Message(_) => rng.random_range(1..10),
        };
        self.sent += 1;
        self.flying.insert((now + delay, self.sent), (to, packet));
    }

    pub fn take_broken(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.broken)
    }

    /// The next packet that has arrived by now.
    pub fn arrived(&mut self, now: u64) -> Option<(u64, Packet)> {
        let first = self.flying.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// Cuts a side off, in one direction or in both.
    pub fn partition(&mut self, ids: &[u64], rng: &mut StdRng) {
        self.heal();
        let side: Vec<u64> = ids.iter().copied().filter(|_| rng.random_bool(0.5)).collect();
        let one_way = rng.random_bool(0.3);
        for a in &side {
            for b in ids.iter().filter(|b| !side.contains(b)) {
                self.cut.insert((*a, *b));
                if !one_way {
                    self.cut.insert((*b, *a));
                }
            }
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }
}
