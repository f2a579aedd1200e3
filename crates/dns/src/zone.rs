//! Answers to questions about the cluster's names, from the index alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_proto::rr::{LowerName, Name, RData, Record, RecordType};

use crate::index::{Found, Index};
use crate::records::{Entry, TTL, address_data};

/// What is to be answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The records of the asked type in this entry; addresses go along with SRV.
    Entry(Arc<Entry>),
    /// These records.
    Records(Vec<Record>),
    /// The name is an alias, whose target is yet to be looked up.
    Alias(Box<(Record, Name)>),
    /// The name exists, but has no record of this type.
    NoData,
    NxDomain,
    /// The name is not of the cluster: others know.
    NotOurs,
}

pub fn answer(index: &Index, name: &LowerName, record_type: RecordType) -> Answer {
    if !index.zone().zone_of(name) {
        return reverse(index, name, record_type);
    }
    match index.find(name) {
        Found::Entry(entry) if entry.has(record_type) => Answer::Entry(entry),
        Found::Entry(entry) => alias(&entry).unwrap_or(Answer::NoData),
        Found::Empty => Answer::NoData,
        Found::Missing => pod(index, name, record_type),
    }
}

fn alias(entry: &Entry) -> Option<Answer> {
    entry.records.iter().find_map(|record| match &record.data {
        RData::CNAME(target) => Some(Answer::Alias(Box::new((record.clone(), target.0.clone())))),
        _ => None,
    })
}

/// Addresses of the cluster have names; of all others somebody else may know.
fn reverse(index: &Index, name: &LowerName, record_type: RecordType) -> Answer {
    let Some(ip) = arpa_ip(name) else { return Answer::NotOurs };
    let records = index.reverse(ip);
    match record_type {
        _ if records.is_empty() => Answer::NotOurs,
        RecordType::PTR | RecordType::ANY => Answer::Records(records),
        _ => Answer::NoData,
    }
}

/// The address that a full reverse name is about.
fn arpa_ip(name: &LowerName) -> Option<IpAddr> {
    const V4_LABELS: u8 = 4 + 2;
    const V6_LABELS: u8 = 32 + 2;
    if !matches!(name.num_labels(), V4_LABELS | V6_LABELS) {
        return None;
    }
    let name: &Name = name;
    name.parse_arpa_name().ok().map(|net| net.addr())
}

/// `10-244-0-5.<namespace>.pod.<zone>`: the name tells the address, and nobody checks that there is such a pod.
fn pod(index: &Index, name: &LowerName, record_type: RecordType) -> Answer {
    let pods = name.base_name().base_name();
    let is_pod = pods.iter_first() == Some("pod") && pods.base_name() == *index.zone();
    if !is_pod || index.find(&name.base_name()) == Found::Missing {
        return Answer::NxDomain;
    }
    let Some(ip) = name.iter_first().and_then(undashed) else { return Answer::NxDomain };
    let record = Record::from_rdata(name.into(), TTL, address_data(ip));
    if record_type == RecordType::ANY || record.record_type() == record_type {
        Answer::Records(vec![record])
    } else {
        Answer::NoData
    }
}

fn undashed(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
    v4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6)).ok()
}

trait FirstLabel {
    fn iter_first(&self) -> Option<&str>;
}

impl FirstLabel for LowerName {
    fn iter_first(&self) -> Option<&str> {
        let name: &Name = self;
        name.iter().next().and_then(|label| std::str::from_utf8(label).ok())
    }
}
