//! A token bucket: `clientConnection.qps` and `burst`.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// Time is given out in slots of `1/qps`; up to `burst` slots may be saved.
#[derive(Debug)]
pub struct Rate {
    interval: Duration,
    saved: Duration,
    next: Mutex<Instant>,
}

impl Rate {
    pub fn new(qps: f64, burst: usize) -> Self {
        let interval = Duration::from_secs_f64(1.0 / qps);
        let saved = interval.saturating_mul(u32::try_from(burst.saturating_sub(1)).unwrap_or(u32::MAX));
        let next = Instant::now().checked_sub(saved).unwrap_or_else(Instant::now);
        Rate { interval, saved, next: Mutex::new(next) }
    }

    /// Waits for the caller's turn.
    pub async fn turn(&self) {
        let at = {
            let mut next = self.next.lock();
            let earliest = Instant::now().checked_sub(self.saved).unwrap_or(*next);
            let at = (*next).max(earliest);
            *next = at + self.interval;
            at
        };
        sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_then_the_rate() {
        tokio::time::advance(Duration::from_secs(60)).await;
        let rate = Rate::new(10.0, 5);
        let start = Instant::now();
        let mut times = Vec::new();
        for _ in 0..8 {
            rate.turn().await;
            times.push(start.elapsed().as_millis() / 100);
        }
        assert_eq!(times, [0, 0, 0, 0, 0, 1, 2, 3]);
    }
}
