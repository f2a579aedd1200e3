//! A store with 100,000 keys is killed under load and started again, over and over: nothing that was acknowledged may
//! be missing. History is compacted as an API server has it done, so it is killed in compactions, too. How soon it
//! serves again is printed; the goal is a second.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, ConnectOptions, GetOptions, Txn, TxnOp};
use rand::Rng as _;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::cluster::{CALM, Cluster};
use crate::flags::Flags;
use crate::host::Host;
use crate::member::client_url;
use crate::verdict::keep;

const KEYS: usize = 100_000;
const VALUE_BYTES: usize = 512;
const PER_TXN: usize = 100;
const WRITERS: usize = 16;
/// Keys per read.
const PAGE: usize = 2_000;
/// How often a starting member is asked whether it serves.
const POLL: Duration = Duration::from_millis(2);
/// A connection may be refused late: one in some ten thousand has the port of one that the killed process left half closed,
/// and the kernel tries it again after a second.
const CONNECT: Duration = Duration::from_millis(100);

/// What a writer was told last of a key: its value's number and revision. The value being written when the writer was
/// cut off may be there too.
type Told = HashMap<usize, (u64, i64)>;

fn key(n: usize) -> String {
    format!("/registry/objects/{n:06}")
}

fn value(n: usize, version: u64) -> Vec<u8> {
    let mut value = format!("{n} {version} ").into_bytes();
    value.resize(VALUE_BYTES, b'.');
    value
}

/// Whether everything was there every time.
pub async fn run(flags: &Flags, host: &Host) -> Result<bool> {
    let size = flags.members.unwrap_or(1);
    let cluster = Cluster::start(host, size.into(), &["--snapshot-count", "5000"]).await?;
    match Box::pin(attempt(&cluster, flags.restarts)).await {
        Ok((mut times, mut busy)) => {
            // Told and not judged: others use the machine too.
            println!("{} restarts of {size} with {KEYS} keys under load: nothing lost", times.len());
            println!("  serving after {}", distribution(&mut times));
            println!("  of it busy    {}", distribution(&mut busy));
            Ok(true)
        }
        Err(error) => {
            println!("restarts FAILED: {error:#}");
            keep(&cluster, None, host.kept(), "restarts")?;
            Ok(false)
        }
    }
}

fn percentile(times: &mut [Duration], share: usize) -> Duration {
    times.sort_unstable();
    times.get(times.len() * share / 100).or(times.last()).copied().unwrap_or_default()
}

fn distribution(times: &mut [Duration]) -> String {
    let [half, most, all] = [50, 99, 100].map(|share| percentile(times, share).as_millis());
    format!("p50 {half} ms, p99 {most} ms, at most {all} ms")
}

/// How long the starts took, and how much processor time.
async fn attempt(cluster: &Cluster<'_>, restarts: usize) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let mut told = fill(cluster.client(0).await).await?;
    let (mut times, mut busy) = (Vec::new(), Vec::new());
    for round in 0..restarts {
        let n = round % cluster.size();
        let load = rand::rng().random_range(50..400);
        let writers: Vec<_> = (0..WRITERS).map(|w| (w, told_of(&told, w))).collect();
        let mut under_way = JoinSet::new();
        for (writer, last) in writers {
            under_way.spawn(write(cluster.client(n).await, writer, last));
        }
        let newest = told.values().map(|(_, revision)| *revision).max().unwrap_or_default();
        let compaction = tokio::spawn(compact(cluster.client(n).await, newest));
        sleep(Duration::from_millis(load)).await;
        cluster.members[n].kill()?;
        let mut touched = Vec::new();
        while let Some(ended) = under_way.join_next().await {
            let written = ended.context("a writer panicked")?;
            touched.extend(written.keys().copied());
            told.extend(written);
        }
        compaction.await.context("the compaction panicked")?;
        let begun = Instant::now();
        cluster.launch(n)?;
        await_serving(cluster, n).await?;
        times.push(begun.elapsed());
        busy.push(cluster.members[n].busy()?);
        let mut client = cluster.client(n).await;
        check(&mut client, &touched, &mut told).await.with_context(|| format!("after restart {round}"))?;
    }
    let everything: Vec<usize> = (0..KEYS).collect();
    check(&mut cluster.client(0).await, &everything, &mut told).await?;
    cluster.assert_no_panic()?;
    Ok((times, busy))
}

