//! `/healthz` and `/livez` of kube-proxy: may a load balancer send traffic for Services to this node?
//!
//! The proxy is healthy while no change has waited for longer than twice the sync period. `/healthz` also fails on a
//! node that is about to be removed, so that load balancers drain it; `/livez` does not.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::http::{Handler, Page};

/// Shared between the proxiers, which report, and the server, which tells.
#[derive(Debug)]
pub struct ProxyHealth {
    timeout: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The oldest change not yet in the kernel, per family.
    pending_since: [Option<Timestamp>; 2],
    last_updated: Option<Timestamp>,
    eligible: bool,
}

impl ProxyHealth {
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, state: Mutex::new(State { eligible: true, ..State::default() }) }
    }

    pub fn queued(&self, family: proxyrules::Family, now: Timestamp) {
        self.state.lock().pending_since[family as usize].get_or_insert(now);
    }

    pub fn updated(&self, family: proxyrules::Family, now: Timestamp) {
        let mut state = self.state.lock();
        state.pending_since[family as usize] = None;
        state.last_updated = Some(now);
    }

    pub fn set_eligible(&self, eligible: bool) {
        self.state.lock().eligible = eligible;
    }

    pub fn is_healthy(&self, now: Timestamp) -> bool {
        let waited = |since: &Timestamp| Duration::try_from(now.duration_since(*since)).unwrap_or_default();
        self.state.lock().pending_since.iter().flatten().all(|since| waited(since) < self.timeout)
    }

    /// The answer on this path.
    pub fn page(&self, path: &str, now: Timestamp) -> Option<Page> {
        let check_node = match path {
            "/healthz" => true,
            "/livez" => false,
            _ => return None,
        };
        let healthy = self.is_healthy(now);
        let state = self.state.lock();
        let ok = healthy && (state.eligible || !check_node);
        // A healthy proxy is as fresh as now, even if nothing has changed for long.
        let updated = if healthy { Some(now) } else { state.last_updated };
        let mut body = serde_json::json!({
            "lastUpdated": updated.map(|at| at.to_string()).unwrap_or_default(),
            "currentTime": now.to_string(),
        });
        if check_node {
            body["nodeEligible"] = state.eligible.into();
        }
        let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Some(Page { status, headers: Vec::new(), body: body.to_string() })
    }
}

pub fn handler(health: Arc<ProxyHealth>) -> Handler {
    Arc::new(move |path| health.page(path, Timestamp::now()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxyrules::Family;

    #[test]
    fn waiting_too_long_and_leaving_nodes_are_unhealthy() {
        let at = |second: i64| Timestamp::from_second(second).expect("in range");
        let health = ProxyHealth::new(Duration::from_secs(60));
        let check = |path: &str, now: i64, expected: u16| {
            let page = health.page(path, at(now)).expect("a known path");
            assert_eq!(page.status.as_u16(), expected, "{path} at {now}: {}", page.body);
        };
        check("/healthz", 0, 200);
        health.queued(Family::V4, at(10));
        health.queued(Family::V4, at(65));
        check("/healthz", 69, 200);
        check("/healthz", 71, 503);
        check("/livez", 71, 503);
        health.updated(Family::V4, at(72));
        check("/healthz", 500, 200);
        health.set_eligible(false);
        check("/healthz", 500, 503);
        check("/livez", 500, 200);
        assert_eq!(health.page("/other", at(1)), None);
    }
}
