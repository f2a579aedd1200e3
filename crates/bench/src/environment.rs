//! What a workload gets to work with: connections to every member, shared by the clients.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use rustls::ClientConfig;

use crate::connection::Connection;
use crate::pb::etcdserverpb::{PutRequest, RequestOp, TxnRequest, request_op};

/// Clients on one connection, as many watches and requests of a daemon share one.
pub const CLIENTS_PER_CONNECTION: usize = 10;
/// Handshakes and preparing requests under way.
pub const CONCURRENCY: usize = 32;
/// Keys written by one preparing transaction; the servers' default limit is 128.
const KEYS_PER_TXN: usize = 100;

#[derive(Debug, Clone)]
pub struct Environment {
    connections: Arc<[Connection]>,
}

impl Environment {
    /// Connections for this many clients, spread evenly over the members.
    pub async fn open(addresses: &[SocketAddr], tls: Option<Arc<ClientConfig>>, clients: usize) -> Result<Environment> {
        let count = connections(clients, addresses.len());
        let opening = (0..count).map(|n| Connection::open(addresses[n % addresses.len()], tls.clone()));
        let opened: Vec<Connection> = stream::iter(opening).buffered(CONCURRENCY).try_collect().await?;
        Ok(Environment { connections: opened.into() })
    }

    pub fn connection(&self, client: usize) -> Connection {
        self.connections[client % self.connections.len()].clone()
    }

    /// Writes keys before anything is measured, many in a transaction.
    pub async fn write_all(&self, puts: Vec<PutRequest>) -> Result<()> {
        let txns = puts.chunks(KEYS_PER_TXN).enumerate().map(|(n, puts)| {
            let op = |put: &PutRequest| RequestOp { request: Some(request_op::Request::RequestPut(put.clone())) };
            let txn = TxnRequest { success: puts.iter().map(op).collect(), ..TxnRequest::default() };
            let store = self.connection(n);
            async move { store.txn(&txn).await.map(drop) }
        });
        let writing: Vec<_> = txns.collect();
        stream::iter(writing).buffer_unordered(CONCURRENCY).try_collect().await
    }
}

/// One per [`CLIENTS_PER_CONNECTION`], and no member without one unless there are fewer clients.
pub fn connections(clients: usize, members: usize) -> usize {
    clients.div_ceil(CLIENTS_PER_CONNECTION).max(members.min(clients))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_shared() {
        for (clients, members, expected) in [(1, 1, 1), (1, 3, 1), (5, 3, 3), (100, 1, 10), (1000, 3, 100)] {
            assert_eq!(connections(clients, members), expected, "{clients} clients, {members} members");
        }
    }
}
