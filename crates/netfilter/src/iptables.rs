//! The iptables commands: every change is one `iptables-restore --noflush`, which the kernel applies per table as a whole.

use std::process::{Output, Stdio};
use std::time::Duration;

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

/// The rules of one IP family.
#[derive(Debug, Clone, Copy)]
pub struct Iptables {
    command: &'static str,
    save: &'static str,
    restore: &'static str,
}

impl Iptables {
    pub const V4: Self = Self { command: "iptables", save: "iptables-save", restore: "iptables-restore" };
    pub const V6: Self = Self { command: "ip6tables", save: "ip6tables-save", restore: "ip6tables-restore" };

    /// Everything that is in the kernel.
    pub async fn save(self) -> Result<String, Error> {
        let output = finished(self.save, run(self.save, &[], None).await?)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub async fn restore(self, text: &str) -> Result<(), Error> {
        let args = ["-w", LOCK_SECONDS, "--noflush"];
        finished(self.restore, run(self.restore, &args, Some(text)).await?).map(drop)
    }

    /// Only a clear "no such chain" is a no.
    pub async fn chain_exists(self, table: &str, chain: &str) -> Result<bool, Error> {
        let args = ["-w", LOCK_SECONDS, "-t", table, "-S", chain];
        let output = run(self.command, &args, None).await?;
        if output.status.code() == Some(1) {
            return Ok(false);
        }
        finished(self.command, output).map(|_| true)
    }

    /// `MASQUERADE --random-fully` came with 1.6.2.
    pub async fn has_random_fully(self) -> Result<bool, Error> {
        let output = finished(self.command, run(self.command, &["--version"], None).await?)?;
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
