//! The rules of one service port.
//!
//! The way of a packet: KUBE-SERVICES finds the port by destination. Traffic to the cluster IP goes to the chain of the
//! internal policy (KUBE-SVC: endpoints anywhere, KUBE-SVL: on this node). External traffic goes through KUBE-EXT,
//! which decides on masquerade, to the chain of the external policy. Either picks a KUBE-SEP chain, which does the DNAT.

use std::fmt::Write;
use std::net::IpAddr;

use crate::base::{EXTERNAL_SERVICES, MARK_MASQ, NODE_PORTS, PROXY_FIREWALL, SERVICES};
use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::names::{ServiceChains, endpoint_chain};
use crate::service::ServicePort;
use crate::topology::{Categorized, categorize};

/// Lines for the chains that all Services share, and the chains of this Service alone.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Fragments {
    pub nat_services: String,
    pub nat_node_ports: String,
    pub filter_services: String,
    pub filter_external: String,
    pub filter_node_ports: String,
    pub filter_firewall: String,
    /// Names and bodies, all in the nat table.
    pub chains: Vec<(String, String)>,
}

/// Appends the rules of `service` to `out` and tells which endpoints they use.
pub(crate) fn render<'a>(
    service: &ServicePort,
    endpoints: &'a [Endpoint],
    config: &Config,
    out: &mut Fragments,
) -> Categorized<'a> {
    let used = categorize(endpoints, service, &config.node_name, config.zone.as_deref());
    let port = Port::new(service, &used, config);
    port.health_check(out);
    port.cluster_ip(out);
    port.external_ips(out);
    port.load_balancer_ips(out);
    port.node_port(out);
    port.external_chain(out);
    port.policy_chain(&port.chains.cluster, service.uses_cluster_endpoints(), &used.cluster, out);
    port.policy_chain(&port.chains.local, service.uses_local_endpoints(), &used.local, out);
    used.reachable.iter().for_each(|endpoint| port.endpoint(endpoint, out));
    used
}

/// A service port with everything the rules derive from it.
struct Port<'a> {
    service: &'a ServicePort,
    config: &'a Config,
    name: String,
    chains: ServiceChains,
    has_any: bool,
    has_internal: bool,
    has_external: bool,
    source_ranges_apply: bool,
}

impl<'a> Port<'a> {
    fn new(service: &'a ServicePort, used: &Categorized<'_>, config: &'a Config) -> Self {
        let name = service.name.to_string();
        let by_policy = |local: bool| if local { !used.local.is_empty() } else { !used.cluster.is_empty() };
        Self {
            chains: ServiceChains::new(&name, service.protocol),
            name,
            has_any: used.any,
            has_internal: by_policy(service.internal_local),
            has_external: by_policy(service.external_local),
            source_ranges_apply: used.any && !service.load_balancer_ips.is_empty() && !service.source_ranges.is_empty(),
            service,
            config,
        }
    }

    /// `-m tcp -p tcp -d 10.96.0.1 --dport 443`
    fn destination(&self, ip: IpAddr) -> String {
        let protocol = self.service.protocol.as_lower();
        format!("-m {protocol} -p {protocol} -d {ip} --dport {}", self.service.port)
    }

    fn internal_chain(&self) -> &str {
        if self.service.internal_local { &self.chains.local } else { &self.chains.cluster }
    }

    fn external_policy_chain(&self) -> &str {
        if self.service.external_local { &self.chains.local } else { &self.chains.cluster }
    }

    /// Words and target for traffic that no endpoint of its policy can take. Dropping, not rejecting, makes a client
    /// or load balancer try elsewhere when endpoints do exist on other nodes.
    fn refusal(&self) -> (String, &'static str) {
        if self.has_any {
            (format!("{} has no local endpoints", self.name), "DROP")
        } else {
            (format!("{} has no endpoints", self.name), "REJECT")
        }
    }

    fn health_check(&self, out: &mut Fragments) {
        if self.service.health_check_node_port == 0 || !self.has_any {
            return;
        }
        line(
            &mut out.filter_node_ports,
            format_args!(
                "-A {NODE_PORTS} -m comment --comment \"{} health check node port\" -m tcp -p tcp --dport {} -j ACCEPT",
                self.name, self.service.health_check_node_port
            ),
        );
    }

