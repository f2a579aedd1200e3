//! All names of the cluster, found in one step.
//!
//! Invariant: every ancestor of a name within the zone is in the map too, perhaps without records, counting its
//! descendants: that is how "no such name" and "no such record" are told apart without a search.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::rdata::{NS, PTR, SOA, TXT};
use hickory_proto::rr::{LowerName, Name, RData, Record};

use crate::records::{Entry, ServiceRecords, TTL, child};

/// Version of the DNS specification for Kubernetes that is followed.
const SPEC_VERSION: &str = "1.1.0";
const NEGATIVE_TTL: u32 = 5;

/// Namespace and name.
pub type Key = (String, String);

pub struct Index {
    zone: Name,
    lower_zone: LowerName,
    soa: Record,
    names: HashMap<LowerName, Node, ahash::RandomState>,
    reverse: HashMap<IpAddr, Vec<(Key, Record)>, ahash::RandomState>,
    owned: HashMap<Key, Owned, ahash::RandomState>,
}

#[derive(Debug, Default)]
struct Node {
    entry: Option<Arc<Entry>>,
    /// Names below this one, and holds by namespaces.
    held: usize,
}

/// What a Service has in the maps.
#[derive(Debug, Default)]
struct Owned {
    forward: Vec<LowerName>,
    reverse: Vec<IpAddr>,
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    Entry(Arc<Entry>),
    /// It exists, as something below it does.
    Empty,
    Missing,
}

impl Index {
    pub fn new(zone: Name) -> Self {
        let server = child(&child(&zone, "dns").unwrap_or_else(|| zone.clone()), "ns").unwrap_or_else(|| zone.clone());
        let contact = child(&zone, "hostmaster").unwrap_or_else(|| zone.clone());
        let soa = RData::SOA(SOA::new(server.clone(), contact, 1, 7200, 1800, 86_400, NEGATIVE_TTL));
        let soa = Record::from_rdata(zone.clone(), NEGATIVE_TTL, soa);
        let mut index = Self {
            lower_zone: LowerName::new(&zone),
            soa: soa.clone(),
            zone,
            names: HashMap::default(),
            reverse: HashMap::default(),
            owned: HashMap::default(),
        };
        let ns = Record::from_rdata(index.zone.clone(), TTL, RData::NS(NS(server)));
        index.set(LowerName::new(&index.zone), Entry { records: vec![soa, ns], glue: Vec::new() });
        if let Some(name) = child(&index.zone, "dns-version") {
            let text = RData::TXT(TXT::new(vec![SPEC_VERSION.to_owned()]));
            let records = vec![Record::from_rdata(name.clone(), TTL, text)];
            index.set(LowerName::new(&name), Entry { records, glue: Vec::new() });
        }
        for label in ["svc", "pod"] {
            if let Some(name) = child(&index.zone, label) {
                index.hold(&LowerName::new(&name));
            }
        }
        index
    }

    pub fn zone(&self) -> &LowerName {
        &self.lower_zone
    }

    /// The record that tells how long an absence may be remembered.
    pub fn soa(&self) -> &Record {
        &self.soa
    }

    pub fn find(&self, name: &LowerName) -> Found {
        match self.names.get(name) {
            Some(Node { entry: Some(entry), .. }) => Found::Entry(entry.clone()),
            Some(_) => Found::Empty,
            None => Found::Missing,
        }
    }

    /// PTR records of an address.
    pub fn reverse(&self, ip: IpAddr) -> Vec<Record> {
        self.reverse.get(&ip).into_iter().flatten().map(|(_, record)| record.clone()).collect()
    }

    /// A namespace's own names exist as long as it does, whether or not there is a Service in it.
    pub fn add_namespace(&mut self, namespace: &str) {
        self.namespace_names(namespace).into_iter().for_each(|name| self.hold(&name));
    }

    pub fn remove_namespace(&mut self, namespace: &str) {
        self.namespace_names(namespace).into_iter().for_each(|name| self.release(&name));
    }

    fn namespace_names(&self, namespace: &str) -> Vec<LowerName> {
        let names = ["svc", "pod"].iter().filter_map(|kind| child(&child(&self.zone, kind)?, namespace));
        names.map(|name| LowerName::new(&name)).collect()
    }

    /// Replaces all names of a Service.
    pub fn set_service(&mut self, key: &Key, records: ServiceRecords) {
        let old = self.owned.remove(key).unwrap_or_default();
        self.remove_reverse(key, &old.reverse);
        for name in old.forward.iter().filter(|name| !records.forward.contains_key(*name)) {
            self.unset(name);
        }
        let mut owned = Owned::default();
        for (name, entry) in records.forward {
            owned.forward.push(name.clone());
            self.set(name, entry);
        }
        for (ip, name) in records.reverse {
            owned.reverse.push(ip);
            let record = Record::from_rdata(arpa(ip), TTL, RData::PTR(PTR(name)));
            self.reverse.entry(ip).or_default().push((key.clone(), record));
        }
        self.owned.insert(key.clone(), owned);
    }

    pub fn remove_service(&mut self, key: &Key) {
        self.set_service(key, ServiceRecords::default());
        self.owned.remove(key);
    }

    pub fn len(&self) -> usize {
        self.names.values().filter(|node| node.entry.is_some()).count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn remove_reverse(&mut self, key: &Key, ips: &[IpAddr]) {
        for ip in ips {
            let Some(records) = self.reverse.get_mut(ip) else { continue };
            records.retain(|(owner, _)| owner != key);
            if records.is_empty() {
                self.reverse.remove(ip);
            }
        }
    }

    fn set(&mut self, name: LowerName, entry: Entry) {
        let node = self.names.entry(name.clone()).or_default();
        let is_new = node.entry.replace(Arc::new(entry)).is_none();
        if is_new {
            self.hold_ancestors(&name);
        }
    }

    fn unset(&mut self, name: &LowerName) {
        let Some(node) = self.names.get_mut(name) else { return };
        if node.entry.take().is_none() {
            return;
        }
        if node.held == 0 {
            self.names.remove(name);
        }
        self.release_ancestors(name);
    }

    fn hold(&mut self, name: &LowerName) {
        self.names.entry(name.clone()).or_default().held += 1;
        self.hold_ancestors(name);
    }

    fn release(&mut self, name: &LowerName) {
        self.release_one(name);
        self.release_ancestors(name);
    }

    fn hold_ancestors(&mut self, name: &LowerName) {
        for ancestor in self.ancestors(name) {
            self.names.entry(ancestor).or_default().held += 1;
        }
    }

    fn release_ancestors(&mut self, name: &LowerName) {
        for ancestor in self.ancestors(name) {
            self.release_one(&ancestor);
        }
    }

    fn release_one(&mut self, name: &LowerName) {
        let Some(node) = self.names.get_mut(name) else { return };
        node.held = node.held.saturating_sub(1);
        if node.held == 0 && node.entry.is_none() {
            self.names.remove(name);
        }
    }

    /// From the parent up to the zone.
    fn ancestors(&self, name: &LowerName) -> Vec<LowerName> {
        let mut ancestors = Vec::new();
        let mut name = name.clone();
        while name != self.lower_zone && !name.is_root() {
            name = name.base_name();
            ancestors.push(name.clone());
        }
        ancestors
    }
}

fn arpa(ip: IpAddr) -> Name {
    Name::from(ip)
}
