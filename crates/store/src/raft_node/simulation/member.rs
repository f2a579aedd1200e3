//! One member: a core, a disk, a clock, and what is under way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use raft::StateRole;
use raft::prelude::ConfState;

use super::dice::Dice;
use super::disk::Disk;
use super::network::Packet;
use super::plant::Plant;
use crate::gate::Gate;
use crate::raft_node::Kept;
use crate::raft_node::core::{Config, Core};
use crate::shared::Shared;
use crate::state::State;
use crate::token;

/// Milliseconds between two ticks of a clock that goes right.
const TICK: u64 = 10;
/// Little: disks are often too slow for it.
const MAX_UNSAVED_BYTES: usize = 500;
const MAX_WAITING_BYTES: u64 = 1_500;
pub const ELECTION_TICKS: usize = 10;
/// As the node has it: how long a removed member stays.
pub const REMOVED_GRACE: u64 = TICK * 10 * 3;

/// What a seed decides about all members.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub seed: u64,
    pub snapshot_count: u64,
    pub kept: Kept,
    pub max_applied_bytes: u64,
}

pub struct Member {
    pub id: u64,
    pub disk: Disk,
    pub core: Option<Core>,
    pub shared: Arc<Shared>,
    pub next_tick: u64,
    pub drive_at: Option<u64>,
    pub synced_at: Option<u64>,
    pub saved_at: Option<u64>,
    pub start_at: Option<u64>,
    pub leaves_at: Option<u64>,
    /// Told to end, and when its clients are let go of.
    pub stop_at: Option<u64>,
    /// Neither hears nor thinks until then; what arrives meanwhile waits.
    pub paused_until: u64,
    pub inbox: VecDeque<Packet>,
    /// Thinks no further until then: what it has sent is to leave first.
    pub sends_until: u64,
    /// Its disk takes long until then, or has no room.
    pub slow_until: u64,
    pub full_until: u64,
    /// Knows that it was removed: does not come back.
    pub expelled: bool,
    /// Its clock's tick in milliseconds.
    tick: u64,
    starts: u64,
    plant: Option<Plant>,
    /// When it is looked next for leases that have run out.
    pub expire_at: u64,
    /// Leases found to have run out, in which term, and when the raft thread hears of it.
    pub expired: VecDeque<(u64, u64, i64)>,
    /// The entry of the state that was last compared with others'.
    pub compared: u64,
    /// When it was last driven: what it took for committed, and the term, if it led.
    pub led: Option<(u64, u64)>,
}

/// Nobody authenticates here.
fn gate() -> Gate {
    Gate::new(token::Config::Simple { ttl: Duration::from_secs(300) }, 4)
}

impl Member {
    pub fn new(id: u64, state: State, start_at: u64, plant: Option<Plant>) -> Member {
        Member {
            id,
            disk: Disk::new(&state, plant),
            core: None,
            shared: Arc::new(Shared::new(id, state, gate())),
            next_tick: 0,
            drive_at: None,
            synced_at: None,
            saved_at: None,
            start_at: Some(start_at),
            leaves_at: None,
            stop_at: None,
            paused_until: 0,
            inbox: VecDeque::new(),
            sends_until: 0,
            slow_until: 0,
            full_until: 0,
            expelled: false,
            tick: TICK,
            starts: 0,
            plant,
            expire_at: 0,
            expired: VecDeque::new(),
            compared: 0,
            led: None,
        }
    }

