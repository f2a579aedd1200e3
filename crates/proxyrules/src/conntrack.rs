//! UDP flows that the kernel still sends to where they no longer belong.
//!
//! A UDP client that keeps its source port keeps its conntrack entry alive, and with it the endpoint chosen when the
//! entry was made: one that is gone, or none at all if the Service had none then.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use crate::names::Protocol;
use crate::service::ServicePort;
use crate::topology::Categorized;

/// Entries to delete.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StaleFlow {
    /// Where the client sends to; None for a node port, which any local address has.
    pub destination: Option<IpAddr>,
    pub port: u16,
    /// Where the entry translates to; None for all entries.
    pub endpoint: Option<IpAddr>,
    /// The client's end; None for all clients.
    pub client: Option<SocketAddr>,
}

impl StaleFlow {
    /// Arguments of the `conntrack` command.
    pub fn conntrack_args(&self) -> Vec<String> {
        let mut args = vec!["-D".into(), "-p".into(), "udp".into(), "--orig-port-dst".into(), self.port.to_string()];
        if let Some(ip) = self.destination {
            args.extend(["--orig-dst".into(), ip.to_string()]);
        }
        if let Some(ip) = self.endpoint {
            args.extend(["--dst-nat".into(), ip.to_string()]);
        }
        if let Some(client) = self.client {
            let (ip, port) = (client.ip().to_string(), client.port().to_string());
            args.extend(["--orig-src".into(), ip, "--orig-port-src".into(), port]);
        }
        if self.destination.or(self.endpoint).is_some_and(|ip| ip.is_ipv6()) {
            args.extend(["-f".into(), "ipv6".into()]);
        }
        args
    }
}

/// What a UDP service port was, as far as its flows are concerned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UdpPort {
    destinations: BTreeSet<(Option<IpAddr>, u16)>,
    endpoints: BTreeSet<IpAddr>,
}

impl UdpPort {
    pub fn of(service: &ServicePort, used: &Categorized<'_>) -> Option<Self> {
        if service.protocol != Protocol::Udp {
            return None;
        }
        let vips = std::iter::once(&service.cluster_ip).chain(&service.external_ips).chain(&service.load_balancer_ips);
        let vips = vips.map(|ip| (Some(*ip), service.port));
        let node_port = (service.node_port != 0).then_some((None, service.node_port));
        Some(Self {
            destinations: vips.chain(node_port).collect(),
            endpoints: used.reachable.iter().map(|endpoint| endpoint.address.ip()).collect(),
        })
    }
}

/// Flows made stale by the step from `before` to `after`, both of one Service.
pub(crate) fn stale_flows(before: &[UdpPort], after: &[UdpPort], stale: &mut BTreeSet<StaleFlow>) {
    let endpoints_of = |ports: &[UdpPort], destination| -> BTreeSet<IpAddr> {
        let serving = ports.iter().filter(|port| port.destinations.contains(destination));
        serving.flat_map(|port| port.endpoints.iter().copied()).collect()
    };
    let destinations = before.iter().chain(after).flat_map(|port| &port.destinations);
    for key @ (destination, port) in destinations {
        let (old, new) = (endpoints_of(before, key), endpoints_of(after, key));
        let flow = |endpoint| StaleFlow { destination: *destination, port: *port, endpoint, client: None };
        stale.extend(old.difference(&new).map(|endpoint| flow(Some(*endpoint))));
        if old.is_empty() && !new.is_empty() {
            stale.insert(flow(None));
        }
    }
}

/// Finds stale entries in the output of `conntrack -L -p udp`: those to a service port that translate to none of its
/// endpoints. For a proxy that just started and cannot know what changed while it was away.
pub(crate) fn stale_entries<'a>(
    listing: &str,
    ports: impl Iterator<Item = &'a UdpPort>,
    node_ips: &BTreeSet<IpAddr>,
) -> Vec<StaleFlow> {
    let mut endpoints: HashMap<(Option<IpAddr>, u16), BTreeSet<IpAddr>> = HashMap::new();
    for port in ports {
        for destination in &port.destinations {
            endpoints.entry(*destination).or_default().extend(&port.endpoints);
        }
    }
    let stale = |entry: &Entry| {
        let node_port = node_ips.contains(&entry.destination.ip()).then_some((None, entry.destination.port()));
        let service = Some((Some(entry.destination.ip()), entry.destination.port()));
        let known = [service, node_port].into_iter().flatten().find_map(|key| endpoints.get(&key));
        known.is_some_and(|endpoints| !endpoints.is_empty() && !endpoints.contains(&entry.replier))
    };
    listing.lines().filter_map(Entry::parse).filter(stale).map(Entry::into_flow).collect()
}

/// One line: `udp 17 29 src=A dst=VIP sport=1 dport=53 [UNREPLIED] src=ENDPOINT dst=A sport=53 dport=1 use=1`.
struct Entry {
    client: SocketAddr,
    destination: SocketAddr,
    replier: IpAddr,
}

impl Entry {
    fn parse(line: &str) -> Option<Self> {
        let fields = |name: &'static str| {
            line.split_whitespace().filter_map(move |word| word.strip_prefix(name)?.strip_prefix('='))
        };
        let mut sources = fields("src");
        Some(Self {
            client: SocketAddr::new(sources.next()?.parse().ok()?, fields("sport").next()?.parse().ok()?),
            destination: SocketAddr::new(fields("dst").next()?.parse().ok()?, fields("dport").next()?.parse().ok()?),
            replier: sources.next()?.parse().ok()?,
        })
    }

    fn into_flow(self) -> StaleFlow {
        StaleFlow {
            destination: Some(self.destination.ip()),
            port: self.destination.port(),
            endpoint: None,
            client: Some(self.client),
        }
    }
}
