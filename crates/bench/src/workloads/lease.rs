//! Keep-alives of many leases over streams.

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};

use super::{Client, Clients};
use crate::connection::Call;
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
    call: Call<LeaseKeepAliveResponse>,
}

impl Keeper {
    async fn open(environment: Environment, n: usize) -> Result<Keeper> {
        let store = environment.connection(n);
        let mut leases = Vec::new();
        for _ in 0..LEASES_PER_STREAM {
            leases.push(store.grant(&LeaseGrantRequest { ttl: TTL_SECONDS, id: 0 }).await?.id);
        }
        Ok(Keeper { leases, next: 0, call: store.keep_alive() })
    }

    async fn answered(&mut self) -> Result<()> {
        let answer = self.call.message().await?.context("a keep-alive stream has ended")?;
        ensure!(answer.ttl > 0 && answer.id == self.leases[self.next], "a lease was not renewed: {answer:?}");
        self.next = (self.next + 1) % self.leases.len();
        Ok(())
    }
}

#[async_trait::async_trait]
impl Client for Keeper {
    async fn request(&mut self) -> Result<u64> {
        self.call.send(&LeaseKeepAliveRequest { id: self.leases[self.next] });
        self.answered().await?;
        Ok(0)
    }
}
