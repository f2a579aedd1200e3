//! From samples to numbers. Pure.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::workloads::Unit;

/// What one round of one side measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Round {
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub writes: u64,
    /// Processor time of all members for one request.
    pub server_cpu_us: f64,
    /// The client's part of the processor time that both took.
    pub client_share: f64,
}

impl Round {
    pub fn new(
        mut latencies_us: Vec<u32>,
        length: Duration,
        writes: u64,
        server_cpu: Duration,
        client_cpu: Duration,
    ) -> Result<Round> {
        ensure!(!latencies_us.is_empty(), "no request was answered within {} s", length.as_secs_f64());
        latencies_us.sort_unstable();
        let requests = latencies_us.len() as f64;
        let both = (server_cpu + client_cpu).as_secs_f64();
        Ok(Round {
            per_second: requests / length.as_secs_f64(),
            p50_ms: f64::from(quantile(&latencies_us, 0.50)) / 1e3,
            p99_ms: f64::from(quantile(&latencies_us, 0.99)) / 1e3,
            writes,
            server_cpu_us: server_cpu.as_secs_f64() * 1e6 / requests,
            client_share: if both > 0.0 { client_cpu.as_secs_f64() / both } else { 0.0 },
        })
    }
}

/// The smallest sample that at least this part of all does not exceed.
fn quantile(sorted: &[u32], part: f64) -> u32 {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

/// One side of a row: medians over its rounds, and what its processes took: the most memory, all the bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    pub value: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub server_cpu_us: f64,
    pub client_share: f64,
    pub peak_memory_mib: f64,
    /// Of all members together; rows that write nothing have none.
    pub disk_bytes_per_write: Option<f64>,
}

/// What one side of a row has come to in all its passes.
#[derive(Debug, Default)]
pub struct Measured {
    rounds: Vec<Round>,
    peak_memory_bytes: u64,
    disk_bytes: u64,
}

impl Measured {
    /// One more pass, with processes of its own.
    pub fn add(&mut self, rounds: Vec<Round>, peak_memory_bytes: u64, disk_bytes: u64) {
        self.rounds.extend(rounds);
        self.peak_memory_bytes = self.peak_memory_bytes.max(peak_memory_bytes);
        self.disk_bytes += disk_bytes;
    }

    pub fn side(&self, unit: Unit) -> Side {
        let of = |field: fn(&Round) -> f64| median(self.rounds.iter().map(field));
        let writes: u64 = self.rounds.iter().map(|r| r.writes).sum();
        Side {
            value: match unit {
                Unit::PerSecond => of(|r| r.per_second),
                Unit::Milliseconds => of(|r| r.p50_ms),
            },
            p50_ms: of(|r| r.p50_ms),
            p99_ms: of(|r| r.p99_ms),
            server_cpu_us: of(|r| r.server_cpu_us),
            client_share: of(|r| r.client_share),
            peak_memory_mib: self.peak_memory_bytes as f64 / f64::from(1 << 20),
            disk_bytes_per_write: (writes > 0).then(|| self.disk_bytes as f64 / writes as f64),
        }
    }
}

/// How many times better ours is: above 1 in our favour, whatever the unit.
pub fn ratio(unit: Unit, ours: f64, peer: f64) -> f64 {
    match unit {
        Unit::PerSecond => ours / peer,
        Unit::Milliseconds => peer / ours,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(latencies_us: Vec<u32>) -> Round {
        let (server, client) = (Duration::from_millis(30), Duration::from_millis(10));
        Round::new(latencies_us, Duration::from_secs(2), 7, server, client).expect("samples")
    }

    #[test]
    fn quantiles_of_a_round() {
        let round = round((1..=1000).rev().map(|n| n * 1000).collect());
        assert_eq!((round.per_second, round.p50_ms, round.p99_ms), (500.0, 500.0, 990.0));
        assert_eq!((round.server_cpu_us, round.client_share), (30.0, 0.25));
    }

    #[test]
    fn a_single_sample_is_every_quantile() {
        let round = round(vec![1500]);
        assert_eq!((round.p50_ms, round.p99_ms), (1.5, 1.5));
    }

    #[test]
    fn nothing_answered_is_no_measurement() {
        let second = Duration::from_secs(1);
        assert!(Round::new(Vec::new(), second, 0, second, second).is_err());
    }

    #[test]
    fn a_side_is_its_median_round() {
        let mut measured = Measured::default();
        measured.add(vec![round(vec![1000; 10]), round(vec![9000; 40])], 3 << 20, 2_000);
        measured.add(vec![round(vec![2000; 20])], 2 << 20, 100);
        let side = measured.side(Unit::PerSecond);
        assert_eq!((side.value, side.p50_ms, side.peak_memory_mib), (10.0, 2.0, 3.0));
        assert_eq!(side.disk_bytes_per_write, Some(100.0));
        assert_eq!(measured.side(Unit::Milliseconds).value, 2.0);
    }

    #[test]
    fn an_even_number_of_rounds_meets_in_the_middle() {
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
    }

    #[test]
    fn more_is_better_unless_it_is_time() {
        assert_eq!(ratio(Unit::PerSecond, 20.0, 10.0), 2.0);
        assert_eq!(ratio(Unit::Milliseconds, 20.0, 10.0), 0.5);
    }
}