    fn cluster_ip(&self, out: &mut Fragments) {
        let destination = self.destination(self.service.cluster_ip);
        if self.has_internal {
            let chain = self.internal_chain();
            line(
                &mut out.nat_services,
                format_args!(
                    "-A {SERVICES} -m comment --comment \"{} cluster IP\" {destination} -j {chain}",
                    self.name
                ),
            );
        } else {
            let (comment, target) = self.refusal();
            line(
                &mut out.filter_services,
                format_args!("-A {SERVICES} -m comment --comment \"{comment}\" {destination} -j {target}"),
            );
        }
    }

    fn external_ips(&self, out: &mut Fragments) {
        for ip in &self.service.external_ips {
            self.external_address(*ip, "external IP", &self.chains.external, out);
        }
    }

    fn load_balancer_ips(&self, out: &mut Fragments) {
        let chain = if self.source_ranges_apply { &self.chains.firewall } else { &self.chains.external };
        for ip in &self.service.load_balancer_ips {
            self.external_address(*ip, "loadbalancer IP", chain, out);
            if self.source_ranges_apply {
                let comment = format!("{} traffic not accepted by {chain}", self.name);
                let destination = self.destination(*ip);
                line(
                    &mut out.filter_firewall,
                    format_args!("-A {PROXY_FIREWALL} -m comment --comment \"{comment}\" {destination} -j DROP"),
                );
            }
        }
        if self.source_ranges_apply {
            out.chains.push((chain.clone(), self.firewall_body()));
        }
    }

    fn external_address(&self, ip: IpAddr, what: &str, chain: &str, out: &mut Fragments) {
        let destination = self.destination(ip);
        if self.has_any {
            line(
                &mut out.nat_services,
                format_args!("-A {SERVICES} -m comment --comment \"{} {what}\" {destination} -j {chain}", self.name),
            );
        }
        if !self.has_external {
            let (comment, target) = self.refusal();
            line(
                &mut out.filter_external,
                format_args!("-A {EXTERNAL_SERVICES} -m comment --comment \"{comment}\" {destination} -j {target}"),
            );
        }
    }

    /// A node within the ranges may use the load balancer itself; such packets can carry the load balancer's own
    /// address as their source.
    fn firewall_body(&self) -> String {
        let (chain, external) = (&self.chains.firewall, &self.chains.external);
        let ranges = self.service.source_ranges.iter();
        let mut sources: Vec<String> = ranges.clone().map(ToString::to_string).collect();
        if self.config.node_ips.iter().any(|ip| ranges.clone().any(|net| net.contains(ip))) {
            sources.extend(self.service.load_balancer_ips.iter().map(ToString::to_string));
        }
        let mut body = String::new();
        for source in sources {
            let name = &self.name;
            line(
                &mut body,
                format_args!("-A {chain} -m comment --comment \"{name} loadbalancer IP\" -s {source} -j {external}"),
            );
        }
        let rest = format!("other traffic to {} will be dropped by {PROXY_FIREWALL}", self.name);
        line(&mut body, format_args!("-A {chain} -m comment --comment \"{rest}\""));
        body
    }

    fn node_port(&self, out: &mut Fragments) {
        let port = self.service.node_port;
        if port == 0 {
            return;
        }
        let protocol = self.service.protocol.as_lower();
        let matches = format!("-m {protocol} -p {protocol} --dport {port}");
        if self.has_any {
            line(
                &mut out.nat_node_ports,
                format_args!(
                    "-A {NODE_PORTS} -m comment --comment {} {matches} -j {}",
                    self.name, self.chains.external
                ),
            );
        }
        if !self.has_external {
            let (comment, target) = self.refusal();
            line(
                &mut out.filter_external,
                format_args!(
                    "-A {EXTERNAL_SERVICES} -m comment --comment \"{comment}\" \
                     -m addrtype --dst-type LOCAL {matches} -j {target}"
                ),
            );
        }
    }

