//! Names of others: asked upstream, remembered, and refused or failed when nobody answers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::server::{start, summary};

/// A server that knows every name to be 192.0.2.1, and says so over UDP or, when told to, only over TCP.
struct Upstream {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _stop: DropGuard,
}

async fn upstream(over_udp: bool) -> Upstream {
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = tcp.local_addr().expect("bound");
    let udp = UdpSocket::bind(address).await.expect("the same port over UDP");
    let asked = Arc::new(AtomicUsize::new(0));
    let token = CancellationToken::new();
    let count = asked.clone();
    let serve_udp = async move {
        let mut buffer = [0; 2048];
        while let Ok((length, client)) = udp.recv_from(&mut buffer).await {
            count.fetch_add(1, Ordering::Relaxed);
            // First what somebody who guesses would send.
            let mut forged = answer(&buffer[..length], true);
            forged.metadata.id = forged.metadata.id.wrapping_add(1);
            for message in [forged, answer(&buffer[..length], over_udp)] {
                udp.send_to(&message.to_vec().expect("encodes"), client).await.expect("sent");
            }
        }
    };
    let serve_tcp = async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let mut buffer = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
            stream.read_exact(&mut buffer).await.expect("a question");
            let bytes = answer(&buffer, true).to_vec().expect("encodes");
            stream.write_u16(u16::try_from(bytes.len()).expect("short")).await.expect("sent");
            stream.write_all(&bytes).await.expect("sent");
        }
    };
    let stopped = token.clone();
    tokio::spawn(async move {
        tokio::select! { () = stopped.cancelled() => {}, () = serve_udp => {}, () = serve_tcp => {} }
    });
    Upstream { address, asked, _stop: token.drop_guard() }
}

fn answer(question: &[u8], whole: bool) -> Message {
    let mut message = Message::from_vec(question).expect("a question").into_response();
    let name = message.queries[0].name().clone();
    if whole {
        message.add_answer(Record::from_rdata(name, 300, RData::A(A::new(192, 0, 2, 1))));
    } else {
        message.metadata.truncation = true;
    }
    message
}

#[tokio::test]
async fn other_names_are_asked_upstream_once() {
    let upstream = upstream(true).await;
    let server = start(vec![upstream.address]).await;
    for _ in 0..3 {
        let answer = server.ask("example.com.", RecordType::A).await;
        assert_eq!(summary(&answer), "NOERROR: A 192.0.2.1 | ");
        assert!(!answer.metadata.authoritative);
    }
    assert_eq!(upstream.asked.load(Ordering::Relaxed), 1);
    let own = server.ask("web.shop.svc.cluster.local.", RecordType::A).await;
    assert_eq!(own.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(upstream.asked.load(Ordering::Relaxed), 1, "the cluster's names stay here");
}

#[tokio::test]
async fn a_cut_answer_is_fetched_over_tcp() {
    let upstream = upstream(false).await;
    let server = start(vec![upstream.address]).await;
    assert_eq!(summary(&server.ask("example.com.", RecordType::A).await), "NOERROR: A 192.0.2.1 | ");
}

#[tokio::test]
async fn an_external_name_is_resolved_to_the_end() {
    let upstream = upstream(true).await;
    let server = start(vec![upstream.address]).await;
    server.service("shop", "far", json!({"type": "ExternalName", "externalName": "example.com"}));
    let answer = server.ask("far.shop.svc.cluster.local.", RecordType::A).await;
    assert_eq!(summary(&answer), "NOERROR: A 192.0.2.1, CNAME example.com. | ");
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_is_dead() {
    // Nothing listens there: the port was free a moment ago and is not given out again so soon.
    let dead = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port").local_addr().expect("bound");
    let upstream = upstream(true).await;
    let server = start(vec![dead, upstream.address]).await;
    assert_eq!(summary(&server.ask("example.com.", RecordType::A).await), "NOERROR: A 192.0.2.1 | ");
    let alone = start(vec![dead]).await;
    assert_eq!(summary(&alone.ask("example.com.", RecordType::A).await), "SERVFAIL:  | ");
}
