//! The members, what happens to them, and what must hold whatever happens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use history::{History, Keys};
use raft::StateRole;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::clients::{Client, Watcher, read};
use super::disk::Disk;
use super::network::{Network, Packet};
use crate::gate::Gate;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::Bootstrap;
use crate::raft_node::core::{Config, Core, Input};
use crate::shared::Shared;
use crate::state::State;
use crate::token;

/// Milliseconds between two ticks.
const TICK: u64 = 10;
const ELECTION_TICKS: usize = 10;
const CLIENTS: u32 = 4;
const WATCHERS: u32 = 2;
/// How long faults are injected, and how long the cluster may take to be well again.
const TROUBLE: u64 = 8_000;
const RECOVERY: u64 = 30_000;

/// What has happened, to see that something has.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Figures {
    pub answered: usize,
    pub unknown: usize,
    pub crashes: u64,
    pub elections: u64,
    pub snapshots: u64,
    pub dropped: u64,
    pub entries: u64,
}

impl Figures {
    pub fn add(&mut self, other: &Figures) {
        self.answered += other.answered;
        self.unknown += other.unknown;
        self.crashes += other.crashes;
        self.elections += other.elections;
        self.snapshots += other.snapshots;
        self.dropped += other.dropped;
        self.entries += other.entries;
    }
}

struct Member {
    id: u64,
    disk: Disk,
    core: Option<Core>,
    shared: Arc<Shared>,
    next_tick: u64,
    synced_at: Option<u64>,
    saved_at: Option<u64>,
    /// Neither hears nor thinks until then.
    paused_until: u64,
    starts: u64,
}

pub struct Cluster {
    seed: u64,
    rng: StdRng,
    now: u64,
    members: Vec<Member>,
    network: Network,
    clients: Vec<Client>,
    watchers: Vec<Watcher>,
    history: History,
    /// Who led in which term.
    leaders: BTreeMap<u64, u64>,
    /// The revision and the term behind each entry.
    applied: BTreeMap<u64, (u64, i64)>,
    figures: Figures,
}

/// Nobody authenticates here.
fn gate() -> Gate {
    Gate::new(token::Config::Simple { ttl: Duration::from_secs(300) }, 4)
}

fn founded(ids: &[u64]) -> State {
    let member = |id: &u64| pb::Member { id: *id, name: format!("m{id}"), ..pb::Member::default() };
    State::founded(Bootstrap { cluster_id: 1, member_id: 0, members: ids.iter().map(member).collect() })
}

impl Cluster {
    pub fn new(seed: u64) -> Cluster {
        let mut rng = StdRng::seed_from_u64(seed);
        let size = if rng.random_bool(0.25) { 5 } else { 3 };
        let ids: Vec<u64> = (1..=size).collect();
        let member = |id: &u64| {
            let state = founded(&ids);
            Member {
                id: *id,
                disk: Disk::new(&state),
                core: None,
                shared: Arc::new(Shared::new(*id, state, gate())),
                next_tick: 0,
                synced_at: None,
                saved_at: None,
                paused_until: 0,
                starts: 0,
            }
        };
        Cluster {
            seed,
            now: 0,
            members: ids.iter().map(member).collect(),
            network: Network::unreliable(),
            clients: (0..CLIENTS).map(Client::new).collect(),
            watchers: (0..WATCHERS).map(|n| Watcher::new(CLIENTS + n, u64::from(n) + 1)).collect(),
            history: History::default(),
            leaders: BTreeMap::new(),
            applied: BTreeMap::new(),
            figures: Figures::default(),
            rng,
        }
    }

