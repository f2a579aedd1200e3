//! Clients and watchers of all members, recorded, until they are told to stop.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use history::{At, History, Keys, Outcome, Range, Request, Watch};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use recorder::observer::{End, observe, resumed, watches};
use recorder::{Recorder, TICKS_PER_SECOND, Worker};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::cluster::{CALM, Cluster};
use crate::member::client_url;

const CLIENTS: u32 = 10;
const SETS_OF_WATCHES: u32 = 2;
const FIRST_OBSERVER: u32 = 100;
/// Less than what the server allows itself: outcomes stay unknown, as they do for impatient clients.
const PATIENCE: Duration = Duration::from_secs(3);
/// A watch that is told nothing for so long is taken up at another member.
const SILENCE: Duration = Duration::from_secs(4);
const MAX_PAUSE_MS: u64 = 40;
const AFTER_FAILURE: Duration = Duration::from_millis(100);

#[derive(Clone)]
struct Everyone {
    recorder: Arc<Recorder>,
    size: usize,
    stop: watch::Receiver<bool>,
    last: watch::Receiver<i64>,
}

pub struct Traffic {
    recorder: Arc<Recorder>,
    stop: watch::Sender<bool>,
    last: watch::Sender<i64>,
    workers: JoinSet<()>,
    observers: JoinSet<Vec<Watch>>,
}

async fn connect(n: usize) -> etcd_client::Client {
    let options = etcd_client::ConnectOptions::new()
        .with_connect_timeout(Duration::from_secs(1))
        .with_keep_alive(Duration::from_secs(2), Duration::from_secs(3));
    etcd_client::Client::connect([client_url(n)], Some(options)).await.expect("a valid endpoint")
}

async fn work(number: u32, seed: u64, mut all: Everyone) {
    let mut rng = StdRng::seed_from_u64(seed ^ 1);
    let mut worker = Worker::new(number, seed);
    let mut client = connect(number as usize % all.size).await;
    while !*all.stop.borrow_and_update() {
        let outcome = all.recorder.run(number, &mut client, worker.request()).await;
        worker.learn(&outcome);
        if outcome == Outcome::Unknown {
            client = connect(rng.random_range(0..all.size)).await;
            sleep(AFTER_FAILURE).await;
        }
        sleep(Duration::from_millis(rng.random_range(0..MAX_PAUSE_MS))).await;
    }
}

async fn watch_on(mut watch: Watch, seed: u64, all: Everyone) -> Vec<Watch> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut watches = Vec::new();
    loop {
        let mut client = connect(rng.random_range(0..all.size)).await;
        let end = observe(&mut watch, &mut client, &all.recorder, all.last.clone(), SILENCE).await;
        let next = resumed(&watch);
        let done = std::mem::replace(&mut watch, next);
        if !done.responses.is_empty() {
            watches.push(done);
        }
        if end == End::Complete {
            return watches;
        }
        sleep(AFTER_FAILURE).await;
    }
}

impl Traffic {
    pub fn start(cluster: &Cluster<'_>, seed: u64) -> Traffic {
        let ((stop, stopped), (last, is_last)) = (watch::channel(false), watch::channel(0));
        let recorder = Arc::new(Recorder::new(PATIENCE));
        let all = Everyone { recorder: recorder.clone(), size: cluster.size(), stop: stopped, last: is_last };
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut workers, mut observers) = (JoinSet::new(), JoinSet::new());
        for number in 1..=CLIENTS {
            workers.spawn(work(number, rng.random(), all.clone()));
        }
        for set in 0..SETS_OF_WATCHES {
            for watch in watches(FIRST_OBSERVER + 10 * set) {
                observers.spawn(watch_on(watch, rng.random(), all.clone()));
            }
        }
        Traffic { recorder, stop, last, workers, observers }
    }

    pub fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// Stops the clients once all is calm, reads everything, waits until every watcher has been told of it. Returns
    /// what was recorded, and the revision read.
    pub async fn finish(mut self, cluster: &Cluster<'_>) -> Result<(History, i64)> {
        self.stop.send_replace(true);
        while let Some(ended) = self.workers.join_next().await {
            ended.context("a client panicked")?;
        }
        let revision = self.read_everything(cluster).await?;
        self.last.send_replace(revision);
        let mut history = History { operations: Vec::new(), ticks_per_second: TICKS_PER_SECOND, ..History::default() };
        let told = async {
            while let Some(ended) = self.observers.join_next().await {
                history.watches.extend(ended.context("a watcher panicked")?);
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(CALM, told).await {
            Ok(told) => told?,
            Err(_) => bail!("a watch is not told of revision {revision} within {CALM:?} of calm"),
        }
        history.operations = self.recorder.take();
        Ok((history, revision))
    }

    async fn read_everything(&self, cluster: &Cluster<'_>) -> Result<i64> {
        let deadline = Instant::now() + CALM;
        let mut found = Err(anyhow::anyhow!("no member"));
        // Of every member: each must be up to date by now.
        for n in cluster.all() {
            let mut client = connect(n).await;
            loop {
                let everything = Request::Range(Range { keys: Keys::all(), limit: 0 }, At::Latest);
                match self.recorder.run(0, &mut client, everything).await {
                    Outcome::Answered { revision, .. } => {
                        found = Ok(revision);
                        break;
                    }
                    other if Instant::now() > deadline => {
                        bail!("member {n} cannot be read when all is calm: {other:?}")
                    }
                    _ => sleep(AFTER_FAILURE).await,
                }
            }
        }
        found
    }
}
