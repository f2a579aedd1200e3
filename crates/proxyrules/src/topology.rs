//! Which endpoints a service port uses on this node: readiness, traffic policies, hints and the fallback to endpoints
//! that terminate but still serve.

use crate::endpoint::Endpoint;
use crate::service::ServicePort;

/// The endpoints for each way into a service port.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Categorized<'a> {
    /// For policies of `Cluster`.
    pub cluster: Vec<&'a Endpoint>,
    /// For policies of `Local`.
    pub local: Vec<&'a Endpoint>,
    /// Both together, each once: those that need a chain.
    pub reachable: Vec<&'a Endpoint>,
    /// Usable endpoints exist somewhere, though perhaps none that this node may use.
    pub any: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hints {
    Ignore,
    SameNode,
    SameZone,
}

pub(crate) fn categorize<'a>(
    endpoints: &'a [Endpoint],
    service: &ServicePort,
    node: &str,
    zone: Option<&str>,
) -> Categorized<'a> {
    let mut result = Categorized::default();
    if service.uses_cluster_endpoints() {
        result.cluster = cluster(endpoints, node, zone);
        result.any = !result.cluster.is_empty();
    }
    if service.uses_local_endpoints() {
        result.local = ready_or_draining(endpoints, |endpoint| endpoint.local);
        result.any |= endpoints.iter().any(|endpoint| endpoint.ready || is_draining(endpoint));
    }
    // Keeps the order of `endpoints`, which both lists are drawn from.
    let used = |endpoint: &&Endpoint| {
        let is_it = |other: &&Endpoint| std::ptr::eq(*other, *endpoint);
        result.cluster.iter().any(is_it) || result.local.iter().any(is_it)
    };
    result.reachable = match (result.cluster.is_empty(), result.local.is_empty()) {
        (_, true) => result.cluster.clone(),
        (true, _) => result.local.clone(),
        _ => endpoints.iter().filter(used).collect(),
    };
    result
}

/// Ready endpoints as the hints allow; failing any, all those that drain, wherever they are: the last effort before
/// connections are refused.
fn cluster<'a>(endpoints: &'a [Endpoint], node: &str, zone: Option<&str>) -> Vec<&'a Endpoint> {
    let hints = hints_to_follow(endpoints, node, zone);
    let hinted = |endpoint: &Endpoint| match hints {
        Hints::Ignore => true,
        Hints::SameNode => endpoint.for_nodes.contains(node),
        Hints::SameZone => zone.is_some_and(|zone| endpoint.for_zones.contains(zone)),
    };
    let ready: Vec<_> = endpoints.iter().filter(|endpoint| endpoint.ready && hinted(endpoint)).collect();
    if ready.is_empty() { endpoints.iter().filter(|endpoint| is_draining(endpoint)).collect() } else { ready }
}

fn ready_or_draining(endpoints: &[Endpoint], eligible: impl Fn(&Endpoint) -> bool) -> Vec<&Endpoint> {
    let pick = |usable: fn(&Endpoint) -> bool| -> Vec<&Endpoint> {
        endpoints.iter().filter(|endpoint| eligible(endpoint) && usable(endpoint)).collect()
    };
    let ready = pick(|endpoint| endpoint.ready);
    if ready.is_empty() { pick(is_draining) } else { ready }
}

fn is_draining(endpoint: &Endpoint) -> bool {
    endpoint.serving && endpoint.terminating
}

/// Hints count only when every ready endpoint carries them and one points here: a half-written set must not starve us.
fn hints_to_follow(endpoints: &[Endpoint], node: &str, zone: Option<&str>) -> Hints {
    let mut ready = endpoints.iter().filter(|endpoint| endpoint.ready);
    let complete = |hinted: fn(&Endpoint) -> bool| endpoints.iter().filter(|e| e.ready).all(hinted);
    if ready.clone().any(|e| e.for_nodes.contains(node)) && complete(|e| !e.for_nodes.is_empty()) {
        return Hints::SameNode;
    }
    let Some(zone) = zone else { return Hints::Ignore };
    if ready.any(|e| e.for_zones.contains(zone)) && complete(|e| !e.for_zones.is_empty()) {
        return Hints::SameZone;
    }
    Hints::Ignore
}