    pub fn run(mut self) -> Result<Figures, String> {
        for n in 0..self.members.len() {
            self.start(n)?;
        }
        while self.now < TROUBLE {
            self.trouble()?;
            self.step(true)?;
        }
        self.network.unreliable = false;
        self.network.heal();
        for n in 0..self.members.len() {
            self.members[n].paused_until = 0;
            if self.members[n].core.is_none() {
                self.start(n)?;
            }
        }
        while !self.is_settled() {
            if self.now > TROUBLE + RECOVERY {
                return Err(format!("the cluster does not recover: {}", self.describe()));
            }
            self.step(false)?;
        }
        self.judge()
    }

    fn describe(&self) -> String {
        let member = |m: &Member| {
            let (applied, members) = {
                let state = m.shared.state.read();
                (state.applied.index, state.members.len())
            };
            let role = m
                .core
                .as_ref()
                .map(|core| (core.node.raft.state, core.node.raft.term, core.node.raft.raft_log.committed));
            format!("{}: applied {applied}, {members} members, {role:?}", m.id)
        };
        self.members.iter().map(member).collect::<Vec<_>>().join("; ")
    }

    fn start(&mut self, n: usize) -> Result<(), String> {
        let (seed, now) = (self.seed, self.now);
        let member = &mut self.members[n];
        member.starts += 1;
        let (state, recovered) =
            member.disk.open().map_err(|why| format!("member {} cannot start: {why}", member.id))?;
        let shared = Arc::new(Shared::new(member.id, state, gate()));
        let config = Config { member_id: member.id, snapshot_count: 20, election_ticks: ELECTION_TICKS };
        // Unlike any other run's.
        let first_id = seed << 32 | member.id << 24 | member.starts << 48;
        let core = Core::new(config, shared.clone(), recovered, first_id).map_err(|e| format!("{e:#}"))?;
        (member.shared, member.core) = (shared, Some(core));
        (member.synced_at, member.saved_at) = (None, None);
        member.next_tick = now + TICK;
        self.drive(n)
    }

    fn crash(&mut self, n: usize) {
        let member = &mut self.members[n];
        member.core = None;
        let kept = self.rng.random_range(0..=member.disk.unsynced());
        member.disk.crash(kept, self.rng.random_bool(0.5));
        self.figures.crashes += 1;
    }

    /// Something goes wrong now and then.
    fn trouble(&mut self) -> Result<(), String> {
        let ids: Vec<u64> = self.members.iter().map(|m| m.id).collect();
        let n = self.rng.random_range(0..ids.len());
        if self.rng.random_bool(0.002) {
            match self.members[n].core {
                Some(_) => self.crash(n),
                None => self.start(n)?,
            }
        }
        if self.members[n].core.is_none() && self.rng.random_bool(0.01) {
            self.start(n)?;
        }
        if self.rng.random_bool(0.001) {
            self.network.partition(&ids, &mut self.rng);
        }
        if self.rng.random_bool(0.002) {
            self.network.heal();
        }
        if self.rng.random_bool(0.001) {
            self.members[n].paused_until = self.now + self.rng.random_range(50..1_500);
        }
        Ok(())
    }

    fn step(&mut self, asking: bool) -> Result<(), String> {
        self.now += 1;
        while let Some((to, packet)) = self.network.arrived(self.now) {
            self.deliver(to, packet)?;
        }
        for (from, to) in self.network.take_broken() {
            if let Some(sender) = self.position(from) {
                self.input(sender, Input::SnapshotSent { to, arrived: false })?;
            }
        }
        for n in 0..self.members.len() {
            self.let_time_pass(n)?;
        }
        self.poll_clients();
        if asking {
            self.ask()?;
        }
        self.watch();
        Ok(())
    }

    fn position(&self, id: u64) -> Option<usize> {
        self.members.iter().position(|m| m.id == id)
    }

