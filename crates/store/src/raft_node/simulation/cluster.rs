//! The members, the clients, the clock: what happens next, and to whom.

mod leases;
mod verdict;

use std::ops::Range;

use history::History;
use raft::StateRole;
use raft::prelude::{Message, MessageType};

use super::checks::{self, Checks};
use super::clients::Client;
use super::dice::Dice;
use super::figures::Figures;
use super::member::{Member, REMOVED_GRACE, Settings};
use super::network::{Network, Packet};
use super::operator::Operator;
use super::plant::Plant;
use super::watcher::Watcher;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::Bootstrap;
use crate::raft_node::Kept;
use crate::raft_node::core::{Input, MAX_APPLIED_BYTES};
use crate::raft_node::effects::Effects;
use crate::state::State;

pub const CLUSTER_ID: u64 = 1;
const CLIENTS: u32 = 4;
const WATCHERS: u32 = 3;
/// How long faults are injected, and how long the cluster may take to be well again.
const TROUBLE: u64 = 6_000;
const RECOVERY: u64 = 30_000;
/// Crashes are as likely as one in so many chances: at steps that happen all the time, and at rare ones.
const OFTEN: u64 = 4_000;
const SELDOM: u64 = 25;
/// How long what is sent may take to leave, before what takes long is begun.
const SENDING: Range<u64> = 1..30;

pub struct Cluster {
    pub settings: Settings,
    pub dice: Dice,
    pub now: u64,
    pub members: Vec<Member>,
    pub network: Network,
    pub clients: Vec<Client>,
    watchers: Vec<Watcher>,
    pub history: History,
    pub checks: Checks,
    /// Whether what nobody outside sees is checked too.
    pub looks_inside: bool,
    pub operator: Operator,
    /// Faults happen.
    pub trouble: bool,
    /// Clients ask.
    pub asking: bool,
    pub next_fault: u64,
    /// Members hang up on those who were removed.
    refuses_removed: bool,
    pub plant: Option<Plant>,
    pub figures: Figures,
}

fn founded(ids: &[u64]) -> State {
    let member = |id: &u64| pb::Member { id: *id, name: format!("m{id}"), ..pb::Member::default() };
    State::founded(Bootstrap { cluster_id: CLUSTER_ID, member_id: 0, members: ids.iter().map(member).collect() })
}

impl Cluster {
    pub fn new(seed: u64, plant: Option<Plant>) -> Cluster {
        let mut dice = Dice::new(seed);
        let size = match dice.within(0..20) {
            0 | 1 => 1,
            2..=5 => 5,
            _ => 3,
        };
        let entries = dice.within(0..80);
        // Some keep no more for one they have heard of than for others.
        let kept = Kept { entries, lacked: if dice.percent(50) { entries } else { dice.within(0..400) } };
        let snapshot_count = dice.within(5..60);
        let max_applied_bytes = if dice.percent(50) { dice.within(1..500) } else { MAX_APPLIED_BYTES };
        let settings = Settings { seed, snapshot_count, kept, max_applied_bytes };
        let mut cluster = Cluster::quiet(settings, size, plant);
        // Some clusters keep their members.
        cluster.operator.next_at = if dice.percent(80) { dice.within(100..1_500) } else { u64::MAX };
        cluster.refuses_removed = dice.percent(75);
        cluster.watchers = (0..WATCHERS)
            .map(|n| {
                let from = if n == 0 { i64::try_from(dice.within(3..60)).unwrap_or(3) } else { 2 };
                Watcher::new(CLIENTS + n, 1 + u64::from(n) % size, from, plant)
            })
            .collect();
        cluster.network.unreliable = true;
        cluster.trouble = true;
        cluster.asking = true;
        cluster.dice = dice;
        cluster
    }

    /// Without faults; clients ask nothing by themselves.
    pub fn quiet(settings: Settings, size: u64, plant: Option<Plant>) -> Cluster {
        let ids: Vec<u64> = (1..=size).collect();
        Cluster {
            settings,
            now: 0,
            members: ids.iter().map(|id| Member::new(*id, founded(&ids), 0, plant)).collect(),
            network: Network::new(plant),
            clients: (0..CLIENTS).map(|n| Client::new(n, plant)).collect(),
            watchers: Vec::new(),
            history: History { ticks_per_second: 1_000, ..History::default() },
            checks: Checks::default(),
            looks_inside: true,
            operator: Operator::new(u64::MAX),
            trouble: false,
            asking: false,
            next_fault: 0,
            refuses_removed: true,
            plant,
            figures: Figures::default(),
            dice: Dice::new(settings.seed),
        }
    }

