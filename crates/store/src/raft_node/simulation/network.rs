//! The network between members: late, out of order, twice, or not at all.

use std::collections::{BTreeMap, BTreeSet};

use raft::prelude::{Message, MessageType};

use super::dice::Dice;
use super::plant::Plant;
use crate::raft_node::Outgoing;

pub enum Packet {
    Message(Message),
    Snapshot(Outgoing),
}

impl Packet {
    pub fn message(&self) -> &Message {
        match self {
            Packet::Message(message) => message,
            Packet::Snapshot(outgoing) => &outgoing.message,
        }
    }
}

#[derive(Default)]
pub struct Network {
    /// By the time of arrival, and the order of sending.
    flying: BTreeMap<(u64, u64), Packet>,
    sent: u64,
    /// Pairs that do not reach each other, one way.
    cut: BTreeSet<(u64, u64)>,
    pub unreliable: bool,
    plant: Option<Plant>,
    pub dropped: u64,
    /// What announced snapshots that did not arrive.
    broken: Vec<Message>,
}

impl Network {
    pub fn new(plant: Option<Plant>) -> Network {
        Network { plant, ..Network::default() }
    }

    pub fn send(&mut self, now: u64, packet: Packet, dice: &mut Dice) {
        let (from, to) = (packet.message().from, packet.message().to);
        let lost = self.unreliable && dice.percent(5);
        if self.cut.contains(&(from, to)) || lost {
            self.lose(&packet);
            return;
        }
        // Links are streams that resend nothing: a forwarded command, which is no message of Raft's own and must not be
        // applied twice, arrives once or never. All else Raft has to bear twice.
        let forwarded = packet.message().msg_type() == MessageType::MsgPropose;
        let repeatable = !forwarded || self.plant == Some(Plant::ForwardTwice);
        let again = match &packet {
            Packet::Message(message) if repeatable && self.unreliable && dice.percent(3) => Some(message.clone()),
            _ => None,
        };
        self.fly(now, packet, dice);
        if let Some(message) = again {
            self.fly(now, Packet::Message(message), dice);
        }
    }

    pub fn lose(&mut self, packet: &Packet) {
        self.dropped += 1;
        if let Packet::Snapshot(Outgoing { message, .. }) = packet {
            // The stream breaks, and its sender notices.
            self.broken.push(message.clone());
        }
    }

    fn fly(&mut self, now: u64, packet: Packet, dice: &mut Dice) {
        let delay = match &packet {
            Packet::Snapshot(_) => dice.within(5..200),
            Packet::Message(_) if self.unreliable && dice.percent(5) => dice.within(20..400),
            Packet::Message(_) => dice.within(1..10),
        };
        self.sent += 1;
        self.flying.insert((now + delay, self.sent), packet);
    }

    pub fn take_broken(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.broken)
    }

    /// The next packet that has arrived by now.
    pub fn arrived(&mut self, now: u64) -> Option<Packet> {
        let first = self.flying.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    pub fn next_arrival(&self) -> Option<u64> {
        self.flying.first_key_value().map(|((at, _), _)| *at)
    }

    /// Cuts a side off, in one direction or in both.
    pub fn partition(&mut self, ids: &[u64], dice: &mut Dice) {
        self.heal();
        let side: Vec<u64> = ids.iter().copied().filter(|_| dice.percent(50)).collect();
        let one_way = dice.percent(30);
        for a in &side {
            for b in ids.iter().filter(|b| !side.contains(b)) {
                self.cut.insert((*a, *b));
                if !one_way {
                    self.cut.insert((*b, *a));
                }
            }
        }
    }

    /// Cuts one off from everybody, both ways.
    pub fn isolate(&mut self, id: u64, ids: &[u64]) {
        for other in ids.iter().filter(|other| **other != id) {
            self.cut.insert((id, *other));
            self.cut.insert((*other, id));
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }
}
