//! The same command lines, typed to this store and to etcd itself, where it is installed:
//! what is expected here is what etcd says.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::harness::{DEADLINE, Server, free_port, need};

/// A command line and what it says, in order.
const SCRIPT: [(&str, &str); 47] = [
    ("auth enable", "etcdserver: root user does not exist"),
    ("user add root:pw", "User root created"),
    ("user add root:pw", "etcdserver: user name already exists"),
    ("role add root", "Role root created"),
    ("user grant-role root root", "Role root is granted to user root"),
    ("user add ann:pw", "User ann created"),
    ("user add cert --no-password", "User cert created"),
    ("role add app", "Role app created"),
    ("role add app", "etcdserver: role name already exists"),
    ("role grant-permission app --prefix read app/", "Role app updated"),
    ("role grant-permission app readwrite app/lock", "Role app updated"),
    ("role grant-permission app write app/w app/z", "Role app updated"),
    ("role grant-permission none read x", "etcdserver: role name not found"),
    (
        "role get app",
        "Role app\nKV Read:\n\t[app/, app0) (prefix app/)\n\tapp/lock\nKV Write:\n\tapp/lock\n\t[app/w, app/z)",
    ),
    ("role get none", "etcdserver: role name not found"),
    ("user grant-role ann none", "etcdserver: role name not found"),
    ("user grant-role none app", "etcdserver: user name not found"),
    ("user revoke-role ann app", "etcdserver: role is not granted to the user"),
    ("user grant-role ann app", "Role app is granted to user ann"),
    ("user list", "ann\ncert\nroot"),
    ("role list", "app\nroot"),
    ("put app/x 1", "OK"),
    ("auth enable", "Authentication Enabled"),
    ("get app/x", "etcdserver: user name is empty"),
    ("--user ann:no get app/x", "etcdserver: authentication failed, invalid user ID or password"),
    ("--user none:pw get app/x", "etcdserver: authentication failed, invalid user ID or password"),
    ("--user ann:pw get app/x", "app/x\n1"),
    ("--user ann:pw get --prefix app", "etcdserver: permission denied"),
    ("--user ann:pw put app/a 2", "etcdserver: permission denied"),
    ("--user ann:pw put app/w 2", "OK"),
    ("--user ann:pw put app/z 2", "etcdserver: permission denied"),
    ("--user ann:pw del --from-key app/w", "etcdserver: permission denied"),
    ("--user ann:pw user get ann", "User: ann\nRoles: app"),
    ("--user ann:pw user get root", "etcdserver: permission denied"),
    ("--user ann:pw user list", "etcdserver: permission denied"),
    ("--user ann:pw role get app", "Role app\nKV Read:"),
    ("--user ann:pw auth disable", "etcdserver: permission denied"),
    ("--user ann:pw endpoint hashkv", "permission denied"),
    ("--user ann:pw watch --rev 1 other", "etcdserver: permission denied"),
    ("--user root:pw user delete root", "etcdserver: invalid auth management"),
    ("--user root:pw role revoke-permission app app/lock", "Permission of key app/lock is revoked from role app"),
    ("--user ann:pw put app/lock 2", "etcdserver: permission denied"),
    ("--user root:pw role delete app", "Role app deleted"),
    ("--user ann:pw get app/x", "etcdserver: permission denied"),
    ("--user root:pw auth disable", "Authentication Disabled"),
    ("--user ann:pw get app/x", "app/x\n1"),
    ("get app/x", "app/x\n1"),
];

fn check(etcdctl: impl Fn() -> Command) {
    for (line, expected) in SCRIPT {
        let output = etcdctl().env("ETCDCTL_API", "3").args(line.split(' ')).output().expect("installed");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains(expected), "etcdctl {line}: {said}");
    }
}

#[test]
fn what_an_operator_types() {
    need("etcdctl");
    let server = Server::start(&["--bcrypt-cost", "4"]);
    check(|| {
        let mut command = Command::new("etcdctl");
        command
            .args(["--endpoints", &format!("127.0.0.1:{}", server.port)])
            .args(["--cacert".as_ref(), server.path("ca.crt").as_os_str()])
            .args(["--cert".as_ref(), server.path("tls.crt").as_os_str()])
            .args(["--key".as_ref(), server.path("tls.key").as_os_str()]);
        command
    });
}

struct Etcd(Child);

impl Drop for Etcd {
    fn drop(&mut self) {
        self.0.kill().expect("running");
        self.0.wait().expect("killed");
    }
}

#[test]
fn etcd_says_the_same() {
    need("etcdctl");
    need("etcd");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let [client, peer] = [(); 2].map(|()| format!("http://127.0.0.1:{}", free_port()));
    let child = Command::new("etcd")
        .arg("--data-dir")
        .arg(dir.path())
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}"), "--bcrypt-cost", "4"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _etcd = Etcd(child.expect("installed"));
    let etcdctl = || {
        let mut command = Command::new("etcdctl");
        command.args(["--endpoints", &client]);
        command
    };
    let deadline = Instant::now() + DEADLINE;
    while !etcdctl().env("ETCDCTL_API", "3").args(["get", "key"]).output().expect("installed").status.success() {
        assert!(Instant::now() < deadline, "etcd did not come up");
    }
    check(etcdctl);
}
