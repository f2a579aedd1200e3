//! Watches: order, resumption, filters, cancellation, progress.

use std::collections::BTreeMap;

use etcd_client::{Client, EventType, WatchFilterType, WatchOptions, WatchResponse, WatchStream};
use tokio::time::timeout;

use crate::harness::{DEADLINE, Server};
use crate::setup::get;

pub async fn next(stream: &mut WatchStream) -> WatchResponse {
    let message = timeout(DEADLINE, stream.message()).await;
    message.expect("in time").expect("no error").expect("the stream goes on")
}

/// Opens a stream with one watch and takes its creation off.
async fn watch(client: &mut Client, key: &str, options: WatchOptions) -> (WatchStream, WatchResponse) {
    let mut stream = client.watch(key, Some(options)).await.expect("a new stream");
    let created = next(&mut stream).await;
    assert!(created.created());
    (stream, created)
}

async fn put_all(client: &mut Client, keys: impl Iterator<Item = i32>) {
    for n in keys {
        client.put(format!("key/{n:03}"), n.to_string(), None).await.expect("a plain put");
    }
}

/// The mod revisions of the next `count` events.
async fn revisions(stream: &mut WatchStream, count: usize) -> Vec<i64> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let response = next(stream).await;
        seen.extend(response.events().iter().map(|e| e.kv().expect("always").mod_revision()));
    }
    seen
}

#[tokio::test]
async fn a_watch_resumes_anywhere_and_sees_everything_once() {
    let mut server = Server::start(&[]);
    let mut client = server.client().await;
    put_all(&mut client, 0..20).await;
    let from = |revision| WatchOptions::new().with_prefix().with_start_revision(revision);
    let (mut stream, created) = watch(&mut client, "key/", from(10)).await;
    assert_eq!(created.header().expect("always").revision(), 21);
    assert_eq!(revisions(&mut stream, 12).await, (10..=21).collect::<Vec<i64>>());
    put_all(&mut client, 20..25).await;
    assert_eq!(revisions(&mut stream, 5).await, (22..=26).collect::<Vec<i64>>());

    // The history outlives the process, whether it came from the log or a checkpoint.
    server.terminate();
    server.restart();
    let mut client = server.client().await;
    let (mut stream, _) = watch(&mut client, "key/", from(2)).await;
    assert_eq!(revisions(&mut stream, 25).await, (2..=26).collect::<Vec<i64>>());
    let (mut future, _) = watch(&mut client, "key/", from(29)).await;
    put_all(&mut client, 25..30).await;
    assert_eq!(revisions(&mut future, 3).await, [29, 30, 31]);
}

#[tokio::test]
async fn a_transaction_arrives_whole() {
    use etcd_client::{Txn, TxnOp};
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let (mut stream, _) = watch(&mut client, "", WatchOptions::new().with_all_keys()).await;
    let ops: Vec<TxnOp> = (0..100).map(|n| TxnOp::put(format!("{n:03}"), "", None)).collect();
    client.txn(Txn::new().and_then(ops)).await.expect("valid");
    let response = next(&mut stream).await;
    assert_eq!(response.events().len(), 100);
    assert!(response.events().iter().all(|e| e.kv().expect("always").mod_revision() == 2));
}

#[tokio::test]
async fn filters_and_previous_values() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let deletions = WatchOptions::new().with_filters([WatchFilterType::NoPut]).with_prev_key();
    let (mut stream, _) = watch(&mut client, "key", deletions).await;
    client.put("key", "value", None).await.expect("a plain put");
    client.delete("key", None).await.expect("a plain deletion");
    let response = next(&mut stream).await;
    let event = &response.events()[0];
    assert_eq!((response.events().len(), event.event_type()), (1, EventType::Delete));
    assert_eq!(event.prev_kv().expect("asked for").value(), b"value");
    assert_eq!(event.kv().expect("always").mod_revision(), 3);
}

#[tokio::test]
async fn a_compacted_start_is_cancelled_with_the_revision_to_go_on_from() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    put_all(&mut client, 0..10).await;
    client.compact(8, None).await.expect("a past revision");
    let from = |revision| WatchOptions::new().with_prefix().with_start_revision(revision);
    let (mut stream, _) = watch(&mut client, "key/", from(7)).await;
    let canceled = next(&mut stream).await;
    assert!(canceled.canceled());
    assert_eq!(canceled.compact_revision(), 8);
    let (mut stream, _) = watch(&mut client, "key/", from(8)).await;
    assert_eq!(revisions(&mut stream, 4).await, [8, 9, 10, 11]);
}

