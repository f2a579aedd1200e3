//! Ten clients do everything at once, the server is killed twice meanwhile, and what they
//! were told is checked: linearizability of keys, transactions and leases, and every promise
//! that watches are given.

use std::collections::HashMap;
use std::sync::Arc;

use ::history::{
    Answer, At, Compare, Delete, History, Keys, Message, Outcome, Put, Range, Relation, Request, Target, Txn, TxnOp,
    Watch, check,
};
use bytes::Bytes;
use etcd_client::{Client, WatchFilterType, WatchOptions, WatchStream};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::harness::{DEADLINE, Server};
use crate::recorder::{Recorder, TICKS_PER_SECOND, watch_response};

const CLIENTS: u32 = 10;
const OPERATIONS_PER_CLIENT: usize = 350;
/// After how many answers the server is killed.
const KILLS: [usize; 2] = [1_000, 2_200];
/// How far behind the newest revision a compaction goes.
const KEPT_REVISIONS: i64 = 200;

/// What everyone is told while the test runs.
#[derive(Debug, Clone, Copy)]
struct Stage {
    /// The server is there.
    up: bool,
    /// The last revision to be waited for; 0 until it is known.
    last: i64,
}

/// One client: what it does next depends on chance and on what it was shown.
struct Worker {
    number: u32,
    rng: StdRng,
    values: u32,
    leases: Vec<i64>,
    /// The last change it saw of a key.
    seen: HashMap<Bytes, i64>,
    newest: i64,
}

impl Worker {
    fn new(number: u32) -> Worker {
        let rng = StdRng::seed_from_u64(u64::from(number));
        Worker { number, rng, values: 0, leases: Vec::new(), seen: HashMap::new(), newest: 1 }
    }

    async fn work(mut self, mut client: Client, recorder: Arc<Recorder>, mut stage: watch::Receiver<Stage>) {
        for _ in 0..OPERATIONS_PER_CLIENT {
            let request = self.request();
            let outcome = recorder.run(self.number, &mut client, request).await;
            self.learn(&outcome);
            if outcome == Outcome::Unknown {
                stage.wait_for(|stage| stage.up).await.expect("the test is waiting");
            }
        }
    }

    fn learn(&mut self, outcome: &Outcome) {
        let Outcome::Answered { revision, answer } = outcome else { return };
        self.newest = self.newest.max(*revision);
        if let Answer::Range(range) = answer {
            self.seen.extend(range.kvs.iter().map(|kv| (kv.key.clone(), kv.mod_revision)));
        }
    }

    fn key(&mut self) -> Bytes {
        let n = self.rng.random_range(0..12);
        Bytes::from(format!("{}/{n}", if n % 2 == 0 { "a" } else { "b" }))
    }

    fn keys(&mut self) -> Keys {
        match self.rng.random_range(0..6) {
            0 => Keys::all(),
            1 => Keys::Prefix(Bytes::from_static(b"a/")),
            _ => Keys::One(self.key()),
        }
    }

    fn put(&mut self) -> Put {
        self.values += 1;
        let value = Bytes::from(format!("{}.{}", self.number, self.values));
        let lease = if self.rng.random_ratio(1, 4) { self.leases.last().copied().unwrap_or(0) } else { 0 };
        Put { key: self.key(), value, lease, prev_kv: self.rng.random() }
    }

    fn request(&mut self) -> Request {
        match self.rng.random_range(0..40) {
            0..12 => Request::Put(self.put()),
            12..15 => Request::Delete(Delete { keys: self.keys(), prev_kv: self.rng.random() }),
            15..24 => Request::Txn(self.txn()),
            24..36 => self.range(),
            36 if self.newest > KEPT_REVISIONS => Request::Compact { revision: self.newest - KEPT_REVISIONS },
            36..38 => {
                let id = i64::from(self.number) * 1_000 + i64::try_from(self.leases.len()).expect("few leases") + 1;
                self.leases.push(id);
                // Some run out while the test is running, others do not.
                Request::LeaseGrant { id, ttl_seconds: if self.rng.random() { 1 } else { 60 } }
            }
            38 => Request::LeaseRevoke { id: self.leases.last().copied().unwrap_or(1) },
            _ => Request::LeaseKeepAlive { id: self.leases.last().copied().unwrap_or(1) },
        }
    }

