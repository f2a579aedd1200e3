//! A little interpreter of iptables rules: a packet goes in, its fate comes out.
//!
//! It knows exactly the matches and targets that our rules use and panics on any other, so a new one cannot slip
//! through untested. Where a rule matches by chance, both outcomes are followed: the fate lists every endpoint that the
//! packet may reach.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

#[derive(Debug, Clone)]
pub struct Packet {
    pub protocol: &'static str,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub port: u16,
}

pub fn packet(source: &str, destination: &str, port: u16) -> Packet {
    let ip = |text: &str| text.parse().expect("an address");
    Packet { protocol: "tcp", source: ip(source), destination: ip(destination), port }
}

/// `10.180.0.1:80, 10.180.0.2:80 masqueraded`, `REJECT`, `DROP` or `unchanged`.
pub struct Tables {
    chains: BTreeMap<(String, String), Vec<Vec<String>>>,
    local: Vec<IpAddr>,
}

#[derive(Debug, Clone, PartialEq)]
enum Verdict {
    Fallthrough,
    Stop(String),
}

#[derive(Debug, Clone)]
struct State {
    masquerade: bool,
}

impl Tables {
    pub fn load(restore: &str, local: &[&str]) -> Self {
        let mut tables =
            Self { chains: BTreeMap::new(), local: local.iter().map(|ip| ip.parse().expect("an address")).collect() };
        let mut table = String::new();
        for line in restore.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name.to_owned();
            } else if line.starts_with(':') || line == "COMMIT" {
                continue;
            } else {
                let mut words = split(line);
                let (command, chain) = (words.remove(0), words.remove(0));
                let rules = tables.chains.entry((table.clone(), chain)).or_default();
                if command == "-I" { rules.insert(0, words) } else { rules.push(words) }
            }
        }
        tables
    }

    /// The fate of the first packet of a connection; from the node itself when its source is local.
    pub fn fate(&self, packet: &Packet) -> String {
        let from_node = self.local.contains(&packet.source);
        let mut fates = BTreeSet::new();
        let entry = if from_node { "OUTPUT" } else { "PREROUTING" };
        for (verdict, state) in self.run("nat", entry, packet, State { masquerade: false }) {
            let nat = match &verdict {
                Verdict::Stop(target) => Some(target.clone()),
                Verdict::Fallthrough => None,
            };
            let mut after = packet.clone();
            if let Some((ip, _)) = nat.as_deref().and_then(|target| target.rsplit_once(':')) {
                after.destination = ip.parse().expect("an address");
                after.port = 0;
            }
            let hook = if from_node {
                "OUTPUT"
            } else if self.local.contains(&after.destination) {
                "INPUT"
            } else {
                "FORWARD"
            };
            for (verdict, _) in self.run("filter", hook, &after, state.clone()) {
                fates.insert(match (verdict, &nat) {
                    (Verdict::Stop(target), _) if target != "ACCEPT" => target,
                    (_, None) => "unchanged".to_owned(),
                    (_, Some(nat)) if state.masquerade => format!("{nat} masqueraded"),
                    (_, Some(nat)) => nat.clone(),
                });
            }
        }
        fates.into_iter().collect::<Vec<_>>().join(", ")
    }

    /// Every way through a chain: its verdict with the state at the end.
    fn run(&self, table: &str, chain: &str, packet: &Packet, state: State) -> Vec<(Verdict, State)> {
        let rules = self.chains.get(&(table.to_owned(), chain.to_owned()));
        let mut open = vec![state];
        let mut done = Vec::new();
        for rule in rules.into_iter().flatten() {
            let mut next = Vec::new();
            for state in open {
                let (matched, chance) = self.matches(rule, packet, &state);
                if chance || !matched {
                    next.push(state.clone());
                }
                if matched {
                    self.target(table, rule, packet, state, &mut next, &mut done);
                }
            }
            open = next;
        }
        done.extend(open.into_iter().map(|state| (Verdict::Fallthrough, state)));
        done
    }

    fn target(
        &self,
        table: &str,
        rule: &[String],
        packet: &Packet,
        mut state: State,
        next: &mut Vec<State>,
        done: &mut Vec<(Verdict, State)>,
    ) {
        let Some(target) = after(rule, "-j") else { return next.push(state) };
        match target {
            "MARK" => {
                state.masquerade |= after(rule, "--or-mark").is_some();
                next.push(state);
            }
            "DNAT" => {
                let to = after(rule, "--to-destination").expect("a DNAT names its target");
                done.push((Verdict::Stop(to.to_owned()), state));
            }
            "ACCEPT" | "DROP" | "REJECT" => done.push((Verdict::Stop(target.to_owned()), state)),
            chain if chain.starts_with("KUBE-") => {
                for (verdict, state) in self.run(table, chain, packet, state) {
                    match verdict {
                        Verdict::Fallthrough => next.push(state),
                        stop => done.push((stop, state)),
                    }
                }
            }
            other => panic!("unknown target {other}"),
        }
    }

    /// Does the rule match, and is that only by chance?
    fn matches(&self, rule: &[String], packet: &Packet, state: &State) -> (bool, bool) {
        let (mut matched, mut chance, mut negate) = (true, false, false);
        let mut words = rule.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut arg = || words.next().expect("an argument");
            let holds = match word {
                "!" => {
                    negate = true;
                    continue;
                }
                "-j" => break,
                "-m" | "--comment" | "--mode" | "--name" | "--seconds" => {
                    arg();
                    continue;
                }
                "--reap" | "--set" => continue,
                "-p" => arg() == packet.protocol,
                "-d" => contains(arg(), packet.destination),
                "-s" => contains(arg(), packet.source),
                "--dport" => arg() == packet.port.to_string(),
                "--dst-type" => arg() == "LOCAL" && self.local.contains(&packet.destination),
                "--src-type" => arg() == "LOCAL" && self.local.contains(&packet.source),
                "--ctstate" => arg().split(',').any(|name| name == "NEW"),
                "--mark" => {
                    arg();
                    state.masquerade
                }
                "--probability" => {
                    arg();
                    chance = true;
                    true
                }
                "--rcheck" => false, // the first packet of a client
                other => panic!("unknown match {other} in {rule:?}"),
            };
            matched &= holds != negate;
            negate = false;
        }
        (matched, chance)
    }
}

fn after<'a>(rule: &'a [String], option: &str) -> Option<&'a str> {
    rule.iter().position(|word| word == option).and_then(|i| rule.get(i + 1)).map(String::as_str)
}

fn contains(net: &str, ip: IpAddr) -> bool {
    net.parse::<IpNet>().map_or_else(|_| net.parse() == Ok(ip), |net| net.contains(&ip))
}

/// Words, with a quoted one kept whole.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in line.split('"').enumerate() {
        if i % 2 == 1 { words.push(part.to_owned()) } else { words.extend(part.split_whitespace().map(str::to_owned)) }
    }
    words
}