    pub fn run(mut self) -> Result<Figures, String> {
        while self.now < TROUBLE {
            self.step()?;
        }
        self.recover()?;
        self.judge()
    }

    /// The faults end, and all is well after a while.
    pub fn recover(&mut self) -> Result<(), String> {
        (self.trouble, self.asking, self.network.unreliable) = (false, false, false);
        self.operator.next_at = u64::MAX;
        self.network.heal();
        let now = self.now;
        for member in &mut self.members {
            (member.paused_until, member.slow_until, member.full_until) = (0, 0, 0);
            if member.core.is_none() && !member.expelled {
                member.start_at = Some(now);
            }
        }
        while !self.is_settled() {
            if self.now > now + RECOVERY {
                return Err(format!("the cluster does not recover:\n{}", self.describe()));
            }
            if self.now > now + RECOVERY / 2 {
                self.call_back();
            }
            self.step()?;
        }
        Ok(())
    }

    /// Raft's configuration counts once it is applied. So who was removed may be needed by those who hold its removal and
    /// have not heard that it is committed, if it went away together with all who had: then it has to be started again.
    fn call_back(&mut self) {
        for member in self.members.iter_mut().filter(|m| m.core.is_none() && m.start_at.is_none()) {
            self.figures.count("removed members called back");
            member.start_at = Some(self.now);
        }
    }

    pub fn describe(&self) -> String {
        self.members.iter().map(Member::describe).collect::<Vec<_>>().join("\n")
    }

    /// On to the next moment at which something happens.
    pub fn step(&mut self) -> Result<(), String> {
        self.now = self.next_event().max(self.now + 1);
        self.tell_the_time();
        if self.trouble && self.next_fault <= self.now {
            self.fault()?;
        }
        while let Some(packet) = self.network.arrived(self.now) {
            self.deliver(packet)?;
        }
        for announced in self.network.take_broken() {
            self.answer_snapshot(&announced, false)?;
        }
        for n in 0..self.members.len() {
            self.let_time_pass(n)?;
        }
        self.poll_clients();
        self.ask()?;
        self.operate()?;
        self.watch();
        Ok(())
    }

    fn next_event(&self) -> u64 {
        let members = self.members.iter().map(|m| m.next_event(self.now)).min().unwrap_or(u64::MAX);
        let clients = self.clients.iter().filter(|c| self.asking || !c.is_idle()).map(Client::next_event).min();
        let network = self.network.next_arrival().unwrap_or(u64::MAX);
        let fault = if self.trouble { self.next_fault } else { u64::MAX };
        // In the longest silence it is looked whether all is well.
        members.min(clients.unwrap_or(u64::MAX)).min(network).min(fault).min(self.operator.next_at).min(self.now + 100)
    }

    pub fn position(&self, id: u64) -> Option<usize> {
        self.members.iter().position(|m| m.id == id)
    }

    fn deliver(&mut self, packet: Packet) -> Result<(), String> {
        let (from, to) = (packet.message().from, packet.message().to);
        let Some(n) = self.position(to) else { return Ok(()) };
        let member = &mut self.members[n];
        if member.core.is_none() {
            return match packet {
                Packet::Snapshot(outgoing) => self.answer_snapshot(&outgoing.message, false),
                Packet::Message(_) => Ok(()),
            };
        }
        if member.paused_until > self.now {
            // What was sent to a stopped process is there when it goes on.
            member.inbox.push_back(packet);
            return Ok(());
        }
        if self.refuses_removed && member.has_removed(from) {
            self.figures.count("removed members refused");
            self.expel(from);
            return Ok(());
        }
        match packet {
            Packet::Message(mut message) => {
                let append = message.msg_type() == MessageType::MsgAppend;
                if append && self.plant == Some(Plant::ApplyUncommitted) {
                    message.commit = message.entries.last().map_or(message.commit, |entry| entry.index);
                }
                self.input(n, Input::Messages(vec![message]))
            }
            Packet::Snapshot(outgoing) => {
                let captured = &outgoing.captured;
                let records = captured.records.iter().map(|(at, kv)| (*at, mvcc::KeyValue::clone(kv)));
                let state = State::restore(captured.head.clone(), records).map_err(|e| e.to_string())?;
                self.figures.count("snapshots");
                self.input(n, Input::Snapshot(outgoing.message.clone(), state.into()))?;
                self.answer_snapshot(&outgoing.message, true)
            }
        }
    }

