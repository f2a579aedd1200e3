//! Leases run out: as the store's own task has it, which is none of the core's business.

use tokio::sync::oneshot;

use super::Cluster;
use crate::auth::Asker;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::command::Op;
use crate::raft_node::core::Input;
use crate::raft_node::handle::Proposal;
use crate::raft_node::simulation::clients::permit;
use crate::raft_node::simulation::plant::Plant;

/// Between two looks, at most.
const PATIENCE: u64 = 60;
/// Until the raft thread hears of what was found, at most.
const DELAY: u64 = 20;

impl Cluster {
    /// Everyone's clock is right as far as leases go: it shows durations.
    pub fn tell_the_time(&self) {
        let now = if self.plant == Some(Plant::HastyLeases) { 2 * self.now } else { self.now };
        self.members.iter().for_each(|member| member.shared.lessor.set_now_ms(now));
    }

    /// What ran out in a term is ended in that term, or found again.
    pub fn expire_leases(&mut self, n: usize) -> Result<(), String> {
        let now = self.now;
        let member = &mut self.members[n];
        if member.leads() && member.expire_at <= now {
            member.expire_at = now + self.dice.within(1..PATIENCE);
            let (term, heard) = (member.shared.status.term(), now + self.dice.within(0..DELAY));
            let expired = member.shared.lessor.expired_now();
            self.figures.add("leases found to have run out", u64::try_from(expired.len()).expect("a few"));
            member.expired.extend(expired.into_iter().map(|id| (heard, term, id)));
        }
        while let Some((_, term, id)) = self.members[n].expired.pop_front_if(|(heard, ..)| *heard <= now) {
            let op = Asker::Member.sign(Op::LeaseRevoke(pb::LeaseRevokeRequest { id }));
            // Whether it was ended shows when the next look finds it, or not.
            let only_in = Some(term).filter(|_| self.plant != Some(Plant::EndLeasesAsAnyone));
            let proposal = Proposal { op, only_in, answer: oneshot::channel().0, _permit: permit() };
            self.input(n, Input::Propose(proposal))?;
        }
        Ok(())
    }
}
