//! One question in, one answer out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use hickory_proto::op::{Edns, Header, HeaderCounts, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, LowerName, Name, Record, RecordType};
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use parking_lot::RwLock;

use crate::forward::{Error, Forwarder};
use crate::index::Index;
use crate::metrics::{Metrics, Source};
use crate::records::Entry;
use crate::zone::{Answer, answer};

/// An alias may lead to an alias.
const MAX_ALIASES: usize = 8;
/// What a client over UDP gets at most, however much it offers to take: more would travel in fragments.
const UDP_PAYLOAD: u16 = 1232;
const UDP_PAYLOAD_MIN: u16 = 512;

/// Cheap to clone.
#[derive(Clone)]
pub struct Handler {
    index: Arc<RwLock<Index>>,
    forwarder: Arc<Forwarder>,
    /// Before the first full list, a name that is not known may well exist.
    synced: Arc<AtomicBool>,
    /// Turns the order of addresses with every answer, so that clients that take the first spread.
    turn: Arc<AtomicUsize>,
    metrics: Metrics,
}

/// What goes into the response.
#[derive(Debug)]
struct Reply {
    code: ResponseCode,
    source: Source,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Entry(Arc<Entry>),
    Records(Vec<Record>),
    /// Nothing but how long that may be remembered.
    Absent(Box<Record>),
    Forwarded(Box<Message>),
    None,
}

impl Reply {
    fn error(code: ResponseCode, source: Source) -> Self {
        Self { code, source, body: Body::None }
    }

    fn ours(code: ResponseCode, body: Body) -> Self {
        Self { code, source: Source::Kubernetes, body }
    }
}

impl Handler {
    pub fn new(
        index: Arc<RwLock<Index>>,
        forwarder: Arc<Forwarder>,
        synced: Arc<AtomicBool>,
        metrics: Metrics,
    ) -> Self {
        Self { index, forwarder, synced, turn: Arc::default(), metrics }
    }

    async fn reply(&self, request: &Request) -> (Reply, RecordType) {
        let refused = |code| (Reply::error(code, Source::Server), RecordType::ANY);
        if request.metadata.message_type != MessageType::Query {
            return refused(ResponseCode::FormErr);
        }
        if request.metadata.op_code != OpCode::Query {
            return refused(ResponseCode::NotImp);
        }
        let Ok(info) = request.request_info() else { return refused(ResponseCode::FormErr) };
        let record_type = info.query.query_type();
        let tcp = info.protocol == Protocol::Tcp;
        self.metrics.request(record_type, tcp, info.src.is_ipv4());
        if info.query.query_class() != DNSClass::IN || record_type == RecordType::AXFR {
            return refused(ResponseCode::Refused);
        }
        (self.resolve(info.query.name(), record_type).await, record_type)
    }

    async fn resolve(&self, name: &LowerName, record_type: RecordType) -> Reply {
        let (found, soa) = self.look_up(name, record_type);
        match found {
            Answer::Entry(entry) => Reply::ours(ResponseCode::NoError, Body::Entry(entry)),
            Answer::Records(records) => Reply::ours(ResponseCode::NoError, Body::Records(records)),
            Answer::NotOurs => self.forward(name, record_type).await,
            Answer::Alias(alias) => self.follow(*alias, record_type).await,
            _ if !self.synced.load(Ordering::Relaxed) => Reply::error(ResponseCode::ServFail, Source::Kubernetes),
            Answer::NoData => Reply::ours(ResponseCode::NoError, Body::Absent(soa)),
            Answer::NxDomain => Reply::ours(ResponseCode::NXDomain, Body::Absent(soa)),
        }
    }

    fn look_up(&self, name: &LowerName, record_type: RecordType) -> (Answer, Box<Record>) {
        let index = self.index.read();
        (answer(&index, name, record_type), Box::new(index.soa().clone()))
    }

