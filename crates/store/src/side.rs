//! What is served beside gRPC, on the client port and on that for metrics: health, metrics, the version.

use std::sync::Arc;

use daemon::health::Health;
use http::StatusCode;

use crate::config::{CLUSTER_VERSION, ETCD_VERSION};
use crate::metrics;
use crate::pb::etcdserverpb::AlarmType;
use crate::raft_node::Handle;
use crate::shared::Shared;

const JSON: &str = "application/json";

pub fn pages(shared: &Arc<Shared>, quota_bytes: u64) -> Health {
    let health = Health::new();
    let alive = shared.clone();
    health.live("raft", move || if alive.status.failed() { Err("the node failed".into()) } else { Ok(()) });
    let ready = shared.clone();
    health.ready("linearizable_read", move || unhealthy(&ready, "").map_or(Ok(()), |why| Err(why.into())));
    let asked = shared.clone();
    health.status_page("/health", move |query| {
        let why = unhealthy(&asked, query);
        let (code, count) = match why {
            Some(_) => (StatusCode::SERVICE_UNAVAILABLE, &asked.gauges.health_failures),
            None => (StatusCode::OK, &asked.gauges.health_successes),
        };
        count.inc();
        let body = serde_json::json!({ "health": why.is_none().to_string(), "reason": why.unwrap_or_default() });
        (code, JSON, body.to_string())
    });
    health.page("/version", || {
        let version = serde_json::json!({ "etcdserver": ETCD_VERSION, "etcdcluster": CLUSTER_VERSION });
        (JSON, version.to_string())
    });
    health.metrics().register(|registry| metrics::register(registry, shared.clone(), quota_bytes));
    health
}

/// Has who asks whether a member is well wait until it has read as clients do.
pub fn read_first(health: &Health, shared: &Arc<Shared>, node: Handle) {
    let shared = shared.clone();
    health.prepare(move |path, query| {
        let reads = matches!(path, "/health" | "/readyz") && !asks(query, ("serializable", "true"));
        let (shared, node) = (shared.clone(), node.clone());
        Box::pin(async move {
            // Without a leader there is nothing to wait for.
            if reads && shared.status.leader() != 0 {
                shared.status.set_readable(node.read_index().await.is_ok());
            }
        })
    });
}

fn asks(query: &str, pair: (&str, &str)) -> bool {
    url::form_urlencoded::parse(query.as_bytes()).any(|(k, v)| (&*k, &*v) == pair)
}

/// Why a member is not well. The query may ask to leave alarms out of it, as `exclude=NOSPACE`, and whether it can read
/// what the quorum has, as `serializable=true`.
fn unhealthy(shared: &Shared, query: &str) -> Option<&'static str> {
    let serializable = asks(query, ("serializable", "true"));
    if shared.status.failed() {
        return Some("RAFT FAILED");
    }
    if shared.status.leader() == 0 && !serializable {
        return Some("RAFT NO LEADER");
    }
    if !shared.status.is_readable() && !serializable {
        return Some("QGET ERROR:etcdserver: request timed out");
    }
    // Reads wait for no disk; writes would.
    if !serializable && shared.gauges.disk_hung().is_some() {
        return Some("DISK HANGS");
    }
    if !serializable && shared.status.is_held() {
        return Some("DISK TOO SLOW");
    }
    let state = shared.state.read();
    let alarms = [(AlarmType::Corrupt, "ALARM CORRUPT"), (AlarmType::Nospace, "ALARM NOSPACE")];
    let excluded = |alarm: AlarmType| asks(query, ("exclude", alarm.as_str_name()));
    alarms.into_iter().find_map(|(alarm, why)| (state.is_raised(alarm) && !excluded(alarm)).then_some(why))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::gate::Gate;
    use crate::state::State;
    use crate::token;

    #[test]
    fn health_leaves_out_what_it_is_asked_to() {
        let tokens = token::Config::parse("simple", Duration::from_secs(1)).expect("etcd's default");
        let shared = Shared::new(1, State::default(), Gate::new(tokens, 4));
        shared.state.write().alarms.insert((1, AlarmType::Nospace.into()));
        let check = |query: &str, expected: Option<&str>| assert_eq!(unhealthy(&shared, query), expected, "{query}");
        check("", Some("RAFT NO LEADER"));
        check("exclude=NOSPACE", Some("RAFT NO LEADER"));
        check("serializable=false&exclude=NOSPACE", Some("RAFT NO LEADER"));
        check("serializable=true", Some("ALARM NOSPACE"));
        check("serializable=true&exclude=CORRUPT", Some("ALARM NOSPACE"));
        check("serializable=true&exclude=CORRUPT&exclude=NOSPACE", None);
        shared.status.set_readable(false);
        check("serializable=true&exclude=NOSPACE", None);
        shared.state.write().alarms.insert((1, AlarmType::Corrupt.into()));
        check("serializable=true", Some("ALARM CORRUPT"));
    }

    #[test]
    fn a_disk_that_hangs_is_no_good_health() {
        let tokens = token::Config::parse("simple", Duration::from_secs(1)).expect("etcd's default");
        let mut state = State::default();
        state.conf.voters = vec![1];
        let shared = Shared::new(1, state, Gate::new(tokens, 4));
        shared.status.set_leader(1);
        assert_eq!(unhealthy(&shared, ""), None);
        for disk in [&shared.gauges.log_disk, &shared.gauges.checkpoint_disk] {
            disk.during(Duration::from_secs(100), || assert_eq!(unhealthy(&shared, ""), None));
            disk.during(Duration::ZERO, || {
                assert_eq!(unhealthy(&shared, ""), Some("DISK HANGS"));
                assert_eq!(unhealthy(&shared, "serializable=true"), None);
            });
            assert_eq!(unhealthy(&shared, ""), None);
        }
        shared.status.set_held(true);
        assert_eq!(unhealthy(&shared, ""), Some("DISK TOO SLOW"));
    }
}
