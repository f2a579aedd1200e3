//! What a connection bears.

use std::time::Duration;

use etcd_client::{Client, WatchOptions};
use futures::future::join_all;
use nix::sys::signal::Signal;
use tokio::time::timeout;

use crate::harness::{DEADLINE, Server};

/// Requests given up while the server was held up do not cost the connection: a write on it is answered, a watch goes on.
#[tokio::test]
async fn requests_given_up_are_nobody_elses_business() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let mut watch = client.watch("k", None).await.expect("served");
    server.signal(Signal::SIGSTOP);
    let give_up = |mut client: Client| async move {
        let asked = timeout(Duration::from_millis(200), client.get("k", None)).await;
        assert!(asked.is_err(), "nobody answers");
    };
    let write = tokio::spawn({
        let mut client = client.clone();
        async move { client.put("k", "v", None).await }
    });
    join_all((0..300).map(|_| give_up(client.clone()))).await;
    server.signal(Signal::SIGCONT);
    timeout(DEADLINE, write).await.expect("in time").expect("no panic").expect("written");
    let told = async {
        loop {
            let told = watch.message().await.expect("no error").expect("it goes on");
            if let [event] = told.events() {
                return event.kv().expect("always").value().to_vec();
            }
        }
    };
    assert_eq!(timeout(DEADLINE, told).await.expect("in time"), b"v");
}

/// The watch of a client that does not read is not read from either; what it goes on asking lies about on the connection.
#[tokio::test]
async fn small_requests_may_lie_about_unread() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    const WATCHES: usize = 20_000;
    for _ in 0..40 {
        client.put("k", vec![0; 1 << 20], None).await.expect("written");
    }
    let all = WatchOptions::new().with_start_revision(2);
    let mut watch = client.watch("k", Some(all)).await.expect("served");
    for _ in 0..WATCHES {
        watch.watch("other", None).await.expect("open");
        // Each in a frame of its own.
        tokio::task::yield_now().await;
    }
    client.put("k", "last", None).await.expect("the connection is there");
    let told = async {
        let (mut created, mut events) = (0, 0);
        while (created, events) != (WATCHES + 1, 41) {
            let told = watch.message().await.expect("no error").expect("it goes on");
            created += usize::from(told.created());
            events += told.events().len();
        }
    };
    timeout(DEADLINE, told).await.expect("in time");
}
