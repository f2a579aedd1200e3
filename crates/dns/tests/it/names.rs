//! Which question gets which answer.

use hickory_proto::op::{OpCode, ResponseCode};
use hickory_proto::rr::RecordType::{self, A, AAAA, CNAME, PTR, SOA, SRV, TXT};
use serde_json::json;

use crate::server::{Server, ask_tcp, exchange, question, start, start_synced, summary, with_edns};

const ABSENT: &str = "NXDOMAIN:  | SOA";
const NO_DATA: &str = "NOERROR:  | SOA";
const REFUSED: &str = "REFUSED:  | ";

async fn shop() -> Server {
    let server = start(Vec::new()).await;
    server.cluster.add_namespace("shop");
    let ports = json!([{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "q", "port": 53, "protocol": "UDP"}]);
    server.service("shop", "web", json!({"clusterIP": "10.96.0.20", "ports": ports}));
    server.service("shop", "db", json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}));
    server.slice("shop", "web", json!([{"addresses": ["10.244.0.5"]}]));
    let not_ready = json!({"addresses": ["10.244.0.9"], "conditions": {"ready": false}});
    let endpoints = [json!({"addresses": ["10.244.0.6"], "hostname": "db-0"}), json!({"addresses": ["10.244.0.7"]})];
    server.slice("shop", "db", json!([endpoints[0], endpoints[1], not_ready]));
    server.service("shop", "out", json!({"type": "ExternalName", "externalName": "web.shop.svc.cluster.local"}));
    server.service("shop", "far", json!({"type": "ExternalName", "externalName": "example.com"}));
    server
}

async fn check(cases: &[(&str, RecordType, &str)]) {
    let server = shop().await;
    for (name, record_type, expected) in cases {
        assert_eq!(summary(&server.ask(name, *record_type).await), *expected, "{name} {record_type}");
    }
}

#[tokio::test]
async fn services_with_a_cluster_ip() {
    check(&[
        ("web.shop.svc.cluster.local.", A, "NOERROR: A 10.96.0.20 | "),
        ("WEB.Shop.svc.Cluster.local.", A, "NOERROR: A 10.96.0.20 | "),
        ("web.shop.svc.cluster.local.", AAAA, NO_DATA),
        ("web.shop.svc.cluster.local.", CNAME, NO_DATA),
        ("none.shop.svc.cluster.local.", A, ABSENT),
        ("web.none.svc.cluster.local.", A, ABSENT),
        ("_http._tcp.web.shop.svc.cluster.local.", SRV, "NOERROR: SRV 0 100 80 web.shop.svc.cluster.local. | "),
        ("_q._udp.web.shop.svc.cluster.local.", SRV, "NOERROR: SRV 0 100 53 web.shop.svc.cluster.local. | "),
        ("_q._tcp.web.shop.svc.cluster.local.", SRV, ABSENT),
        ("10-244-0-5.web.shop.svc.cluster.local.", A, "NOERROR: A 10.244.0.5 | "),
    ])
    .await;
}

#[tokio::test]
async fn headless_services() {
    check(&[
        ("db.shop.svc.cluster.local.", A, "NOERROR: A 10.244.0.6, A 10.244.0.7 | "),
        ("db-0.db.shop.svc.cluster.local.", A, "NOERROR: A 10.244.0.6 | "),
        ("10-244-0-7.db.shop.svc.cluster.local.", A, "NOERROR: A 10.244.0.7 | "),
        ("10-244-0-9.db.shop.svc.cluster.local.", A, ABSENT),
        (
            "_http._tcp.db.shop.svc.cluster.local.",
            SRV,
            "NOERROR: SRV 0 50 8080 10-244-0-7.db.shop.svc.cluster.local., \
             SRV 0 50 8080 db-0.db.shop.svc.cluster.local. | ",
        ),
    ])
    .await;
}

#[tokio::test]
async fn names_that_exist_without_records() {
    check(&[
        ("svc.cluster.local.", A, NO_DATA),
        ("shop.svc.cluster.local.", A, NO_DATA),
        ("shop.pod.cluster.local.", A, NO_DATA),
        ("_tcp.web.shop.svc.cluster.local.", A, NO_DATA),
        ("none.svc.cluster.local.", A, ABSENT),
        ("none.cluster.local.", A, ABSENT),
    ])
    .await;
}

#[tokio::test]
async fn pods() {
    check(&[
        ("10-244-0-5.shop.pod.cluster.local.", A, "NOERROR: A 10.244.0.5 | "),
        ("10-244-0-5.shop.pod.cluster.local.", AAAA, NO_DATA),
        ("fd00--5.shop.pod.cluster.local.", AAAA, "NOERROR: AAAA fd00::5 | "),
        ("10-244-0-5.none.pod.cluster.local.", A, ABSENT),
        ("pod-1.shop.pod.cluster.local.", A, ABSENT),
    ])
    .await;
}

