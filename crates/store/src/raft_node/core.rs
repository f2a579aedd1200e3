//! The Raft member as a state machine: inputs in, effects out. It touches no clock, no disk and no network; the
//! [`node`](super::node) carries its effects out on threads, a simulation carries them out in one.
//!
//! A round is: take inputs, [`Core::drive`], carry out [`Core::effects`] in their order.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use raft::prelude::{Entry, HardState, Message};
use raft::{ProgressState, RawNode, SnapshotStatus};
use raftlog::Mark;
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::disk::Disk;
use super::effects::{Effects, Job, Write};
use super::handle::Proposal;
use super::log_view::{Kept, Lacked, LogView};
use super::log_writer::entry_from_log;
use super::propose::Pending;
use super::ready::{Commits, Install, is_change};
use crate::error::Refusal;
use crate::pb::kvraft::Head;
use crate::shared::Shared;
use crate::state::State;

const MAX_MESSAGE_BYTES: u64 = 1 << 20;
const MAX_INFLIGHT_MESSAGES: usize = 64;
/// Entries applied in one go, so that readers get their turn.
pub const MAX_APPLIED_BYTES: u64 = 4 << 20;
/// A question for the read index that was not answered in this time was lost on the way, and is asked again.
pub(super) const READ_RETRY_TICKS: u64 = 5;
/// How long a member that stops tries to end well, in election timeouts.
const STOP_ELECTIONS: usize = 2;
/// A peer that was heard of within so many election timeouts is expected to catch up with the log.
const HEARD_ELECTIONS: u64 = 20;
/// Part of an election timeout for which a leader is sure of itself.
const SURE_PART: u64 = 3;
/// A checkpoint is due after so many changed records for each entry of `--snapshot-count`: large transactions would make
/// a start long, and a compaction is to give its space back.
const CHANGES_PER_ENTRY: u64 = 8;
/// And after so many bytes: until then they are kept, whatever became of them.
pub const MAX_UNSAVED_BYTES: usize = 256 << 20;
/// What may wait for the disk, or for the others' disks, before nothing more is taken.
pub const MAX_WAITING_BYTES: u64 = 256 << 20;

pub enum Input {
    Propose(Proposal),
    Read(oneshot::Sender<()>),
    Checkpoint(oneshot::Sender<()>),
    /// From peers.
    Messages(Vec<Message>),
    /// A snapshot has arrived whole, with the message that announced it.
    Snapshot(Message, Arrived),
    Unreachable(u64),
    /// To whom, as leader of which term.
    SnapshotSent {
        to: u64,
        term: u64,
        arrived: bool,
    },
    TransferLeader(u64),
    /// How far a learner has come, by its id.
    Progress(u64, oneshot::Sender<Option<Progress>>),
    /// The log holds everything up to the ready of this number.
    Persisted {
        number: u64,
    },
    Checkpointed(Mark),
    Failed(anyhow::Error),
    /// No more is asked of this member, which is to end once it has answered.
    Drain,
    Stop,
}

impl Input {
    /// What it adds to the log, about.
    pub fn bytes(&self) -> usize {
        match self {
            Input::Propose(proposal) => proposal.op.encoded_len(),
            Input::Messages(messages) => messages.iter().flat_map(|m| &m.entries).map(|e| e.data.len()).sum(),
            _ => 0,
        }
    }
}

/// A snapshot that is here whole.
pub struct Arrived {
    pub state: Box<State>,
    /// Kept until the state is durable here or let go: until then the next one does not come in.
    pub turn: Option<OwnedMutexGuard<()>>,
}

impl From<State> for Arrived {
    fn from(state: State) -> Arrived {
        Arrived { state: Box::new(state), turn: None }
    }
}

/// Where a peer's log ends, as the leader knows, and the leader's own.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub matched: u64,
    pub leader: u64,
}

#[derive(Debug, Clone, Copy)]
pub struct Config {
    pub member_id: u64,
    /// Entries applied between two checkpoints.
    pub snapshot_count: u64,
    pub election_ticks: usize,
    pub tick_ms: u64,
    /// A checkpoint is due after so many changed bytes, and while one is written twice as many may wait for the next: then
    /// the disk does not keep up, and nothing more is taken.
    pub max_unsaved_bytes: usize,
    /// What may wait in the log to be committed, and in memory to be written.
    pub max_waiting_bytes: u64,
    /// Entries applied in one go.
    pub max_applied_bytes: u64,
    /// Applied entries kept in memory for peers that lag; whoever lags further gets a snapshot.
    pub kept: Kept,
}

