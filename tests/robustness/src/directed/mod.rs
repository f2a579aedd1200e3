//! Cases after the bugs that etcd's own history tells of, each on a cluster of its own.

mod disks;
mod leases;
mod membership;
mod reads;
mod sizes;
mod watches;
mod writes;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::future::LocalBoxFuture;
use history::{Answer, At, History, Keys, Outcome, Put, Range, Request, Watch};
use recorder::observer::{End, observe, resumed};
use recorder::{Recorder, TICKS_PER_SECOND};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cluster::{CALM, Cluster};
use crate::host::Host;
use crate::round::FLAGS;
use crate::verdict::{Counts, judge, keep};

#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub members: usize,
    pub run: for<'a> fn(&'a mut Scene<'_>) -> LocalBoxFuture<'a, Result<()>>,
}

pub const ALL: &[Case] = &[
    Case { name: "revision-back-after-crash-in-compaction", members: 1, run: writes::crash_in_compaction },
    Case { name: "single-member-lost-write", members: 1, run: writes::lone_member },
    Case { name: "dropped-event", members: 3, run: watches::far_behind },
    Case { name: "watch-back-in-time", members: 3, run: watches::lagging_member },
    Case { name: "watch-at-a-future-revision", members: 1, run: watches::future_revision },
    Case { name: "snapshot-under-a-watch", members: 3, run: watches::snapshot_under_a_watch },
    Case { name: "stale-read-after-a-pause", members: 3, run: reads::stale_after_a_pause },
    Case { name: "lease-after-a-pause", members: 3, run: leases::renewed_elsewhere },
    Case { name: "lease-of-a-deposed-leader", members: 3, run: leases::deposed_leader },
    Case { name: "leader-with-a-hung-disk", members: 3, run: disks::hung_leader },
    Case { name: "member-lags-by-megabytes", members: 3, run: sizes::lags_by_bytes },
    Case { name: "wiped-member", members: 3, run: membership::wiped },
];

/// Longer than any pause: what is sent to one who is stopped is answered in the end.
const PATIENCE: Duration = Duration::from_secs(20);

/// One cluster, its clients and watchers.
pub struct Scene<'a> {
    pub cluster: &'a Cluster<'a>,
    pub recorder: Arc<Recorder>,
    watchers: JoinSet<Result<Vec<Watch>>>,
    last: watch::Sender<i64>,
    values: Arc<AtomicUsize>,
}

/// Whether it went as it must.
pub async fn run(case: &Case, host: &Host, seed: u32) -> Result<bool> {
    let begun = std::time::Instant::now();
    let cluster = Cluster::start(host, case.members, &FLAGS).await?;
    let mut scene = Scene {
        cluster: &cluster,
        recorder: Arc::new(Recorder::new(PATIENCE)),
        watchers: JoinSet::new(),
        last: watch::channel(0).0,
        values: Arc::default(),
    };
    // Sees what was written by those who never heard of it.
    scene.watch(case.members - 1, 1).await;
    let mut outcome = (case.run)(&mut scene).await;
    let mut history = History::default();
    match scene.finish().await {
        Ok(finished) => history = finished,
        Err(error) => outcome = outcome.and(Err(error)),
    }
    let outcome = outcome.and_then(|()| judge(&history)).and_then(|()| cluster.assert_no_panic());
    let (took, counts) = (begun.elapsed().as_secs_f64(), Counts::of(&history));
    let Err(error) = outcome else {
        println!("case {} ... ok ({took:.1} s, {counts})", case.name);
        return Ok(true);
    };
    println!("case {} ... FAILED ({took:.1} s, {counts})\n  {error:#}\n  seed {seed}", case.name);
    keep(&cluster, Some(&history), host.kept(), case.name)?;
    Ok(false)
}

