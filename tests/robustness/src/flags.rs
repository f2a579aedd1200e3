//! What is to be run, for how long, against which binary.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Faults and traffic against real kube-store members; everything is judged by what clients were told
#[derive(Debug, Clone, Parser)]
#[command(name = "robustness")]
pub struct Flags {
    /// The kube-store to test
    #[arg(long, value_name = "FILE")]
    pub kube_store: PathBuf,
    /// Where disks, logs and what a failure leaves are put
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// How long faults are made under traffic, in minutes
    #[arg(long, default_value_t = 20)]
    pub minutes: u64,
    /// The same in seconds
    #[arg(long, conflicts_with = "minutes")]
    pub seconds: Option<u64>,
    /// Decides which faults come in which order (default: chance)
    #[arg(long)]
    pub seed: Option<u32>,
    /// How often a store with 100,000 keys is killed and started under load
    #[arg(long, default_value_t = 200)]
    pub restarts: usize,
    /// Members of a cluster (default: 3 and 5 by turns)
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=7))]
    pub members: Option<u8>,
    /// Run one part only: rounds, restarts, or a directed case by name
    #[arg(long, value_name = "PART")]
    pub only: Option<String>,
}

impl Flags {
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(self.minutes.saturating_mul(60)))
    }

    pub fn wants(&self, part: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == part)
    }
}
