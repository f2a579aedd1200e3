//! Keep-alives of many leases over streams.

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Client, Clients};
use crate::environment::{CONCURRENCY, Environment};
use crate::pb::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse};

const LEASES_PER_STREAM: usize = 10;
/// No lease ends during a run.
const TTL_SECONDS: i64 = 3_600;

pub struct Workload;

#[async_trait::async_trait]
impl super::Workload for Workload {
    async fn prepare(&self, environment: &Environment, clients: usize) -> Result<Clients> {
        let opening: Vec<_> = (0..clients).map(|n| Keeper::open(environment.clone(), n)).collect();
        stream::iter(opening)
            .buffer_unordered(CONCURRENCY)
            .map_ok(|keeper| -> Box<dyn Client> { Box::new(keeper) })
            .try_collect()
            .await
    }
}

struct Keeper {
    leases: Vec<i64>,
    next: usize,
    requests: mpsc::Sender<LeaseKeepAliveRequest>,
    responses: Streaming<LeaseKeepAliveResponse>,
}

impl Keeper {
    async fn open(environment: Environment, n: usize) -> Result<Keeper> {
        let mut lease = environment.lease(n);
        let mut leases = Vec::new();
        for _ in 0..LEASES_PER_STREAM {
            let granted = lease.lease_grant(LeaseGrantRequest { ttl: TTL_SECONDS, id: 0 }).await?;
            leases.push(granted.into_inner().id);
        }
        let (requests, receiver) = mpsc::channel(1);
        // A server may send its headers with the first answer only, so the first question
        // comes before them.
        requests.send(LeaseKeepAliveRequest { id: leases[0] }).await?;
        let responses = lease.lease_keep_alive(ReceiverStream::new(receiver)).await?.into_inner();
        let mut keeper = Keeper { leases, next: 0, requests, responses };
        keeper.answered().await?;
        Ok(keeper)
    }

    async fn answered(&mut self) -> Result<()> {
        let answer = self.responses.message().await?.context("a keep-alive stream has ended")?;
        ensure!(answer.ttl > 0 && answer.id == self.leases[self.next], "a lease was not renewed: {answer:?}");
        self.next = (self.next + 1) % self.leases.len();
        Ok(())
    }
}

#[async_trait::async_trait]
impl Client for Keeper {
    async fn request(&mut self) -> Result<u64> {
        self.requests.send(LeaseKeepAliveRequest { id: self.leases[self.next] }).await?;
        self.answered().await?;
        Ok(0)
    }
}