    pub fn start(&mut self, now: u64, settings: Settings, dice: &mut Dice) -> Result<(), String> {
        self.starts += 1;
        self.start_at = None;
        let (state, recovered) = self.disk.open().map_err(|why| format!("member {} cannot start: {why}", self.id))?;
        let shared = Arc::new(Shared::new(self.id, state, gate()));
        let config = Config {
            member_id: self.id,
            snapshot_count: settings.snapshot_count,
            election_ticks: ELECTION_TICKS,
            tick_ms: if self.plant == Some(Plant::SureForever) { TICK * 1_000 } else { TICK },
            max_unsaved_bytes: MAX_UNSAVED_BYTES,
            max_waiting_bytes: MAX_WAITING_BYTES,
            max_applied_bytes: settings.max_applied_bytes,
            kept: settings.kept,
        };
        // Unlike any other run's.
        let first_id = self.starts << 48 | self.id << 32;
        let mut core = Core::new(config, shared.clone(), recovered, first_id).map_err(|e| format!("{e:#}"))?;
        core.begin().map_err(|e| format!("{e:#}"))?;
        (self.shared, self.core) = (shared, Some(core));
        (self.synced_at, self.saved_at, self.leaves_at) = (None, None, None);
        // A clock may be wrong by a third.
        self.tick = if dice.percent(30) { dice.within(TICK * 2 / 3..TICK * 4 / 3 + 1) } else { TICK };
        self.next_tick = now + self.tick;
        self.drive_at = Some(now);
        Ok(())
    }

    /// The process ends; what was not synced is lost from some point on.
    pub fn crash(&mut self, dice: &mut Dice) {
        (self.core, self.led) = (None, None);
        self.expired.clear();
        let kept = dice.index(self.disk.unsynced() + 1);
        self.disk.crash(kept, dice.percent(50));
        (self.paused_until, self.sends_until) = (0, 0);
        (self.drive_at, self.synced_at, self.saved_at, self.stop_at) = (None, None, None, None);
    }

    pub fn hears(&self, now: u64) -> bool {
        self.core.is_some() && self.paused_until <= now
    }

    /// When something happens here by itself.
    pub fn next_event(&self, now: u64) -> u64 {
        let Some(core) = &self.core else { return self.start_at.unwrap_or(u64::MAX) };
        if self.paused_until > now {
            return self.paused_until;
        }
        let tick = core.needs_clock().then_some(self.next_tick);
        let expiry = self.leads().then_some(self.expire_at);
        let expired = self.expired.front().map(|(at, ..)| *at);
        let events =
            [tick, self.drive_at, self.synced_at, self.saved_at, self.leaves_at, self.stop_at, expiry, expired];
        events.into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// Time has passed; true if the core was told of it. What was slept through is not made up for.
    pub fn tick(&mut self, now: u64) -> bool {
        let Some(core) = self.core.as_mut().filter(|core| core.needs_clock()) else { return false };
        let due = self.next_tick <= now;
        if due {
            core.tick();
            self.next_tick = now + self.tick;
        }
        due
    }

    /// Raft draws its timeouts from the process's randomness; here they follow from the seed.
    pub fn fix_timeout(&mut self, settings: Settings) {
        let Some(core) = &mut self.core else { return };
        let mut own = Dice::new(settings.seed ^ self.id << 40 ^ core.node.raft.term << 20 ^ self.starts);
        core.node.raft.set_randomized_election_timeout(ELECTION_TICKS + own.index(ELECTION_TICKS));
    }

    pub fn leads(&self) -> bool {
        self.core.as_ref().is_some_and(|core| core.node.raft.state == StateRole::Leader)
    }

    pub fn leading(&self) -> Option<(u64, u64)> {
        self.core.as_ref().filter(|_| self.leads()).map(|core| (core.node.raft.term, core.node.raft.raft_log.committed))
    }

    pub fn term(&self) -> u64 {
        self.core.as_ref().map_or(0, |core| core.node.raft.term)
    }

    pub fn conf(&self) -> ConfState {
        self.shared.state.read().conf.clone()
    }

    pub fn has_removed(&self, id: u64) -> bool {
        self.shared.state.read().is_gone(id)
    }

    pub fn describe(&self) -> String {
        let state = self.shared.state.read();
        let role = self.core.as_ref().map(|core| {
            let raft = &core.node.raft;
            (raft.state, raft.term, raft.leader_id, raft.raft_log.committed, raft.raft_log.last_index())
        });
        let conf = &state.conf;
        format!(
            "{}: applied {}, voters {:?}, outgoing {:?}, learners {:?}, (role, term, leader, committed, last) {role:?}",
            self.id, state.applied.index, conf.voters, conf.voters_outgoing, conf.learners
        )
    }
}
