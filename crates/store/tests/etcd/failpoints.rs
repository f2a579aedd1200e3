//! The process ends at every place at which something is about to last, or just has: nothing acknowledged is lost.
//!
//! ```text
//! cargo test -p store --features failpoints --test etcd failpoints
//! ```

use std::sync::Arc;

use tokio::time::timeout;

use crate::cluster::{Cluster, KEEP_LITTLE};
use crate::crash::{Acknowledged, check, write_until_cut_off};
use crate::harness::{DEADLINE, Server};

const WRITERS: usize = 8;

/// Each with how often it is passed before.
const WHILE_SERVING: [(&str, u32); 11] = [
    ("log-before-write", 40),
    ("log-before-sync", 40),
    ("log-after-sync", 40),
    ("log-cut-before-remove", 2),
    ("raft-before-send", 90),
    ("raft-after-send", 90),
    ("raft-in-apply", 150),
    ("raft-before-answer", 40),
    ("checkpoint-before-save", 2),
    ("checkpoint-before-commit", 3),
    ("checkpoint-after-save", 2),
];

/// One after the other, each on what the last one left.
const WHILE_INSTALLING: [&str; 6] = [
    "snapshot-in-receive",
    "snapshot-received",
    "checkpoint-before-save",
    "checkpoint-before-commit",
    "checkpoint-after-save",
    "log-jump-before-remove",
];

const WHILE_FOUNDING: [&str; 3] = ["checkpoint-before-rename", "checkpoint-before-commit", "log-segment-before-rename"];

#[tokio::test(flavor = "multi_thread")]
async fn ended_while_serving() {
    for (point, passed) in WHILE_SERVING {
        let mut server = Server::new(&["--snapshot-count", "50"]);
        server.failpoints = Some(format!("{point}={passed}*off->return"));
        server.restart();
        let mut writers = Vec::new();
        for n in 0..WRITERS {
            let writer = write_until_cut_off(server.client().await, format!("{n}"), Arc::default());
            writers.push(tokio::spawn(writer));
        }
        let mut acknowledged = Acknowledged::new();
        for writer in writers {
            let ended = timeout(DEADLINE, writer).await;
            acknowledged.extend(ended.unwrap_or_else(|_| panic!("{point} is never reached")).expect("not cancelled"));
        }
        assert!(!server.await_end().success(), "{point}: an end, not an exit");
        assert!(!acknowledged.is_empty(), "{point}: nothing was written before");
        server.failpoints = None;
        server.restart();
        check(&mut server.client().await, &acknowledged).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_while_a_snapshot_is_installed() {
    let mut cluster = Cluster::start(&KEEP_LITTLE);
    let (absent, last) = cluster.leave_one_behind().await;
    for point in WHILE_INSTALLING {
        let server = &mut cluster.servers[absent];
        server.failpoints = Some(format!("{point}=return"));
        server.launch();
        assert!(!server.await_end().success(), "{point}: an end, not an exit");
    }
    cluster.servers[absent].failpoints = None;
    cluster.servers[absent].restart();
    let got = cluster.client(absent).await.get("7", None).await.expect("serves");
    assert_eq!(got.kvs()[0].value(), last.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_while_founding() {
    for point in WHILE_FOUNDING {
        let mut server = Server::new(&[]);
        server.failpoints = Some(format!("{point}=return"));
        server.launch();
        assert!(!server.await_end().success(), "{point}: an end, not an exit");
        server.failpoints = None;
        server.restart();
        let put = server.client().await.put("key", "value", None).await;
        assert_eq!(put.expect("serves").header().map(|h| h.revision()), Some(2), "{point}");
    }
}
