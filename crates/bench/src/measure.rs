//! From samples to numbers. Pure.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::workloads::Unit;

/// A round is disturbed if the host took more than this of the processors' time for others: then what is measured is
/// how long a processor that slept waits for its turn.
const DISTURBED: f64 = 0.1;

/// What a round took of the processors.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    pub server: Duration,
    pub client: Duration,
    /// The part of their time that the host took away.
    pub stolen: f64,
}

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
    /// The part of the processors' time that the host took away.
    pub stolen: f64,
}

impl Round {
    pub fn new(mut latencies_us: Vec<u32>, length: Duration, writes: u64, spent: Spent) -> Result<Round> {
        ensure!(!latencies_us.is_empty(), "no request was answered within {} s", length.as_secs_f64());
        latencies_us.sort_unstable();
        let requests = latencies_us.len() as f64;
        let both = (spent.server + spent.client).as_secs_f64();
        Ok(Round {
            per_second: requests / length.as_secs_f64(),
            p50_ms: f64::from(quantile(&latencies_us, 0.50)) / 1e3,
            p99_ms: f64::from(quantile(&latencies_us, 0.99)) / 1e3,
            writes,
            server_cpu_us: spent.server.as_secs_f64() * 1e6 / requests,
            client_share: if both > 0.0 { spent.client.as_secs_f64() / both } else { 0.0 },
            stolen: spent.stolen,
        })
    }

    fn is_disturbed(&self) -> bool {
        self.stolen > DISTURBED
    }
}

/// Whether there are so many rounds that nobody disturbed.
pub fn are_enough(rounds: &[Round], count: usize) -> bool {
    rounds.iter().filter(|round| !round.is_disturbed()).count() >= count
}

/// So many of these: those that nobody disturbed, in their order, then those that were disturbed least.
fn least_disturbed(mut rounds: Vec<Round>, count: usize) -> Vec<Round> {
    let disturbance = |round: &Round| if round.is_disturbed() { round.stolen } else { 0.0 };
    rounds.sort_by(|one, other| disturbance(one).total_cmp(&disturbance(other)));
    rounds.truncate(count);
    rounds
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
    pub stolen: f64,
    pub peak_memory_mib: f64,
    /// Of all members together; rows that write nothing have none.
    pub disk_bytes_per_write: Option<f64>,
}

/// What one side of a row has come to in all its passes.
#[derive(Debug, Default)]
pub struct Measured {
    rounds: Vec<Round>,
    writes: u64,
    peak_memory_bytes: u64,
    disk_bytes: u64,
}

impl Measured {
    /// One more pass, with processes of its own. So many of its rounds count; all of them wrote.
    pub fn add(&mut self, rounds: Vec<Round>, count: usize, peak_memory_bytes: u64, disk_bytes: u64) {
        self.writes += rounds.iter().map(|r| r.writes).sum::<u64>();
        self.rounds.extend(least_disturbed(rounds, count));
        self.peak_memory_bytes = self.peak_memory_bytes.max(peak_memory_bytes);
        self.disk_bytes += disk_bytes;
    }

    pub fn side(&self, unit: Unit) -> Side {
        let of = |field: fn(&Round) -> f64| median(self.rounds.iter().map(field));
        Side {
            value: match unit {
                Unit::PerSecond => of(|r| r.per_second),
                Unit::Milliseconds => of(|r| r.p50_ms),
            },
            p50_ms: of(|r| r.p50_ms),
            p99_ms: of(|r| r.p99_ms),
            server_cpu_us: of(|r| r.server_cpu_us),
            client_share: of(|r| r.client_share),
            stolen: of(|r| r.stolen),
            peak_memory_mib: self.peak_memory_bytes as f64 / f64::from(1 << 20),
            disk_bytes_per_write: (self.writes > 0).then(|| self.disk_bytes as f64 / self.writes as f64),
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
        let spent = Spent { server: Duration::from_millis(30), client: Duration::from_millis(10), stolen: 0.0 };
        Round::new(latencies_us, Duration::from_secs(2), 7, spent).expect("samples")
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
        let spent = Spent { server: Duration::ZERO, client: Duration::ZERO, stolen: 0.0 };
        assert!(Round::new(Vec::new(), Duration::from_secs(1), 0, spent).is_err());
    }

    #[test]
    fn a_side_is_its_median_round() {
        let mut measured = Measured::default();
        measured.add(vec![round(vec![1000; 10]), round(vec![9000; 40])], 2, 3 << 20, 2_000);
        measured.add(vec![round(vec![2000; 20])], 1, 2 << 20, 100);
        let side = measured.side(Unit::PerSecond);
        assert_eq!((side.value, side.p50_ms, side.peak_memory_mib), (10.0, 2.0, 3.0));
        assert_eq!(side.disk_bytes_per_write, Some(100.0));
        assert_eq!(measured.side(Unit::Milliseconds).value, 2.0);
    }

    #[test]
    fn disturbed_rounds_count_only_where_there_are_no_others() {
        let stolen = |stolen| Round { stolen, ..round(vec![1000]) };
        let rounds = || [0.5, 0.05, 0.2, 0.01, 0.3].map(stolen).to_vec();
        let taken = |count| least_disturbed(rounds(), count).iter().map(|r| r.stolen).collect::<Vec<_>>();
        assert_eq!(taken(2), [0.05, 0.01]);
        assert_eq!(taken(4), [0.05, 0.01, 0.2, 0.3]);
        assert!(are_enough(&rounds(), 2) && !are_enough(&rounds(), 3));
    }

    #[test]
    fn a_round_that_does_not_count_wrote_all_the_same() {
        let mut measured = Measured::default();
        let disturbed = Round { stolen: 0.9, ..round(vec![9000]) };
        measured.add(vec![disturbed, round(vec![1000])], 1, 0, 1_400);
        let side = measured.side(Unit::PerSecond);
        assert_eq!((side.p50_ms, side.disk_bytes_per_write), (1.0, Some(100.0)));
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
