//! What the own disk is given and has not written. Raft goes on without waiting for it, up to a point.

use std::collections::VecDeque;

use raft::StateRole;

use super::core::Core;

/// A disk that has written nothing for so many election timeouts hangs: the others of a leader that waited for its disk
/// would have elected another by then.
const HUNG_ELECTIONS: u64 = 2;
/// One that leads and takes nothing more, because its checkpoints do not keep up, waits for longer: the others may be as slow.
const BEHIND_ELECTIONS: u64 = 10;

#[derive(Default)]
pub struct Disk {
    /// Writes under way, by their readies, and what they carry.
    unwritten: VecDeque<(u64, u64)>,
    bytes: u64,
    /// The tick since which nothing was written though something was to be.
    since: u64,
    /// The last tick at which checkpoints did keep up.
    kept_up: u64,
}

impl Disk {
    pub fn given(&mut self, number: u64, bytes: u64, tick: u64) {
        if self.unwritten.is_empty() {
            self.since = tick;
        }
        self.unwritten.push_back((number, bytes));
        self.bytes += bytes;
    }

    pub fn wrote(&mut self, number: u64, tick: u64) {
        while let Some((_, bytes)) = self.unwritten.pop_front_if(|(of, _)| *of <= number) {
            self.bytes -= bytes;
        }
        self.since = tick;
    }

    /// Nothing more is taken from a leader then, who does not wait for this disk.
    pub fn is_full(&self, max_bytes: u64) -> bool {
        self.bytes > max_bytes
    }

    fn hangs(&self, tick: u64, patience: u64) -> bool {
        !self.unwritten.is_empty() && tick.saturating_sub(self.since) >= patience
    }
}

impl Core {
    /// A leader whose disk hangs lets another one lead: it would commit with all others and keep everything in memory.
    pub(super) fn hand_over_if_hung(&mut self) {
        let elections = u64::try_from(self.config.election_ticks).unwrap_or(u64::MAX);
        let raft = &self.node.raft;
        let leads = raft.state == StateRole::Leader && raft.lead_transferee.is_none();
        if !self.is_behind() {
            self.disk.kept_up = self.ticks;
        }
        let behind = self.ticks - self.disk.kept_up >= elections.saturating_mul(BEHIND_ELECTIONS);
        let hangs = self.disk.hangs(self.ticks, elections.saturating_mul(HUNG_ELECTIONS));
        if leads && (hangs || behind) && self.hand_over() {
            self.disk.kept_up = self.ticks;
            tracing::warn!("the disk has written nothing for long; another member is to lead");
        }
    }

    /// Whether there is anybody.
    pub(super) fn hand_over(&mut self) -> bool {
        let me = self.config.member_id;
        let voters = self.node.raft.prs().conf().voters().clone();
        let others = self.node.raft.prs().iter().filter(|(id, _)| **id != me && voters.contains(**id));
        let best = others.filter(|(_, peer)| peer.recent_active).max_by_key(|(_, peer)| peer.matched);
        let Some(to) = best.map(|(id, _)| *id) else { return false };
        self.shared.lessor.hand_over();
        self.node.transfer_leader(to);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_hangs_that_writes_nothing() {
        let mut disk = Disk::default();
        assert!(!disk.hangs(100, 20), "nothing is to be written");
        disk.given(1, 10, 100);
        disk.given(2, 10, 119);
        assert!(!disk.hangs(119, 20) && disk.hangs(120, 20));
        disk.wrote(1, 120);
        assert!(!disk.hangs(139, 20) && disk.hangs(140, 20), "it was slow, and then hung");
        disk.wrote(2, 150);
        assert!(!disk.hangs(200, 20));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut disk = Disk::default();
        disk.given(1, 100, 0);
        assert!(!disk.is_full(100));
        disk.given(2, 1, 0);
        assert!(disk.is_full(100));
        disk.wrote(1, 1);
        assert!(!disk.is_full(100));
    }
}
