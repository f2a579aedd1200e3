//! Puts, reads, deletions, transactions, compaction; and etcd's words for what is wrong.

use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, SortOrder,
    SortTarget, Txn, TxnOp,
};

use crate::harness::{Server, refusal};

const INVALID_ARGUMENT: i32 = 3;
const NOT_FOUND: i32 = 5;
const OUT_OF_RANGE: i32 = 11;

#[tokio::test]
async fn reads_and_writes() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    for key in ["b", "a", "c"] {
        client.put(key, format!("value of {key}"), None).await.expect("a plain put");
    }
    let options = PutOptions::new().with_prev_key();
    let put = client.put("a", "new", Some(options)).await.expect("a plain put");
    assert_eq!(put.prev_key().expect("asked for").value(), b"value of a");
    assert_eq!(put.header().expect("always").revision(), 5);

    let descending = GetOptions::new().with_prefix().with_limit(2).with_sort(SortTarget::Mod, SortOrder::Descend);
    let got = client.get("", Some(descending.clone().with_all_keys())).await.expect("readable");
    let keys: Vec<&[u8]> = got.kvs().iter().map(|kv| kv.key()).collect();
    assert_eq!((keys, got.more(), got.count()), (vec![&b"a"[..], b"c"], true, 3));
    let (version, created) = (got.kvs()[0].version(), got.kvs()[0].create_revision());
    assert_eq!((version, created, got.kvs()[0].mod_revision()), (2, 3, 5));

    let past = client.get("a", Some(GetOptions::new().with_revision(3))).await.expect("not compacted");
    assert_eq!(past.kvs()[0].value(), b"value of a");
    let keys_only = client.get("a", Some(GetOptions::new().with_keys_only())).await.expect("readable");
    assert_eq!(keys_only.kvs()[0].value(), b"");
    let counted = client.get("", Some(GetOptions::new().with_all_keys().with_count_only())).await.expect("readable");
    assert_eq!((counted.kvs().len(), counted.count()), (0, 3));

    let options = DeleteOptions::new().with_range("c").with_prev_key();
    let deleted = client.delete("a", Some(options)).await.expect("a plain deletion");
    assert_eq!((deleted.deleted(), deleted.prev_kvs().len()), (2, 2));
    assert_eq!(client.delete("a", None).await.expect("nothing to delete").deleted(), 0);
}

#[tokio::test]
async fn a_transaction_is_a_compare_and_swap() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let cas = |revision: i64, value: &str| {
        Txn::new()
            .when([Compare::mod_revision("key", CompareOp::Equal, revision)])
            .and_then([TxnOp::put("key", value, None)])
            .or_else([TxnOp::get("key", None)])
    };
    let created = client.txn(cas(0, "first")).await.expect("valid");
    assert!(created.succeeded());
    let revision = created.header().expect("always").revision();
    let lost = client.txn(cas(0, "second")).await.expect("valid");
    assert!(!lost.succeeded());
    let etcd_client::TxnOpResponse::Get(current) = &lost.op_responses()[0] else {
        panic!("the failure branch reads");
    };
    assert_eq!((current.kvs()[0].value(), current.kvs()[0].mod_revision()), (&b"first"[..], revision));
    let nested = client.txn(Txn::new().and_then([TxnOp::txn(cas(0, "nested"))])).await.expect("valid");
    let etcd_client::TxnOpResponse::Txn(inner) = &nested.op_responses()[0] else {
        panic!("a transaction answers a transaction");
    };
    assert_eq!((inner.succeeded(), inner.header().expect("always").revision()), (false, 0));
    assert!(client.txn(cas(revision, "third")).await.expect("valid").succeeded());

    // Writers that race for the same revision: exactly one wins each round.
    let racers = (0..8).map(|n| {
        let mut client = client.clone();
        let txn = cas(revision + 1, &n.to_string());
        tokio::spawn(async move { client.txn(txn).await.expect("valid").succeeded() })
    });
    let mut won = 0;
    for racer in racers.collect::<Vec<_>>() {
        won += i32::from(racer.await.expect("not cancelled"));
    }
    assert_eq!(won, 1);
}