fn told_of(told: &Told, writer: usize) -> Told {
    told.iter().filter(|(n, _)| **n % WRITERS == writer).map(|(n, last)| (*n, *last)).collect()
}

async fn fill(client: Client) -> Result<Told> {
    let mut fillers = JoinSet::new();
    for writer in 0..8 {
        let mut client = client.clone();
        fillers.spawn(async move {
            let mut told = Told::new();
            for first in (0..KEYS).step_by(PER_TXN).skip(writer).step_by(8) {
                let puts: Vec<TxnOp> =
                    (first..first + PER_TXN).map(|n| TxnOp::put(key(n), value(n, 0), None)).collect();
                let done = client.txn(Txn::new().and_then(puts)).await?;
                let revision = done.header().context("a header")?.revision();
                told.extend((first..first + PER_TXN).map(|n| (n, (0, revision))));
            }
            anyhow::Ok(told)
        });
    }
    let mut told = Told::new();
    while let Some(filled) = fillers.join_next().await {
        told.extend(filled.context("a filler panicked")??);
    }
    Ok(told)
}

/// Rewrites keys of its own until it is cut off. Returns what it was told.
async fn write(mut client: Client, writer: usize, last: Told) -> Told {
    let mut told = Told::new();
    loop {
        let n = rand::rng().random_range(0..KEYS / WRITERS) * WRITERS + writer;
        let (version, _) = told.get(&n).or(last.get(&n)).copied().unwrap_or_default();
        match timeout(CALM, client.put(key(n), value(n, version + 1), None)).await {
            Ok(Ok(put)) => {
                let revision = put.header().map_or(0, etcd_client::ResponseHeader::revision);
                told.insert(n, (version + 1, revision));
            }
            // Its outcome is unknown: the key may have one value more than it was told of.
            Ok(Err(_)) | Err(_) => return told,
        }
    }
}

/// The store may be killed before it answers, or have compacted there before it was killed.
async fn compact(mut client: Client, revision: i64) {
    let _ = timeout(CALM, client.compact(revision, None)).await;
}

/// A linearizable read is answered.
async fn await_serving(cluster: &Cluster<'_>, n: usize) -> Result<()> {
    let serving = async {
        loop {
            cluster.members[n].assert_running()?;
            let options = ConnectOptions::new().with_connect_timeout(CONNECT);
            let mut client = Client::connect([client_url(n)], Some(options)).await.expect("a valid endpoint");
            if let Ok(Ok(_)) = timeout(Duration::from_secs(2), client.get(key(0), None)).await {
                return Ok(());
            }
            sleep(POLL).await;
        }
    };
    timeout(CALM, serving).await.context("it does not serve")?
}

/// Every key has what was told of it last, or the one value that was under way behind it.
async fn check(client: &mut Client, keys: &[usize], told: &mut Told) -> Result<()> {
    let mut found = HashMap::new();
    let mut pages: Vec<usize> = keys.iter().map(|n| n / PAGE * PAGE).collect();
    pages.sort_unstable();
    pages.dedup();
    for first in pages {
        let page = client.get(key(first), Some(GetOptions::new().with_range(key(first + PAGE)))).await?;
        ensure!(page.kvs().len() == PAGE, "of {PAGE} keys from {first} on only {} are there", page.kvs().len());
        found.extend(page.kvs().iter().enumerate().map(|(n, kv)| (first + n, kv.clone())));
    }
    for n in keys {
        let kv = &found[n];
        let (version, revision) = told[n];
        let same = kv.mod_revision() == revision && kv.value() == value(*n, version);
        // One that nobody was told of; the next writer must not write it a second time.
        let newer = kv.mod_revision() > revision && kv.value() == value(*n, version + 1);
        ensure!(same || newer, "{} was acknowledged at {revision} and is lost: {kv:?}", key(*n));
        if newer {
            told.insert(*n, (version + 1, kv.mod_revision()));
        }
    }
    Ok(())
}