    fn range(&mut self) -> Request {
        let limit = if self.rng.random_ratio(1, 4) { 2 } else { 0 };
        let at = match self.rng.random_range(0..4) {
            0 => At::Serializable,
            1 => At::Revision((self.newest - self.rng.random_range(0..20)).max(1)),
            _ => At::Latest,
        };
        Request::Range(Range { keys: self.keys(), limit }, at)
    }

    /// Swaps what it saw last, and reads what is there if that is no longer so.
    fn txn(&mut self) -> Txn {
        let put = self.put();
        let key = put.key.clone();
        let target = match self.seen.get(&key) {
            Some(revision) => Target::Mod(*revision),
            None => Target::Version(0),
        };
        let compare = vec![Compare { key: key.clone(), relation: Relation::Equal, target }];
        self.values += 1;
        let value = Bytes::from(format!("{}.{}", self.number, self.values));
        let both = Put { key: Bytes::from(format!("c/{}", self.number)), value, lease: 0, prev_kv: false };
        let read = TxnOp::Range(Range { keys: Keys::One(key), limit: 0 });
        Txn { compare, success: vec![TxnOp::Put(put), TxnOp::Put(both)], failure: vec![read] }
    }
}

/// Watches until it has been told of the last revision, taking the watch up again whenever it
/// breaks off.
async fn observe(
    wanted: Watch,
    mut client: Client,
    recorder: Arc<Recorder>,
    mut stage: watch::Receiver<Stage>,
) -> Vec<Watch> {
    let mut watches = Vec::new();
    let mut next = wanted.start_revision;
    loop {
        stage.wait_for(|stage| stage.up).await.expect("the test is waiting");
        let mut watch = Watch { call: recorder.now(), start_revision: next, ..wanted.clone() };
        if let Ok(mut stream) = client.watch(start(&watch.keys), Some(options(&watch))).await {
            let told_all = receive(&mut watch, &mut stream, &recorder, stage.clone()).await;
            next = resume(&watch);
            watches.push(watch);
            if told_all {
                return watches;
            }
        }
    }
}

/// Receives until the stream ends; says whether the last revision was reached.
async fn receive(
    watch: &mut Watch,
    stream: &mut WatchStream,
    recorder: &Recorder,
    mut stage: watch::Receiver<Stage>,
) -> bool {
    let mut asked = false;
    loop {
        let last = stage.borrow_and_update().last;
        if last > 0 && !asked && stream.request_progress().await.is_err() {
            return false;
        }
        asked = last > 0;
        let received = tokio::select! {
            received = stream.message() => received,
            changed = stage.changed() => {
                changed.expect("the test is waiting");
                continue;
            }
        };
        let Ok(Some(response)) = received else { return false };
        let response = watch_response(recorder.now(), &response);
        let (message, revision) = (response.message.clone(), response.revision);
        watch.responses.push(response);
        match message {
            Message::Canceled { .. } => return false,
            Message::Progress if last > 0 && revision >= last => return true,
            Message::Progress => asked = false,
            Message::Created | Message::Events { .. } => {}
        }
    }
}

/// From where a watch that broke off goes on.
fn resume(watch: &Watch) -> i64 {
    let told = watch.responses.iter().map(|response| match &response.message {
        Message::Events { events, .. } => events.iter().map(|e| e.kv.mod_revision + 1).max().unwrap_or(0),
        Message::Progress => response.revision + 1,
        Message::Canceled { compact_revision } => *compact_revision,
        Message::Created => 0,
    });
    told.fold(watch.start_revision, i64::max)
}