impl Scene<'_> {
    /// A value that nobody else writes.
    pub fn put(&self, key: &str) -> Request {
        self.put_large(key, 0)
    }

    /// One of so many bytes at least.
    fn put_large(&self, key: &str, bytes: usize) -> Request {
        let mut value = self.values.fetch_add(1, Ordering::Relaxed).to_string().into_bytes();
        value.resize(bytes.max(value.len()), b'.');
        Request::Put(Put { key: Bytes::copy_from_slice(key.as_bytes()), value: value.into(), lease: 0, prev_kv: false })
    }

    pub fn put_with_lease(&self, key: &str, lease: i64) -> Request {
        let Request::Put(put) = self.put(key) else { unreachable!("a put") };
        Request::Put(Put { lease, ..put })
    }

    /// Asks a member once.
    pub async fn ask(&self, n: usize, request: Request) -> Outcome {
        let mut client = self.cluster.patient_client(n).await;
        self.recorder.run(u32::try_from(n).expect("few members"), &mut client, request).await
    }

    /// Asks a member until it answers; a request of no effect but its own.
    pub async fn surely(&self, n: usize, mut request: impl FnMut() -> Request) -> Result<(i64, Answer)> {
        let asked = async {
            loop {
                match self.ask(n, request()).await {
                    Outcome::Answered { revision, answer } => return Ok((revision, answer)),
                    Outcome::Refused(why) => bail!("refused: {why}"),
                    Outcome::Unknown => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        timeout(CALM, asked).await.with_context(|| format!("member {n} does not answer"))?
    }

    /// Puts to keys `k/0` and on, a few at a time, until nothing is answered any more; returns the last revision.
    pub async fn write(&self, n: usize, count: usize) -> Result<i64> {
        self.write_large(n, count, 0).await
    }

    /// Of values of so many bytes.
    pub async fn write_large(&self, n: usize, count: usize, bytes: usize) -> Result<i64> {
        const AT_ONCE: usize = 64;
        // Of large ones few enough to be read at once.
        let keys = if bytes == 0 { 100 } else { 10 };
        let mut newest = 0;
        for chunk in 0..count.div_ceil(AT_ONCE) {
            let names = (chunk * AT_ONCE..count.min((chunk + 1) * AT_ONCE)).map(|k| format!("k/{}", k % keys));
            let client = self.cluster.patient_client(n).await;
            let puts = names.map(|key| {
                let (mut client, request) = (client.clone(), self.put_large(&key, bytes));
                async move { self.recorder.run(100, &mut client, request).await }
            });
            let answers = futures::future::join_all(puts).await.into_iter().filter_map(|outcome| match outcome {
                Outcome::Answered { revision, .. } => Some(revision),
                Outcome::Refused(_) | Outcome::Unknown => None,
            });
            let Some(last) = answers.max() else { break };
            newest = newest.max(last);
        }
        ensure!(newest > 0, "nothing could be written");
        Ok(newest)
    }

    pub async fn read(&self, n: usize, at: At) -> Result<i64> {
        let read = || Request::Range(Range { keys: Keys::all(), limit: 0 }, at);
        Ok(self.surely(n, read).await?.0)
    }

    /// Watches everything at one member, from a revision on until the end of the case.
    pub async fn watch(&mut self, n: usize, start_revision: i64) {
        let client = self.cluster.patient_client(n).await;
        let (recorder, last) = (self.recorder.clone(), self.last.subscribe());
        let watch = Watch {
            client: u32::try_from(200 + self.watchers.len()).expect("few watches"),
            call: 0,
            keys: Keys::all(),
            start_revision,
            prev_kv: true,
            no_put: false,
            no_delete: false,
            fragment: false,
            responses: Vec::new(),
        };
        self.watchers.spawn(watch_on(watch, client, recorder, last));
    }

    /// Reads everything, and waits until every watcher has been told of it.
    async fn finish(&mut self) -> Result<History> {
        let revision = self.read(0, At::Latest).await?;
        self.cluster.assert_agreement(revision).await?;
        self.last.send_replace(revision);
        let mut history = History { ticks_per_second: TICKS_PER_SECOND, ..History::default() };
        while let Some(ended) = timeout(CALM, self.watchers.join_next()).await.context("a watch is told nothing")? {
            history.watches.extend(ended.context("a watcher panicked")??);
        }
        history.operations = self.recorder.take();
        Ok(history)
    }
}

async fn watch_on(
    mut watch: Watch,
    mut client: etcd_client::Client,
    recorder: Arc<Recorder>,
    last: watch::Receiver<i64>,
) -> Result<Vec<Watch>> {
    let mut watches = Vec::new();
    loop {
        let end = observe(&mut watch, &mut client, &recorder, last.clone(), CALM).await;
        let next = resumed(&watch);
        let done = std::mem::replace(&mut watch, next);
        if !done.responses.is_empty() {
            watches.push(done);
        }
        if end == End::Complete {
            return Ok(watches);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
