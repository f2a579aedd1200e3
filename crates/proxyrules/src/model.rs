//! The state behind the rules: fed with objects as they change, it renders only the Services that a change touches.
//!
//! Invariant: `rules` is what the kernel shall hold once every text handed out by [`Model::sync`] was applied. A caller
//! that failed to apply one, or finds the kernel's tables changed, asks for [`Model::full_sync`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::base;
use crate::config::Config;
use crate::conntrack::{StaleFlow, UdpPort, stale_entries, stale_flows};
use crate::endpoint::{Endpoint, SliceEndpoints, SliceKey, endpoints_of, merge, service_of};
use crate::names::{ServiceKey, is_service_chain};
use crate::observed::Observed;
use crate::render::{Fragments, render};
use crate::rules::{Change, RuleSet, Table};
use crate::service::{ServicePort, ports_of};
use crate::topology::Categorized;

/// What one synchronisation has to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sync {
    /// Input for `iptables-restore --noflush`; None when the kernel is up to date.
    pub restore: Option<String>,
    /// To be deleted after the rules are in place, or new ones would be made from the old rules.
    pub stale_flows: Vec<StaleFlow>,
}

/// A `healthCheckNodePort` and what it has to tell a load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheckPort {
    pub port: u16,
    pub local_endpoints: usize,
}

/// Counts for the metrics.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    pub service_ports: usize,
    pub endpoints: usize,
    /// Service ports of a `Local` policy without endpoints on this node.
    pub no_local_internal: usize,
    pub no_local_external: usize,
}

pub struct Model {
    config: Config,
    services: HashMap<ServiceKey, Vec<ServicePort>>,
    slices: HashMap<SliceKey, (ServiceKey, SliceEndpoints)>,
    slices_of: HashMap<ServiceKey, BTreeSet<SliceKey>>,
    dirty: BTreeSet<ServiceKey>,
    rendered: BTreeMap<ServiceKey, Rendered>,
    rules: RuleSet,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Rendered {
    fragments: Fragments,
    udp: Vec<UdpPort>,
    health_check: Option<HealthCheckPort>,
    stats: Stats,
}

impl Model {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            services: HashMap::new(),
            slices: HashMap::new(),
            slices_of: HashMap::new(),
            dirty: BTreeSet::new(),
            rendered: BTreeMap::new(),
            rules: RuleSet::default(),
        }
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes over changed facts of the node; follow with a full sync. Endpoints are kept, so the node's name, which
    /// decides what is local, must stay.
    pub fn set_config(&mut self, config: Config) {
        assert_eq!(config.node_name, self.config.node_name, "a node does not change its name");
        assert_eq!(config.family, self.config.family, "a model is for one family");
        self.config = config;
        self.dirty.extend(self.services.keys().cloned());
    }

    pub fn apply_service(&mut self, service: &Service) {
        let key = ServiceKey::new(
            service.metadata.namespace.clone().unwrap_or_default(),
            service.metadata.name.clone().unwrap_or_default(),
        );
        let ports = ports_of(service, self.config.family);
        if ports.is_empty() {
            self.delete_service(&key);
        } else if self.services.get(&key) != Some(&ports) {
            self.services.insert(key.clone(), ports);
            self.dirty.insert(key);
        }
    }

    pub fn delete_service(&mut self, key: &ServiceKey) {
        if self.services.remove(key).is_some() {
            self.dirty.insert(key.clone());
        }
    }

    pub fn apply_slice(&mut self, slice: &EndpointSlice) {
        let key = SliceKey::of(slice);
        let endpoints = endpoints_of(slice, self.config.family, &self.config.node_name);
        let Some(service) = service_of(slice).filter(|_| !endpoints.is_empty()) else {
            return self.delete_slice(&key);
        };
        let new = (service.clone(), endpoints);
        if self.slices.get(&key) == Some(&new) {
            return;
        }
        self.delete_slice(&key);
        self.slices.insert(key.clone(), new);
        self.slices_of.entry(service.clone()).or_default().insert(key);
        self.dirty.insert(service);
    }

