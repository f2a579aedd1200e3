//! What members send each other.

use std::fmt::Debug;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// A label and its value.
type By<const LABELS: usize> = [(&'static str, String); LABELS];

#[derive(Debug, Default)]
pub struct PeerTraffic {
    sent: Family<By<1>, Counter>,
    received: Family<By<1>, Counter>,
    failures: Family<By<1>, Counter>,
    active: Family<By<2>, Gauge>,
}

/// Of the link to one peer.
#[derive(Debug, Clone)]
pub struct ToPeer {
    pub sent_bytes: Counter,
    pub failures: Counter,
    pub active: Gauge,
}

impl PeerTraffic {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("etcd_network_peer_sent_bytes", "The total number of bytes sent to peers", self.sent.clone());
        registry.register(
            "etcd_network_peer_received_bytes",
            "The total number of bytes received from peers",
            self.received.clone(),
        );
        registry.register(
            "etcd_network_peer_sent_failures",
            "The total number of send failures from peers",
            self.failures.clone(),
        );
        registry.register(
            "etcd_network_active_peers",
            "The current number of active peer connections",
            self.active.clone(),
        );
    }

    pub fn to(&self, me: u64, peer: u64) -> ToPeer {
        let to = [("To", id(peer))];
        ToPeer {
            sent_bytes: self.sent.get_or_create(&to).clone(),
            failures: self.failures.get_or_create(&to).clone(),
            active: self.active.get_or_create(&[("Local", id(me)), ("Remote", id(peer))]).clone(),
        }
    }

    /// Bytes that have come from a peer.
    pub fn from(&self, peer: u64) -> Counter {
        self.received.get_or_create(&[("From", id(peer))]).clone()
    }
}

fn id(member: u64) -> String {
    format!("{member:x}")
}
