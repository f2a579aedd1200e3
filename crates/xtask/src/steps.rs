//! Steps on the terminal: what is being done, for how long, and what went wrong where.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cluster::Cluster;
use crate::unit;

/// Shows one line per step; remembers how long everything took.
#[derive(Debug)]
pub struct Steps {
    started: Instant,
    done: usize,
    total: usize,
    plain: bool,
}

/// A step that failed, with the logs that tell why.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub struct Failed {
    step: String,
    source: anyhow::Error,
}

impl Steps {
    pub fn new(total: usize) -> Self {
        let plain = !std::io::IsTerminal::is_terminal(&std::io::stderr());
        Self { started: Instant::now(), done: 0, total, plain }
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Carries out one step; `units` are the daemons whose logs are shown when it fails.
    pub fn step<T>(
        &mut self,
        name: &str,
        cluster: &Cluster,
        units: &[String],
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.done += 1;
        let bar = ProgressBar::new_spinner();
        let prefix = format!("[{:>2}/{}]", self.done, self.total);
        if let Ok(style) = ProgressStyle::with_template("{prefix} {spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_prefix(prefix.clone());
        bar.set_message(name.to_owned());
        if !self.plain {
            bar.enable_steady_tick(Duration::from_millis(80));
        }
        let started = Instant::now();
        let result = work();
        bar.finish_and_clear();
        let seconds = started.elapsed().as_secs_f64();
        match result {
            Ok(value) => {
                eprintln!("{prefix} ok   {name:<44} {seconds:>6.2} s");
                Ok(value)
            }
            Err(source) => {
                eprintln!("{prefix} FAIL {name:<44} {seconds:>6.2} s");
                show_logs(cluster, &to_blame(cluster, units));
                Err(Failed { step: name.to_owned(), source }.into())
            }
        }
    }
}

/// Of the daemons that a step is about, those that have ended; else of all, those that have; else whatever it is about.
fn to_blame(cluster: &Cluster, units: &[String]) -> Vec<String> {
    let ended = |all: Vec<String>| -> Vec<String> {
        all.into_iter().filter(|unit| unit::running(cluster, unit).is_none()).collect()
    };
    let candidates = [ended(units.to_vec()), ended(unit::recorded(cluster))];
    candidates.into_iter().find(|found| !found.is_empty()).unwrap_or_else(|| units.to_vec())
}

fn show_logs(cluster: &Cluster, units: &[String]) {
    for unit in units {
        let tail = unit::tail(cluster, unit);
        if !tail.is_empty() {
            eprintln!("\n--- {} (last lines)\n{tail}", cluster.log(unit).display());
        }
    }
    eprintln!();
}
