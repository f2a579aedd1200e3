//! The member on threads: one drives the core and applies, one writes the log, one writes checkpoints.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use anyhow::Result;
use raft::prelude::Message;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::checkpointer;
use super::core::{Config, Core, Input};
use super::effects::{Delivery, Job, Outgoing, Write};
use super::handle::Handle;
use super::log_writer::LogWriter;
use super::threads::{RaftThread, Threads, spawn};
use crate::checkpoint::Checkpoint;
use crate::pb::etcdserverpb as pb;
use crate::shared::Shared;

/// Inputs taken before the state machine is driven, and what they may carry: all of it is one batch of the log.
const MAX_INPUTS: usize = 1_024;
const MAX_INPUT_BYTES: usize = 32 << 20;
/// A removed member, which serves nobody any more, stays for so many election timeouts: its peers may need its voice to
/// find out that it was removed.
pub const REMOVED_ELECTIONS: u32 = 3;

/// What the links need to write what they were given.
const SENDING: Duration = Duration::from_millis(2);

/// The way to the peers. Nothing here waits.
pub trait Outbound: Send {
    fn send(&self, messages: Vec<Message>);
    fn send_snapshot(&self, outgoing: Outgoing);
    /// None of those on their way is wanted any more.
    fn stop_snapshots(&self);
    /// Those that are new can be sent to.
    fn add_members(&self, members: &[pb::Member]);
    /// Nobody else is sent to any more, but what was sent before still goes out.
    fn remove_others(&self, members: &[pb::Member]);
    /// This member is none any more.
    fn set_removed(&self);
}

/// The queue into the raft thread; made first, because the peers' messages need it too.
pub fn inputs() -> (UnboundedSender<Input>, UnboundedReceiver<Input>) {
    unbounded_channel()
}

pub struct Parts {
    pub config: Config,
    pub tick: Duration,
    pub shared: Arc<Shared>,
    pub wal: raftlog::Wal,
    pub recovered: raftlog::Recovered,
    pub checkpoint: Box<dyn Checkpoint>,
    pub peers: Box<dyn Outbound>,
    /// Cancelled when the node cannot or may not go on.
    pub failed: CancellationToken,
}

/// Starts the node on a log and a checkpoint that were opened and belong together, and in the runtime that this is called
/// in the task that tells others what the node has done: woken from within, theirs are woken cheaply.
pub fn start(
    raft: RaftThread,
    parts: Parts,
    (inputs_tx, inputs): (UnboundedSender<Input>, UnboundedReceiver<Input>),
) -> Result<(Handle, Threads)> {
    let Parts { config, tick, shared, wal, recovered, checkpoint, peers, failed } = parts;
    let (writes, writes_rx) = channel();
    let (jobs, jobs_rx) = channel();
    let core = Core::new(config, shared.clone(), recovered, rand::random())?;
    let next_tick = Instant::now() + tick;
    let (deliveries, deliveries_rx) = unbounded_channel();
    tokio::spawn(deliver(deliveries_rx, shared.clone()));
    let node = Node { core, inputs, writes, jobs, deliveries, peers, failed, tick, next_tick, removed_at: None };
    let gauges = shared.gauges.clone();
    let writer = LogWriter { wal, writes: writes_rx, inputs: inputs_tx.clone(), gauges };
    let (checkpoint_inputs, gauges) = (inputs_tx.clone(), shared.gauges.clone());
    let others = vec![
        spawn("log", move || writer.run())?,
        spawn("checkpoint", move || checkpointer::run(checkpoint, &jobs_rx, &checkpoint_inputs, &gauges))?,
    ];
    let threads = raft.begin(node, inputs_tx.clone(), others);
    let election_ticks = u32::try_from(config.election_ticks).unwrap_or(u32::MAX);
    Ok((Handle::new(inputs_tx, tick.saturating_mul(election_ticks)), threads))
}

/// Ends when the raft thread has. The queue is short by itself: who is answered waits for that before asking again.
async fn deliver(mut deliveries: UnboundedReceiver<Delivery>, shared: Arc<Shared>) {
    while let Some(delivery) = deliveries.recv().await {
        delivery.deliver(&shared.hub);
    }
}

