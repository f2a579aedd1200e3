//! Says that the disk hangs while it does: the thread that waits for it cannot.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::metrics::Gauges;

const LOOK: Duration = Duration::from_secs(1);
const SAY_AGAIN: Duration = Duration::from_secs(10);

pub async fn run(gauges: &Gauges) -> Infallible {
    let mut said: Option<Instant> = None;
    loop {
        sleep(LOOK).await;
        let Some((what, hung)) = gauges.disk_hung() else {
            said = None;
            continue;
        };
        if said.is_none_or(|at| at.elapsed() >= SAY_AGAIN) {
            let took_ms = hung.as_millis();
            tracing::warn!(what, took_ms, "the disk hangs: it has not written what it was given");
            said = Some(Instant::now());
        }
    }
}