    pub fn delete_slice(&mut self, key: &SliceKey) {
        let Some((service, _)) = self.slices.remove(key) else { return };
        if let Some(slices) = self.slices_of.get_mut(&service) {
            slices.remove(key);
            if slices.is_empty() {
                self.slices_of.remove(&service);
            }
        }
        self.dirty.insert(service);
    }

    /// Is there anything to do?
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Writes only the chains that changed since the last sync. The first one must be a [`Model::full_sync`].
    pub fn sync(&mut self) -> Sync {
        let (touched, stale_flows) = self.update();
        let mut change = Change::default();
        for (table, chain) in &touched {
            match self.rules.get(*table, chain) {
                Some(body) => change.write(*table, chain, body),
                None => change.delete(*table, chain),
            }
        }
        Sync { restore: (!touched.is_empty()).then(|| change.to_text()), stale_flows }
    }

    /// Writes every chain, puts back the jumps that are missing, and deletes chains of ports that no longer exist.
    /// Names no stale flows, as the past is unknown: see [`Model::stale_entries`].
    pub fn full_sync(&mut self, observed: &Observed) -> Sync {
        base::render(&self.config, &mut self.rules);
        let _ = self.update();
        for shared in &SHARED {
            self.rules.set(shared.table, shared.chain, self.shared_body(shared));
        }
        let mut change = Change::default();
        for (table, chain) in self.rules.chains() {
            change.write(table, chain, self.rules.get(table, chain).unwrap_or_default());
        }
        for (table, chain) in &observed.chains {
            if is_service_chain(chain) && self.rules.get(*table, chain).is_none() {
                change.delete(*table, chain);
            }
        }
        for jump in base::jumps(&self.config) {
            if !observed.jumps.contains(&(jump.table, jump.from.to_owned(), jump.to.to_owned())) {
                change.line(jump.table, jump.insert_line());
            }
        }
        Sync { restore: Some(change.to_text()), stale_flows: Vec::new() }
    }

    /// Stale flows in the output of `conntrack -L -p udp`, for after a full sync.
    pub fn stale_entries(&self, listing: &str) -> Vec<StaleFlow> {
        let ports = self.rendered.values().flat_map(|rendered| &rendered.udp);
        stale_entries(listing, ports, &self.config.node_ips)
    }

    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// The Services that want a health check server on their `healthCheckNodePort`.
    pub fn health_check_ports(&self) -> impl Iterator<Item = (&ServiceKey, &HealthCheckPort)> {
        self.rendered.iter().filter_map(|(key, rendered)| Some((key, rendered.health_check.as_ref()?)))
    }

    pub fn stats(&self) -> Stats {
        self.rendered.values().fold(Stats::default(), |sum, rendered| sum.plus(&rendered.stats))
    }

    /// Renders the dirty Services into `rules`; returns the chains that changed.
    fn update(&mut self) -> (BTreeSet<(Table, String)>, Vec<StaleFlow>) {
        let mut touched = BTreeSet::new();
        let mut stale = BTreeSet::new();
        let mut shared_changed = [false; SHARED.len()];
        for key in std::mem::take(&mut self.dirty) {
            let new = self.render_service(&key);
            let old = match &new {
                Some(new) => self.rendered.insert(key.clone(), new.clone()),
                None => self.rendered.remove(&key),
            };
            let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
            for (changed, shared) in shared_changed.iter_mut().zip(&SHARED) {
                *changed |= (shared.part)(&old.fragments) != (shared.part)(&new.fragments);
            }
            self.replace_chains(&old.fragments, new.fragments, &mut touched);
            stale_flows(&old.udp, &new.udp, &mut stale);
        }
        for (_, shared) in shared_changed.iter().zip(&SHARED).filter(|(changed, _)| **changed) {
            self.rules.set(shared.table, shared.chain, self.shared_body(shared));
            touched.insert((shared.table, shared.chain.to_owned()));
        }
        (touched, stale.into_iter().collect())
    }

