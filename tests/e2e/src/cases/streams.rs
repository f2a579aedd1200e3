//! Streams through the API server: logs, exec, attach, copy, watch.

use std::process::{Command, Stdio};

use anyhow::ensure;

use super::client;
use crate::cluster::{Cluster, contains};

pub fn logs_follow(c: &Cluster) -> anyhow::Result<()> {
    c.kubectl(&[
        "run",
        "ticker",
        "--image=busybox:1.36",
        "--restart=Never",
        "--",
        "sh",
        "-c",
        "for i in 1 2 3 4 5; do echo tick $i; sleep 1; done",
    ])?;
    c.k("wait pod/ticker --for=condition=Ready --timeout=60s")?;
    let follow = c.background(&["logs", "-f", "ticker"])?;
    follow.await_text("tick 5")?;
    let expected: String = (1..=5).map(|i| format!("tick {i}\n")).collect();
    ensure!(follow.text() == expected, "{:?}", follow.text());
    ensure!(c.k("logs ticker --tail=1")? == "tick 5\n");
    let stamped = c.k("logs ticker --timestamps --tail=1")?;
    ensure!(stamped.starts_with("20") && stamped.ends_with("Z tick 5\n"), "{stamped}");
    c.k("delete pod ticker --now")?;
    Ok(())
}

pub fn exec_has_stdin_a_terminal_and_an_exit_code(c: &Cluster) -> anyhow::Result<()> {
    c.apply(&client("shell"))?;
    c.k("wait pod/shell --for=condition=Ready --timeout=60s")?;
    ensure!(c.kubectl(&["exec", "shell", "--", "echo", "hello"])? == "hello\n");
    let piped = sh(c, "printf 'a\\nb\\n' | $KUBECTL exec -i shell -- wc -l")?;
    ensure!(piped.trim() == "2", "stdin is closed at its end: {piped:?}");
    let output = c.output(&["exec", "shell", "--", "sh", "-c", "echo out; echo err >&2; exit 7"])?;
    ensure!(output.status.code() == Some(7), "{output:?}");
    ensure!(output.stdout == b"out\n" && output.stderr.starts_with(b"err\n"), "{output:?}");
    let terminal = sh(c, "script -qec \"$KUBECTL exec -it shell -- sh -c 'tty; stty size'\" /dev/null")?;
    contains(&terminal, &["/dev/pts/"])?;
    let large = sh(c, "head -c 3000000 /dev/zero | $KUBECTL exec -i shell -- sh -c 'cat' | wc -c")?;
    ensure!(large.trim() == "3000000", "{large:?}");
    contains(
        &c.refused(&["exec", "shell", "-c", "nobody", "--", "true"])?,
        &["container nobody is not valid for pod shell"],
    )
}

pub fn attach_and_copy(c: &Cluster) -> anyhow::Result<()> {
    let echoed =
        sh(c, "printf 'one\\ntwo\\n' | $KUBECTL run echo --image=busybox:1.36 --restart=Never --rm -i -q -- cat")?;
    contains(&echoed, &["one\ntwo\n"])?;
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("x"), "carried\n")?;
    c.kubectl(&["cp", &dir.path().join("x").display().to_string(), "shell:/tmp/x"])?;
    ensure!(c.kubectl(&["exec", "shell", "--", "cat", "/tmp/x"])? == "carried\n");
    c.k("delete pod shell --now")?;
    Ok(())
}

pub fn get_watches(c: &Cluster) -> anyhow::Result<()> {
    let watch = c.background(&["get", "configmaps", "-w", "--watch-only", "-o", "name"])?;
    // The watch is known to have begun when it shows something.
    crate::cluster::eventually(crate::cluster::PATIENCE, || {
        c.k("delete configmap begun --ignore-not-found")?;
        c.k("create configmap begun --from-literal=a=b")?;
        contains(&watch.text(), &["configmap/begun"])
    })?;
    c.k("create configmap watched --from-literal=a=b")?;
    watch.await_text("configmap/watched")?;
    c.k("delete configmap begun watched")?;
    Ok(())
}

/// A shell line with $KUBECTL in it, every part of which is to succeed.
fn sh(c: &Cluster, line: &str) -> anyhow::Result<String> {
    let dir = c.dir().display();
    let kubectl = format!("kubectl --kubeconfig {dir}/admin.conf --cache-dir {dir}/kubectl-cache");
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-c", line])
        .env("KUBECTL", kubectl)
        .stdin(Stdio::null())
        .output()?;
    ensure!(output.status.success(), "{line}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
