//! A large store after `kill -9`: everything is there again, from checkpoint and log.

use std::time::Instant;

use etcd_client::{Client, GetOptions, Txn, TxnOp};
use tokio::task::JoinSet;

use crate::harness::Server;

const KEYS: usize = 100_000;
const VALUE_BYTES: usize = 1 << 10;
const PER_TXN: usize = 100;
const WRITERS: usize = 8;
/// Keys per read: about a megabyte.
const PAGE: usize = 1_000;

fn key(n: usize) -> String {
    format!("/registry/objects/{n:06}")
}

fn value(n: usize) -> Vec<u8> {
    n.to_le_bytes().repeat(VALUE_BYTES / size_of::<usize>())
}

/// Every eighth transaction, beginning with the writer's own.
async fn write(mut client: Client, writer: usize) {
    for first in (0..KEYS).step_by(PER_TXN).skip(writer).step_by(WRITERS) {
        let puts: Vec<TxnOp> = (first..first + PER_TXN).map(|n| TxnOp::put(key(n), value(n), None)).collect();
        client.txn(Txn::new().and_then(puts)).await.expect("a plain transaction");
    }
}

async fn assert_complete(client: &mut Client) {
    for first in (0..KEYS).step_by(PAGE) {
        let page = GetOptions::new().with_range(key(first + PAGE));
        let found = client.get(key(first), Some(page)).await.expect("readable");
        assert_eq!(found.kvs().len(), PAGE, "from key {first} on");
        for (n, kv) in (first..).zip(found.kvs()) {
            assert_eq!((kv.key(), kv.value()), (key(n).as_bytes(), &value(n)[..]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_keys_survive_a_kill() {
    // A thousand transactions: some checkpoints, and a rest that only the log has.
    let mut server = Server::start(&["--snapshot-count", "300"]);
    let client = server.client().await;
    let mut writers: JoinSet<()> = (0..WRITERS).map(|writer| write(client.clone(), writer)).collect();
    while let Some(written) = writers.join_next().await {
        written.expect("not cancelled");
    }
    server.kill();
    let start = Instant::now();
    server.restart();
    println!("{KEYS} keys of {VALUE_BYTES} bytes: serving after {:?}", start.elapsed());
    assert_complete(&mut server.client().await).await;
}
