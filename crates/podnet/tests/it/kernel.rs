//! A plan is brought about, changed, lost and found again, and cleaned up.

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use netfilter::testing::{command, in_namespace};
use podnet::config::{Config, Flags};
use podnet::plan::Plan;
use podnet::sync::Network;
use tempfile::TempDir;
use tokio::sync::Notify;

const DEADLINE: Duration = Duration::from_secs(10);

fn flags(dir: &TempDir) -> Flags {
    let conf = format!("--cni-conf-dir={}", dir.path().display());
    Flags::try_parse_from(["kube-podnet", "--kubeconfig=/k", "--node-name=a", "--bridge-name=br-test", &conf])
        .expect("valid flags")
}

/// Routes to other nodes' pods, as (destination, gateway).
fn plan(routes: &[(&str, &str)]) -> Plan {
    let route = |(to, via): &(&str, &str)| (to.parse().expect("a network"), via.parse().expect("an address"));
    Plan { pod_cidrs: vec!["10.244.0.0/24".parse().expect("a network")], routes: routes.iter().map(route).collect() }
}

/// What `ip route` shows of ours, one a line.
fn routes() -> Vec<String> {
    let shown = command("ip route show proto 99");
    shown.lines().map(|line| line.split_whitespace().take(3).collect::<Vec<_>>().join(" ")).collect()
}

fn sysctl(key: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/{key}")).expect("readable").trim().to_owned()
}

/// A link on which 192.168.7.0/24 is reached.
fn link() {
    command("ip link add link0 type veth peer name link1");
    command("ip link set link1 up");
    command("ip address add 192.168.7.1/24 dev link0");
    command("ip link set link0 up");
}

#[test]
fn a_plan_is_brought_about_changed_and_cleaned_up() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let flags = flags(&dir);
    in_namespace(async || {
        link();
        command("ip route add 10.9.0.0/24 via 192.168.7.9");
        let config = Config::load(flags.clone()).expect("a valid configuration");
        let mut network = Network::new(config, Arc::new(Notify::new())).await.expect("a network");
        network
            .sync(&plan(&[("10.244.1.0/24", "192.168.7.2"), ("10.244.2.0/24", "192.168.7.3")]))
            .await
            .expect("synced");
        assert_eq!(routes(), ["10.244.1.0/24 via 192.168.7.2", "10.244.2.0/24 via 192.168.7.3"]);
        assert_eq!(sysctl("net/ipv4/ip_forward"), "1");
        assert_eq!(sysctl("net/bridge/bridge-nf-call-iptables"), "1");
        assert!(dir.path().join("10-coxswain.conflist").exists());

        // A node went, and another one has a new address.
        network.sync(&plan(&[("10.244.1.0/24", "192.168.7.4")])).await.expect("synced");
        assert_eq!(routes(), ["10.244.1.0/24 via 192.168.7.4"]);
        let save = command("iptables-save");
        for rule in ["-A COX-PODNET-MASQ -d 10.244.0.0/16 -j RETURN", "-A COX-PODNET-FWD -s 10.244.0.0/16 -j ACCEPT"] {
            assert_eq!(save.matches(rule).count(), 1, "{save}");
        }

        command("ip link add br-test type bridge");
        podnet::cleanup::run(&flags).await.expect("cleaned up");
        assert_eq!(routes(), [""; 0]);
        assert!(!command("iptables-save").contains("COX-"));
        assert!(!command("ip link show").contains("br-test"));
        assert!(command("ip route").contains("10.9.0.0/24 via 192.168.7.9"), "foreign routes stay");
        assert!(!dir.path().join("10-coxswain.conflist").exists());
        podnet::cleanup::run(&flags).await.expect("nothing to do");
    });
}

#[test]
fn an_unreachable_node_does_not_keep_the_others_away() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = Config::load(flags(&dir)).expect("a valid configuration");
    in_namespace(async || {
        link();
        let mut network = Network::new(config, Arc::new(Notify::new())).await.expect("a network");
        let failed = network.sync(&plan(&[("10.244.1.0/24", "172.31.0.1"), ("10.244.2.0/24", "192.168.7.3")])).await;
        let error = failed.expect_err("no way to 172.31.0.1");
        assert!(error.to_string().contains("10.244.1.0/24 via 172.31.0.1"), "{error:#}");
        assert_eq!(routes(), ["10.244.2.0/24 via 192.168.7.3"]);
        assert!(dir.path().join("10-coxswain.conflist").exists(), "pods of this node can start");
    });
}

#[test]
fn lost_routes_and_flushed_rules_are_noticed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = Config::load(flags(&dir)).expect("a valid configuration");
    in_namespace(async || {
        link();
        let lost = Arc::new(Notify::new());
        let mut network = Network::new(config, lost.clone()).await.expect("a network");
        let plan = plan(&[("10.244.1.0/24", "192.168.7.2")]);
        network.sync(&plan).await.expect("synced");
        command("ip route del 10.244.1.0/24");
        tokio::time::timeout(DEADLINE, lost.notified()).await.expect("the kernel tells");
        network.sync(&plan).await.expect("synced");
        assert_eq!(routes(), ["10.244.1.0/24 via 192.168.7.2"]);

        assert!(network.rules_live().await);
        command("iptables -t nat -F");
        command("iptables -t nat -X");
        assert!(!network.rules_live().await);
        network.sync(&plan).await.expect("synced");
        assert!(network.rules_live().await);
        let save = command("iptables-save");
        assert!(save.contains("-j COX-PODNET-MASQ"), "{save}");
        assert_eq!(save.lines().filter(|line| line.ends_with("-j COX-PODNET-FWD")).count(), 1, "{save}");
    });
}