    fn answer_snapshot(&mut self, announced: &Message, arrived: bool) -> Result<(), String> {
        match self.position(announced.from) {
            Some(sender) => self.input(sender, Input::SnapshotSent { to: announced.to, term: announced.term, arrived }),
            None => Ok(()),
        }
    }

    /// Hands an input to a member; what is to be done about it is decided at once or a little later, with others.
    pub fn input(&mut self, n: usize, input: Input) -> Result<(), String> {
        let member = &mut self.members[n];
        let Some(core) = &mut member.core else { return Ok(()) };
        core.take(input).map_err(|e| format!("{e:#}"))?;
        let busy = self.trouble && self.dice.percent(30);
        if busy {
            let at = self.now + self.dice.within(1..4);
            member.drive_at = Some(member.drive_at.unwrap_or(at).min(at));
            return Ok(());
        }
        self.drive(n)
    }

    fn let_time_pass(&mut self, n: usize) -> Result<(), String> {
        let now = self.now;
        let member = &mut self.members[n];
        if member.start_at.is_some_and(|at| at <= now) && member.core.is_none() {
            return self.start(n);
        }
        if !member.hears(now) {
            return Ok(());
        }
        if member.leaves_at.take_if(|at| *at <= now).is_some() {
            let id = member.id;
            self.expel(id);
            return Ok(());
        }
        if member.stop_at.take_if(|at| *at <= now).is_some() {
            self.input(n, Input::Stop)?;
        }
        // Who has slept may look at its leases before it hears what happened meanwhile.
        self.expire_leases(n)?;
        while let Some(packet) = self.members[n].inbox.pop_front() {
            self.deliver(packet)?;
        }
        self.finish_sync(n)?;
        self.finish_checkpoint(n)?;
        let member = &mut self.members[n];
        let ticked = member.tick(now);
        if member.drive_at.is_some_and(|at| at <= now) || ticked {
            self.drive(n)?;
        }
        Ok(())
    }

    fn start(&mut self, n: usize) -> Result<(), String> {
        self.members[n].start(self.now, self.settings, &mut self.dice)?;
        self.tell_the_time();
        let known = self.members[n].shared.state.read().member_list();
        self.notice(&known);
        Ok(())
    }

    fn finish_sync(&mut self, n: usize) -> Result<(), String> {
        let member = &mut self.members[n];
        if member.synced_at.take_if(|at| *at <= self.now).is_none() {
            return Ok(());
        }
        if member.full_until > self.now {
            self.figures.count("disks full");
            return self.fail(n, "no space left on device");
        }
        let synced = member.disk.finish_sync();
        if self.crashes(n, "crash: synced, nobody knows yet", OFTEN / 4) {
            return Ok(());
        }
        self.begin_sync(n);
        match synced {
            Some(number) => self.input(n, Input::Persisted { number }),
            None => Ok(()),
        }
    }

    /// A sync takes what has gathered while the last one was under way.
    fn begin_sync(&mut self, n: usize) {
        let member = &mut self.members[n];
        if member.synced_at.is_none() && member.disk.begin_sync() {
            let took = if member.slow_until > self.now { 100..800 } else { 1..15 };
            member.synced_at = Some(self.now + self.dice.within(took));
        }
    }

    fn finish_checkpoint(&mut self, n: usize) -> Result<(), String> {
        let member = &mut self.members[n];
        if member.saved_at.take_if(|at| *at <= self.now).is_none() {
            return Ok(());
        }
        if member.full_until > self.now {
            self.figures.count("disks full");
            return self.fail(n, "the checkpoint cannot be written");
        }
        if self.crashes(n, "crash: in a checkpoint", SELDOM) {
            return Ok(());
        }
        let saved = self.members[n].disk.finish_checkpoint();
        if self.crashes(n, "crash: checkpoint saved, log not cut", SELDOM) {
            return Ok(());
        }
        match saved {
            Some(mark) => self.input(n, Input::Checkpointed(mark)),
            None => Ok(()),
        }
    }