/// Until its client has cancelled it, too.
#[tokio::test]
async fn a_compacted_watch_keeps_its_id() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    put_all(&mut client, 0..10).await;
    client.compact(8, None).await.expect("a past revision");
    let from = |revision| WatchOptions::new().with_watch_id(5).with_start_revision(revision);
    let (mut stream, _) = watch(&mut client, "a", from(7)).await;
    assert_eq!(next(&mut stream).await.compact_revision(), 8);
    stream.watch("a", Some(from(8))).await.expect("open");
    let refused = next(&mut stream).await;
    assert!(refused.canceled() && refused.cancel_reason().contains("duplicate watch ID"), "{refused:?}");
    stream.cancel(5).await.expect("open");
    let canceled = next(&mut stream).await;
    assert_eq!((canceled.canceled(), canceled.watch_id()), (true, 5));
    stream.watch("a", Some(from(8))).await.expect("open");
    assert!(!next(&mut stream).await.canceled());
}

/// What was there before the first revision that is left is known to a member that has not been restarted, and only to it.
#[tokio::test]
async fn nothing_is_told_of_what_is_compacted() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    for n in 0..3 {
        client.put("a", n.to_string(), None).await.expect("a plain put");
    }
    client.compact(3, None).await.expect("a past revision");
    let options = WatchOptions::new().with_prev_key().with_start_revision(3);
    let (mut stream, _) = watch(&mut client, "a", options).await;
    let told = next(&mut stream).await;
    let before = told.events().iter().map(|e| e.prev_kv().map(|kv| kv.mod_revision()));
    assert_eq!(before.collect::<Vec<_>>(), [None, Some(3)]);
}

#[tokio::test]
async fn many_watches_share_a_stream() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let mut stream = client.watch("0", None).await.expect("a new stream");
    for n in 1..50 {
        stream.watch(n.to_string(), None).await.expect("one more watch");
    }
    let mut ids = BTreeMap::new();
    for n in 0..50 {
        let created = next(&mut stream).await;
        assert!(created.created());
        ids.insert(n, created.watch_id());
    }
    for n in [7, 49, 0] {
        client.put(n.to_string(), "", None).await.expect("a plain put");
        let response = next(&mut stream).await;
        assert_eq!((response.watch_id(), response.events().len()), (ids[&n], 1));
    }
    stream.cancel(ids[&7]).await.expect("sent");
    let canceled = next(&mut stream).await;
    assert!(canceled.canceled() && canceled.watch_id() == ids[&7]);
    client.put("7", "", None).await.expect("a plain put");
    client.put("8", "", None).await.expect("a plain put");
    assert_eq!(next(&mut stream).await.watch_id(), ids[&8]);
}

/// As a client does that has a list of requests, not a channel.
#[tokio::test]
async fn who_asks_for_nothing_more_is_still_told() {
    use store::pb::etcdserverpb as pb;
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let create = pb::WatchCreateRequest { key: "key".into(), ..Default::default() };
    let request = pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
    let mut watches = pb::watch_client::WatchClient::new(server.channel().await);
    let stream = watches.watch(tokio_stream::iter([request])).await.expect("a stream");
    let mut stream = stream.into_inner();
    assert!(stream.message().await.expect("no error").expect("answered").created);
    for _ in 0..2 {
        client.put("key", "", None).await.expect("a plain put");
        let told = timeout(DEADLINE, stream.message()).await.expect("in time");
        assert_eq!(told.expect("no error").expect("the stream goes on").events.len(), 1);
    }
}

/// Dashboards show the difference as what is open.
#[tokio::test(flavor = "multi_thread")]
async fn streams_are_counted_when_they_begin_and_when_they_end() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let count = |name: &str| {
        let metrics = get(server.metrics_port, "/metrics");
        let of_watches = |line: &&str| line.starts_with(name) && line.contains(r#"grpc_method="Watch""#);
        let value = |line: &str| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).expect("a number");
        metrics.lines().filter(of_watches).map(value).sum::<u64>()
    };
    let (stream, _) = watch(&mut client, "key", WatchOptions::new()).await;
    assert_eq!((count("grpc_server_started_total"), count("grpc_server_handled_total")), (1, 0));
    drop(stream);
    let deadline = std::time::Instant::now() + DEADLINE;
    while count("grpc_server_handled_total") == 0 {
        assert!(std::time::Instant::now() < deadline, "the stream does not end");
    }
}

#[tokio::test]
async fn progress_is_told_to_who_waits_for_the_future() {
    let server = Server::start(&["--watch-progress-notify-interval", "50ms"]);
    let mut client = server.client().await;
    let options = WatchOptions::new().with_progress_notify().with_start_revision(100);
    let (mut stream, _) = watch(&mut client, "quiet", options).await;
    assert_eq!(next(&mut stream).await.header().expect("always").revision(), 1);
}

