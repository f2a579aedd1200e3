//! Random histories of a real store: `mvcc`, one request at a time, called and answered in a
//! random interleaving. Answers get lost, leases run out, watches fall behind.

use bytes::Bytes;
use history::{
    At, Compare, Delete, Event, History, Keys, Message, Operation, Outcome, Put, Range, Relation, Request, Response,
    State, Target, Txn, TxnOp, Watch,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::store::{execute, key_range, key_value};

/// What kind of history is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub seed: u64,
    pub clients: u32,
    pub operations: usize,
    pub keys: u32,
    pub watches: usize,
    /// One answer in this many is lost.
    pub lost_in: u32,
    pub compactions: bool,
}

#[derive(Clone)]
enum Phase {
    Idle,
    Called(usize),
    Applied(usize, Outcome),
}

struct Watcher {
    watch: Watch,
    next: i64,
    canceled: bool,
}

struct World {
    shape: Shape,
    rng: StdRng,
    store: mvcc::Store,
    now: u64,
    operations: Vec<Operation>,
    phases: Vec<Phase>,
    /// Called and given up; they may yet happen.
    adrift: Vec<usize>,
    watchers: Vec<Watcher>,
    leases: i64,
}

pub fn generate(shape: Shape) -> History {
    let phases = vec![Phase::Idle; usize::try_from(shape.clients).expect("few clients")];
    let mut world = World {
        shape,
        rng: StdRng::seed_from_u64(shape.seed),
        store: mvcc::Store::default(),
        now: 0,
        operations: Vec::new(),
        phases,
        adrift: Vec::new(),
        watchers: Vec::new(),
        leases: 0,
    };
    // One watch that sees it all, so that nothing is left to guess.
    if shape.watches > 0 {
        world.open_watch(Keys::all());
    }
    while world.operations.len() < shape.operations || world.phases.iter().any(|p| !matches!(p, Phase::Idle)) {
        world.step();
    }
    world.finish()
}

