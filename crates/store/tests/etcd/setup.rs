//! Certificates, the side port, configuration mistakes, backup and restore.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

use crate::harness::{DEADLINE, Server, write_certificates};
use crate::tls::{TlsClient, connect_tls};

#[tokio::test]
async fn a_client_without_a_certificate_is_not_served() {
    let server = Server::start(&[]);
    let mut client = server.client_with(&server.path("ca.crt"), None).await;
    assert!(client.get("key", None).await.is_err());
}

/// Whoever connects and says nothing holds up nobody but himself.
#[tokio::test]
async fn silent_connections_hold_up_nobody() {
    const MANY: usize = 300;
    let server = Server::start(&[]);
    let silent: Vec<TcpStream> =
        (0..MANY).map(|_| TcpStream::connect(("127.0.0.1", server.port)).expect("open")).collect();
    // A silent one is let go after ten seconds; who had to wait for that would be too late.
    let served = async { server.client().await.put("key", "", None).await };
    let served = tokio::time::timeout(std::time::Duration::from_secs(8), served).await;
    served.expect("in time").expect("a plain put");
    drop(silent);
}

/// The server's certificate is replaced by one of another authority, which only a client that
/// trusts that authority accepts. The connection that is open stays.
#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let server = Server::start(&[]);
    let mut old = server.client().await;
    old.put("key", "", None).await.expect("connected");
    let identity = server.identity();
    let renewed = tempfile::tempdir().expect("a temporary directory");
    write_certificates(renewed.path());
    for name in ["tls.key", "tls.crt"] {
        std::fs::copy(renewed.path().join(name), server.path(name)).expect("replaced");
    }
    let deadline = Instant::now() + DEADLINE;
    loop {
        let ca = renewed.path().join("ca.crt");
        let mut new = server.client_with(&ca, Some(identity.clone())).await;
        if new.get("key", None).await.is_ok() {
            break;
        }
        assert!(Instant::now() < deadline, "the old certificate is still presented");
    }
    old.put("key", "", None).await.expect("an open connection stays");
}

pub fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the port is open");
    stream.set_read_timeout(Some(DEADLINE)).expect("a valid timeout");
    stream
}

pub fn get(port: u16, path: &str) -> String {
    get_through(connect(port), path)
}

fn get_through(mut stream: impl Read + Write, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("writable");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("readable");
    answer
}

#[tokio::test]
async fn the_side_port_tells_health_and_metrics() {
    let server = Server::start(&[]);
    server.client().await.put("key", "value", None).await.expect("a plain put");
    for path in ["/healthz", "/livez", "/readyz"] {
        assert!(get(server.metrics_port, path).starts_with("HTTP/1.1 200"), "{path}");
    }
    assert!(get(server.metrics_port, "/health").contains(r#"{"health":"true","reason":""}"#));
    let metrics = get(server.metrics_port, "/metrics");
    for line in [
        "etcd_server_has_leader 1",
        "etcd_debugging_mvcc_keys_total 1",
        "etcd_debugging_mvcc_current_revision 2",
        "etcd_disk_wal_fsync_duration_seconds_count",
        r#"grpc_server_started_total{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#,
        r#"grpc_server_started_total{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 0"#,
        r#"grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#,
        r#"grpc_server_msg_received_total{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#,
        r#"grpc_server_msg_sent_total{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#,
        r#"etcd_server_client_requests_total{client_api_version="unknown",type="unary"} 1"#,
        "etcd_mvcc_hash_rev_duration_seconds_count 0",
        "etcd_disk_backend_defrag_duration_seconds_count 0",
        "etcd_disk_backend_snapshot_duration_seconds_count 0",
        "etcd_server_learner_promote_successes 0",
        "etcd_server_snapshot_apply_in_progress_total 0",
        "os_fd_limit ",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

#[tokio::test]
async fn the_client_port_tells_the_same_by_http1() {
    let server = Server::start(&[]);
    server.client().await.put("key", "value", None).await.expect("a plain put");
    let check = |path: &str, code: &str, words: &str| {
        let answer = get_through(connect_tls(&server, server.port, &TlsClient::default()), path);
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")) && answer.contains(words), "{path}: {answer}");
    };
    check("/health?serializable=true&exclude=NOSPACE", "200", r#"{"health":"true","reason":""}"#);
    check("/version", "200", r#""etcdserver":"3."#);
    check("/elsewhere", "404", "404 page not found");
    for line in [
        "etcd_server_is_learner 0",
        "etcd_server_health_success 1",
        "etcd_mvcc_put_total 1",
        "etcd_server_proposals_failed_total 0",
        "etcd_cluster_version{cluster_version=\"3.",
        "etcd_server_id{server_id=\"",
    ] {
        check("/metrics", "200", line);
    }
    let metrics = get_through(connect_tls(&server, server.port, &TlsClient::default()), "/metrics");
    for counts in ["etcd_network_client_grpc_received_bytes_total", "etcd_disk_wal_write_bytes_total"] {
        let line = metrics.lines().find(|line| line.starts_with(counts)).expect("told");
        assert!(line.rsplit(' ').next().expect("a value").parse::<u64>().expect("a number") > 0, "{line}");
    }
}

/// Else what was wrong would be the cluster's for good, whatever is said the next time.
#[test]
fn who_cannot_listen_founds_nothing() {
    let mut server = Server::new(&["--listen-metrics-urls", "http://192.0.2.1:1"]);
    server.launch();
    server.await_line("cannot listen on 192.0.2.1:1");
    assert!(!server.await_end().success());
    assert!(!server.path("data/member/wal").exists() && !server.path("data/member/checkpoint").exists());
}

#[test]
fn two_processes_cannot_share_a_data_directory() {
    let server = Server::start(&[]);
    let output = server.command().output().expect("runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("another process uses the data directory"));
}

#[tokio::test]
async fn a_snapshot_restores_into_a_new_cluster() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    for n in 0..100 {
        client.put(n.to_string(), vec![1; 1_000], None).await.expect("a plain put");
    }
    let mut stream = client.snapshot().await.expect("a stream");
    let mut bytes = Vec::new();
    while let Some(piece) = stream.message().await.expect("no error") {
        bytes.extend_from_slice(piece.blob());
        assert_eq!(piece.remaining_bytes() == 0, bytes.len() % 512 == 32 && piece.remaining_bytes() == 0);
    }
    let file = server.path("snapshot");
    std::fs::write(&file, &bytes).expect("writable");

    let restored = server.path("restored");
    let restore = |dir: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kube-store"));
        command.args(["--data-dir".as_ref(), dir.as_os_str(), "restore".as_ref(), file.as_os_str()]);
        command.output().expect("runs")
    };
    let output = restore(&restored);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!restore(&restored).status.success(), "never over existing data");
    let mut other = Server::start(&[]);
    other.kill();
    std::fs::remove_dir_all(other.path("data")).expect("removable");
    std::fs::rename(&restored, other.path("data")).expect("the same file system");
    other.restart();
    let mut client = other.client().await;
    let got = client.get("42", None).await.expect("readable");
    assert_eq!((got.kvs()[0].value().len(), got.kvs()[0].mod_revision()), (1_000, 44));
    let put = client.put("new", "", None).await.expect("writing goes on");
    assert_eq!(put.header().expect("always").revision(), 102);
}
