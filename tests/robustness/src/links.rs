//! Who hears whom, as rules of each member's namespace. Decided here, carried out by the cluster.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// A place on the switch: a member by its number, or the clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Clients,
    Member(usize),
}

/// What does not get through. Nothing is cut by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cuts {
    /// From the first to the second.
    deaf: BTreeSet<(Place, usize)>,
    /// Packets lost on their way to a member, in percent.
    loss: Vec<(usize, u32)>,
}

impl Cuts {
    /// What `from` sends does not reach member `to`.
    pub fn one_way(mut self, from: Place, to: usize) -> Cuts {
        if from != Place::Member(to) {
            self.deaf.insert((from, to));
        }
        self
    }

    /// Members of different groups do not hear each other.
    pub fn apart(mut self, left: &[usize], right: &[usize]) -> Cuts {
        for (l, r) in left.iter().flat_map(|l| right.iter().map(move |r| (*l, *r))) {
            self = self.one_way(Place::Member(l), r).one_way(Place::Member(r), l);
        }
        self
    }

    pub fn lossy(mut self, to: usize, percent: u32) -> Cuts {
        self.loss.push((to, percent));
        self
    }

    /// A member's rules for what it is sent, as `iptables-restore` reads them.
    pub fn rules(&self, member: usize, address: impl Fn(Place) -> String) -> String {
        let mut rules = String::from("*filter\n:INPUT ACCEPT [0:0]\n");
        for (from, _) in self.deaf.iter().filter(|(_, to)| *to == member) {
            let _ = writeln!(rules, "-A INPUT -s {} -j DROP", address(*from));
        }
        for (_, percent) in self.loss.iter().filter(|(to, _)| *to == member) {
            let share = f64::from(*percent) / 100.0;
            let _ = writeln!(rules, "-A INPUT -i eth0 -m statistic --mode random --probability {share} -j DROP");
        }
        rules + "COMMIT\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cuts: &Cuts, member: usize, expected: &[&str]) {
        let rules = cuts.rules(member, |place| format!("{place:?}"));
        let drops: Vec<&str> = rules.lines().filter(|l| l.starts_with("-A")).collect();
        assert_eq!(drops, expected);
    }

    #[test]
    fn cuts_become_rules() {
        check(&Cuts::default(), 0, &[]);
        let split = Cuts::default().apart(&[0], &[1, 2]);
        check(&split, 0, &["-A INPUT -s Member(1) -j DROP", "-A INPUT -s Member(2) -j DROP"]);
        check(&split, 1, &["-A INPUT -s Member(0) -j DROP"]);
        let deaf = Cuts::default().one_way(Place::Clients, 0).lossy(1, 20);
        check(&deaf, 0, &["-A INPUT -s Clients -j DROP"]);
        check(&deaf, 1, &["-A INPUT -i eth0 -m statistic --mode random --probability 0.2 -j DROP"]);
    }
}
