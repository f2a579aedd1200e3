//! A running server and a small client.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use dns::cluster::Cluster;
use dns::forward::Forwarder;
use dns::handler::Handler;
use dns::index::Index;
use dns::metrics::Metrics;
use dns::server::Sockets;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::RwLock;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_util::sync::{CancellationToken, DropGuard};

const DEADLINE: Duration = Duration::from_secs(10);

pub struct Server {
    pub address: SocketAddr,
    pub cluster: Arc<Cluster>,
    pub metrics: daemon::metrics::Metrics,
    _stop: DropGuard,
}

pub async fn start(upstreams: Vec<SocketAddr>) -> Server {
    start_synced(upstreams, true).await
}

pub async fn start_synced(upstreams: Vec<SocketAddr>, synced: bool) -> Server {
    let zone = Name::from_ascii("cluster.local.").expect("a name");
    let index = Arc::new(RwLock::new(Index::new(zone.clone())));
    let forwarder = Arc::new(Forwarder::new(upstreams));
    let registry = daemon::metrics::Metrics::default();
    let metrics = registry.register(|registry| Metrics::register(registry, &forwarder.hits, &forwarder.misses));
    let handler = Handler::new(index.clone(), forwarder, Arc::new(AtomicBool::new(synced)), metrics);
    let sockets = Sockets::bind(&[(Ipv4Addr::LOCALHOST, 0).into()]).await.expect("loopback has free ports");
    let address = sockets.addresses().expect("bound")[0];
    let token = CancellationToken::new();
    tokio::spawn(sockets.serve(handler, token.clone()));
    let cluster = Arc::new(Cluster::new(zone, index));
    Server { address, cluster, metrics: registry, _stop: token.drop_guard() }
}

impl Server {
    pub fn service(&self, namespace: &str, name: &str, spec: Value) {
        self.cluster.set_service(Arc::new(service(namespace, name, spec)));
    }

    pub fn slice(&self, namespace: &str, service: &str, endpoints: Value) {
        self.cluster.set_slice(Arc::new(slice(namespace, service, endpoints)));
    }

    pub async fn ask(&self, name: &str, record_type: RecordType) -> Message {
        ask(self.address, name, record_type).await
    }
}

pub fn service(namespace: &str, name: &str, spec: Value) -> Service {
    let object = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
    serde_json::from_value(object).expect("a Service")
}

/// A slice with a port `http` 8080/TCP.
pub fn slice(namespace: &str, service: &str, endpoints: Value) -> EndpointSlice {
    let object = json!({
        "metadata": {"namespace": namespace, "name": format!("{service}-x"),
                     "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    });
    serde_json::from_value(object).expect("an EndpointSlice")
}

pub fn question(name: &str, record_type: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), record_type));
    message
}

pub async fn ask(server: SocketAddr, name: &str, record_type: RecordType) -> Message {
    exchange(server, &question(name, record_type)).await
}

pub async fn exchange(server: SocketAddr, question: &Message) -> Message {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    socket.send_to(&question.to_vec().expect("encodes"), server).await.expect("sent");
    let mut buffer = [0; 4096];
    let length = tokio::time::timeout(DEADLINE, socket.recv(&mut buffer)).await.expect("in time").expect("received");
    Message::from_vec(&buffer[..length]).expect("decodes")
}

pub async fn ask_tcp(server: SocketAddr, name: &str, record_type: RecordType) -> Message {
    let bytes = question(name, record_type).to_vec().expect("encodes");
    let exchange = async {
        let mut stream = TcpStream::connect(server).await.expect("connected");
        stream.write_u16(u16::try_from(bytes.len()).expect("short")).await.expect("sent");
        stream.write_all(&bytes).await.expect("sent");
        let mut buffer = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
        stream.read_exact(&mut buffer).await.expect("a message");
        Message::from_vec(&buffer).expect("decodes")
    };
    tokio::time::timeout(DEADLINE, exchange).await.expect("in time")
}

pub fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message
}

/// Answers as `NOERROR: A 10.96.0.1 | SOA`, sorted, with the authority section after the bar.
pub fn summary(message: &Message) -> String {
    let mut answers: Vec<_> = message.answers.iter().map(|r| format!("{} {}", r.record_type(), r.data)).collect();
    answers.sort();
    let authorities: Vec<_> = message.authorities.iter().map(|r| r.record_type().to_string()).collect();
    let code = match message.metadata.response_code.low() {
        0 => "NOERROR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        5 => "REFUSED",
        _ => "other",
    };
    format!("{code}: {} | {}", answers.join(", "), authorities.join(", "))
}