#[tokio::test]
async fn refusals_have_etcds_codes_and_words() {
    let server = Server::start(&["--max-txn-ops", "2", "--max-request-bytes", "10000"]);
    let mut client = server.client().await;
    for n in 0..3 {
        client.put("key", n.to_string(), None).await.expect("a plain put");
    }
    client.compact(0, None).await.expect("before the first revision there is nothing");
    client.compact(3, None).await.expect("a past revision");
    let at = |revision| Some(GetOptions::new().with_revision(revision));
    let put = |key: &str| TxnOp::put(key, "", None);
    let txn = |ops: Vec<TxnOp>| Txn::new().and_then(ops);
    let big = vec![0; 10_001];

    let check = |got: (i32, String), code: i32, words: &str| assert_eq!(got, (code, format!("etcdserver: {words}")));
    let compacted = "mvcc: required revision has been compacted";
    let future = "mvcc: required revision is a future revision";
    check(refusal(client.get("key", at(2)).await), OUT_OF_RANGE, compacted);
    check(refusal(client.get("key", at(99)).await), OUT_OF_RANGE, future);
    check(refusal(client.compact(3, None).await), OUT_OF_RANGE, compacted);
    check(refusal(client.compact(99, None).await), OUT_OF_RANGE, future);
    check(refusal(client.put("", "", None).await), INVALID_ARGUMENT, "key is not provided");
    check(refusal(client.put("key", big, None).await), INVALID_ARGUMENT, "request is too large");
    let lease = Some(PutOptions::new().with_lease(77));
    check(refusal(client.put("key", "", lease).await), NOT_FOUND, "requested lease not found");
    let keep = Some(PutOptions::new().with_ignore_value());
    check(refusal(client.put("none", "", keep.clone()).await), INVALID_ARGUMENT, "key not found");
    let neither = keep.clone().map(|keep| keep.with_lease(77));
    check(refusal(client.put("none", "", neither).await), NOT_FOUND, "requested lease not found");
    check(refusal(client.put("key", "x", keep).await), INVALID_ARGUMENT, "value is provided");
    // Within a transaction: the puts' keys, their leases, then the ranges' revisions.
    let put_with = |options: PutOptions| TxnOp::put("none", "", Some(options));
    let kept = txn(vec![put_with(PutOptions::new().with_ignore_value().with_lease(77))]);
    check(refusal(client.txn(kept).await), INVALID_ARGUMENT, "key not found");
    let late = txn(vec![TxnOp::get("key", at(2)), put_with(PutOptions::new().with_lease(77))]);
    check(refusal(client.txn(late).await), NOT_FOUND, "requested lease not found");
    let twice = txn(vec![put("a"), put("a")]);
    check(refusal(client.txn(twice).await), INVALID_ARGUMENT, "duplicate key given in txn request");
    let many = txn(vec![put("a"), put("b"), put("c")]);
    check(refusal(client.txn(many).await), INVALID_ARGUMENT, "too many operations in txn request");
    check(refusal(client.lease_revoke(5).await), NOT_FOUND, "requested lease not found");

    // A transaction that would fail half-way changes nothing.
    let half = txn(vec![put("fresh"), TxnOp::put("x", "", Some(PutOptions::new().with_lease(77)))]);
    check(refusal(client.txn(half).await), NOT_FOUND, "requested lease not found");
    assert_eq!(client.get("fresh", None).await.expect("readable").count(), 0);
}