    fn deliver(&mut self, to: u64, packet: Packet) -> Result<(), String> {
        let Some(n) = self.position(to) else { return Ok(()) };
        let member = &self.members[n];
        let deaf = member.core.is_none() || member.paused_until > self.now;
        match packet {
            Packet::Message(_) if deaf => Ok(()),
            Packet::Message(message) => self.input(n, Input::Messages(vec![message])),
            Packet::Snapshot(outgoing) => {
                let from = outgoing.message.from;
                if !deaf {
                    let captured = &outgoing.captured;
                    let records = captured.records.iter().map(|(at, kv)| (*at, mvcc::KeyValue::clone(kv)));
                    let state = State::restore(captured.head.clone(), records).map_err(|e| e.to_string())?;
                    self.figures.snapshots += 1;
                    self.input(n, Input::Snapshot(outgoing.message, Box::new(state)))?;
                }
                match self.position(from) {
                    Some(sender) => self.input(sender, Input::SnapshotSent { to, arrived: !deaf }),
                    None => Ok(()),
                }
            }
        }
    }

    fn input(&mut self, n: usize, input: Input) -> Result<(), String> {
        let Some(core) = &mut self.members[n].core else { return Ok(()) };
        core.take(input).map_err(|e| format!("{e:#}"))?;
        self.drive(n)
    }

    fn let_time_pass(&mut self, n: usize) -> Result<(), String> {
        let now = self.now;
        let member = &mut self.members[n];
        if member.core.is_none() || member.paused_until > now {
            return Ok(());
        }
        if member.synced_at.take_if(|at| *at <= now).is_some()
            && let Some(number) = member.disk.finish_sync()
        {
            self.input(n, Input::Persisted { number })?;
        }
        let member = &mut self.members[n];
        if member.saved_at.take_if(|at| *at <= now).is_some()
            && let Some(mark) = member.disk.finish_checkpoint()
        {
            self.input(n, Input::Checkpointed(mark))?;
        }
        let member = &mut self.members[n];
        if member.next_tick <= now {
            member.next_tick = now + TICK;
            if let Some(core) = &mut member.core {
                core.tick();
            }
            self.drive(n)?;
        }
        // A sync takes what has gathered while the last one was under way.
        let member = &mut self.members[n];
        if member.synced_at.is_none() && member.disk.begin_sync() {
            member.synced_at = Some(now + self.rng.random_range(1..15));
        }
        Ok(())
    }

    /// Lets the core decide, and carries out what it wants done.
    fn drive(&mut self, n: usize) -> Result<(), String> {
        let (seed, now) = (self.seed, self.now);
        let member = &mut self.members[n];
        let Some(core) = &mut member.core else { return Ok(()) };
        core.drive().map_err(|e| format!("member {}: {e:#}", member.id))?;
        // Raft draws its timeouts from the process's randomness; here they follow from the seed.
        let mut own = StdRng::seed_from_u64(seed ^ member.id << 40 ^ core.node.raft.term << 20 ^ member.starts);
        let timeout = own.random_range(ELECTION_TICKS..2 * ELECTION_TICKS);
        core.node.raft.set_randomized_election_timeout(timeout);
        let effects = std::mem::take(&mut core.effects);
        effects.deliveries.into_iter().for_each(|delivery| delivery.deliver(&core.shared.hub));
        member.disk.write(effects.writes);
        for job in effects.jobs {
            member.disk.begin_checkpoint(job);
            member.saved_at = Some(now + self.rng.random_range(1..100));
        }
        let id = member.id;
        for message in effects.messages {
            self.network.send(now, id, Packet::Message(message), &mut self.rng);
        }
        for outgoing in effects.snapshots {
            self.network.send(now, id, Packet::Snapshot(outgoing), &mut self.rng);
        }
        self.check(n)
    }

