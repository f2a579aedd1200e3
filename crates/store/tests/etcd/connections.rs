//! What a connection bears.

use std::time::Duration;

use etcd_client::Client;
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