impl World {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.rng.random_ratio(1, one_in)
    }

    fn step(&mut self) {
        let client = self.rng.random_range(0..self.phases.len());
        match self.phases[client].clone() {
            Phase::Idle if self.operations.len() < self.shape.operations => self.call(client),
            Phase::Idle => {}
            Phase::Called(n) if self.chance(self.shape.lost_in) => {
                self.adrift.push(n);
                self.return_to(client, n, Outcome::Unknown);
            }
            Phase::Called(n) => {
                let outcome = self.execute(n);
                self.phases[client] = Phase::Applied(n, outcome);
            }
            Phase::Applied(n, _) if self.chance(self.shape.lost_in) => self.return_to(client, n, Outcome::Unknown),
            Phase::Applied(n, outcome) => self.return_to(client, n, outcome),
        }
        self.background();
    }

    /// What happens without a client: late requests, expiring leases, watches.
    fn background(&mut self) {
        if !self.adrift.is_empty() && self.chance(10) {
            let at = self.rng.random_range(0..self.adrift.len());
            let n = self.adrift.swap_remove(at);
            if self.chance(2) {
                self.execute(n);
            }
        }
        if self.chance(60) {
            let leases: Vec<i64> = self.store.leases().iter().map(|(id, _)| id).collect();
            if !leases.is_empty() {
                let id = leases[self.rng.random_range(0..leases.len())];
                self.store.revoke(id).expect("it exists");
            }
        }
        if self.shape.watches > self.watchers.len() && self.chance(20) {
            let keys = self.keys();
            self.open_watch(keys);
        }
        for n in 0..self.watchers.len() {
            if self.chance(8) {
                let events = self.rng.random_range(1..20);
                self.deliver(n, events);
            }
        }
    }

    fn call(&mut self, client: usize) {
        let request = self.request();
        let client_id = u32::try_from(client).expect("few clients");
        let call = self.tick();
        self.operations.push(Operation { client: client_id, call, ret: call, request, outcome: Outcome::Unknown });
        self.phases[client] = Phase::Called(self.operations.len() - 1);
    }

    fn return_to(&mut self, client: usize, n: usize, outcome: Outcome) {
        self.operations[n].ret = self.tick();
        self.operations[n].outcome = outcome;
        self.phases[client] = Phase::Idle;
    }

    fn key(&mut self) -> Bytes {
        let n = self.rng.random_range(0..self.shape.keys);
        Bytes::from(format!("{}/{n}", if n % 2 == 0 { "a" } else { "b" }))
    }

    fn keys(&mut self) -> Keys {
        match self.rng.random_range(0..4) {
            0 => Keys::all(),
            1 => Keys::Prefix(Bytes::from_static(b"a/")),
            _ => Keys::One(self.key()),
        }
    }

    fn put(&mut self) -> Put {
        let value = Bytes::from(format!("v{}", self.operations.len()));
        let lease = if self.leases > 0 && self.chance(4) { self.rng.random_range(1..=self.leases) } else { 0 };
        Put { key: self.key(), value, lease, prev_kv: self.rng.random() }
    }

    fn request(&mut self) -> Request {
        match self.rng.random_range(0..20) {
            0..6 => Request::Put(self.put()),
            6..8 => Request::Delete(Delete { keys: self.keys(), prev_kv: self.rng.random() }),
            8..13 => Request::Txn(self.txn()),
            13..18 => {
                let limit = if self.chance(3) { 2 } else { 0 };
                let at = match self.rng.random_range(0..4) {
                    0 => At::Serializable,
                    1 => At::Revision(self.rng.random_range(1..=self.store.revision())),
                    _ => At::Latest,
                };
                Request::Range(Range { keys: self.keys(), limit }, at)
            }
            18 if self.shape.compactions && self.chance(3) => {
                Request::Compact { revision: self.rng.random_range(1..=self.store.revision()) }
            }
            18 => {
                self.leases += 1;
                Request::LeaseGrant { id: self.leases, ttl_seconds: 60 }
            }
            _ => Request::LeaseRevoke { id: self.rng.random_range(0..=self.leases) + 1 },
        }
    }

    fn txn(&mut self) -> Txn {
        let put = self.put();
        let current = self.store.range(&mvcc::Range::of(mvcc::KeyRange::Single(put.key.clone()))).expect("now");
        let current = current.kvs.first();
        let stale = i64::from(self.chance(3));
        let target = match self.rng.random_range(0..3) {
            0 => Target::Version(current.map_or(0, |kv| kv.version) + stale),
            1 => Target::Value(current.map(|kv| kv.value.clone()).unwrap_or_default()),
            _ => Target::Mod(current.map_or(0, |kv| kv.mod_revision) + stale),
        };
        let key = put.key.clone();
        let compare = vec![Compare { key: key.clone(), relation: Relation::Equal, target }];
        let other = Bytes::from_static(b"c");
        let mut success = vec![TxnOp::Put(put)];
        if self.chance(3) {
            let value = Bytes::from(format!("c{}", self.operations.len()));
            success.push(TxnOp::Put(Put { key: other, value, lease: 0, prev_kv: false }));
            success.push(TxnOp::Range(Range { keys: Keys::all(), limit: 3 }));
        }
        Txn { compare, success, failure: vec![TxnOp::Range(Range { keys: Keys::One(key), limit: 0 })] }
    }

    fn execute(&mut self, n: usize) -> Outcome {
        let request = self.operations[n].request.clone();
        match execute(&mut self.store, &mut self.rng, &request) {
            Ok((revision, answer)) => Outcome::Answered { revision, answer },
            Err(error) => Outcome::Refused(error.to_string()),
        }
    }

    fn open_watch(&mut self, keys: Keys) {
        let revision = self.store.revision();
        let start_revision = match self.rng.random_range(0..3) {
            0 => 0,
            1 => revision + self.rng.random_range(1..10),
            _ => self.rng.random_range(1..=revision),
        };
        let everything = self.watchers.is_empty();
        let call = self.tick();
        let created = Response { at: self.tick(), revision, message: Message::Created };
        let watch = Watch {
            client: 100 + u32::try_from(self.watchers.len()).expect("few watches"),
            call,
            keys,
            start_revision: if everything { 1 } else { start_revision },
            prev_kv: self.rng.random(),
            no_put: !everything && self.chance(5),
            no_delete: !everything && self.chance(5),
            fragment: false,
            responses: vec![created],
        };
        let next = if watch.start_revision > 0 { watch.start_revision } else { revision + 1 };
        self.watchers.push(Watcher { watch, next, canceled: false });
    }

    fn deliver(&mut self, n: usize, events: usize) {
        let (at, progress) = (self.tick(), self.chance(4));
        let watcher = &mut self.watchers[n];
        if watcher.canceled {
            return;
        }
        let watch = &mut watcher.watch;
        let (range, no_put, no_delete) = (key_range(&watch.keys), watch.no_put, watch.no_delete);
        let filter = mvcc::Filter { range, no_put, no_delete };
        let revision = self.store.revision();
        let limits = mvcc::Limits { events, bytes: usize::MAX };
        let history = self.store.history();
        // As if each delivery were to a new watch: being cancelled is to be frequent.
        let batch =
            match history.admit(watcher.next).and_then(|()| history.read(watcher.next..i64::MAX, &filter, limits)) {
                Ok(batch) => batch,
                Err(mvcc::Error::Compacted { compact_revision }) => {
                    watcher.canceled = true;
                    watch.responses.push(Response { at, revision, message: Message::Canceled { compact_revision } });
                    return;
                }
                Err(error) => panic!("{error}"),
            };
        watcher.next = watcher.next.max(batch.next);
        let shown = |event: &mvcc::Event| Event {
            kv: key_value(&event.kv),
            prev_kv: event.prev.as_ref().filter(|_| watch.prev_kv).map(key_value),
        };
        let events: Vec<Event> = batch.events.iter().map(shown).collect();
        if !events.is_empty() {
            let message = Message::Events { events, fragment: false };
            watch.responses.push(Response { at, revision, message });
        } else if progress && batch.done && watcher.next <= revision + 1 {
            watch.responses.push(Response { at, revision, message: Message::Progress });
        }
    }

    /// A last read of everything, and the rest for all watches.
    fn finish(mut self) -> History {
        let everything = Request::Range(Range { keys: Keys::all(), limit: 0 }, At::Latest);
        let (call, ret) = (self.tick(), self.tick());
        self.operations.push(Operation { client: 99, call, ret, request: everything, outcome: Outcome::Unknown });
        let last = self.operations.len() - 1;
        self.operations[last].outcome = self.execute(last);
        for n in 0..self.watchers.len() {
            self.deliver(n, usize::MAX);
        }
        let watches = self.watchers.into_iter().map(|watcher| watcher.watch).collect();
        History { start: State::default(), operations: self.operations, watches, ..History::default() }
    }
}
