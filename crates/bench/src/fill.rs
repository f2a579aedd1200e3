//! What many keys cost: one member is filled, killed and started again, emptied but for a tenth, and weighed after each.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use tokio::time::Instant;

use crate::cluster::{Cluster, Program};
use crate::connection::Connection;
use crate::environment::{CONCURRENCY, Environment};
use crate::flags::Plan;
use crate::pb::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, request_op};
use crate::workloads::value;

/// The servers' default limit is 128.
const OPS_PER_TXN: usize = 100;
/// Of so many keys one is kept.
const KEPT: usize = 10;
/// Nothing has changed on the disk for this long: what was compacted is given back, or will not be.
const STILL: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(120);

/// How many, and how large.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub keys: usize,
    pub value_bytes: usize,
}

/// A side after one of the stages.
#[derive(Debug, Serialize)]
pub struct Stage {
    side: &'static str,
    stage: &'static str,
    keys: usize,
    value_bytes: usize,
    seconds: f64,
    peak_memory_mib: f64,
    memory_mib: f64,
    disk_mib: f64,
}

const HEAD: &str = "side        stage          seconds  peak MiB  memory MiB  disk MiB";

impl Stage {
    fn line(&self) -> String {
        let Stage { side, stage, seconds, peak_memory_mib: peak, memory_mib: memory, disk_mib: disk, .. } = self;
        format!("{side:<11} {stage:<12} {seconds:>9.2} {peak:>9.0} {memory:>11.0} {disk:>9.0}")
    }
}

/// One side after the other, so that neither has to share the memory.
pub async fn run(plan: &Plan, load: Load, dir: &Path, say: impl Fn(&str)) -> Result<()> {
    say(&format!("{} keys of {} B, one member", load.keys, load.value_bytes));
    say(HEAD);
    let mut stages = Vec::new();
    for (name, binary) in [("kube-store", &plan.ours), ("etcd", &plan.peer)] {
        let program = Program::examine(name, binary)?;
        let cluster = Cluster::start(&program, 1, dir, None).await?;
        let mut side = Side { name, cluster, load };
        for stage in [side.fill().await, side.restart().await, side.empty().await] {
            let stage = stage.with_context(|| name.to_owned())?;
            say(&stage.line());
            stages.push(stage);
        }
    }
    for stage in &stages {
        println!("{}", serde_json::to_string(stage)?);
    }
    Ok(())
}

struct Side {
    name: &'static str,
    cluster: Cluster,
    load: Load,
}

impl Side {
    async fn fill(&mut self) -> Result<Stage> {
        let (environment, start) = (self.cluster.environment(CONCURRENCY).await?, Instant::now());
        let value = value(self.load.value_bytes);
        let put = |n: usize| {
            let put = PutRequest { key: key(n), value: value.clone(), ..PutRequest::default() };
            request_op::Request::RequestPut(put)
        };
        write(&environment, (0..self.load.keys).map(put)).await?;
        let seconds = start.elapsed();
        compact(&environment.connection(0)).await?;
        self.weigh("written", seconds).await
    }

    /// As after a power cut.
    async fn restart(&mut self) -> Result<Stage> {
        let start = Instant::now();
        self.cluster.kill_and_start().await?;
        let seconds = start.elapsed();
        self.weigh("restarted", seconds).await
    }

    async fn empty(&mut self) -> Result<Stage> {
        let (environment, start) = (self.cluster.environment(CONCURRENCY).await?, Instant::now());
        let gone = (0..self.load.keys).filter(|n| n % KEPT != 0);
        let delete = |n: usize| {
            request_op::Request::RequestDeleteRange(DeleteRangeRequest { key: key(n), ..DeleteRangeRequest::default() })
        };
        write(&environment, gone.map(delete)).await?;
        compact(&environment.connection(0)).await?;
        let seconds = start.elapsed();
        self.weigh("nine tenths gone", seconds).await
    }

    /// Once what goes on behind the answers is done.
    async fn weigh(&self, stage: &'static str, took: Duration) -> Result<Stage> {
        let deadline = Instant::now() + PATIENCE;
        let (mut disk, mut since) = (self.cluster.disk_bytes()?, Instant::now());
        while since.elapsed() < STILL && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
            let now = self.cluster.disk_bytes()?;
            if now != disk {
                (disk, since) = (now, Instant::now());
            }
        }
        let usage = self.cluster.usage()?;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        Ok(Stage {
            side: self.name,
            stage,
            keys: self.load.keys,
            value_bytes: self.load.value_bytes,
            seconds: took.as_secs_f64(),
            peak_memory_mib: mib(usage.peak_memory_bytes),
            memory_mib: mib(usage.memory_bytes),
            disk_mib: mib(disk),
        })
    }
}

fn key(n: usize) -> Bytes {
    format!("/registry/pods/many/pod-{n:08}").into()
}

async fn write(environment: &Environment, ops: impl Iterator<Item = request_op::Request>) -> Result<()> {
    let mut ops = ops.map(|op| RequestOp { request: Some(op) }).peekable();
    let mut n = 0;
    let txns = std::iter::from_fn(|| {
        ops.peek()?;
        n += 1;
        let txn = TxnRequest { success: ops.by_ref().take(OPS_PER_TXN).collect(), ..TxnRequest::default() };
        let store = environment.connection(n);
        Some(async move {
            let answer = store.txn(&txn).await?;
            ensure!(answer.succeeded, "a transaction without a condition did not succeed");
            Ok(())
        })
    });
    stream::iter(txns).buffer_unordered(CONCURRENCY).try_collect().await
}

async fn compact(store: &Connection) -> Result<()> {
    let header = store.txn(&TxnRequest::default()).await?.header.context("an answer without a header")?;
    store.compact(&CompactionRequest { revision: header.revision, physical: false }).await.map(drop)
}