pub(super) struct Node {
    core: Core,
    inputs: UnboundedReceiver<Input>,
    writes: Sender<Write>,
    jobs: Sender<Job>,
    deliveries: UnboundedSender<Delivery>,
    peers: Box<dyn Outbound>,
    failed: CancellationToken,
    tick: Duration,
    next_tick: Instant,
    removed_at: Option<Instant>,
}

impl Node {
    pub async fn run(mut self) {
        // Panicking, too.
        let _ended = self.failed.clone().drop_guard();
        if let Err(error) = self.drive().await {
            tracing::error!(error = format!("{error:#}"), "the store cannot go on");
            self.core.set_failed();
        }
    }

    async fn drive(&mut self) -> Result<()> {
        self.core.begin()?;
        let ticks = u32::try_from(self.core.config.election_ticks).unwrap_or(u32::MAX);
        let grace = self.tick.saturating_mul(ticks).saturating_mul(REMOVED_ELECTIONS);
        loop {
            let done = self.core.drive()?;
            self.carry_out()?;
            if self.removed_at.is_some_and(|at| at.elapsed() > grace) {
                return Ok(());
            }
            if done {
                return Ok(());
            }
            if self.core.defers() {
                // The links run on this thread.
                tokio::time::sleep(SENDING).await;
                continue;
            }
            self.take_inputs().await?;
        }
    }

    fn carry_out(&mut self) -> Result<()> {
        let effects = std::mem::take(&mut self.core.effects);
        if let Some(members) = &effects.members {
            self.peers.add_members(members);
        }
        failpoint!("raft-before-send");
        // Messages first: peers write while this member does.
        if !effects.messages.is_empty() {
            self.peers.send(effects.messages);
        }
        // Who is none any more is sent that first.
        if let Some(members) = &effects.members {
            self.peers.remove_others(members);
        }
        for delivery in effects.deliveries {
            // Without the runtime nobody waits for it any more.
            let _ = self.deliveries.send(delivery);
        }
        if effects.deposed {
            self.peers.stop_snapshots();
        }
        effects.snapshots.into_iter().for_each(|outgoing| self.peers.send_snapshot(outgoing));
        failpoint!("raft-after-send");
        for write in effects.writes {
            if self.writes.send(write).is_err() {
                return Err(self.why_the_log_ended());
            }
        }
        for job in effects.jobs {
            // If the checkpoint thread is gone it has said why.
            let _ = self.jobs.send(job);
        }
        if effects.removed && self.removed_at.is_none() {
            tracing::warn!("this member was removed from its cluster; it stops");
            self.removed_at = Some(Instant::now());
            self.peers.set_removed();
        }
        Ok(())
    }

    /// The log thread has said so before it ended.
    fn why_the_log_ended(&mut self) -> anyhow::Error {
        while let Ok(input) = self.inputs.try_recv() {
            if let Input::Failed(error) = input {
                return error;
            }
        }
        anyhow::anyhow!("the log thread is gone")
    }

    /// Waits for one input and takes what else has arrived.
    async fn take_inputs(&mut self) -> Result<()> {
        let mut next = self.next_input().await;
        let (mut taken, mut bytes) = (0, 0);
        while let Some(input) = next {
            bytes += input.bytes();
            taken += 1;
            self.core.take(input)?;
            let more = taken < MAX_INPUTS && bytes < MAX_INPUT_BYTES;
            next = more.then(|| self.inputs.try_recv().ok()).flatten();
        }
        Ok(())
    }

    /// With peers, time passes in ticks.
    async fn next_input(&mut self) -> Option<Input> {
        if !self.core.needs_clock() {
            return Some(self.inputs.recv().await.unwrap_or(Input::Stop));
        }
        let input = timeout_at(self.next_tick, self.inputs.recv()).await;
        let now = Instant::now();
        if self.next_tick <= now {
            self.core.tick();
            // Ticks that were slept through are not made up for: the peers' time has not passed faster either.
            self.next_tick = now + self.tick;
        }
        input.ok().map(|input| input.unwrap_or(Input::Stop))
    }
}
