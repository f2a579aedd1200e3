//! Bounds on requests in progress: one for reads, one for writes. What comes on top is told to come back later.

use std::sync::Arc;

use api::ApiError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::info::RequestInfo;
use crate::metrics::Metrics;

pub struct Inflight {
    reads: Gate,
    writes: Gate,
}

struct Gate {
    name: &'static str,
    limit: usize,
    free: Arc<Semaphore>,
}

impl Inflight {
    pub fn new(reads: usize, writes: usize) -> Self {
        let gate = |name, limit| Gate { name, limit, free: Arc::new(Semaphore::new(limit)) };
        Self { reads: gate("readOnly", reads), writes: gate("mutating", writes) }
    }

    /// A place for the request, given back on drop; none is needed for what runs long.
    pub fn enter(&self, info: &RequestInfo, metrics: &Metrics) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        if info.is_long_running() || matches!(info.path.as_str(), "/healthz" | "/livez" | "/readyz" | "/metrics") {
            return Ok(None);
        }
        let read = matches!(info.verb.as_str(), "get" | "list" | "head");
        let gate = if read { &self.reads } else { &self.writes };
        let entered = gate.free.clone().try_acquire_owned();
        metrics.inflight(gate.name, gate.limit - gate.free.available_permits());
        match entered {
            Ok(permit) => Ok(Some(permit)),
            Err(_) => Err(ApiError::too_many_requests("Too many requests, please try again later.", 1)),
        }
    }
}