    /// The alias goes out even if its target cannot be found: the client may know better.
    async fn follow(&self, (alias, target): (Record, Name), record_type: RecordType) -> Reply {
        let mut records = vec![alias];
        let mut next = Some(target);
        while let Some(target) = next.take().filter(|_| records.len() <= MAX_ALIASES) {
            match self.look_up(&LowerName::new(&target), record_type).0 {
                Answer::Entry(entry) => {
                    records.extend(entry.records.iter().filter(|r| wanted(r, record_type)).cloned());
                }
                Answer::Records(more) => records.extend(more),
                Answer::Alias(alias) => {
                    let (record, target) = *alias;
                    records.push(record);
                    next = Some(target);
                }
                Answer::NotOurs => {
                    records
                        .extend(self.forwarder.ask(&target, record_type).await.map_or_else(|_| vec![], |m| m.answers));
                }
                Answer::NoData | Answer::NxDomain => {}
            }
        }
        Reply::ours(ResponseCode::NoError, Body::Records(records))
    }

    async fn forward(&self, name: &LowerName, record_type: RecordType) -> Reply {
        match self.forwarder.ask(name, record_type).await {
            Ok(message) => Reply {
                code: message.metadata.response_code,
                source: Source::Forward,
                body: Body::Forwarded(Box::new(message)),
            },
            Err(Error::NoServer | Error::Busy) => Reply::error(ResponseCode::Refused, Source::Forward),
            Err(_) => Reply::error(ResponseCode::ServFail, Source::Forward),
        }
    }

    async fn respond<R: ResponseHandler>(
        &self,
        request: &Request,
        reply: &Reply,
        record_type: RecordType,
        mut to: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.source == Source::Kubernetes && reply.code != ResponseCode::ServFail;
        metadata.recursion_available = true;
        let edns = request.edns.as_ref().map(|offered| {
            let mut edns = Edns::new();
            edns.set_max_payload(offered.max_payload().clamp(UDP_PAYLOAD_MIN, UDP_PAYLOAD));
            edns
        });
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &edns {
            builder.edns(edns);
        }
        let sections = self.sections(reply, record_type);
        let none: [&Record; 0] = [];
        let response = builder.build(metadata, sections.answers, sections.authorities, none, sections.additionals);
        to.send_response(response).await.unwrap_or_else(|error| {
            tracing::debug!(%error, client = %request.src(), "cannot answer");
            failed(request)
        })
    }

    fn sections<'a>(&self, reply: &'a Reply, record_type: RecordType) -> Sections<'a> {
        let mut sections = Sections::default();
        match &reply.body {
            Body::Entry(entry) => {
                sections.answers.extend(entry.records.iter().filter(|record| wanted(record, record_type)));
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) % sections.answers.len().max(1);
                sections.answers.rotate_left(turn);
                if record_type == RecordType::SRV {
                    sections.additionals.extend(&entry.glue);
                }
            }
            Body::Records(records) => sections.answers.extend(records),
            Body::Absent(soa) => sections.authorities.push(soa),
            Body::Forwarded(message) => {
                sections.answers.extend(&message.answers);
                sections.authorities.extend(&message.authorities);
                sections.additionals.extend(&message.additionals);
            }
            Body::None => {}
        }
        sections
    }
}

#[derive(Default)]
struct Sections<'a> {
    answers: Vec<&'a Record>,
    authorities: Vec<&'a Record>,
    additionals: Vec<&'a Record>,
}

fn wanted(record: &Record, record_type: RecordType) -> bool {
    record_type == RecordType::ANY || record.record_type() == record_type
}

fn failed(request: &Request) -> ResponseInfo {
    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.response_code = ResponseCode::ServFail;
    ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, to: R) -> ResponseInfo {
        let started = Instant::now();
        let (reply, record_type) = self.reply(request).await;
        let info = self.respond(request, &reply, record_type, to).await;
        self.metrics.response(reply.code, reply.source, started.elapsed());
        info
    }
}
