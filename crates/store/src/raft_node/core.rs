//! The raft thread: takes inputs, drives the state machine, hands out its effects.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use prost::Message as _;
use raft::prelude::{Entry, HardState, Message, MessageType};
use raft::{RawNode, StateRole};
use raftlog::Mark;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::checkpointer::{self, Job};
use super::handle::{Handle, Proposal, Threads};
use super::log_view::LogView;
use super::log_writer::{LogWriter, Write, entry_from_log};
use crate::checkpoint::Checkpoint;
use crate::error::Refusal;
use crate::pb::kvraft::Command;
use crate::shared::Shared;

const TICK: Duration = Duration::from_millis(100);
const ELECTION_TICKS: usize = 10;
const HEARTBEAT_TICKS: usize = 1;
const MAX_MESSAGE_BYTES: u64 = 1 << 20;
const MAX_INFLIGHT_MESSAGES: usize = 256;
/// Entries applied in one go, so that readers get their turn.
const MAX_APPLIED_BYTES: u64 = 4 << 20;
/// Inputs taken before the state machine is driven.
const MAX_INPUTS: usize = 1_024;

pub enum Input {
    Propose(Proposal),
    Read(oneshot::Sender<()>),
    Checkpoint(oneshot::Sender<()>),
    /// The log holds everything up to the ready of this number.
    Persisted {
        number: u64,
    },
    Checkpointed(Mark),
    Failed(anyhow::Error),
    Stop,
}

pub struct Config {
    pub member_id: u64,
    /// Entries applied between two checkpoints.
    pub snapshot_count: u64,
}

/// Linearizable reads that share one read index.
pub(super) struct Read {
    pub index: u64,
    pub waiting: Vec<oneshot::Sender<()>>,
}

pub(super) struct Core {
    pub config: Config,
    pub node: RawNode<LogView>,
    pub shared: Arc<Shared>,
    inputs: Receiver<Input>,
    writes: Sender<Write>,
    jobs: Sender<Job>,
    failed: CancellationToken,
    next_id: u64,
    /// Arrived since the state machine was last driven.
    arrived: Vec<Proposal>,
    arrived_reads: Vec<oneshot::Sender<()>>,
    /// Proposed, to be answered when applied.
    pub pending: HashMap<u64, Proposal>,
    /// Asked for a read index under this id.
    asked: HashMap<u64, Vec<oneshot::Sender<()>>>,
    /// Waiting for the state to reach their index.
    pub reads: Vec<Read>,
    /// The newest ready handed to the log thread, and the newest at all.
    written: u64,
    persisted: u64,
    newest: u64,
    checkpointing: bool,
    checkpoint_waiters: Vec<oneshot::Sender<()>>,
    /// The entry of the last checkpoint begun.
    pub checkpointed: u64,
    next_tick: Instant,
    stopping: bool,
}

/// Starts the node's threads on a log and a checkpoint that were opened and belong together.
/// `failed` is cancelled when the node cannot go on.
pub fn start(
    config: Config,
    shared: Arc<Shared>,
    wal: raftlog::Wal,
    recovered: raftlog::Recovered,
    checkpoint: Box<dyn Checkpoint>,
    failed: CancellationToken,
) -> Result<(Handle, Threads)> {
    let (inputs_tx, inputs) = channel();
    let (writes, writes_rx) = channel();
    let (jobs, jobs_rx) = channel();
    let core = Core::new(config, shared.clone(), recovered, inputs, writes, jobs, failed)?;
    let syncs = shared.gauges.syncs.clone();
    let writer = LogWriter { wal, writes: writes_rx, inputs: inputs_tx.clone(), syncs };
    let checkpoint_inputs = inputs_tx.clone();
    let gauges = shared.gauges.clone();
    let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(body);
        spawned.with_context(|| format!("cannot start the {name} thread"))
    };
    let threads = vec![
        spawn("raft", Box::new(move || core.run()))?,
        spawn("log", Box::new(move || writer.run()))?,
        spawn("checkpoint", Box::new(move || checkpointer::run(checkpoint, &jobs_rx, &checkpoint_inputs, &gauges)))?,
    ];
    Ok((Handle::new(inputs_tx.clone()), Threads { inputs: inputs_tx, threads }))
}

fn raft_config(id: u64, applied: u64) -> raft::Config {
    raft::Config {
        id,
        applied,
        election_tick: ELECTION_TICKS,
        heartbeat_tick: HEARTBEAT_TICKS,
        max_size_per_msg: MAX_MESSAGE_BYTES,
        max_inflight_msgs: MAX_INFLIGHT_MESSAGES,
        max_committed_size_per_ready: MAX_APPLIED_BYTES,
        check_quorum: true,
        pre_vote: true,
        ..raft::Config::default()
    }
}