#[tokio::test]
async fn the_quota_raises_an_alarm_until_space_is_made() {
    let server = Server::start(&["--quota-backend-bytes", "20000"]);
    let mut client = server.client().await;
    let put = |mut client: Client| async move { client.put("key", vec![0; 4_000], None).await };
    let mut answer = put(client.clone()).await;
    for _ in 0..10 {
        answer = put(client.clone()).await;
        if answer.is_err() {
            break;
        }
    }
    assert_eq!(refusal(answer), (8, "etcdserver: mvcc: database space exceeded".to_owned()));
    let status = client.status().await.expect("answers");
    assert!(status.errors()[0].contains("NOSPACE"), "{:?}", status.errors());
    let revision = status.header().expect("always").revision();
    client.compact(revision, None).await.expect("compaction is not refused");
    assert_eq!(refusal(put(client.clone()).await).0, 8, "the alarm stays until it is disarmed");
    let mut own = AlarmOptions::new();
    own.with_member(status.header().expect("always").member_id());
    client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(own)).await.expect("disarmed");
    put(client).await.expect("there is room again");
}

/// Deletions that the compaction keeps, for watches that go on from there, must not be what the quota is full of.
#[tokio::test]
async fn when_all_is_deleted_and_compacted_there_is_room() {
    let server = Server::start(&["--quota-backend-bytes", "100000"]);
    let mut client = server.client().await;
    let mut n = 0;
    while client.put(format!("key-{n:08}"), "", None).await.is_ok() {
        n += 1;
    }
    let deleted = client.delete("key", Some(DeleteOptions::new().with_prefix())).await.expect("deletions go on");
    assert_eq!(deleted.deleted(), n);
    let revision = deleted.header().expect("a header").revision();
    client.compact(revision, None).await.expect("compacted");
    let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await.expect("alarms");
    for alarm in alarms.alarms() {
        let mut whose = AlarmOptions::new();
        whose.with_member(alarm.member_id());
        client.alarm(AlarmAction::Deactivate, alarm.alarm(), Some(whose)).await.expect("disarmed");
    }
    client.put("key", vec![0; 40_000], None).await.expect("there is room");
}

/// Who asks at once is not told to go ahead for the room that all of them see.
#[tokio::test]
async fn the_quota_holds_for_writes_at_once() {
    let server = Server::start(&["--quota-backend-bytes", "20000"]);
    let client = server.client().await;
    let puts = (0..50).map(|n| {
        let mut client = client.clone();
        async move { client.put(format!("key{n}"), vec![0; 4_000], None).await }
    });
    let answers = futures::future::join_all(puts).await;
    let (taken, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert!((1..=4).contains(&taken.len()), "{} were taken", taken.len());
    for answer in refused {
        assert_eq!(refusal(answer), (8, "etcdserver: mvcc: database space exceeded".to_owned()));
    }
    let status = client.clone().status().await.expect("answers");
    assert!(status.errors()[0].contains("NOSPACE"), "{:?}", status.errors());
}

/// A comparison that fails adds nothing, however many come at once.
#[tokio::test]
async fn the_quota_is_for_what_is_added() {
    let server = Server::start(&["--quota-backend-bytes", "20000"]);
    let client = server.client().await;
    let txns = (0..50).map(|_| {
        let mut client = client.clone();
        let txn = Txn::new().when([Compare::version("k", CompareOp::Greater, 0)]);
        async move { client.txn(txn.and_then([TxnOp::put("k", vec![0; 4_000], None)])).await }
    });
    for answer in futures::future::join_all(txns).await {
        assert!(!answer.expect("there is room for each").succeeded());
    }
    let status = client.clone().status().await.expect("answers");
    assert!(status.errors().is_empty(), "{:?}", status.errors());
}

/// The limit is for what etcd would log; beyond the transport's own limit Go's words are used.
#[tokio::test]
async fn a_request_beyond_the_limits_is_refused_in_etcds_words() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let mut put = async |bytes: usize| client.put("k", vec![0; bytes], None).await;
    // A key of one byte, and what describes the fields.
    const AROUND: usize = 3 + 4 + 18;
    put((1536 << 10) - AROUND).await.expect("just fits");
    let refused = refusal(put((1536 << 10) - AROUND + 1).await);
    assert_eq!(refused, (INVALID_ARGUMENT, "etcdserver: request is too large".to_owned()));
    let refused = refusal(put(2 << 20).await);
    let words = "grpc: received message larger than max (2097160 vs. 2097152)";
    assert_eq!(refused, (8, words.to_owned()));
}
