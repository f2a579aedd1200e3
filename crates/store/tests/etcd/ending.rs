//! How members end: they answer first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use etcd_client::{Client, Error};
use nix::sys::signal::Signal;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cluster::Cluster;
use crate::harness::DEADLINE;

const WRITERS: usize = 32;
/// In all, before the member is told to end.
const PUTS: usize = 2_000;

/// Writes for as long as it is answered. What it was told at last, if the member has told it.
async fn write(mut client: Client, done: Arc<AtomicUsize>) -> Option<String> {
    loop {
        match client.put("k", "v", None).await {
            Ok(_) => drop(done.fetch_add(1, Relaxed)),
            Err(Error::GRpcStatus(status)) if status.message().starts_with("etcdserver: ") => {
                return Some(status.message().to_owned());
            }
            Err(_) => return None,
        }
    }
}

/// Writers at one member, which has answered many of them.
async fn busy(cluster: &Cluster, member: usize) -> JoinSet<Option<String>> {
    let done = Arc::new(AtomicUsize::new(0));
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        writers.spawn(write(cluster.client(member).await, done.clone()));
    }
    while done.load(Relaxed) < PUTS {
        tokio::task::yield_now().await;
    }
    writers
}

/// Until the end it needs to hear the others, for all that it has under way.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_ends_answers_what_is_under_way() {
    let mut cluster = Cluster::start(&[]);
    for _ in 0..3 {
        let leader = timeout(DEADLINE, cluster.leader()).await.expect("a leader is elected");
        let writers = busy(&cluster, leader).await;
        cluster.servers[leader].signal(Signal::SIGTERM);
        let told: Vec<String> = writers.join_all().await.into_iter().flatten().collect();
        assert_eq!(told, [""; 0], "it was told to end, and the others are there");
        assert!(cluster.servers[leader].await_end().success());
        cluster.servers[leader].restart();
    }
}

/// It stays a little for its peers, but serves nobody any more: not as what it is to Raft, nor until time runs out.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_removed_sends_its_clients_away() {
    let mut cluster = Cluster::start(&[]);
    let leader = timeout(DEADLINE, cluster.leader()).await.expect("a leader is elected");
    let follower = (leader + 1) % 3;
    let mut last = cluster.client((leader + 2) % 3).await;
    for removed in [leader, follower] {
        let writers = busy(&cluster, removed).await;
        let id = cluster.client(removed).await.status().await.expect("up").header().expect("always").member_id();
        timeout(DEADLINE, async { while last.member_remove(id).await.is_err() {} }).await.expect("removed");
        let told: Vec<String> = writers.join_all().await.into_iter().flatten().collect();
        assert!(told.iter().all(|words| words == "etcdserver: server stopped"), "{told:?}");
        assert!(cluster.servers[removed].await_end().success(), "a removed member is done, it has not failed");
    }
}