    /// One leader per term; one state per entry.
    fn check(&mut self, n: usize) -> Result<(), String> {
        let member = &self.members[n];
        let Some(core) = &member.core else { return Ok(()) };
        let (term, id) = (core.node.raft.term, member.id);
        if core.node.raft.state == StateRole::Leader {
            let known = *self.leaders.entry(term).or_insert_with(|| {
                self.figures.elections += 1;
                id
            });
            if known != id {
                return Err(format!("members {known} and {id} both lead in term {term}"));
            }
        }
        let (index, seen) = {
            let state = member.shared.state.read();
            (state.applied.index, (state.applied.term, state.kv.revision()))
        };
        let known = *self.applied.entry(index).or_insert(seen);
        if known != seen {
            return Err(format!(
                "member {id} is at {seen:?} (term, revision) behind entry {index}, another was at {known:?}"
            ));
        }
        Ok(())
    }

    fn poll_clients(&mut self) {
        let members = &self.members;
        let shared = |id: u64| members.iter().find(|m| m.id == id && m.core.is_some()).map(|m| m.shared.clone());
        for client in &mut self.clients {
            self.history.operations.extend(client.poll(self.now, shared));
        }
    }

    fn ask(&mut self) -> Result<(), String> {
        for c in 0..self.clients.len() {
            if !self.clients[c].is_idle() || !self.rng.random_bool(0.05) {
                continue;
            }
            let n = self.rng.random_range(0..self.members.len());
            let member = &self.members[n];
            if member.core.is_none() || member.paused_until > self.now {
                continue;
            }
            let (id, shared) = (member.id, member.shared.clone());
            let (input, at_once) = self.clients[c].ask(self.now, id, &shared, &mut self.rng);
            self.history.operations.extend(at_once);
            if let Some(input) = input {
                self.input(n, input)?;
            }
        }
        Ok(())
    }

    fn watch(&mut self) {
        for watcher in &mut self.watchers {
            let member = self.members.iter().find(|m| m.id == watcher.member && m.core.is_some());
            match member {
                Some(member) if member.paused_until <= self.now => watcher.read(self.now, &member.shared),
                Some(_) => {}
                // Taken up again elsewhere, from where it was.
                None => watcher.member = self.members[self.rng.random_range(0..self.members.len())].id,
            }
        }
    }

    /// Somebody leads, everybody has applied everything, and nobody waits for an answer.
    fn is_settled(&self) -> bool {
        let leads = |m: &&Member| m.core.as_ref().is_some_and(|core| core.node.raft.state == StateRole::Leader);
        let Some(leader) = self.members.iter().find(leads) else { return false };
        let Some(core) = &leader.core else { return false };
        let (last, committed) = (core.node.raft.raft_log.last_index(), core.node.raft.raft_log.committed);
        let same = |m: &Member| m.shared.state.read().applied.index == last;
        last == committed && self.members.iter().all(same) && self.clients.iter().all(Client::is_idle)
    }

    fn judge(mut self) -> Result<Figures, String> {
        let first = self.members[0].shared.clone();
        let records = first.state.read().kv.records();
        for member in &self.members {
            if member.shared.state.read().kv.records() != records {
                return Err(format!("members 1 and {} applied the same entries and do not hold the same", member.id));
            }
        }
        let now = self.now + 1;
        let (revision, answer) = read(&first, &Keys::all());
        self.history.operations.push(history::Operation {
            client: u32::MAX,
            call: now,
            ret: now + 1,
            request: history::Request::Range(history::Range { keys: Keys::all(), limit: 0 }, history::At::Latest),
            outcome: history::Outcome::Answered { revision, answer },
        });
        for watcher in &mut self.watchers {
            watcher.read(now, &first);
            watcher.finish(now, revision);
            self.history.watches.push(watcher.watch.clone());
        }
        let report = history::check(&self.history);
        if !report.violations.is_empty() {
            return Err(report.to_string());
        }
        let answered = |o: &&history::Operation| matches!(o.outcome, history::Outcome::Answered { .. });
        self.figures.answered = self.history.operations.iter().filter(answered).count();
        self.figures.unknown = self.history.operations.len() - self.figures.answered;
        self.figures.dropped = self.network.dropped;
        self.figures.entries = self.applied.keys().max().copied().unwrap_or_default();
        Ok(self.figures)
    }
}