impl Core {
    fn new(
        config: Config,
        shared: Arc<Shared>,
        recovered: raftlog::Recovered,
        inputs: Receiver<Input>,
        writes: Sender<Write>,
        jobs: Sender<Job>,
        failed: CancellationToken,
    ) -> Result<Core> {
        let (applied, conf) = {
            let state = shared.state.read();
            (state.applied, state.conf.clone())
        };
        let recorded = recovered.hard_state;
        let hard_state = HardState {
            term: recorded.term,
            vote: recorded.vote,
            // The commit index is written along with entries only; what is in a checkpoint
            // was committed.
            commit: recorded.commit.max(applied.index),
        };
        let entries = recovered.entries.into_iter().map(entry_from_log).collect();
        let view = LogView::new(applied, conf, hard_state, entries);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&raft_config(config.member_id, applied.index), view, &logger)
            .context("the log and the checkpoint do not fit together")?;
        Ok(Core {
            config,
            node,
            shared,
            inputs,
            writes,
            jobs,
            failed,
            // Ids of an earlier run may still be in the log and must not match.
            next_id: rand::random(),
            arrived: Vec::new(),
            arrived_reads: Vec::new(),
            pending: HashMap::new(),
            asked: HashMap::new(),
            reads: Vec::new(),
            written: 0,
            persisted: 0,
            newest: 0,
            checkpointing: false,
            checkpoint_waiters: Vec::new(),
            checkpointed: applied.index,
            next_tick: Instant::now() + TICK,
            stopping: false,
        })
    }

    fn run(mut self) {
        let ended = self.drive();
        if let Err(error) = ended {
            tracing::error!(error = format!("{error:#}"), "the store cannot go on");
            self.shared.status.set_failed();
        }
        self.failed.cancel();
    }

    fn alone(&self) -> bool {
        let conf = self.node.raft.prs().conf();
        conf.voters().contains(self.config.member_id) && self.node.raft.prs().iter().count() == 1
    }

    fn drive(&mut self) -> Result<()> {
        if self.alone() {
            // Nobody else could be elected: do not wait for a timeout.
            self.node.campaign()?;
        }
        loop {
            self.propose_arrived();
            self.ask_read_index();
            self.handle_ready()?;
            self.answer_reads();
            if self.stopping && self.idle() {
                return Ok(());
            }
            self.checkpoint_if_due(false);
            self.take_inputs()?;
        }
    }

    /// Nothing is under way that must end before the thread may.
    fn idle(&mut self) -> bool {
        if !self.pending.is_empty() || self.checkpointing || self.written > self.persisted {
            return false;
        }
        let behind = self.shared.state.read().applied.index > self.checkpointed;
        if behind {
            self.checkpoint_if_due(true);
        }
        !behind
    }

    /// Waits for one input and takes what else has arrived.
    fn take_inputs(&mut self) -> Result<()> {
        match self.next_input() {
            Some(input) => self.take(input)?,
            None => return Ok(()),
        }
        for _ in 0..MAX_INPUTS {
            match self.inputs.try_recv() {
                Ok(input) => self.take(input)?,
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// A lone member needs no clock: nobody waits for its heartbeats. With peers, time passes
    /// in ticks.
    fn next_input(&mut self) -> Option<Input> {
        if self.alone() {
            return Some(self.inputs.recv().unwrap_or(Input::Stop));
        }
        let left = self.next_tick.saturating_duration_since(Instant::now());
        let input = self.inputs.recv_timeout(left).ok();
        if self.next_tick <= Instant::now() {
            self.node.tick();
            self.next_tick = Instant::now() + TICK;
        }
        input
    }

    fn take(&mut self, input: Input) -> Result<()> {
        match input {
            Input::Propose(proposal) => self.arrived.push(proposal),
            Input::Read(ready) => self.arrived_reads.push(ready),
            Input::Checkpoint(done) => {
                self.checkpoint_waiters.push(done);
                self.checkpoint_if_due(true);
            }
            Input::Persisted { number } => {
                self.persisted = number;
                let known = if self.persisted == self.written { self.newest } else { number };
                self.node.on_persist_ready(known);
            }
            Input::Checkpointed(mark) => {
                self.checkpointing = false;
                for waiter in self.checkpoint_waiters.drain(..) {
                    let _ = waiter.send(());
                }
                self.send(Write::Cut(mark))?;
            }
            Input::Failed(error) => return Err(error),
            Input::Stop => self.stopping = true,
        }
        Ok(())
    }

    fn send(&self, write: Write) -> Result<()> {
        self.writes.send(write).ok().context("the log thread is gone")
    }

    /// Everything that has arrived becomes one proposal of many entries.
    fn propose_arrived(&mut self) {
        if self.arrived.is_empty() {
            return;
        }
        if self.stopping || self.node.raft.leader_id == raft::INVALID_ID {
            let refusal = if self.stopping { Refusal::Stopped } else { Refusal::NoLeader };
            for proposal in self.arrived.drain(..) {
                let _ = proposal.answer.send(Err(refusal));
            }
            return;
        }
        let mut entries = Vec::with_capacity(self.arrived.len());
        let mut ids = Vec::with_capacity(self.arrived.len());
        for mut proposal in self.arrived.drain(..) {
            let id = self.next_id;
            self.next_id = id.wrapping_add(1);
            let command = Command { op: Some(proposal.op) };
            entries.push(Entry {
                data: command.encode_to_vec(),
                context: id.to_le_bytes().to_vec(),
                ..Entry::default()
            });
            proposal.op = command.op.expect("put there above");
            self.pending.insert(id, proposal);
            ids.push(id);
        }
        let mut message = Message { from: self.config.member_id, entries, ..Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        if self.node.raft.step(message).is_err() {
            for id in ids {
                self.refuse(id, Refusal::NoLeader);
            }
        }
        self.shared.status.set_pending(self.pending.len());
    }

    fn refuse(&mut self, id: u64, refusal: Refusal) {
        if let Some(proposal) = self.pending.remove(&id) {
            let _ = proposal.answer.send(Err(refusal));
        }
    }

    /// One read index for all reads that have arrived.
    fn ask_read_index(&mut self) {
        if self.arrived_reads.is_empty() || !self.can_read_index() {
            return;
        }
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        self.asked.insert(id, std::mem::take(&mut self.arrived_reads));
        self.node.read_index(id.to_le_bytes().to_vec());
    }

    /// Raft drops the question while there is no leader, or the leader has committed nothing
    /// in its term and so does not know yet what was committed before.
    fn can_read_index(&self) -> bool {
        let raft = &self.node.raft;
        let new_leader = raft.state == StateRole::Leader && !raft.commit_to_current_term();
        raft.leader_id != ::raft::INVALID_ID && !new_leader
    }

    fn handle_ready(&mut self) -> Result<()> {
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            let number = ready.number();
            self.newest = number;
            if let Some(role) = ready.ss().map(|ss| ss.raft_state) {
                self.role_changed(role);
            }
            for state in ready.take_read_states() {
                let id = context_id(&state.request_ctx);
                let waiting = id.and_then(|id| self.asked.remove(&id)).unwrap_or_default();
                self.reads.push(Read { index: state.index, waiting });
            }
            assert!(
                ready.messages().is_empty() && ready.persisted_messages().is_empty(),
                "a cluster of one has nobody to write to"
            );
            let entries = ready.take_entries();
            let hard_state = ready.hs().cloned();
            let committed = ready.take_committed_entries();
            let must_sync = ready.must_sync();
            let view = self.node.mut_store();
            view.append(&entries);
            if let Some(state) = &hard_state {
                view.set_hard_state(state.clone());
            }
            self.node.advance_append_async(ready);
            if must_sync {
                self.send(Write::Append { number, entries, hard_state })?;
                self.written = number;
            } else if self.persisted == self.written {
                // Nothing to sync and nothing under way: Raft may forget about it at once.
                self.node.on_persist_ready(number);
            }
            self.apply(committed)?;
        }
        self.shared.status.set_raft(&self.node.raft);
        Ok(())
    }

    fn role_changed(&mut self, role: StateRole) {
        let term = self.node.raft.term;
        tracing::info!(?role, term, "role in the cluster changed");
        if role == StateRole::Leader {
            self.shared.status.leader_changed();
            self.shared.lessor.promote(self.shared.state.read().kv.leases());
            return;
        }
        self.shared.lessor.demote();
        for (_, proposal) in self.pending.drain() {
            let _ = proposal.answer.send(Err(Refusal::NoLeader));
        }
        self.asked.clear();
    }

    fn answer_reads(&mut self) {
        if self.reads.is_empty() {
            return;
        }
        let applied = self.node.raft.raft_log.applied;
        let (ready, waiting): (Vec<_>, Vec<_>) = self.reads.drain(..).partition(|r| r.index <= applied);
        self.reads = waiting;
        for reader in ready.into_iter().flat_map(|read| read.waiting) {
            let _ = reader.send(());
        }
    }

    /// Begins a checkpoint when enough was applied since the last, or when one is wanted.
    pub(super) fn checkpoint_if_due(&mut self, wanted: bool) {
        let applied = self.node.raft.raft_log.applied;
        let due = applied.saturating_sub(self.checkpointed) >= self.config.snapshot_count;
        if self.checkpointing || !(due || wanted || !self.checkpoint_waiters.is_empty()) {
            return;
        }
        let (head, changes) = {
            let mut state = self.shared.state.write();
            (state.head(), state.kv.take_changes())
        };
        self.checkpointed = head.applied_index;
        self.checkpointing = true;
        // If the checkpoint thread is gone it has said why.
        let _ = self.jobs.send(Job { head, changes });
    }
}

pub(super) fn context_id(context: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(context.try_into().ok()?))
}
