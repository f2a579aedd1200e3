//! The chains that exist whatever the Services are, and the jumps that lead from the kernel's own chains into ours.

use crate::config::{Config, NodePortAddresses};
use crate::rules::{RuleSet, Table};

/// An empty chain whose disappearance tells that somebody flushed the tables.
pub const CANARY_CHAIN: &str = "KUBE-PROXY-CANARY";

/// Every table that a flush may hit.
pub const CANARY_TABLES: [Table; 3] = Table::ALL;

pub(crate) const SERVICES: &str = "KUBE-SERVICES";
pub(crate) const EXTERNAL_SERVICES: &str = "KUBE-EXTERNAL-SERVICES";
pub(crate) const NODE_PORTS: &str = "KUBE-NODEPORTS";
pub(crate) const PROXY_FIREWALL: &str = "KUBE-PROXY-FIREWALL";
pub(crate) const MARK_MASQ: &str = "KUBE-MARK-MASQ";
const POSTROUTING: &str = "KUBE-POSTROUTING";
const FORWARD: &str = "KUBE-FORWARD";
/// Shared with the kubelet of old; kube-proxy keeps localnet traffic out when it opens `route_localnet`.
const FIREWALL: &str = "KUBE-FIREWALL";

const NEW: &str = "-m conntrack --ctstate NEW ";

/// A jump from one of the kernel's chains.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Jump {
    pub table: Table,
    pub from: &'static str,
    pub to: &'static str,
    comment: &'static str,
    matches: &'static str,
}

impl Jump {
    const fn new(
        table: Table,
        from: &'static str,
        to: &'static str,
        matches: &'static str,
        comment: &'static str,
    ) -> Self {
        Self { table, from, to, comment, matches }
    }

    /// Our jumps go first, as other software's rules might accept or drop before us.
    pub fn insert_line(&self) -> String {
        let Self { from, to, comment, matches, .. } = self;
        let comment = if comment.is_empty() { String::new() } else { format!("-m comment --comment \"{comment}\" ") };
        format!("-I {from} {matches}{comment}-j {to}")
    }
}

const PORTALS: &str = "kubernetes service portals";
const VISIBLE: &str = "kubernetes externally-visible service portals";
const LB_FIREWALL: &str = "kubernetes load balancer firewall";

const JUMPS: [Jump; 12] = [
    Jump::new(Table::Filter, "INPUT", EXTERNAL_SERVICES, NEW, VISIBLE),
    Jump::new(Table::Filter, "FORWARD", EXTERNAL_SERVICES, NEW, VISIBLE),
    Jump::new(Table::Filter, "INPUT", NODE_PORTS, "", "kubernetes health check service ports"),
    Jump::new(Table::Filter, "FORWARD", SERVICES, NEW, PORTALS),
    Jump::new(Table::Filter, "OUTPUT", SERVICES, NEW, PORTALS),
    Jump::new(Table::Filter, "FORWARD", FORWARD, "", "kubernetes forwarding rules"),
    Jump::new(Table::Filter, "INPUT", PROXY_FIREWALL, NEW, LB_FIREWALL),
    Jump::new(Table::Filter, "OUTPUT", PROXY_FIREWALL, NEW, LB_FIREWALL),
    Jump::new(Table::Filter, "FORWARD", PROXY_FIREWALL, NEW, LB_FIREWALL),
    Jump::new(Table::Nat, "OUTPUT", SERVICES, "", PORTALS),
    Jump::new(Table::Nat, "PREROUTING", SERVICES, "", PORTALS),
    Jump::new(Table::Nat, "POSTROUTING", POSTROUTING, "", "kubernetes postrouting rules"),
];

const LOCALNET_JUMPS: [Jump; 2] =
    [Jump::new(Table::Filter, "INPUT", FIREWALL, "", ""), Jump::new(Table::Filter, "OUTPUT", FIREWALL, "", "")];

/// The jumps this configuration wants.
pub(crate) fn jumps(config: &Config) -> impl Iterator<Item = Jump> {
    let localnet: &[Jump] = if config.serves_localhost() { &LOCALNET_JUMPS } else { &[] };
    JUMPS.iter().chain(localnet).copied()
}

/// Is this one of the chains that are always there?
pub(crate) fn is_base_chain(name: &str) -> bool {
    [SERVICES, EXTERNAL_SERVICES, NODE_PORTS, PROXY_FIREWALL, MARK_MASQ, POSTROUTING, FORWARD, FIREWALL, CANARY_CHAIN]
        .contains(&name)
}

/// Writes the chains whose contents do not depend on any Service.
pub(crate) fn render(config: &Config, rules: &mut RuleSet) {
    for table in CANARY_TABLES {
        rules.set(table, CANARY_CHAIN, String::new());
    }
    rules.set(Table::Nat, POSTROUTING, postrouting(config));
    rules.set(Table::Nat, MARK_MASQ, format!("-A {MARK_MASQ} -j MARK --or-mark {}\n", config.mark()));
    rules.set(Table::Filter, FORWARD, forward(config));
    if config.serves_localhost() {
        rules.set(Table::Filter, FIREWALL, localnet_firewall());
    }
}

/// The mark is taken off again, lest a packet that passes POSTROUTING twice (tunnels) be masqueraded twice.
fn postrouting(config: &Config) -> String {
    let mark = config.mark();
    let random = if config.random_fully { " --random-fully" } else { "" };
    format!(
        "-A {POSTROUTING} -m mark ! --mark {mark}/{mark} -j RETURN\n\
         -A {POSTROUTING} -j MARK --xor-mark {mark}\n\
         -A {POSTROUTING} -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE{random}\n"
    )
}

/// INVALID packets are dropped: un-NATed, they would make the client reset its connection.
fn forward(config: &Config) -> String {
    let mark = config.mark();
    let invalid = format!("-A {FORWARD} -m conntrack --ctstate INVALID -j DROP\n");
    let invalid = if config.conntrack_tcp_be_liberal { String::new() } else { invalid };
    format!(
        "{invalid}-A {FORWARD} -m comment --comment \"kubernetes forwarding rules\" -m mark --mark {mark}/{mark} -j ACCEPT\n\
         -A {FORWARD} -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
    )
}

/// `route_localnet` would let neighbours reach what listens on 127.0.0.1 (CVE-2020-8558).
fn localnet_firewall() -> String {
    format!(
        "-A {FIREWALL} -m comment --comment \"block incoming localnet connections\" -d 127.0.0.0/8 ! -s 127.0.0.0/8 \
         -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n"
    )
}

/// The end of nat's KUBE-SERVICES: what is addressed to the node itself may be for a node port.
pub(crate) fn node_port_jumps(config: &Config) -> String {
    const COMMENT: &str = "kubernetes service nodeports; NOTE: this must be the last rule in this chain";
    let jump =
        |destination: &str| format!("-A {SERVICES} -m comment --comment \"{COMMENT}\" {destination} -j {NODE_PORTS}\n");
    match &config.node_port_addresses {
        NodePortAddresses::All if config.serves_localhost() => jump("-m addrtype --dst-type LOCAL"),
        NodePortAddresses::All => jump(&format!("-m addrtype --dst-type LOCAL ! -d {}", config.family.loopback())),
        NodePortAddresses::Only(ips) => ips
            .iter()
            .filter(|ip| config.family.holds(**ip) && (!ip.is_loopback() || config.serves_localhost()))
            .map(|ip| jump(&format!("-d {ip}")))
            .collect(),
    }
}
