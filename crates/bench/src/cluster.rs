//! A cluster of one side: its flags, its start, its processes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::Instant;

use crate::certificates::Certificates;
use crate::environment::Environment;
use crate::pb::etcdserverpb::RangeRequest;
use crate::process::{Process, Usage};

const START_DEADLINE: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_millis(10);
/// The same for both, and more than any row writes.
const QUOTA_BYTES: u64 = 8 << 30;

/// One of the two that are compared.
#[derive(Debug, Clone)]
pub struct Program {
    pub name: &'static str,
    pub binary: PathBuf,
    /// Whether it takes the flags for several members.
    pub forms_clusters: bool,
}

impl Program {
    /// Asks the binary which flags it takes.
    pub fn examine(name: &'static str, binary: &Path) -> Result<Program> {
        let output = Command::new(binary).arg("--help").output();
        let output = output.with_context(|| format!("cannot start {}", binary.display()))?;
        // etcd explains itself on standard error.
        let help = [output.stdout, output.stderr].concat();
        let forms_clusters = String::from_utf8_lossy(&help).contains("--listen-peer-urls");
        Ok(Program { name, binary: binary.to_owned(), forms_clusters })
    }

    /// The first line in which it names its version.
    pub fn version(&self) -> String {
        let output = Command::new(&self.binary).arg("--version").output();
        let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        text.lines().next().unwrap_or("of unknown version").replace("etcd Version:", "etcd")
    }
}

#[derive(Debug)]
pub struct Cluster {
    pub addresses: Vec<SocketAddr>,
    tls: Option<Certificates>,
    members: Vec<Process>,
    program: Program,
    layout: Vec<Member>,
    /// Removed last.
    dir: tempfile::TempDir,
}

#[derive(Debug, Clone)]
struct Member {
    name: String,
    client: SocketAddr,
    peer: SocketAddr,
}

impl Cluster {
    /// Starts a new cluster with its data below `parent` and waits until every member serves.
    pub async fn start(
        program: &Program,
        members: usize,
        parent: &Path,
        tls: Option<&Certificates>,
    ) -> Result<Cluster> {
        ensure!(members == 1 || program.forms_clusters, "{} does not form clusters yet", program.name);
        let prefix = format!("{}-", program.name);
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent)?;
        let ports = free_ports(2 * members)?;
        let all: Vec<Member> = ports
            .chunks(2)
            .enumerate()
            .map(|(n, ports)| Member { name: format!("m{n}"), client: ports[0], peer: ports[1] })
            .collect();
        let addresses = all.iter().map(|m| m.client).collect();
        let (program, tls) = (program.clone(), tls.cloned());
        let mut cluster = Cluster { addresses, tls, members: Vec::new(), program, layout: all, dir };
        cluster.start_members().await?;
        Ok(cluster)
    }

    async fn start_members(&mut self) -> Result<()> {
        for member in &self.layout {
            let command = command(&self.program, member, &self.layout, self.dir.path(), self.tls.as_ref());
            self.members.push(Process::start(command, &self.dir.path().join(format!("{}.log", member.name)))?);
        }
        let failed = format!("{} with {} members does not come up", self.program.name, self.layout.len());
        self.wait().await.context(failed)
    }

    /// `kill -9` of every member, and a start on what they have left behind.
    pub async fn kill_and_start(&mut self) -> Result<()> {
        self.members.clear();
        self.start_members().await
    }

    /// What all its files take.
    pub fn disk_bytes(&self) -> Result<u64> {
        disk_bytes(self.dir.path())
    }

    async fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        for n in 0..self.members.len() {
            while let Err(error) = serves(self.addresses[n], self.tls.as_ref()).await {
                self.members[n].check_running()?;
                let words = || format!("it does not serve: {}", self.members[n].last_words());
                if Instant::now() > deadline {
                    return Err(error.context(words()));
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
        Ok(())
    }

    /// The leader's address comes first: where there are fewer clients than members, what is measured would else be the
    /// chance of an election.
    pub async fn environment(&self, clients: usize) -> Result<Environment> {
        let tls = self.tls.as_ref().map(|t| t.client.clone());
        let mut addresses = self.addresses.clone();
        for n in 0..addresses.len() {
            let status = Environment::open(&[addresses[n]], tls.clone(), 1).await?.connection(0).status().await?;
            if status.header.is_some_and(|header| header.member_id == status.leader) {
                addresses.swap(0, n);
                break;
            }
        }
        Environment::open(&addresses, tls, clients).await
    }

    /// What its members have used together.
    pub fn usage(&self) -> Result<Usage> {
        self.members.iter().try_fold(Usage::default(), |sum, member| Ok(sum.and(member.usage()?)))
    }
}

/// By blocks: what a file has reserved counts, what it has left out does not. Files come and go meanwhile.
fn disk_bytes(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)?.flatten() {
        sum += match entry.metadata() {
            Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()).unwrap_or(0),
            Ok(meta) => meta.blocks() * 512,
            Err(_) => 0,
        };
    }
    Ok(sum)
}

/// A linearizable read is answered: there is a leader.
async fn serves(address: SocketAddr, tls: Option<&Certificates>) -> Result<()> {
    let environment = Environment::open(&[address], tls.map(|t| t.client.clone()), 1).await?;
    let range = RangeRequest { key: "/".into(), ..RangeRequest::default() };
    tokio::time::timeout(START_DEADLINE, environment.connection(0).range(&range)).await??;
    Ok(())
}

fn command(program: &Program, member: &Member, all: &[Member], dir: &Path, tls: Option<&Certificates>) -> Command {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let client = format!("{scheme}://{}", member.client);
    let peer = format!("http://{}", member.peer);
    let mut command = Command::new(&program.binary);
    command
        .args(["--name", &member.name])
        .arg("--data-dir")
        .arg(dir.join(&member.name))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--quota-backend-bytes", &QUOTA_BYTES.to_string()]);
    if program.forms_clusters {
        let everyone: Vec<String> = all.iter().map(|m| format!("{}=http://{}", m.name, m.peer)).collect();
        command
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &everyone.join(","), "--initial-cluster-state", "new"])
            .args(["--initial-cluster-token", "store-bench"]);
    }
    if let Some(tls) = tls {
        command.arg("--cert-file").arg(&tls.cert).arg("--key-file").arg(&tls.key);
        command.arg("--trusted-ca-file").arg(&tls.ca).arg("--client-cert-auth");
    }
    command
}

/// Ports that were free a moment ago, each another.
fn free_ports(count: usize) -> Result<Vec<SocketAddr>> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    listeners.iter().map(|l| Ok(l.local_addr()?)).collect()
}