/// A question for the read index.
pub(super) struct Asked {
    pub tick: u64,
    /// By the lessor's clock.
    pub at_ms: u64,
    pub waiting: Vec<oneshot::Sender<()>>,
}

/// Linearizable reads that share one read index.
pub(super) struct Read {
    pub index: u64,
    pub asked_ms: u64,
    pub waiting: Vec<oneshot::Sender<()>>,
}

pub struct Core {
    pub config: Config,
    pub(super) node: RawNode<LogView>,
    pub(super) shared: Arc<Shared>,
    /// What is to be carried out now; whoever drives takes it.
    pub effects: Effects,
    pub(super) next_id: u64,
    /// Arrived, and not proposed yet.
    pub(super) arrived: Vec<Proposal>,
    /// Whether that had to wait when it was last looked at.
    pub(super) waited: bool,
    /// Forwarded by peers while the lead was being handed over.
    pub(super) forwarded: Vec<Message>,
    pub(super) arrived_reads: Vec<oneshot::Sender<()>>,
    /// Proposed, to be answered when applied.
    pub(super) pending: HashMap<u64, Pending>,
    /// For how many ticks there has been no leader.
    pub(super) leaderless: u64,
    /// Asked for a read index under this id.
    pub(super) asked: HashMap<u64, Asked>,
    /// Waiting for the state to reach their index.
    pub(super) reads: Vec<Read>,
    /// The newest ready handed to the log, the newest that it holds, and the newest at all.
    pub(super) written: u64,
    pub(super) persisted: u64,
    pub(super) newest: u64,
    /// Records that the state has changed since the last checkpoint.
    pub(super) unsaved: usize,
    pub(super) unsaved_bytes: usize,
    /// The ready in which the term or the vote last changed.
    pub(super) voted: u64,
    /// Messages that promise what their ready has written: they leave once it is durable.
    pub(super) held: VecDeque<(u64, Vec<Message>)>,
    /// A snapshot that has arrived and that Raft wants, until it is installed.
    pub(super) arrived_snapshot: Option<(Mark, Arrived)>,
    /// One that has arrived and for which there is no time yet.
    pub(super) waiting_snapshot: Option<(Message, Arrived)>,
    /// A snapshot taken, whose checkpoint is not durable yet.
    pub(super) installing: Option<Install>,
    /// The ready whose snapshot the state holds already, and its entry: Raft may know once it is durable.
    pub(super) unapplied: Option<(u64, u64)>,
    /// Committed entries that take long to apply; the peers hear of them first.
    pub(super) deferred: Vec<Entry>,
    /// Changes of members in the log, until it is durable that they are committed.
    pub(super) changes: Vec<u64>,
    pub(super) commits: Commits,
    pub(super) disk: Disk,
    checkpointing: bool,
    /// A checkpoint that waits for a write: it must not be ahead of the log.
    waiting_job: Option<(u64, Job)>,
    checkpoint_waiters: Vec<oneshot::Sender<()>>,
    /// The write by which the log begins anew behind the last snapshot.
    pub(super) begun_anew: u64,
    /// The entry of the last checkpoint begun.
    checkpointed: u64,
    pub(super) ticks: u64,
    /// As leader: when each peer was last heard of.
    heard: BTreeMap<u64, u64>,
    pub(super) draining: bool,
    stopping: Option<u64>,
}

fn raft_config(config: &Config, applied: u64) -> raft::Config {
    raft::Config {
        id: config.member_id,
        applied,
        election_tick: config.election_ticks,
        heartbeat_tick: 1,
        max_size_per_msg: MAX_MESSAGE_BYTES,
        max_inflight_msgs: MAX_INFLIGHT_MESSAGES,
        max_committed_size_per_ready: config.max_applied_bytes,
        check_quorum: true,
        pre_vote: true,
        ..raft::Config::default()
    }
}

