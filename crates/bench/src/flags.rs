//! What to measure, checked before anything is started.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;

use crate::fill::Load;
use crate::workloads::{self, Kind};

/// Measures kube-store and etcd side by side
#[derive(Debug, Clone, Parser)]
#[command(name = "store-bench")]
pub struct Flags {
    /// The kube-store binary
    #[arg(long, value_name = "FILE")]
    ours: PathBuf,
    /// The etcd binary
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/etcd")]
    peer: PathBuf,
    /// Where the data directories of both are made; they are removed afterwards
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Measured rounds per side and row
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// How often all rows are gone through, each time with its part of the rounds, on new clusters
    #[arg(long, default_value_t = 3)]
    passes: usize,
    /// Length of a round, after its warm-up
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Sizes of the cluster
    #[arg(long, value_delimiter = ',', default_value = "1,3")]
    members: Vec<usize>,
    /// Numbers of clients; for the watch fan-out, of watchers
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000")]
    clients: Vec<usize>,
    /// Rows of a single client on all processors, too, and not on one
    #[arg(long)]
    unpinned: bool,
    /// Only these rows
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// Instead of the rows: fills one member of each side with so many keys, starts it again and deletes most of them
    #[arg(long, value_name = "N")]
    keys: Option<usize>,
    /// The size of their values
    #[arg(long, value_name = "BYTES", default_value_t = 1024, requires = "keys")]
    value_bytes: usize,
    /// Client connections with TLS and client certificates
    #[arg(long)]
    tls: bool,
    /// Writes a chart of the ratios here, and the report beside it as .md
    #[arg(long, value_name = "FILE.svg")]
    chart: Option<PathBuf>,
}

/// Everything checked.
#[derive(Debug, Clone)]
pub struct Plan {
    pub ours: PathBuf,
    pub peer: PathBuf,
    pub dir: PathBuf,
    pub rounds: usize,
    pub passes: usize,
    pub window: Duration,
    pub members: Vec<usize>,
    pub clients: Vec<usize>,
    pub unpinned: bool,
    pub kinds: Vec<&'static Kind>,
    pub tls: bool,
    pub chart: Option<PathBuf>,
    pub fill: Option<Load>,
}

impl Flags {
    pub fn validate(self) -> Result<Plan> {
        for binary in [&self.ours, &self.peer] {
            ensure!(binary.is_file(), "there is no {}", binary.display());
        }
        ensure!(self.dir.is_dir(), "--dir {} is no directory", self.dir.display());
        ensure!(self.rounds > 0, "--rounds must be at least 1");
        ensure!(self.passes > 0, "--passes must be at least 1");
        ensure!((0.1..=600.0).contains(&self.seconds), "--seconds must be between 0.1 and 600");
        ensure!(self.members.iter().all(|n| [1, 3, 5].contains(n)), "--members may be 1, 3 and 5");
        ensure!(self.clients.iter().all(|n| (1..=10_000).contains(n)), "--clients must be between 1 and 10000");
        ensure!(self.keys != Some(0), "--keys must be at least 1");
        ensure!((1..=1_000_000).contains(&self.value_bytes), "--value-bytes must be between 1 and 1000000");
        let chart_is_svg = self.chart.as_ref().is_none_or(|file| file.extension().is_some_and(|e| e == "svg"));
        ensure!(chart_is_svg, "--chart must name a file that ends in .svg");
        Ok(Plan {
            kinds: workloads::named(&self.only)?,
            ours: self.ours,
            peer: self.peer,
            dir: self.dir,
            rounds: self.rounds,
            passes: self.passes.min(self.rounds),
            window: Duration::from_secs_f64(self.seconds),
            members: self.members,
            clients: self.clients,
            unpinned: self.unpinned,
            tls: self.tls,
            chart: self.chart,
            fill: self.keys.map(|keys| Load { keys, value_bytes: self.value_bytes }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(flags: &[&str], expected: Result<usize, &str>) {
        let flags = ["store-bench", "--ours", "/proc/self/exe", "--peer", "/proc/self/exe"].iter().chain(flags);
        let got = Flags::try_parse_from(flags).expect("known flags").validate();
        match (got, expected) {
            (Ok(plan), Ok(rows)) => assert_eq!(plan.kinds.len() * plan.clients.len() * plan.members.len(), rows),
            (Err(error), Err(words)) => assert!(format!("{error:#}").contains(words), "{error:#}"),
            (got, expected) => panic!("{got:?} is not {expected:?}"),
        }
    }

    #[test]
    fn mistakes_are_named() {
        check(&[], Ok(7 * 3 * 2));
        check(&["--only", "put,mixed", "--members", "1", "--clients", "100"], Ok(2));
        check(&["--only", "putt"], Err("putt is none of put"));
        check(&["--rounds", "0"], Err("--rounds"));
        check(&["--passes", "0"], Err("--passes"));
        check(&["--members", "2"], Err("--members"));
        check(&["--clients", "0"], Err("--clients"));
        check(&["--chart", "store.png"], Err(".svg"));
        check(&["--keys", "0"], Err("--keys"));
        check(&["--keys", "5", "--value-bytes", "0"], Err("--value-bytes"));
        check(&["--dir", "/nowhere"], Err("/nowhere"));
    }
}
