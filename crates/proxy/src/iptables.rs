//! The iptables commands: every change is one `iptables-restore --noflush`, which the kernel applies per table as a whole.

use std::process::{Output, Stdio};
use std::time::Duration;

use proxyrules::{CANARY_CHAIN, CANARY_TABLES, Family};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Seconds that a command waits for the lock others may hold.
const LOCK_SECONDS: &str = "5";
/// Ten thousand services take seconds; longer than this is a hang.
const TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot run {command}")]
    Run {
        command: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("{command} did not finish within {TIMEOUT:?}")]
    Timeout { command: &'static str },
    #[error("{command} failed: {stderr}")]
    Failed { command: &'static str, stderr: String },
}

#[derive(Debug, Clone, Copy)]
pub struct Iptables {
    family: Family,
}

impl Iptables {
    pub fn new(family: Family) -> Self {
        Self { family }
    }

    fn names(self) -> [&'static str; 3] {
        match self.family {
            Family::V4 => ["iptables", "iptables-save", "iptables-restore"],
            Family::V6 => ["ip6tables", "ip6tables-save", "ip6tables-restore"],
        }
    }

    /// Everything that is in the kernel.
    pub async fn save(self) -> Result<String, Error> {
        let [_, save, _] = self.names();
        let output = finished(save, run(save, &[], None).await?)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub async fn restore(self, text: &str) -> Result<(), Error> {
        let [_, _, restore] = self.names();
        let args = ["-w", LOCK_SECONDS, "--noflush"];
        finished(restore, run(restore, &args, Some(text)).await?).map(drop)
    }

    /// Are our chains still there? Only a clear "no such chain" is a no.
    pub async fn canaries_live(self) -> Result<bool, Error> {
        let [iptables, ..] = self.names();
        for table in CANARY_TABLES {
            let args = ["-w", LOCK_SECONDS, "-t", table.as_str(), "-S", CANARY_CHAIN];
            let output = run(iptables, &args, None).await?;
            if output.status.code() == Some(1) {
                return Ok(false);
            }
            finished(iptables, output)?;
        }
        Ok(true)
    }

    /// `MASQUERADE --random-fully` came with 1.6.2.
    pub async fn has_random_fully(self) -> Result<bool, Error> {
        let [iptables, ..] = self.names();
        let output = finished(iptables, run(iptables, &["--version"], None).await?)?;
        Ok(version(&String::from_utf8_lossy(&output.stdout)) >= Some([1, 6, 2]))
    }
}

/// From `iptables v1.8.9 (nf_tables)`.
fn version(output: &str) -> Option<[u32; 3]> {
    let number = output.split_whitespace().find_map(|word| word.strip_prefix('v'))?;
    let mut parts = number.split('.').map(|part| part.parse::<u32>().ok());
    Some([parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)])
}

fn finished(command: &'static str, output: Output) -> Result<Output, Error> {
    if output.status.success() {
        return Ok(output);
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Failed { command, stderr })
}

async fn run(command: &'static str, args: &[&str], stdin: Option<&str>) -> Result<Output, Error> {
    let failed = |source| Error::Run { command, source };
    let mut builder = Command::new(command);
    builder.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    builder.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = builder.spawn().map_err(failed)?;
    let input = child.stdin.take();
    let work = async {
        if let (Some(mut pipe), Some(text)) = (input, stdin) {
            // A command that stops reading early tells why on stderr; that is the better error.
            let _ = pipe.write_all(text.as_bytes()).await;
        }
        child.wait_with_output().await.map_err(failed)
    };
    tokio::time::timeout(TIMEOUT, work).await.map_err(|_| Error::Timeout { command })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare() {
        let check = |text: &str, expected| assert_eq!(version(text), expected, "{text}");
        check("iptables v1.8.9 (nf_tables)", Some([1, 8, 9]));
        check("iptables v1.6", Some([1, 6, 0]));
        check("what", None);
        assert!(version("iptables v1.10.0") > Some([1, 6, 2]));
    }
}