fn start(keys: &Keys) -> Vec<u8> {
    match keys {
        Keys::One(key) | Keys::Prefix(key) => key.to_vec(),
    }
}

fn options(watch: &Watch) -> WatchOptions {
    let mut options = WatchOptions::new().with_start_revision(watch.start_revision).with_progress_notify();
    options = match &watch.keys {
        Keys::One(_) => options,
        Keys::Prefix(prefix) if prefix.is_empty() => options.with_all_keys(),
        Keys::Prefix(_) => options.with_prefix(),
    };
    if watch.prev_kv {
        options = options.with_prev_key();
    }
    if watch.no_put { options.with_filters([WatchFilterType::NoPut]) } else { options }
}

/// Everything; a prefix with previous versions; the deletions of one key.
fn watches() -> [Watch; 3] {
    let watch = |client, keys, prev_kv, no_put| Watch {
        client,
        call: 0,
        keys,
        start_revision: 1,
        prev_kv,
        no_put,
        no_delete: false,
        fragment: false,
        responses: Vec::new(),
    };
    [
        watch(100, Keys::all(), false, false),
        watch(101, Keys::Prefix(Bytes::from_static(b"a/")), true, false),
        watch(102, Keys::One(Bytes::from_static(b"b/1")), true, true),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_are_told_through_two_kills() {
    // Few entries per checkpoint: a kill finds one under way now and then.
    let mut server = Server::start(&["--snapshot-count", "300", "--watch-progress-notify-interval", "100ms"]);
    let recorder = Arc::new(Recorder::new());
    let (stage, staged) = watch::channel(Stage { up: true, last: 0 });
    let mut workers = Vec::new();
    for number in 1..=CLIENTS {
        let worker = Worker::new(number).work(server.client().await, recorder.clone(), staged.clone());
        workers.push(tokio::spawn(worker));
    }
    let mut observers = Vec::new();
    for watch in watches() {
        let observer = observe(watch, server.client().await, recorder.clone(), staged.clone());
        observers.push(tokio::spawn(observer));
    }
    for kill in KILLS {
        while recorder.answered() < kill {
            timeout(DEADLINE, recorder.progress.notified()).await.expect("the clients get on");
        }
        stage.send_modify(|stage| stage.up = false);
        server.kill();
        server.restart();
        stage.send_modify(|stage| stage.up = true);
    }
    for worker in workers {
        timeout(DEADLINE, worker).await.expect("in time").expect("no panic");
    }
    let everything = Request::Range(Range { keys: Keys::all(), limit: 0 }, At::Latest);
    let last = recorder.run(0, &mut server.client().await, everything).await;
    let Outcome::Answered { revision, .. } = last else { panic!("the server is there: {last:?}") };
    stage.send_modify(|stage| stage.last = revision);
    let mut history = History { operations: recorder.take(), ticks_per_second: TICKS_PER_SECOND, ..History::default() };
    for observer in observers {
        history.watches.extend(timeout(DEADLINE, observer).await.expect("in time").expect("no panic"));
    }
    judge(&history);
}

fn judge(history: &History) {
    let events = |watch: &Watch| {
        let lists = watch.responses.iter().map(|response| match &response.message {
            Message::Events { events, .. } => events.len(),
            _ => 0,
        });
        lists.sum::<usize>()
    };
    let unknown = history.operations.iter().filter(|o| o.outcome == Outcome::Unknown).count();
    let seen: usize = history.watches.iter().map(events).sum();
    println!("{} operations, {unknown} without an answer, {seen} events", history.operations.len());
    let report = check(history);
    assert!(report.is_clean(), "{report}");
    // A history in which nothing happened would pass as well.
    assert!(seen > KILLS[1] / 4, "{seen} events");
    assert!(history.watches.len() >= watches().len() * (1 + KILLS.len()), "every kill breaks every watch");
}
