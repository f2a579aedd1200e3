//! What is being measured, for how long yet, and every row as it is done.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// On standard error; without a terminal only the finished rows are told.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub fn new(rounds: usize) -> Progress {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(rounds as u64) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {bar:24} {pos}/{len} rounds, {eta} left  {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Progress { bar }
    }

    pub fn doing(&self, what: String) {
        self.bar.set_message(what);
    }

    pub fn round_done(&self) {
        self.bar.inc(1);
    }

    pub fn more(&self, rounds: u64) {
        self.bar.inc_length(rounds);
    }

    pub fn skip(&self, rounds: usize) {
        self.bar.set_length(self.bar.length().unwrap_or(0).saturating_sub(rounds as u64));
    }

    pub fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