#[tokio::test]
async fn reverse_names() {
    check(&[
        ("20.0.96.10.in-addr.arpa.", PTR, "NOERROR: PTR web.shop.svc.cluster.local. | "),
        ("6.0.244.10.in-addr.arpa.", PTR, "NOERROR: PTR db-0.db.shop.svc.cluster.local. | "),
        ("5.0.244.10.in-addr.arpa.", PTR, "NOERROR: PTR 10-244-0-5.web.shop.svc.cluster.local. | "),
        ("20.0.96.10.in-addr.arpa.", A, NO_DATA),
        // An address of somebody else is somebody else's to name, and there is no upstream server here.
        ("1.1.1.1.in-addr.arpa.", PTR, REFUSED),
        ("96.10.in-addr.arpa.", PTR, REFUSED),
    ])
    .await;
}

#[tokio::test]
async fn external_names_and_the_zone_itself() {
    check(&[
        ("out.shop.svc.cluster.local.", A, "NOERROR: A 10.96.0.20, CNAME web.shop.svc.cluster.local. | "),
        ("out.shop.svc.cluster.local.", CNAME, "NOERROR: CNAME web.shop.svc.cluster.local. | "),
        ("far.shop.svc.cluster.local.", A, "NOERROR: CNAME example.com. | "),
        ("dns-version.cluster.local.", TXT, "NOERROR: TXT 1.1.0 | "),
        ("cluster.local.", SOA, "NOERROR: SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5 | "),
        ("example.com.", A, REFUSED),
    ])
    .await;
}

#[tokio::test]
async fn srv_answers_carry_the_addresses_of_their_targets() {
    let server = shop().await;
    let answer = server.ask("_http._tcp.db.shop.svc.cluster.local.", SRV).await;
    let mut glue: Vec<_> = answer.additionals.iter().map(|r| format!("{} {}", r.name, r.data)).collect();
    glue.sort();
    assert_eq!(
        glue,
        ["10-244-0-7.db.shop.svc.cluster.local. 10.244.0.7", "db-0.db.shop.svc.cluster.local. 10.244.0.6"]
    );
    assert!(answer.answers.iter().all(|record| record.ttl == 5));
    assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
}

#[tokio::test]
async fn a_long_answer_is_cut_over_udp_and_whole_over_tcp() {
    let server = start(Vec::new()).await;
    server.service("shop", "many", json!({"clusterIP": "None"}));
    let endpoints: Vec<_> = (0..200).map(|i| json!({"addresses": [format!("10.244.1.{i}")]})).collect();
    server.slice("shop", "many", json!(endpoints));
    let name = "many.shop.svc.cluster.local.";
    let cut = server.ask(name, A).await;
    assert!(cut.metadata.truncation);
    let larger = exchange(server.address, &with_edns(question(name, A), 4096)).await;
    assert!(larger.metadata.truncation && larger.answers.len() > cut.answers.len());
    assert_eq!(larger.edns.as_ref().map(|edns| edns.max_payload()), Some(1232));
    let whole = ask_tcp(server.address, name, A).await;
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 200);
}

#[tokio::test]
async fn the_first_address_changes_from_answer_to_answer() {
    let server = shop().await;
    let mut first = std::collections::BTreeSet::new();
    for _ in 0..2 {
        first.insert(server.ask("db.shop.svc.cluster.local.", A).await.answers[0].data.to_string());
    }
    assert_eq!(first.len(), 2);
}

#[tokio::test]
async fn what_is_no_question_is_refused() {
    let server = shop().await;
    let mut update = question("web.shop.svc.cluster.local.", A);
    update.metadata.op_code = OpCode::Notify;
    assert_eq!(exchange(server.address, &update).await.metadata.response_code, ResponseCode::NotImp);
    assert_eq!(summary(&server.ask("cluster.local.", RecordType::AXFR).await), REFUSED);
}

#[tokio::test]
async fn before_the_first_list_absence_is_not_claimed() {
    let server = start_synced(Vec::new(), false).await;
    assert_eq!(summary(&server.ask("web.shop.svc.cluster.local.", A).await), "SERVFAIL:  | ");
    server.service("shop", "web", json!({"clusterIP": "10.96.0.20"}));
    assert_eq!(summary(&server.ask("web.shop.svc.cluster.local.", A).await), "NOERROR: A 10.96.0.20 | ");
}

#[tokio::test]
async fn metrics_have_the_names_people_graph() {
    let server = shop().await;
    server.ask("web.shop.svc.cluster.local.", A).await;
    let text = server.metrics.encode();
    for line in [
        "coredns_dns_requests_total{server=\"dns://:53\",zone=\".\",view=\"\",proto=\"udp\",family=\"1\",type=\"A\"} 1",
        "coredns_dns_request_duration_seconds_count{server=\"dns://:53\",zone=\".\",view=\"\"}",
        "coredns_cache_misses_total 0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
