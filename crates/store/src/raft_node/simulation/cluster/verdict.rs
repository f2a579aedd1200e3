//! Whether the cluster is well, and whether it kept its promises.

use std::sync::Arc;

use history::{At, Keys};

use super::Cluster;
use crate::raft_node::simulation::clients::{Client, read};
use crate::raft_node::simulation::figures::Figures;
use crate::raft_node::simulation::member::Member;
use crate::shared::Shared;

impl Cluster {
    pub fn leader(&self) -> Option<&Member> {
        self.members.iter().filter(|m| m.leads()).max_by_key(|m| m.term())
    }

    /// Somebody leads, every member has applied everything, and nobody waits for an answer.
    pub fn is_settled(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let Some(core) = &leader.core else { return false };
        let (last, committed) = (core.node.raft.raft_log.last_index(), core.node.raft.raft_log.committed);
        let conf = leader.conf();
        let same =
            |id: &u64| self.position(*id).is_some_and(|n| self.members[n].shared.state.read().applied.index == last);
        let ready = last == committed && conf.voters_outgoing.is_empty();
        ready && conf.voters.iter().chain(&conf.learners).all(same) && self.clients.iter().all(Client::is_idle)
    }

    pub fn judge(mut self) -> Result<Figures, String> {
        let (first, conf) = match self.leader() {
            Some(leader) => (leader.shared.clone(), leader.conf()),
            None => return Err("nobody leads".to_owned()),
        };
        self.compare(&first, &conf.voters)?;
        self.compare(&first, &conf.learners)?;
        let now = self.now + 1;
        let outcome = read(&first, &Keys::all(), At::Latest);
        let request = history::Request::Range(history::Range { keys: Keys::all(), limit: 0 }, At::Latest);
        let last = history::Operation { client: u32::MAX, call: now, ret: now + 1, request, outcome };
        self.history.operations.push(last);
        for watcher in std::mem::take(&mut self.watchers) {
            self.history.watches.extend(watcher.finish(now, &first));
        }
        let report = history::check(&self.history);
        if !report.is_clean() {
            return Err(report.to_string());
        }
        self.count();
        Ok(self.figures)
    }

    /// Members that applied the same entries hold the same.
    fn compare(&self, with: &Arc<Shared>, ids: &[u64]) -> Result<(), String> {
        let expected = with.state.read();
        for member in self.members.iter().filter(|m| ids.contains(&m.id)) {
            let state = member.shared.state.read_recursive();
            if state.kv.records() != expected.kv.records() || state.members != expected.members {
                return Err(format!("member {} applied the same entries and does not hold the same", member.id));
            }
        }
        Ok(())
    }

    fn count(&mut self) {
        let answered = |o: &&history::Operation| matches!(o.outcome, history::Outcome::Answered { .. });
        let all = self.history.operations.len();
        let answered = self.history.operations.iter().filter(answered).count();
        let number = |n: usize| u64::try_from(n).expect("usize fits u64");
        self.figures.add("operations answered", number(answered));
        self.figures.add("operations not answered", number(all - answered));
        self.figures.add("messages dropped", self.network.dropped);
        self.figures.add("elections", number(self.checks.elections()));
        self.figures.add("entries", self.checks.entries());
        self.figures.add("changes of members", self.operator.done);
    }
}
