//! What goes wrong from outside, now and then: processes killed, ended and stopped, disks slow and full, networks cut.

use super::cluster::Cluster;
use crate::raft_node::core::Input;

/// Milliseconds between two faults, at most.
const PEACE: u64 = 350;

impl Cluster {
    pub fn fault(&mut self) -> Result<(), String> {
        self.next_fault = self.now + self.dice.within(1..PEACE);
        let ids: Vec<u64> = self.members.iter().map(|m| m.id).collect();
        let n = self.dice.index(ids.len());
        let now = self.now;
        match self.dice.within(0..18) {
            0..=2 if self.members[n].core.is_some() => {
                self.figures.count("killed");
                self.crash(n);
            }
            3 => {
                self.figures.count("all killed");
                (0..ids.len())
                    .filter(|n| self.members[*n].core.is_some())
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|n| self.crash(n));
            }
            4 | 5 => {
                self.figures.count("partitions");
                self.network.partition(&ids, &mut self.dice);
            }
            6 => {
                self.figures.count("isolated");
                self.network.isolate(ids[n], &ids);
            }
            7..=9 => self.network.heal(),
            10..=12 => {
                self.figures.count("stopped");
                self.members[n].paused_until = now + self.dice.within(20..1_500);
            }
            13 | 14 => {
                self.figures.count("slow disks");
                self.members[n].slow_until = now + self.dice.within(100..1_500);
            }
            15 | 16 => return self.terminate(n),
            _ => self.members[n].full_until = now + self.dice.within(10..400),
        }
        Ok(())
    }

    /// As who starts daemons ends them: it is told, its clients have a while, and then the node ends.
    fn terminate(&mut self, n: usize) -> Result<(), String> {
        let member = &mut self.members[n];
        if !member.hears(self.now) || member.stop_at.is_some() {
            return Ok(());
        }
        self.figures.count("told to end");
        member.stop_at = Some(self.now + self.dice.within(1..400));
        self.input(n, Input::Drain)
    }

    /// Nothing is under way any more, but cuts of the log.
    pub fn end(&mut self, n: usize) -> Result<(), String> {
        let member = &self.members[n];
        if member.core.is_none() {
            return Ok(());
        }
        if self.looks_inside && member.disk.newest_unsynced().is_some() {
            return Err(format!("member {} ends before its disk has everything", member.id));
        }
        self.figures.count("ended");
        self.crash(n);
        Ok(())
    }
}
