//! `kill -9` in the middle of writes: nothing acknowledged is lost, no revision goes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use etcd_client::{Client, GetOptions};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::harness::{DEADLINE, Server};

const WRITERS: usize = 16;
const ROUNDS: usize = 4;
const ACKNOWLEDGED_PER_ROUND: usize = 400;

/// What a writer was told is written: key, value and revision.
pub type Acknowledged = Vec<(String, String, i64)>;

pub async fn write_until_cut_off(mut client: Client, name: String, count: Arc<(AtomicUsize, Notify)>) -> Acknowledged {
    let mut acknowledged = Acknowledged::new();
    for n in 0.. {
        let (key, value) = (format!("{name}/{:02}", n % 50), format!("{name} {n}"));
        match client.put(key.clone(), value.clone(), None).await {
            Ok(put) => {
                acknowledged.retain(|(known, ..)| *known != key);
                acknowledged.push((key, value, put.header().expect("always").revision()));
                if count.0.fetch_add(1, Ordering::Relaxed) + 1 == ACKNOWLEDGED_PER_ROUND {
                    count.1.notify_one();
                }
            }
            Err(_) => return acknowledged,
        }
    }
    unreachable!("a writer ends when it is cut off")
}

/// An unacknowledged write may have happened too: the value is then newer than the one
/// acknowledged, never older.
pub async fn check(client: &mut Client, acknowledged: &Acknowledged) {
    let everything = client.get("", Some(GetOptions::new().with_all_keys())).await.expect("readable");
    let now = everything.header().expect("always").revision();
    for (key, value, revision) in acknowledged {
        assert!(*revision <= now, "revision {revision} was acknowledged, the store is at {now}");
        let kv = everything.kvs().iter().find(|kv| kv.key() == key.as_bytes());
        let kv = kv.unwrap_or_else(|| panic!("{key} was acknowledged and is lost"));
        assert!(kv.mod_revision() >= *revision, "{key} went back from {revision} to {}", kv.mod_revision());
        if kv.mod_revision() == *revision {
            assert_eq!(kv.value(), value.as_bytes());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_writing() {
    // Few entries per checkpoint: a kill finds one under way now and then.
    let mut server = Server::start(&["--snapshot-count", "150"]);
    for round in 0..ROUNDS {
        let count = Arc::new((AtomicUsize::new(0), Notify::new()));
        let mut writers = Vec::new();
        for n in 0..WRITERS {
            let writer = write_until_cut_off(server.client().await, format!("{round}/{n}"), count.clone());
            writers.push(tokio::spawn(writer));
        }
        timeout(DEADLINE, count.1.notified()).await.expect("the writers get on");
        server.kill();
        let mut acknowledged = Acknowledged::new();
        for writer in writers {
            acknowledged.extend(writer.await.expect("not cancelled"));
        }
        server.restart();
        check(&mut server.client().await, &acknowledged).await;
    }
}

#[tokio::test]
async fn a_damaged_log_is_refused_with_advice() {
    let mut server = Server::start(&["--snapshot-count", "1000000"]);
    let mut client = server.client().await;
    for n in 0..20 {
        client.put(n.to_string(), "value", None).await.expect("a plain put");
    }
    server.kill();
    let log = server.path("data/member/wal/0000000000000000.wal");
    let mut bytes = std::fs::read(&log).expect("the log exists");
    // Behind what was written the file holds zeros, up to its allocated size.
    let written = bytes.iter().rposition(|b| *b != 0).expect("something was written");
    bytes[written / 2] ^= 1;
    std::fs::write(&log, &bytes).expect("writable");
    let output = server.command().output().expect("runs");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(words.contains("damaged at byte") && words.contains("snapshot"), "{words}");
}
