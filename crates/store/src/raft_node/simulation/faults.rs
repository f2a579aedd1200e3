//! What goes wrong from outside, now and then: processes killed and stopped, disks slow and full, networks cut.

use super::cluster::Cluster;

/// Milliseconds between two faults, at most.
const PEACE: u64 = 350;

impl Cluster {
    pub fn fault(&mut self) {
        self.next_fault = self.now + self.dice.within(1..PEACE);
        let ids: Vec<u64> = self.members.iter().map(|m| m.id).collect();
        let n = self.dice.index(ids.len());
        let now = self.now;
        match self.dice.within(0..16) {
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
            _ => self.members[n].full_until = now + self.dice.within(10..400),
        }
    }
}
