//! A server process: started with its log in a file, gone when dropped, and what it has used.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Linux tells processor time in hundredths of a second, whatever the kernel's own tick is.
const TICK: Duration = Duration::from_millis(10);
const LOG_TAIL_LINES: usize = 5;

/// What a process has used since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub cpu: Duration,
    pub written_bytes: u64,
    pub peak_memory_bytes: u64,
    pub memory_bytes: u64,
}

impl Usage {
    pub fn of(pid: u32) -> Result<Usage> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        let status = read("status")?;
        let kib = |name: &str| number(&status, name).map(|kib| kib << 10);
        Ok(Usage {
            cpu: cpu(&read("stat")?).context("/proc/PID/stat is not as expected")?,
            written_bytes: number(&read("io")?, "write_bytes:").context("/proc/PID/io has no write_bytes")?,
            peak_memory_bytes: kib("VmHWM:").context("/proc/PID/status has no VmHWM")?,
            memory_bytes: kib("VmRSS:").context("/proc/PID/status has no VmRSS")?,
        })
    }

    /// Of several processes: times and bytes together, of memory the largest.
    pub fn and(self, other: Usage) -> Usage {
        Usage {
            cpu: self.cpu + other.cpu,
            written_bytes: self.written_bytes + other.written_bytes,
            peak_memory_bytes: self.peak_memory_bytes.max(other.peak_memory_bytes),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
        }
    }
}

/// User and system time. The name before them may contain anything but ends in the last `)`.
fn cpu(stat: &str) -> Option<Duration> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u32 = fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?;
    Some(TICK * ticks)
}

fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub fn start(mut command: Command, log: &Path) -> Result<Process> {
        let file = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        let program = command.get_program().to_owned();
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        // Ctrl-C is for this process, which then ends its children itself.
        let spawned = command.process_group(0).spawn();
        let child = spawned.with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Process { child, log: log.to_owned() })
    }

    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.child.id())
    }

    /// Fails if it has ended, with its last words.
    pub fn check_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("it ended with {status}: {}", self.last_words()),
        }
    }

    pub fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_do_not_confuse() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 1 1 1";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
        assert_eq!(cpu("7 (x) S"), None);
    }

    #[test]
    fn numbers_are_found_by_name() {
        let io = "write_bytes: 4096\ncancelled_write_bytes: 7\n";
        assert_eq!(number(io, "write_bytes:"), Some(4096));
        assert_eq!(number(io, "read_bytes:"), None);
    }

    #[test]
    fn a_process_is_gone_when_dropped() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("sleep");
        command.arg("600");
        let mut process = Process::start(command, &dir.path().join("log")).expect("sleep exists");
        let pid = process.child.id();
        process.check_running().expect("it sleeps");
        assert!(process.usage().expect("it runs").peak_memory_bytes > 0);
        drop(process);
        assert!(Usage::of(pid).is_err());
    }

    #[test]
    fn an_early_end_is_told_with_the_last_words() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such flag >&2; exit 3"]);
        let mut process = Process::start(command, &dir.path().join("log")).expect("sh exists");
        process.child.wait().expect("it ends");
        let error = process.check_running().expect_err("ended").to_string();
        assert!(error.contains("exit status: 3") && error.contains("no such flag"), "{error}");
    }
}
