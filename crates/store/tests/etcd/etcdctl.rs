//! Debian's `etcdctl`, as an operator types it.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Instant;

use crate::cluster::Cluster;
use crate::harness::{DEADLINE, Server, free_port, need};

fn etcdctl(server: &Server) -> Command {
    let mut command = Command::new("etcdctl");
    command
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &format!("127.0.0.1:{}", server.port)])
        .args(["--cacert".as_ref(), server.path("ca.crt").as_os_str()])
        .args(["--cert".as_ref(), server.path("tls.crt").as_os_str()])
        .args(["--key".as_ref(), server.path("tls.key").as_os_str()]);
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a command line, with input if any, and checks what it prints.
fn check(server: &Server, arguments: &str, input: &str, expected: &str) -> String {
    let mut command = etcdctl(server);
    command.args(arguments.split_whitespace()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("installed");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("read by etcdctl");
    let said = text(&child.wait_with_output().expect("ends"));
    assert!(said.contains(expected), "etcdctl {arguments}: {said}");
    said
}

#[test]
fn everything_an_operator_types() {
    need("etcdctl");
    let server = Server::start(&[]);
    let check = |arguments: &str, input: &str, expected: &str| check(&server, arguments, input, expected);
    check("put a 1", "", "OK");
    check("put a 2 --prev-kv", "", "OK\na\n1\n");
    check("get a", "", "a\n2\n");
    check("get a --rev 2", "", "a\n1\n");
    check("get --prefix --keys-only a", "", "a\n");
    check("txn", "mod(\"a\") = \"3\"\nval(\"a\") = \"2\"\n\nput b x\nget a\n\nput c x\n\n", "SUCCESS\n\nOK\n\na\n2\n");
    check("txn", "ver(\"a\") > \"9\"\n\nput b x\n\nget b\n\n", "FAILURE\n\nb\nx\n");
    check("del b --prev-kv", "", "1\nb\nx\n");
    check("compaction 4", "", "compacted revision 4");
    check("get a --rev 2", "", "required revision has been compacted");
    check("compaction 5 --physical", "", "compacted revision 5");
    let lease = check("lease grant 600", "", "granted with TTL(600s)");
    let lease = lease.split_whitespace().nth(1).expect("lease ID granted ...").to_owned();
    check(&format!("put --lease={lease} d leased"), "", "OK");
    check(&format!("lease timetolive {lease} --keys"), "", "attached keys([d])");
    check("lease list", "", &lease);
    check(&format!("lease keep-alive --once {lease}"), "", "keepalived with TTL(600)");
    check(&format!("lease revoke {lease}"), "", "revoked");
    check(&format!("lease timetolive {lease}"), "", "already expired");
    check("member list", "", &format!("started, default, {}", server.peer_url()));
    check("endpoint health", "", "is healthy");
    check("endpoint status -w json", "", r#""version":"3.6"#);
    check("endpoint hashkv", "", &format!("127.0.0.1:{}, ", server.port));
    assert_eq!(check("alarm list", "", ""), "");
    check("defrag", "", "Finished defragmenting");
    let file = server.path("backup");
    check(&format!("snapshot save {}", file.display()), "", "Snapshot saved");
    check("lock guarded echo held", "", "held");
    elect(&server);
    watch(&server);
}

/// Until it has come about, and says what is expected. On a busy machine a try may be told "timed out" and be carried
/// out all the same; the next is then told what such a one is told.
fn check_soon(server: &Server, arguments: &str, expected: &str, told_after: Option<&str>) {
    let mut tries = 0;
    until(server, arguments, |output, said| {
        tries += 1;
        let was_done = tries > 1 && told_after.is_some_and(|told| said.trim_end().ends_with(told));
        was_done || output.status.success() && said.contains(expected)
    });
}

/// Until it is refused with these words: there may be no leader yet who would say them.
fn refused_soon(server: &Server, arguments: &str, with: &str) {
    until(server, arguments, |output, said| !output.status.success() && said.trim_end().ends_with(with));
}

fn until(server: &Server, arguments: &str, mut is_as_expected: impl FnMut(&Output, &str) -> bool) {
    let deadline = Instant::now() + DEADLINE;
    let mut all_said = Vec::new();
    loop {
        let output = etcdctl(server).args(arguments.split_whitespace()).output().expect("installed");
        let said = text(&output);
        if is_as_expected(&output, &said) {
            return;
        }
        all_said.push(said);
        assert!(Instant::now() < deadline, "etcdctl {arguments}: {all_said:#?}");
    }
}

/// What `docs/operations` has an operator do to the members of a cluster.
#[tokio::test(flavor = "multi_thread")]
async fn members_are_added_promoted_updated_and_removed() {
    need("etcdctl");
    let cluster = Cluster::start(&[]);
    let asked = &cluster.servers[0];
    let mut fresh = cluster.newcomer(&[0, 1, 2]);
    let url = fresh.peer_url();
    let added = check(asked, &format!("member add fresh --learner --peer-urls={url}"), "", "added to cluster");
    let id = added.split_whitespace().nth(1).expect("Member ID added ...").to_owned();
    fresh.launch();
    fresh.await_line("ready to serve client requests");
    // It prints an identity 16 characters wide, with blanks where there are fewer digits.
    let promoted = format!("{id} promoted");
    check_soon(asked, &format!("member promote {id}"), &promoted, Some("can only promote a learner member"));
    check_soon(asked, "member list", &format!("{id}, started, fresh, {url}"), None);
    // Only who leads hands over.
    let leader = &cluster.servers[cluster.leader().await];
    check_soon(leader, &format!("move-leader {id}"), &format!("to {id}"), Some("etcdserver: not leader"));
    let leads = format!("\"leader\":{}", u64::from_str_radix(&id, 16).expect("hex"));
    check_soon(&fresh, "endpoint status -w json", &leads, None);
    let another = format!("{url},http://localhost:{}", free_port());
    let updated = format!("{id} updated");
    check_soon(asked, &format!("member update {id} --peer-urls={another}"), &updated, None);
    check_soon(asked, "member list", &another, None);
    let removed = format!("{id} removed");
    check_soon(asked, &format!("member remove {id}"), &removed, Some("etcdserver: member not found"));
    fresh.await_end();
    refused_soon(asked, &format!("member promote {id}"), "etcdserver: member not found");
}

/// A command that goes on until it is killed, and what it prints meanwhile.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(server: &Server, arguments: &[&str]) -> Running {
        let mut child = etcdctl(server).args(arguments).stdout(Stdio::piped()).spawn().expect("installed");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Running { child, lines }
    }

    fn take(&mut self, count: usize) -> Vec<String> {
        self.lines.by_ref().take(count).map_while(Result::ok).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended by itself is no failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The one elected first leads until it goes; a listener is told of both.
fn elect(server: &Server) {
    let mut first = Running::start(server, &["elect", "seat", "one"]);
    assert_eq!(first.take(2)[1], "one");
    let mut listener = Running::start(server, &["elect", "--listen", "seat"]);
    assert_eq!(listener.take(2)[1], "one");
    let mut second = Running::start(server, &["elect", "seat", "two"]);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(first.child.id()).expect("a process id"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("running");
    assert_eq!(second.take(2)[1], "two");
    assert_eq!(listener.take(2)[1], "two");
}

/// A watch prints history and what comes after.
fn watch(server: &Server) {
    let from = revision(server).to_string();
    check(server, "put w1 old", "", "OK");
    let mut watch = Running::start(server, &["watch", "--prefix", "w", "--rev", &from]);
    assert_eq!(watch.take(3), ["PUT", "w1", "old"]);
    check(server, "put w2 new", "", "OK");
    check(server, "del w1", "", "1");
    assert_eq!(watch.take(5), ["PUT", "w2", "new", "DELETE", "w1"]);
}

fn revision(server: &Server) -> i64 {
    let said = check(server, "endpoint status -w json", "", "revision");
    let (_, rest) = said.split_once("\"revision\":").expect("in the header");
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

/// Without TLS, and the endpoint as a URL, which etcd's clients of that time send as the authority of their requests.
#[test]
fn a_plaintext_endpoint_by_its_url() {
    need("etcdctl");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let [client, peer] = [(); 2].map(|()| format!("http://127.0.0.1:{}", free_port()));
    let mut server = Command::new(env!("CARGO_BIN_EXE_kube-store"));
    server
        .arg("--data-dir")
        .arg(dir.path())
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _server = Killed(server.spawn().expect("built"));
    let run = |arguments: &str| {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &client]).args(arguments.split_whitespace());
        command.output().expect("installed")
    };
    let deadline = Instant::now() + DEADLINE;
    while !run("put a 1").status.success() {
        assert!(Instant::now() < deadline, "kube-store did not come up");
    }
    for (arguments, expected) in [
        ("get a", "a\n1\n"),
        ("endpoint health", "is healthy"),
        ("endpoint status -w json", r#""version":"3.6"#),
        ("endpoint hashkv", &format!("{client}, ")),
        ("defrag", "Finished defragmenting"),
        ("alarm list", ""),
        ("member list", "started, default"),
    ] {
        let output = run(arguments);
        let said = text(&output);
        assert!(output.status.success() && said.contains(expected), "etcdctl {arguments}: {said}");
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().expect("running");
        self.0.wait().expect("killed");
    }
}
