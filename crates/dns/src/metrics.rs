//! Metrics with CoreDNS's names.

use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// CoreDNS tells apart its server blocks; there is one here.
const SERVER: &str = "dns://:53";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    server: &'static str,
    zone: &'static str,
    view: &'static str,
    proto: &'static str,
    family: &'static str,
    r#type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Response {
    server: &'static str,
    zone: &'static str,
    view: &'static str,
    rcode: &'static str,
    plugin: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Took {
    server: &'static str,
    zone: &'static str,
    view: &'static str,
}

/// Who answered, as CoreDNS names its plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Kubernetes,
    Forward,
    /// Nobody: the question itself was refused.
    Server,
}

#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<Request, Counter>,
    responses: Family<Response, Counter>,
    durations: Family<Took, Histogram, fn() -> Histogram>,
}

impl Metrics {
    pub fn register(registry: &mut Registry, cache_hits: &Counter, cache_misses: &Counter) -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_25, 2.0, 16));
        let metrics = Self {
            requests: Family::default(),
            responses: Family::default(),
            durations: Family::new_with_constructor(histogram),
        };
        let registry = registry.sub_registry_with_prefix("coredns");
        let dns = registry.sub_registry_with_prefix("dns");
        let help = "Counter of DNS requests made per zone, protocol and family";
        dns.register("requests", help, metrics.requests.clone());
        dns.register("responses", "Counter of response status codes", metrics.responses.clone());
        let help = "Histogram of the time (in seconds) each request took per zone";
        dns.register("request_duration_seconds", help, metrics.durations.clone());
        let cache = registry.sub_registry_with_prefix("cache");
        cache.register("hits", "The count of cache hits", cache_hits.clone());
        cache.register("misses", "The count of cache misses", cache_misses.clone());
        metrics
    }

    pub fn request(&self, record_type: RecordType, tcp: bool, ipv4: bool) {
        let labels = Request {
            server: SERVER,
            zone: ".",
            view: "",
            proto: if tcp { "tcp" } else { "udp" },
            family: if ipv4 { "1" } else { "2" },
            r#type: type_label(record_type),
        };
        self.requests.get_or_create(&labels).inc();
    }

    pub fn response(&self, code: ResponseCode, source: Source, took: Duration) {
        let plugin = match source {
            Source::Kubernetes => "kubernetes",
            Source::Forward => "forward",
            Source::Server => "",
        };
        let labels = Response { server: SERVER, zone: ".", view: "", rcode: code_label(code), plugin };
        self.responses.get_or_create(&labels).inc();
        let labels = Took { server: SERVER, zone: ".", view: "" };
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

/// Types are the client's to choose; labels must not be.
fn type_label(record_type: RecordType) -> &'static str {
    match record_type {
        RecordType::A => "A",
        RecordType::AAAA => "AAAA",
        RecordType::ANY => "ANY",
        RecordType::CNAME => "CNAME",
        RecordType::HTTPS => "HTTPS",
        RecordType::MX => "MX",
        RecordType::NS => "NS",
        RecordType::PTR => "PTR",
        RecordType::SOA => "SOA",
        RecordType::SRV => "SRV",
        RecordType::SVCB => "SVCB",
        RecordType::TXT => "TXT",
        _ => "other",
    }
}

fn code_label(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        _ => "other",
    }
}
