//! Lists and deletes UDP flows with the `conntrack` command.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

const TIMEOUT: Duration = Duration::from_secs(30);
/// Deletions at once: each is a process.
const MAX_FLOWS: usize = 10_000;

/// All UDP flows, as text.
pub async fn list_udp() -> std::io::Result<String> {
    let output = run(&["-L".into(), "-p".into(), "udp".into()]).await?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Deletes what it can, each by its arguments; a flow that is gone already is no error.
pub async fn delete(flows: &[Vec<String>]) {
    if flows.len() > MAX_FLOWS {
        tracing::warn!(flows = flows.len(), limit = MAX_FLOWS, "too many stale UDP flows: the rest will time out");
    }
    for args in flows.iter().take(MAX_FLOWS) {
        match run(args).await {
            Ok(output) if output.status.success() || nothing_deleted(&output.stderr) => {}
            Ok(output) => {
                let stderr = String::from_utf8_lossy(&output.stderr);
                tracing::warn!(args = args.join(" "), stderr = stderr.trim(), "conntrack failed");
            }
            Err(error) => {
                tracing::warn!(%error, "cannot run conntrack: stale UDP flows stay until they time out");
                return;
            }
        }
    }
}

fn nothing_deleted(stderr: &[u8]) -> bool {
    String::from_utf8_lossy(stderr).contains("0 flow entries have been deleted")
}

async fn run(args: &[String]) -> std::io::Result<std::process::Output> {
    let mut command = Command::new("conntrack");
    let output = command.args(args).stdin(Stdio::null()).kill_on_drop(true).output();
    tokio::time::timeout(TIMEOUT, output).await.map_err(|_| std::io::ErrorKind::TimedOut)?
}