#[tokio::test]
async fn progress_is_told_on_request_and_by_the_clock() {
    let server = Server::start(&["--watch-progress-notify-interval", "50ms"]);
    let mut client = server.client().await;
    let options = WatchOptions::new().with_progress_notify();
    let (mut stream, _) = watch(&mut client, "quiet", options).await;
    client.put("other", "", None).await.expect("a plain put");
    loop {
        let progress = next(&mut stream).await;
        assert!(progress.events().is_empty() && !progress.canceled());
        if progress.header().expect("always").revision() == 2 {
            break;
        }
    }
    let (mut stream, _) = watch(&mut client, "quiet", WatchOptions::new()).await;
    stream.request_progress().await.expect("sent");
    let progress = next(&mut stream).await;
    assert_eq!((progress.watch_id(), progress.header().expect("always").revision()), (-1, 2));
}

#[tokio::test]
async fn progress_never_goes_back_behind_an_event() {
    const WRITES: i64 = 1_000;
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let (mut stream, created) = watch(&mut client, "key/", WatchOptions::new().with_prefix()).await;
    let begun = created.header().expect("always").revision();
    let writers: Vec<_> = (0..10)
        .map(|writer| {
            let mut client = client.clone();
            tokio::spawn(async move { put_all(&mut client, (0..WRITES as i32).filter(|n| n % 10 == writer)).await })
        })
        .collect();
    let (mut reached, mut asked, mut told) = (begun, 0, 0);
    while reached < begun + WRITES || told < asked {
        if asked == told && reached < begun + WRITES {
            stream.request_progress().await.expect("sent");
            asked += 1;
        }
        let response = next(&mut stream).await;
        let revision = response.events().last().and_then(|e| e.kv()).map(etcd_client::KeyValue::mod_revision);
        let revision = revision.unwrap_or_else(|| {
            told += 1;
            response.header().expect("always").revision()
        });
        assert!(revision >= reached, "{revision} after {reached}");
        reached = revision;
    }
    for writer in writers {
        writer.await.expect("all is written");
    }
}

/// Writes so much at once, and tells at which revision which key was put.
async fn put_at_once(client: &Client, keys: std::ops::Range<i32>) -> BTreeMap<i64, String> {
    let puts = keys.map(|n| {
        let mut client = client.clone();
        async move {
            let key = format!("key/{}", n % 7);
            let put = client.put(key.clone(), n.to_string(), None).await.expect("a plain put");
            (put.header().expect("always").revision(), key)
        }
    });
    futures::future::join_all(puts).await.into_iter().collect()
}

/// One that wants the past reads it in parts; it is told all of it once, before any progress beyond, and so is who began
/// with the present on the same stream.
#[tokio::test]
async fn watches_of_the_past_and_of_the_present_share_a_stream() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let mut written = put_at_once(&client, 0..3_000).await;
    let now = 3_002;
    let starts = [
        ("key/", 2),
        ("key/3", 2),
        ("key/3", 1_500),
        ("key/", now - 1_000),
        ("none", 2),
        ("key/5", now),
        ("key/", now),
    ];
    let mut stream = client.watch("other", None).await.expect("a new stream");
    for (id, (key, from)) in (1..).zip(starts) {
        let options = WatchOptions::new().with_watch_id(id).with_start_revision(from);
        let options = if key.ends_with('/') { options.with_prefix() } else { options };
        stream.watch(key, Some(options)).await.expect("one more watch");
    }
    stream.request_progress().await.expect("sent");
    let more = client.clone();
    let writer = tokio::spawn(async move { put_at_once(&more, 3_000..5_000).await });
    let mut seen: BTreeMap<i64, Vec<(i64, String)>> = BTreeMap::new();
    let mut progress = None;
    while progress.is_none() || seen.get(&7).is_none_or(|seen| seen.len() < 2_000) || seen[&1].len() < 5_000 {
        let response = next(&mut stream).await;
        if response.watch_id() == -1 {
            let told = response.header().expect("always").revision();
            assert_eq!(progress.replace((told, seen.clone())).map(|(told, _)| told), None, "asked once");
        }
        let events = response.events().iter().map(|event| event.kv().expect("always"));
        let events = events.map(|kv| (kv.mod_revision(), kv.key_str().expect("text").to_owned()));
        seen.entry(response.watch_id()).or_default().extend(events);
    }
    written.extend(writer.await.expect("all is written"));
    let (told, seen_by_then) = progress.expect("looked at above");
    for (id, (key, from)) in (1..).zip(starts) {
        let wanted = |at: i64, put: &str| at >= from && put.starts_with(key);
        let expected = written.iter().filter(|(at, put)| wanted(**at, put)).map(|(at, put)| (*at, put.clone()));
        let expected: Vec<_> = expected.collect();
        let of = |seen: &BTreeMap<i64, Vec<_>>| seen.get(&id).cloned().unwrap_or_default();
        let promised = expected.iter().take_while(|(at, _)| *at <= told).count();
        assert!(of(&seen_by_then).len() >= promised, "{key} from {from}: progress {told} before its events");
        let seen = of(&seen);
        assert_eq!(seen, expected[..seen.len()], "{key} from {from}");
    }
}
