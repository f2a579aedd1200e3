//! Masquerade for pod traffic that leaves the cluster, and acceptance of forwarded pod traffic where the policy is to
//! drop. In chains of their own, so that they neither touch nor depend on kube-proxy's.

use std::fmt::Write;

use ipnet::IpNet;

pub const MASQUERADE_CHAIN: &str = "COX-PODNET-MASQ";
pub const FORWARD_CHAIN: &str = "COX-PODNET-FWD";

/// How many rules each of them holds.
const MASQUERADE_RULES: usize = 4;
const FORWARD_RULES: usize = 2;

/// (table, our chain, the kernel's chain that leads to it, comment)
const JUMPS: [(&str, &str, &str, &str); 2] = [
    ("filter", FORWARD_CHAIN, "FORWARD", "kube-podnet: forward pod traffic"),
    ("nat", MASQUERADE_CHAIN, "POSTROUTING", "kube-podnet: masquerade pod traffic that leaves the cluster"),
];

/// Restore input for one IP family. `save` is what the kernel holds: jumps that exist are not added again.
pub fn render(pod_cidr: IpNet, cluster_cidr: IpNet, random_fully: bool, save: &str) -> String {
    let mut text = String::new();
    for (table, chain, from, comment) in JUMPS {
        let _ = writeln!(text, "*{table}\n:{chain} - [0:0]");
        // Appended, not inserted: kube-proxy's refusals and marks come first.
        if !jumps(save, table, chain).any(|line| line.starts_with(&format!("-A {from} "))) {
            let _ = writeln!(text, "-A {from} -m comment --comment \"{comment}\" -j {chain}");
        }
        text.push_str(&if table == "nat" {
            masquerade(pod_cidr, cluster_cidr, random_fully)
        } else {
            format!("-A {chain} -s {cluster_cidr} -j ACCEPT\n-A {chain} -d {cluster_cidr} -j ACCEPT\n")
        });
        text.push_str("COMMIT\n");
    }
    text
}

/// Within the cluster a pod's address is its own, and multicast has no one to answer to.
fn masquerade(pod_cidr: IpNet, cluster_cidr: IpNet, random_fully: bool) -> String {
    let chain = MASQUERADE_CHAIN;
    let multicast = if pod_cidr.addr().is_ipv4() { "224.0.0.0/4" } else { "ff00::/8" };
    let random = if random_fully { " --random-fully" } else { "" };
    format!(
        "-A {chain} ! -s {pod_cidr} -j RETURN\n-A {chain} -d {cluster_cidr} -j RETURN\n\
         -A {chain} -d {multicast} -j RETURN\n-A {chain} -j MASQUERADE{random}\n"
    )
}

/// Whether all that [`render`] writes is there; somebody may have flushed a table, and left the chains.
pub fn are_live(save: &str) -> bool {
    JUMPS.iter().all(|(table, chain, from, _)| {
        let wanted = if *table == "nat" { MASQUERADE_RULES } else { FORWARD_RULES };
        let own = table_lines(save, table).filter(|line| line.starts_with(&format!("-A {chain} "))).count();
        own == wanted && jumps(save, table, chain).any(|line| line.starts_with(&format!("-A {from} ")))
    })
}

/// Restore input that removes all of it; empty when there is nothing.
pub fn cleanup(save: &str) -> String {
    let mut text = String::new();
    for (table, chain, _, _) in JUMPS {
        if !table_lines(save, table).any(|line| line.starts_with(&format!(":{chain} "))) {
            continue;
        }
        let _ = writeln!(text, "*{table}\n:{chain} - [0:0]");
        for line in jumps(save, table, chain) {
            let _ = writeln!(text, "{}", line.replacen("-A ", "-D ", 1));
        }
        let _ = writeln!(text, "-X {chain}\nCOMMIT");
    }
    text
}

fn jumps<'a>(save: &'a str, table: &'a str, chain: &'a str) -> impl Iterator<Item = &'a str> {
    table_lines(save, table).filter(move |line| line.rsplit_once(" -j ").is_some_and(|(_, target)| target == chain))
}

fn table_lines<'a>(save: &'a str, table: &'a str) -> impl Iterator<Item = &'a str> {
    let mut inside = false;
    save.lines().filter(move |line| {
        if let Some(name) = line.strip_prefix('*') {
            inside = name == table;
        }
        inside
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "*nat\n:POSTROUTING ACCEPT [0:0]\n:COX-PODNET-MASQ - [0:0]\n\
        -A POSTROUTING -m comment --comment \"a b\" -j COX-PODNET-MASQ\n-A POSTROUTING -j OTHER\nCOMMIT\n";

    fn net(text: &str) -> IpNet {
        text.parse().expect("a network")
    }

    #[test]
    fn what_was_flushed_is_missed() {
        let fresh = render(net("10.244.1.0/24"), net("10.244.0.0/16"), true, "");
        assert!(are_live(&fresh));
        assert!(!are_live(""));
        for line in fresh.lines().filter(|line| line.starts_with("-A")) {
            let without: Vec<&str> = fresh.lines().filter(|other| *other != line).collect();
            assert!(!are_live(&without.join("\n")), "without {line}");
        }
    }

    #[test]
    fn rules_of_a_virgin_node() {
        insta::assert_snapshot!(render(net("10.244.1.0/24"), net("10.244.0.0/16"), true, ""));
    }

    #[test]
    fn a_jump_is_added_once() {
        let text = render(net("10.244.1.0/24"), net("10.244.0.0/16"), true, SAVED);
        assert!(!text.contains("-A POSTROUTING"), "{text}");
        assert!(text.contains("-A FORWARD"), "{text}");
    }

    #[test]
    fn cleanup_takes_only_what_is_ours() {
        let expected = "*nat\n:COX-PODNET-MASQ - [0:0]\n\
            -D POSTROUTING -m comment --comment \"a b\" -j COX-PODNET-MASQ\n-X COX-PODNET-MASQ\nCOMMIT\n";
        assert_eq!(cleanup(SAVED), expected);
        assert_eq!(cleanup("*nat\n:POSTROUTING ACCEPT [0:0]\nCOMMIT\n"), "");
    }
}