    fn external_chain(&self, out: &mut Fragments) {
        if !self.service.externally_accessible() || !self.has_any {
            return;
        }
        let (chain, cluster, name) = (&self.chains.external, &self.chains.cluster, &self.name);
        let mut body = String::new();
        let mut rule = |comment: &str, rest: &str| {
            let comment = format!("{comment} for {name} external destinations");
            line(&mut body, format_args!("-A {chain} -m comment --comment \"{comment}\" {rest}"));
        };
        if self.service.external_local {
            if let Some(local) = self.config.local_detector.if_local() {
                rule("pod traffic", &format!("{local} -j {cluster}"));
            }
            let from_node = "-m addrtype --src-type LOCAL";
            rule("masquerade LOCAL traffic", &format!("{from_node} -j {MARK_MASQ}"));
            rule("route LOCAL traffic", &format!("{from_node} -j {cluster}"));
        } else {
            rule("masquerade traffic", &format!("-j {MARK_MASQ}"));
        }
        if self.has_external {
            line(&mut body, format_args!("-A {chain} -j {}", self.external_policy_chain()));
        }
        out.chains.push((chain.clone(), body));
    }

    fn policy_chain(&self, chain: &str, wanted: bool, endpoints: &[&Endpoint], out: &mut Fragments) {
        if !wanted || endpoints.is_empty() {
            return;
        }
        let mut body = String::new();
        if chain == self.internal_chain() {
            self.masquerade(chain, &mut body);
        }
        self.balance(chain, endpoints, &mut body);
        out.chains.push((chain.to_owned(), body));
    }

    /// What comes to the cluster IP from elsewhere than a pod could not be routed back from another node.
    fn masquerade(&self, chain: &str, body: &mut String) {
        let matches = match self.config.local_detector.if_not_local() {
            _ if self.config.masquerade_all => String::new(),
            Some(not_local) => format!(" {not_local}"),
            None => return,
        };
        let destination = self.destination(self.service.cluster_ip);
        let name = &self.name;
        line(
            body,
            format_args!("-A {chain} -m comment --comment \"{name} cluster IP\" {destination}{matches} -j {MARK_MASQ}"),
        );
    }

    /// Each endpoint in turn is taken with one in as many as are left, which makes all equally likely.
    fn balance(&self, chain: &str, endpoints: &[&Endpoint], body: &mut String) {
        let sep =
            |endpoint: &Endpoint| endpoint_chain(&self.name, self.service.protocol, &endpoint.address.to_string());
        let comment = |endpoint: &Endpoint| format!("\"{} -> {}\"", self.name, endpoint.address);
        for endpoint in endpoints.iter().filter(|_| self.service.affinity_seconds.is_some()) {
            let (comment, sep) = (comment(endpoint), sep(endpoint));
            let seconds = self.service.affinity_seconds.unwrap_or_default();
            let recent = format!("-m recent --name {sep} --rcheck --seconds {seconds} --reap");
            line(body, format_args!("-A {chain} -m comment --comment {comment} {recent} -j {sep}"));
        }
        for (i, endpoint) in endpoints.iter().enumerate() {
            let (comment, sep) = (comment(endpoint), sep(endpoint));
            let chance = match endpoints.len() - i {
                1 => String::new(),
                left => format!("-m statistic --mode random --probability {} ", probability(left)),
            };
            line(body, format_args!("-A {chain} -m comment --comment {comment} {chance}-j {sep}"));
        }
    }

    /// An endpoint that reaches itself through the Service must see another source than its own address.
    fn endpoint(&self, endpoint: &Endpoint, out: &mut Fragments) {
        let (name, address) = (&self.name, endpoint.address);
        let chain = endpoint_chain(name, self.service.protocol, &address.to_string());
        let protocol = self.service.protocol.as_lower();
        let mut body = String::new();
        line(&mut body, format_args!("-A {chain} -m comment --comment {name} -s {} -j {MARK_MASQ}", address.ip()));
        let remember = match self.service.affinity_seconds {
            Some(_) => format!("-m recent --name {chain} --set "),
            None => String::new(),
        };
        line(
            &mut body,
            format_args!(
                "-A {chain} -m comment --comment {name} {remember}-m {protocol} -p {protocol} \
                 -j DNAT --to-destination {address}"
            ),
        );
        out.chains.push((chain, body));
    }
}

fn line(body: &mut String, rule: std::fmt::Arguments<'_>) {
    let _ = writeln!(body, "{rule}");
}

fn probability(one_in: usize) -> String {
    format!("{:.10}", 1.0 / one_in as f64)
}
