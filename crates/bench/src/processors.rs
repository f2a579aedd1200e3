//! The machine's processors: what the host of a virtual machine takes of their time, and running on one of them only.

use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Since the machine has started, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processors {
    all: u64,
    stolen: u64,
}

/// Of the fields of `cpu` in `/proc/stat`: what follows this one, guests' time, is counted in others as well.
const STEAL: usize = 7;

impl Processors {
    pub fn now() -> Result<Processors> {
        let file = Path::new("/proc/stat");
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Processors::parse(&text).context("/proc/stat does not begin with a line of all processors")
    }

    fn parse(text: &str) -> Option<Processors> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line.split_whitespace().take(STEAL + 1).map_while(|word| word.parse().ok()).collect();
        Some(Processors { all: ticks.iter().sum(), stolen: *ticks.get(STEAL)? })
    }

    /// The part of all time since then that was taken away.
    pub fn stolen_since(self, before: Processors) -> f64 {
        let all = self.all.saturating_sub(before.all);
        if all == 0 { 0.0 } else { self.stolen.saturating_sub(before.stolen) as f64 / all as f64 }
    }
}

/// Until it is dropped this process and whatever it starts run on one processor.
#[derive(Debug)]
pub struct OnOne {
    before: CpuSet,
}

impl OnOne {
    pub fn start() -> Result<OnOne> {
        let before = sched_getaffinity(Pid::from_raw(0))?;
        let is_allowed = |&number: &usize| before.is_set(number).unwrap_or(false);
        let number = (0..CpuSet::count()).find(is_allowed).context("this process may run nowhere")?;
        let mut one = CpuSet::new();
        one.set(number)?;
        run_on(&one)?;
        Ok(OnOne { before })
    }
}

impl Drop for OnOne {
    fn drop(&mut self) {
        // It could be said a moment ago, and of these threads.
        let _ = run_on(&self.before);
    }
}

/// Every thread of this process: what one of them starts inherits it.
fn run_on(processors: &CpuSet) -> Result<()> {
    for thread in std::fs::read_dir("/proc/self/task")? {
        let number = thread?.file_name().to_string_lossy().parse().context("a thread has a number")?;
        match sched_setaffinity(Pid::from_raw(number), processors) {
            // It has ended meanwhile.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error).context("cannot say which processors to run on"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stolen_is_a_part_of_all_time() {
        let before = Processors::parse("cpu  10 0 10 70 0 0 5 5 9 9\ncpu0 1 2 3\n").expect("all fields");
        let after = Processors::parse("cpu  20 0 20 120 0 0 15 25 99 99\n").expect("all fields");
        assert_eq!(after.stolen_since(before), 0.2);
        assert_eq!(after.stolen_since(after), 0.0);
        assert_eq!(Processors::parse("cpu  1 2 3 4\n"), None);
        assert_eq!(Processors::parse("cpu0 1 2 3 4 5 6 7 8 9\n"), None);
    }

    #[test]
    fn this_machine_tells() {
        assert!(Processors::now().expect("Linux").all > 0);
    }

    #[test]
    fn what_is_started_meanwhile_runs_on_one_processor() {
        let allowed = || {
            let mut command = std::process::Command::new("nproc");
            String::from_utf8(command.output().expect("nproc exists").stdout).expect("a number")
        };
        let before = allowed();
        let one = OnOne::start().expect("Linux");
        assert_eq!(allowed(), "1\n");
        drop(one);
        assert_eq!(allowed(), before);
    }
}