impl Core {
    /// From a log and a state that were opened and belong together. `first_id` must differ from run to run: ids of an
    /// earlier one may still be in the log and must not match.
    pub fn new(config: Config, shared: Arc<Shared>, recovered: raftlog::Recovered, first_id: u64) -> Result<Core> {
        let (applied, conf) = {
            let state = shared.state.read();
            (state.applied, state.conf.clone())
        };
        let recorded = recovered.hard_state;
        let hard_state = HardState {
            term: recorded.term.max(applied.term),
            vote: recorded.vote,
            // The commit index is written along with entries and votes only; what is in a checkpoint was committed.
            commit: recorded.commit.max(applied.index),
        };
        let commit = hard_state.commit;
        let entries: Vec<Entry> = recovered.entries.into_iter().map(entry_from_log).collect();
        let changes =
            entries.iter().filter(|entry| is_change(entry) && entry.index > commit).map(|e| e.index).collect();
        let view = LogView::new(applied, conf, hard_state, entries, config.kept);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&raft_config(&config, applied.index), view, &logger)
            .context("the log and the checkpoint do not fit together")?;
        Ok(Core {
            config,
            node,
            shared,
            effects: Effects::default(),
            next_id: first_id,
            arrived: Vec::new(),
            waited: false,
            forwarded: Vec::new(),
            arrived_reads: Vec::new(),
            pending: HashMap::new(),
            leaderless: 0,
            asked: HashMap::new(),
            reads: Vec::new(),
            written: 0,
            persisted: 0,
            newest: 0,
            voted: 0,
            unsaved: 0,
            unsaved_bytes: 0,
            held: VecDeque::new(),
            arrived_snapshot: None,
            waiting_snapshot: None,
            installing: None,
            unapplied: None,
            deferred: Vec::new(),
            changes,
            commits: Commits::recovered(commit),
            disk: Disk::default(),
            checkpointing: false,
            waiting_job: None,
            checkpoint_waiters: Vec::new(),
            begun_anew: 0,
            checkpointed: applied.index,
            ticks: 0,
            heard: BTreeMap::new(),
            draining: false,
            stopping: None,
        })
    }

    pub fn set_failed(&self) {
        self.shared.status.set_failed();
    }

    /// Nobody else could be elected: a lone member does not wait for a timeout.
    pub fn begin(&mut self) -> Result<()> {
        if self.alone() {
            self.node.campaign()?;
        }
        Ok(())
    }

    /// A lone leader needs none: nobody waits for its heartbeats. One who is left alone without leading has yet to find
    /// out that it may, and what it had forwarded before may be lost.
    pub fn needs_clock(&self) -> bool {
        let leads = self.alone() && self.node.raft.state == raft::StateRole::Leader;
        !leads || !self.pending.is_empty() || !self.asked.is_empty()
    }

    pub fn alone(&self) -> bool {
        let conf = self.node.raft.prs().conf();
        conf.voters().contains(self.config.member_id) && self.node.raft.prs().iter().count() == 1
    }

    pub fn tick(&mut self) {
        self.ticks += 1;
        // Raft cannot campaign between a snapshot and its being applied.
        if self.unapplied.is_none() {
            self.node.tick();
        }
        self.leaderless = if self.node.raft.leader_id == raft::INVALID_ID { self.leaderless + 1 } else { 0 };
        self.note_heard(false);
        self.hand_over_if_hung();
        self.node.mut_store().age();
        let lost = self.ticks.saturating_sub(READ_RETRY_TICKS);
        // Whoever asked has given up; the entry may have been lost on its way to the leader, and then nobody hears of it.
        self.arrived_reads.retain(|reader| !reader.is_closed());
        self.pending.retain(|_, pending| !pending.proposal.answer.is_closed());
        for (_, asked) in self.asked.extract_if(|_, asked| asked.tick < lost) {
            self.arrived_reads.extend(asked.waiting.into_iter().filter(|w| !w.is_closed()));
        }
    }

    /// Raft forgets it with every election timeout. One who has just begun to lead expects everybody.
    pub(super) fn note_heard(&mut self, everybody: bool) {
        let (me, ticks) = (self.config.member_id, self.ticks);
        let peers = self.node.raft.prs().iter().filter(|(id, peer)| **id != me && (peer.recent_active || everybody));
        self.heard.extend(peers.map(|(id, _)| (*id, ticks)));
    }

    /// The first entry that a peer lacks who was heard of lately, or to whom a snapshot is on its way.
    pub(super) fn lacked(&self, state: &State) -> Lacked {
        let state_bytes = u64::try_from(state.kv.size_bytes()).unwrap_or(u64::MAX);
        if self.node.raft.state != raft::StateRole::Leader {
            return Lacked { first: u64::MAX, state_bytes };
        }
        let elections = u64::try_from(self.config.election_ticks).unwrap_or(u64::MAX);
        let lately = self.ticks.saturating_sub(elections.saturating_mul(HEARD_ELECTIONS));
        let is_heard = |id: &u64| self.heard.get(id).is_some_and(|at| *at >= lately);
        let peers = self.node.raft.prs().iter().filter(|(id, _)| **id != self.config.member_id);
        let known = peers.filter_map(|(id, peer)| match peer.state {
            ProgressState::Snapshot => Some(peer.pending_snapshot.max(peer.matched)),
            ProgressState::Probe | ProgressState::Replicate => is_heard(id).then_some(peer.matched),
        });
        Lacked { first: known.min().map_or(u64::MAX, |index| index + 1), state_bytes }
    }

    /// Turns what has arrived into effects; true when there is nothing left to do before stopping.
    pub fn drive(&mut self) -> Result<bool> {
        let deferred = std::mem::take(&mut self.deferred);
        self.apply(deferred)?;
        self.round()?;
        if self.has_more() {
            self.round()?;
        }
        let log = &self.node.raft.raft_log;
        self.shared.lessor.set_behind(log.applied < log.committed);
        self.answer_reads();
        if self.may_stop() {
            return Ok(true);
        }
        self.checkpoint_if_due(false);
        Ok(false)
    }

    fn round(&mut self) -> Result<()> {
        self.give_up_if_ending();
        self.step_forwarded()?;
        self.propose_arrived();
        self.ask_read_index();
        self.handle_ready()
    }

    /// Whether what the last round has brought lets something go on that had to wait.
    fn has_more(&self) -> bool {
        let proposals = !self.arrived.is_empty() && !self.must_wait();
        let reads = !self.arrived_reads.is_empty() && self.can_read_index();
        (proposals || reads) && !self.defers()
    }

    /// Whether there is more to do once the messages are on their way.
    pub fn defers(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// Nothing is under way that must end before the member may.
    fn may_stop(&mut self) -> bool {
        let Some(since) = self.stopping else { return false };
        let patience = u64::try_from(STOP_ELECTIONS * self.config.election_ticks).unwrap_or(u64::MAX);
        let under_way = !self.pending.is_empty() || self.node.raft.lead_transferee.is_some();
        if under_way && (self.alone() || self.ticks < since + patience) {
            return false;
        }
        if self.checkpointing || self.installing.is_some() || self.written > self.persisted {
            return false;
        }
        let behind = self.shared.state.read().applied.index > self.checkpointed;
        if behind {
            self.checkpoint_if_due(true);
        }
        !behind
    }

    pub fn take(&mut self, input: Input) -> Result<()> {
        match input {
            Input::Propose(proposal) => self.arrived.push(proposal),
            Input::Read(ready) => self.arrived_reads.push(ready),
            Input::Checkpoint(done) => {
                self.checkpoint_waiters.push(done);
                self.checkpoint_if_due(true);
            }
            Input::Messages(messages) => messages.into_iter().try_for_each(|message| self.step(message))?,
            // One checkpoint after the other.
            Input::Snapshot(message, state) if self.checkpointing => self.waiting_snapshot = Some((message, state)),
            Input::Snapshot(message, state) => self.take_snapshot(message, state)?,
            Input::Unreachable(id) => self.node.report_unreachable(id),
            // What became of an earlier term's says nothing of the one that is on its way.
            Input::SnapshotSent { term, .. } if term != self.node.raft.term => {}
            Input::SnapshotSent { to, arrived, .. } => {
                let status = if arrived { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
                self.node.report_snapshot(to, status);
            }
            Input::TransferLeader(to) => {
                self.shared.lessor.hand_over();
                self.node.transfer_leader(to);
            }
            Input::Progress(id, answer) => drop(answer.send(self.progress(id))),
            Input::Persisted { number } => self.note_persisted(number),
            Input::Checkpointed(mark) => self.note_checkpointed(mark)?,
            Input::Failed(error) => return Err(error),
            Input::Drain => self.draining = true,
            Input::Stop => self.stop(),
        }
        Ok(())
    }

    /// For how long a quorum that knew this leader elects no other: less than who starts anew waits to vote, and much less
    /// than who has heard of the leader does.
    pub(super) fn sure_ms(&self) -> u64 {
        let election = u64::try_from(self.config.election_ticks).unwrap_or(u64::MAX);
        self.config.tick_ms.saturating_mul(election) / SURE_PART
    }

    fn progress(&self, id: u64) -> Option<Progress> {
        let raft = &self.node.raft;
        let leads = raft.state == raft::StateRole::Leader;
        let matched = raft.prs().get(id).filter(|_| leads)?.matched;
        Some(Progress { matched, leader: raft.raft_log.last_index() })
    }

    /// A leader hands over before it goes, so that nobody has to wait for an election.
    fn stop(&mut self) {
        self.draining = true;
        self.stopping = Some(self.ticks);
        if self.node.raft.state == raft::StateRole::Leader {
            self.hand_over();
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    fn note_persisted(&mut self, number: u64) {
        self.persisted = number;
        self.commits.persisted(number);
        self.disk.wrote(number, self.ticks);
        let known = if self.persisted == self.written { self.newest } else { number };
        self.node.on_persist_ready(known);
        self.settle();
        if let Some((_, index)) = self.unapplied.take_if(|(of, _)| *of <= number) {
            self.node.advance_apply_to(index);
        }
        self.release_held();
        self.release_job();
    }

    fn note_checkpointed(&mut self, mark: Mark) -> Result<()> {
        self.checkpointing = false;
        for waiter in self.checkpoint_waiters.drain(..) {
            let _ = waiter.send(());
        }
        match self.installing.take() {
            Some(install) => self.installed(install),
            None => self.effects.writes.push(Write::Cut(mark)),
        }
        match self.waiting_snapshot.take() {
            Some((message, state)) => self.take_snapshot(message, state),
            None => Ok(()),
        }
    }

    pub(super) fn begin_install(&mut self, install: Install, job: Job) {
        self.checkpointed = job.head.applied_index;
        self.checkpointing = true;
        self.shared.gauges.installing.store(1, Ordering::Relaxed);
        self.installing = Some(install);
        self.effects.jobs.push(job);
    }

    pub(super) fn is_checkpointing(&self) -> bool {
        self.checkpointing
    }

    pub(super) fn refuse(&mut self, id: u64, refusal: Refusal) {
        if let Some(Pending { proposal, .. }) = self.pending.remove(&id) {
            let _ = proposal.answer.send(Err(refusal));
        }
    }

    /// Begins a checkpoint when enough was applied since the last, or when one is wanted.
    fn checkpoint_if_due(&mut self, wanted: bool) {
        let applied = self.node.raft.raft_log.applied;
        let entries = applied.saturating_sub(self.checkpointed);
        let changes = u64::try_from(self.unsaved).unwrap_or(u64::MAX);
        let due = entries >= self.config.snapshot_count
            || changes >= self.config.snapshot_count.saturating_mul(CHANGES_PER_ENTRY)
            || self.unsaved_bytes >= self.config.max_unsaved_bytes;
        if self.checkpointing || !(due || wanted || !self.checkpoint_waiters.is_empty()) {
            return;
        }
        let (head, changes) = {
            let mut state = self.shared.state.write();
            // Until the log begins behind a snapshot, each checkpoint says that it may not.
            let installed = self.persisted < self.begun_anew;
            (Head { installed, ..state.head() }, state.kv.take_changes())
        };
        self.checkpointed = head.applied_index;
        (self.unsaved, self.unsaved_bytes) = (0, 0);
        self.checkpointing = true;
        self.waiting_job = Some((self.written, Job { head, changes, whole: false, replaced: None }));
        self.release_job();
    }

    /// What is applied, and durable here, waits for nothing more.
    pub(super) fn settle(&mut self) {
        let log = &self.node.raft.raft_log;
        let settled = log.applied.min(log.persisted);
        self.node.mut_store().settle(settled);
    }

    /// Whether so much waits for the disk, or for those of a quorum, that nothing more may be proposed.
    pub(super) fn is_full(&self) -> bool {
        self.node.store().waiting_bytes() > self.config.max_waiting_bytes
    }

    /// Whether the disk does not keep up with checkpoints, so that nothing more may be taken into the log.
    pub(super) fn is_behind(&self) -> bool {
        self.checkpointing && self.unsaved_bytes > self.config.max_unsaved_bytes.saturating_mul(2)
    }

    fn release_job(&mut self) {
        if let Some((_, mut job)) = self.waiting_job.take_if(|(number, _)| *number <= self.persisted) {
            job.head.installed &= self.persisted < self.begun_anew;
            self.effects.jobs.push(job);
        }
    }
}

pub(super) fn context_id(context: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(context.try_into().ok()?))
}