    /// The core says that it cannot go on, and the process ends.
    fn fail(&mut self, n: usize, why: &'static str) -> Result<(), String> {
        let Some(core) = &mut self.members[n].core else { return Ok(()) };
        if core.take(Input::Failed(anyhow::anyhow!(why))).is_ok() {
            return Err(format!("a member goes on although {why}"));
        }
        self.crash(n);
        Ok(())
    }

    pub fn crash(&mut self, n: usize) {
        let member = &mut self.members[n];
        member.inbox.drain(..).for_each(|packet| self.network.lose(&packet));
        member.crash(&mut self.dice);
        member.start_at = (!member.expelled).then(|| self.now + self.dice.within(10..800));
        let id = member.id;
        for client in &mut self.clients {
            // An answer that was given may have left, or not.
            if self.dice.percent(50) {
                self.history.operations.extend(client.lose(self.now, id));
            }
        }
    }

    /// Whether a member's process ends just here.
    fn crashes(&mut self, n: usize, place: &'static str, odds: u64) -> bool {
        let crashes = self.trouble && self.dice.one_in(odds);
        if crashes {
            self.figures.count(place);
            self.crash(n);
        }
        crashes
    }

    /// A member that knows that it was removed ends for good.
    fn expel(&mut self, id: u64) {
        let Some(n) = self.position(id).filter(|n| self.members[*n].hears(self.now)) else { return };
        self.figures.count("removed members gone");
        self.members[n].expelled = true;
        self.crash(n);
    }

    /// Lets the core decide, and carries out what it wants done.
    pub fn drive(&mut self, n: usize) -> Result<(), String> {
        let member = &mut self.members[n];
        if member.sends_until > self.now {
            member.drive_at = Some(member.sends_until);
            return Ok(());
        }
        member.drive_at = None;
        let Some(core) = &mut member.core else { return Ok(()) };
        let before = self.looks_inside.then(|| core.node.raft.prs().conf().to_conf_state());
        if self.plant == Some(Plant::ProposeTwice) {
            core.take_back_before(core.node.raft.term);
        }
        let done = core.drive().map_err(|e| format!("member {}: {e:#}", member.id))?;
        for (bounded, what) in [(core.is_full(), "log too far ahead"), (core.is_behind(), "checkpoints too far behind")]
        {
            self.figures.add(what, u64::from(bounded));
        }
        let mut effects = std::mem::take(&mut core.effects);
        if core.defers() {
            member.sends_until = self.now + self.dice.within(SENDING);
            member.drive_at = Some(member.sends_until);
        }
        if self.plant == Some(Plant::SureWhenBehind) {
            member.shared.lessor.set_behind(false);
        }
        if self.plant == Some(Plant::AloneTooSoon) {
            let of_this_term = member.shared.state.read().applied.term == core.node.raft.term;
            member.shared.status.set_alone(core.alone() && core.node.raft.state == StateRole::Leader && of_this_term);
        }
        if self.plant == Some(Plant::SendBeforeSync) {
            effects.messages.extend(core.held.drain(..).flat_map(|(_, messages)| messages));
        }
        let after = before.as_ref().map(|_| core.node.raft.prs().conf().to_conf_state());
        member.fix_timeout(self.settings);
        self.checks.member(&mut self.members[n])?;
        let leading = self.members[n].leading();
        let led = std::mem::replace(&mut self.members[n].led, leading);
        let went_on = led.zip(leading).is_some_and(|(led, leads)| led.0 == leads.0 && led.1 < leads.1);
        if let (Some(before), Some(after), true) = (&before, &after, went_on) {
            self.checks.committed(&self.members[n], &self.members, [before, after])?;
        }
        self.carry_out(n, effects)?;
        if done { self.end(n) } else { Ok(()) }
    }

