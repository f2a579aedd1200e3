//! Asks the upstream servers for names that are not the cluster's.
//!
//! Every question goes out with a random id from a fresh socket, whose port the kernel picks at random; what comes back
//! counts only if id and question match.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{LowerName, Name, RecordType};
use hickory_proto::serialize::binary::DecodeError;
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use crate::cache::Cache;

/// One server's time to answer, before the next is asked.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// Questions under way at once; more are refused.
const MAX_CONCURRENT: usize = 1000;
/// Fits into any path without fragments.
const UDP_PAYLOAD: u16 = 1232;
/// Datagrams that do not match the question, until a server is given up: somebody may be guessing.
const MAX_STRAY: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no upstream server")]
    NoServer,
    #[error("too many questions are under way")]
    Busy,
    #[error("cannot make the question")]
    Encode(#[source] ProtoError),
    #[error("cannot read the answer of {server}")]
    Decode {
        server: SocketAddr,
        #[source]
        source: DecodeError,
    },
    #[error("cannot ask {server}")]
    Io {
        server: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("{server} did not answer within {SERVER_TIMEOUT:?}")]
    Timeout { server: SocketAddr },
    #[error("{server} sends answers to other questions")]
    Stray { server: SocketAddr },
}

pub struct Forwarder {
    servers: Vec<SocketAddr>,
    slots: Semaphore,
    cache: Cache,
    pub hits: Counter,
    pub misses: Counter,
}

impl Forwarder {
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self {
            servers,
            slots: Semaphore::new(MAX_CONCURRENT),
            cache: Cache::default(),
            hits: Counter::default(),
            misses: Counter::default(),
        }
    }

    /// The answer of the first server that gives one, or of the cache.
    pub async fn ask(&self, name: &Name, record_type: RecordType) -> Result<Message, Error> {
        let key = (LowerName::new(name), record_type);
        if let Some(message) = self.cache.get(&key, Instant::now()) {
            self.hits.inc();
            return Ok(message);
        }
        self.misses.inc();
        let _slot = self.slots.try_acquire().map_err(|_| Error::Busy)?;
        let mut result = Err(Error::NoServer);
        for server in &self.servers {
            result = ask_server(*server, name, record_type).await;
            match &result {
                Ok(message) => {
                    self.cache.put(key, message, Instant::now());
                    break;
                }
                Err(error) => tracing::debug!(error = error as &dyn std::error::Error, %name, "no answer"),
            }
        }
        result
    }
}

async fn ask_server(server: SocketAddr, name: &Name, record_type: RecordType) -> Result<Message, Error> {
    let question = question(name, record_type);
    let bytes = question.to_vec().map_err(Error::Encode)?;
    let over_udp = tokio::time::timeout(SERVER_TIMEOUT, udp(server, &question, &bytes)).await;
    let answer = over_udp.map_err(|_| Error::Timeout { server })??;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    let over_tcp = tokio::time::timeout(SERVER_TIMEOUT, tcp(server, &question, &bytes)).await;
    over_tcp.map_err(|_| Error::Timeout { server })?
}

fn question(name: &Name, record_type: RecordType) -> Message {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name.clone(), record_type));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD);
    message.set_edns(edns);
    message
}

async fn udp(server: SocketAddr, question: &Message, bytes: &[u8]) -> Result<Message, Error> {
    let failed = |source| Error::Io { server, source };
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await.map_err(failed)?;
    socket.connect(server).await.map_err(failed)?;
    socket.send(bytes).await.map_err(failed)?;
    let mut buffer = [0; UDP_PAYLOAD as usize];
    for _ in 0..MAX_STRAY {
        let length = socket.recv(&mut buffer).await.map_err(failed)?;
        if let Ok(answer) = Message::from_vec(&buffer[..length])
            && answers(&answer, question)
        {
            return Ok(answer);
        }
    }
    Err(Error::Stray { server })
}

async fn tcp(server: SocketAddr, question: &Message, bytes: &[u8]) -> Result<Message, Error> {
    let failed = |source| Error::Io { server, source };
    let mut stream = TcpStream::connect(server).await.map_err(failed)?;
    let length = u16::try_from(bytes.len()).expect("a question is a name and a few bytes");
    let framed = [&length.to_be_bytes()[..], bytes].concat();
    stream.write_all(&framed).await.map_err(failed)?;
    let length = stream.read_u16().await.map_err(failed)?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await.map_err(failed)?;
    let answer = Message::from_vec(&buffer).map_err(|source| Error::Decode { server, source })?;
    if answers(&answer, question) { Ok(answer) } else { Err(Error::Stray { server }) }
}

fn answers(answer: &Message, question: &Message) -> bool {
    answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries == question.queries
}
