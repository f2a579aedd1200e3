//! NodePorts: two pods cannot listen on the same port of a node.

use crate::event::Event;
use crate::framework::{Cycle, Filter, Plugin, PreFilter, Rejection};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::ports::HostPort;

pub struct NodePorts;

struct Wanted<'a>(&'a [HostPort]);

fn clash(wanted: &[HostPort], taken: &[HostPort]) -> bool {
    taken.iter().any(|t| wanted.iter().any(|w| w.clashes(t)))
}

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn pre_filter<'a>(&'a self, cycle: Cycle<'a>) -> PreFilter<'a> {
        if cycle.pod.host_ports.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::Check(Box::new(Wanted(&cycle.pod.host_ports)))
    }

    fn hint(&self, pod: &PodInfo, event: Event<'_>) -> bool {
        let freed = event.freed().is_some_and(|gone| clash(&pod.host_ports, &gone.host_ports));
        freed || matches!(event, Event::NodeAdded(_))
    }
}

impl Filter for Wanted<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if node.pods.iter().any(|p| clash(self.0, &p.host_ports)) {
            return Err(Rejection::unschedulable("node(s) didn't have free ports for the requested pod ports"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{cluster, node, pod, verdicts};
    use serde_json::{Value, json};

    fn listening(name: &str, port: Value) -> crate::PodInfo {
        pod(name, json!({"spec": {"containers": [{"ports": [port]}]}}))
    }

    #[test]
    fn filter() {
        let check = |taken: Value, wanted: Value, fits: bool| {
            let snapshot = cluster([node("a", json!({}))], [("a", listening("taken", taken.clone()))]);
            let got = verdicts("NodePorts", json!(null), &snapshot, &listening("p", wanted.clone()));
            let reason = (!fits).then(|| "node(s) didn't have free ports for the requested pod ports".to_owned());
            assert_eq!(got, [reason], "{wanted} beside {taken}");
        };
        let port = |port: i32| json!({"containerPort": 80, "hostPort": port});
        let on = |port: i32, address: &str| json!({"containerPort": 80, "hostPort": port, "hostIP": address});
        check(port(80), port(80), false);
        check(port(80), port(81), true);
        check(port(80), json!({"containerPort": 80}), true);
        check(port(80), json!({"containerPort": 80, "hostPort": 80, "protocol": "UDP"}), true);
        check(on(80, "10.0.0.1"), on(80, "10.0.0.2"), true);
        check(on(80, "10.0.0.1"), on(80, "10.0.0.1"), false);
        check(on(80, "10.0.0.1"), port(80), false);
    }
}