    /// In the node's order. The process may end between any two of these steps.
    fn carry_out(&mut self, n: usize, effects: Effects) -> Result<(), String> {
        if self.crashes(n, "crash: decided and applied, nothing sent", OFTEN) {
            return Ok(());
        }
        if let Some(members) = effects.members {
            self.notice(&members);
        }
        for message in effects.messages {
            if self.looks_inside {
                checks::promise(&self.members[n].disk, &message)?;
            }
            self.network.send(self.now, Packet::Message(message), &mut self.dice);
            if self.crashes(n, "crash: between two messages", 2 * OFTEN) {
                return Ok(());
            }
        }
        let core = self.members[n].core.as_ref().expect("it was driven, and did not crash");
        effects.deliveries.into_iter().for_each(|delivery| delivery.deliver(&core.shared.hub));
        for outgoing in effects.snapshots {
            self.network.send(self.now, Packet::Snapshot(outgoing), &mut self.dice);
            if self.crashes(n, "crash: snapshot sent", SELDOM) {
                return Ok(());
            }
        }
        let writes = !effects.writes.is_empty();
        for write in effects.writes {
            if self.crashes(n, "crash: sent, not written", OFTEN / 2) {
                return Ok(());
            }
            self.members[n].disk.write(write);
        }
        if writes && self.crashes(n, "crash: written, not synced", OFTEN / 2) {
            return Ok(());
        }
        for job in effects.jobs {
            if job.whole && self.crashes(n, "crash: snapshot taken, not saved", SELDOM / 2) {
                return Ok(());
            }
            self.members[n].disk.begin_checkpoint(job);
            self.members[n].saved_at = Some(self.now + self.dice.within(1..100));
        }
        if effects.removed && self.members[n].leaves_at.is_none() {
            self.members[n].leaves_at = Some(self.now + REMOVED_GRACE);
        }
        self.begin_sync(n);
        self.plant_early(n)
    }

    /// What a store that forgets to wait would take for done.
    fn plant_early(&mut self, n: usize) -> Result<(), String> {
        let disk = &self.members[n].disk;
        let input = match self.plant {
            Some(Plant::AnswerBeforeSync) => disk.newest_unsynced().map(|number| Input::Persisted { number }),
            Some(Plant::CheckpointBeforeSync) => disk.promised_checkpoint().map(Input::Checkpointed),
            _ => None,
        };
        let Some(core) = &mut self.members[n].core else { return Ok(()) };
        let news = match &input {
            Some(Input::Persisted { number }) => *number > core.persisted,
            Some(_) => core.is_checkpointing(),
            None => false,
        };
        match input {
            Some(input) if news => self.input(n, input),
            _ => Ok(()),
        }
    }

    /// Those that were added start, with nothing.
    fn notice(&mut self, members: &[pb::Member]) {
        for member in members {
            if self.position(member.id).is_none() {
                self.figures.count("members joined");
                let founds = self.plant == Some(Plant::JoinerFounds);
                let state =
                    if founds { founded(&[member.id]) } else { State { cluster_id: CLUSTER_ID, ..State::default() } };
                let start_at = self.now + self.dice.within(1..300);
                self.members.push(Member::new(member.id, state, start_at, self.plant));
            }
        }
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
            let client = &self.clients[c];
            if !self.asking || !client.is_idle() || client.next_at > self.now {
                continue;
            }
            let n = self.dice.index(self.members.len());
            let member = &self.members[n];
            if !member.hears(self.now) {
                self.clients[c].next_at = self.now + self.dice.within(1..10);
                continue;
            }
            let (id, shared) = (member.id, member.shared.clone());
            let (input, at_once) = self.clients[c].ask(self.now, id, &shared, &mut self.dice);
            self.history.operations.extend(at_once);
            if let Some(input) = input {
                self.input(n, input)?;
            }
        }
        Ok(())
    }

    fn operate(&mut self) -> Result<(), String> {
        if self.operator.next_at > self.now {
            return Ok(());
        }
        let n = self.dice.index(self.members.len());
        if !self.members[n].hears(self.now) {
            self.operator.next_at = self.now + 10;
            return Ok(());
        }
        let down: Vec<u64> = self.members.iter().filter(|m| m.core.is_none()).map(|m| m.id).collect();
        let shared = self.members[n].shared.clone();
        match self.operator.act(self.now, &shared, &down, &mut self.dice) {
            Some((what, input)) => {
                self.figures.count(what);
                self.input(n, input)
            }
            None => Ok(()),
        }
    }

    fn watch(&mut self) {
        for watcher in &mut self.watchers {
            let member = self.members.iter().find(|m| m.id == watcher.member && m.core.is_some());
            match member {
                Some(member) if member.paused_until <= self.now => watcher.read(self.now, &member.shared),
                Some(_) => {}
                None => watcher.move_to(self.members[self.dice.index(self.members.len())].id),
            }
        }
    }
}