    fn replace_chains(&mut self, old: &Fragments, new: Fragments, touched: &mut BTreeSet<(Table, String)>) {
        for (chain, _) in &old.chains {
            if !new.chains.iter().any(|(kept, _)| kept == chain) && self.rules.remove(Table::Nat, chain) {
                touched.insert((Table::Nat, chain.clone()));
            }
        }
        for (chain, body) in new.chains {
            if self.rules.set(Table::Nat, &chain, body) {
                touched.insert((Table::Nat, chain));
            }
        }
    }

    fn shared_body(&self, shared: &Shared) -> String {
        let mut body: String = self.rendered.values().map(|rendered| (shared.part)(&rendered.fragments)).collect();
        if shared.table == Table::Nat && shared.chain == base::SERVICES {
            body.push_str(&base::node_port_jumps(&self.config));
        }
        body
    }

    fn render_service(&self, key: &ServiceKey) -> Option<Rendered> {
        let ports = self.services.get(key)?;
        let mut rendered = Rendered::default();
        for (i, port) in ports.iter().enumerate() {
            let endpoints = self.endpoints(port);
            // The health check is the Service's, not the port's: its first port writes the rule.
            let mut service = port.clone();
            if i > 0 {
                service.health_check_node_port = 0;
            }
            let used = render(&service, &endpoints, &self.config, &mut rendered.fragments);
            rendered.udp.extend(UdpPort::of(port, &used));
            rendered.stats.count(port, &used, &endpoints);
            if service.health_check_node_port != 0 {
                let local: BTreeSet<_> = used.local.iter().filter(|ep| ep.ready).map(|ep| ep.address.ip()).collect();
                rendered.health_check =
                    Some(HealthCheckPort { port: service.health_check_node_port, local_endpoints: local.len() });
            }
        }
        Some(rendered)
    }

    fn endpoints(&self, port: &ServicePort) -> Vec<Endpoint> {
        let slices = self.slices_of.get(&port.name.service).into_iter().flatten();
        let key = (port.name.port.clone(), port.protocol);
        merge(slices.filter_map(|slice| self.slices.get(slice)?.1.get(&key)).flatten())
    }
}

impl Stats {
    fn plus(mut self, other: &Self) -> Self {
        self.service_ports += other.service_ports;
        self.endpoints += other.endpoints;
        self.no_local_internal += other.no_local_internal;
        self.no_local_external += other.no_local_external;
        self
    }

    fn count(&mut self, port: &ServicePort, used: &Categorized<'_>, endpoints: &[Endpoint]) {
        let unserved = used.any && used.local.is_empty();
        self.service_ports += 1;
        self.endpoints += endpoints.len();
        self.no_local_internal += usize::from(port.internal_local && unserved);
        self.no_local_external += usize::from(port.external_local && unserved);
    }
}

/// A chain that all Services contribute to.
struct Shared {
    table: Table,
    chain: &'static str,
    part: fn(&Fragments) -> &str,
}

const SHARED: [Shared; 6] = [
    Shared { table: Table::Nat, chain: base::SERVICES, part: |f| &f.nat_services },
    Shared { table: Table::Nat, chain: base::NODE_PORTS, part: |f| &f.nat_node_ports },
    Shared { table: Table::Filter, chain: base::SERVICES, part: |f| &f.filter_services },
    Shared { table: Table::Filter, chain: base::EXTERNAL_SERVICES, part: |f| &f.filter_external },
    Shared { table: Table::Filter, chain: base::NODE_PORTS, part: |f| &f.filter_node_ports },
    Shared { table: Table::Filter, chain: base::PROXY_FIREWALL, part: |f| &f.filter_firewall },
];
