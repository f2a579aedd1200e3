//! Members on one switch, and clients of them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use etcd_client::{Client, ConnectOptions, MemberAddOptions, MemberListResponse, StatusResponse};
use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use crate::host::{CLIENTS, Host, sh};
use crate::journal::Journal;
use crate::links::{Cuts, Place};
use crate::member::{self, Member};

/// How long anything may take once no fault is left.
pub const CALM: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
const REQUEST: Duration = Duration::from_secs(2);

pub struct Cluster<'a> {
    host: &'a Host,
    pub members: Vec<Member>,
    pub journal: Journal,
    /// Logs and journal.
    pub dir: PathBuf,
    founded: AtomicBool,
}

impl<'a> Cluster<'a> {
    /// Founded and serving.
    pub async fn start(host: &'a Host, size: usize, flags: &[&str]) -> Result<Cluster<'a>> {
        let dir = host.dir.join("logs");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir)?;
        let journal = Journal::new(&dir)?;
        let mut cluster = Cluster { host, members: Vec::new(), journal, dir, founded: AtomicBool::new(false) };
        for n in 0..size {
            cluster.members.push(Member::new(host, n, &cluster.dir, flags)?);
        }
        for n in 0..size {
            cluster.launch(n)?;
        }
        for member in &cluster.members {
            member.set_id(cluster.await_status(member.n).await?.header().context("a header")?.member_id());
        }
        cluster.founded.store(true, Ordering::Relaxed);
        Ok(cluster)
    }

    pub fn size(&self) -> usize {
        self.members.len()
    }

    pub fn all(&self) -> Vec<usize> {
        (0..self.size()).collect()
    }

    /// Starts a member's process, and waits for nothing.
    pub fn launch(&self, n: usize) -> Result<()> {
        self.launch_as(n, if self.founded.load(Ordering::Relaxed) { "existing" } else { "new" })
    }

    pub fn launch_as(&self, n: usize, state: &str) -> Result<()> {
        let peers: Vec<String> =
            self.all().into_iter().map(|m| format!("{}={}", member::name(m), member::peer_url(m))).collect();
        self.members[n].start(&peers.join(","), state)
    }

    /// Connects with the first request.
    pub async fn client(&self, n: usize) -> Client {
        let options = ConnectOptions::new()
            .with_connect_timeout(Duration::from_secs(1))
            .with_keep_alive(Duration::from_secs(2), Duration::from_secs(3));
        Client::connect([member::client_url(n)], Some(options)).await.expect("a valid endpoint")
    }

    /// One that waits for a member that does not answer.
    pub async fn patient_client(&self, n: usize) -> Client {
        Client::connect([member::client_url(n)], None).await.expect("a valid endpoint")
    }

    pub async fn status(&self, n: usize) -> Option<StatusResponse> {
        let mut client = self.client(n).await;
        timeout(REQUEST, client.status()).await.ok()?.ok()
    }

    async fn await_status(&self, n: usize) -> Result<StatusResponse> {
        let deadline = Instant::now() + CALM;
        loop {
            self.members[n].assert_running()?;
            match self.status(n).await {
                Some(status) if status.leader() != 0 => return Ok(status),
                _ if Instant::now() > deadline => bail!("{} does not serve within {CALM:?}", member::name(n)),
                _ => sleep(POLL).await,
            }
        }
    }

    /// Who says of itself that it leads, in the newest term of those asked.
    pub async fn leader(&self) -> Option<usize> {
        let statuses = join_all(self.all().into_iter().map(|n| self.status(n))).await;
        let leads = |s: &StatusResponse| s.leader() != 0 && s.header().is_some_and(|h| h.member_id() == s.leader());
        let leaders = statuses.into_iter().enumerate().filter_map(|(n, s)| Some((s.filter(leads)?.raft_term(), n)));
        leaders.max().map(|(_, n)| n)
    }

    pub async fn await_leader(&self) -> Result<usize> {
        let deadline = Instant::now() + CALM;
        while Instant::now() < deadline {
            if let Some(leader) = self.leader().await {
                return Ok(leader);
            }
            sleep(POLL).await;
        }
        bail!("no member leads within {CALM:?}");
    }

    /// What is not cut gets through again.
    pub fn cut(&self, cuts: &Cuts) -> Result<()> {
        let address = |place| match place {
            Place::Clients => CLIENTS.to_owned(),
            Place::Member(n) => member::address(n),
        };
        for n in self.all() {
            self.restore_rules(n, &cuts.rules(n, address))?;
        }
        Ok(())
    }

    fn restore_rules(&self, n: usize, rules: &str) -> Result<()> {
        let net = format!("--net=/run/netns/{}", self.host.namespace(n));
        let mut child = Command::new("nsenter")
            .args([&net, "--", "iptables-restore", "-w"])
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot run nsenter")?;
        child.stdin.take().expect("piped").write_all(rules.as_bytes())?;
        ensure!(child.wait()?.success(), "iptables-restore refuses {rules}");
        Ok(())
    }

    /// A member's cable.
    pub fn set_link(&self, n: usize, up: bool) -> Result<()> {
        sh(&format!("ip link set v{n} {}", if up { "up" } else { "down" })).map(drop)
    }

    /// What leaves a member waits for a link of so many kilobits per second; `None` is as fast as ever.
    pub fn slow_link(&self, n: usize, kilobits: Option<u32>) -> Result<()> {
        let ns = self.host.namespace(n);
        let rule = match kilobits {
            Some(rate) => format!("tc -n {ns} qdisc replace dev eth0 root tbf rate {rate}kbit burst 4kb latency 500ms"),
            None => format!("tc -n {ns} qdisc delete dev eth0 root"),
        };
        sh(&rule).map(drop)
    }

    /// Asks member after member until one has done it. A request that got no answer is asked again.
    pub async fn anyone<T, F>(&self, what: &str, but: Option<usize>, ask: F) -> Result<T>
    where
        F: AsyncFn(&mut Client) -> Result<T>,
    {
        let deadline = Instant::now() + CALM;
        let mut why = anyhow::anyhow!("nobody was asked");
        for n in self.all().into_iter().filter(|n| Some(*n) != but).cycle() {
            if Instant::now() > deadline {
                return Err(why.context(format!("{what}: not within {CALM:?}")));
            }
            let mut client = self.client(n).await;
            match timeout(REQUEST, ask(&mut client)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => why = error.context(format!("asked {}", member::name(n))),
                Err(_) => why = anyhow::anyhow!("{} does not answer", member::name(n)),
            }
            sleep(POLL).await;
        }
        Err(why)
    }

    /// A dead member's place is taken by a new one with the same address: removed, added as a learner, promoted.
    pub async fn replace(&self, n: usize) -> Result<()> {
        let (member, url, old) = (&self.members[n], member::peer_url(n), self.members[n].id());
        member.kill()?;
        member.wipe()?;
        self.anyone("remove a dead member", Some(n), async |client| {
            let members = up_to_date_members(client).await?;
            if members.members().iter().any(|m| m.id() == old) {
                client.member_remove(old).await?;
            }
            Ok(())
        })
        .await?;
        let id = self.anyone("add a member", Some(n), async |client| {
            let members = up_to_date_members(client).await?;
            let known = members.members().iter().find(|m| m.peer_urls().contains(&url) && m.id() != old);
            if let Some(known) = known {
                return Ok(known.id());
            }
            let learner = Some(MemberAddOptions::new().with_is_learner());
            Ok(client.member_add([url.as_str()], learner).await?.member().context("no member in the answer")?.id())
        });
        let id = id.await?;
        member.set_id(id);
        self.journal.note(&format!("{} comes again as {id:x}", member::name(n)));
        self.launch(n)?;
        self.anyone("promote a learner", Some(n), async |client| {
            // One that finds nobody to ask who is in the cluster gives up, and is started again by whoever runs it.
            if member.ended()?.is_some() {
                self.launch(n)?;
            }
            let members = client.member_list().await?;
            // A member that lags may not know it at all yet.
            let votes = members.members().iter().any(|m| m.id() == id && !m.is_learner());
            if !votes {
                client.member_promote(id).await?;
            }
            Ok(())
        })
        .await
    }

    /// Nothing is cut, full, slow or asleep, and everybody runs: whatever was under way when the faults ended.
    pub fn heal(&self) -> Result<()> {
        self.cut(&Cuts::default())?;
        for (n, member) in self.members.iter().enumerate() {
            self.set_link(n, true)?;
            // Not there unless a fault was broken off.
            let _ = self.slow_link(n, None);
            let _ = member.disk.free();
            let _ = member.disk.thaw();
            member.disk.throttle(&member.cgroup, 0)?;
            if member.runs() { member.go_on()? } else { self.launch(n)? }
        }
        Ok(())
    }

    /// Every member serves, and all hold the same keys at this revision.
    pub async fn assert_agreement(&self, revision: i64) -> Result<()> {
        let mut hashes = BTreeSet::new();
        for n in self.all() {
            hashes.insert(self.hash(n, revision).await?);
        }
        ensure!(hashes.len() == 1, "the members do not hold the same at revision {revision}: {hashes:x?}");
        Ok(())
    }

    async fn hash(&self, n: usize, revision: i64) -> Result<(u32, i64)> {
        let deadline = Instant::now() + CALM;
        let mut why = String::from("it was not asked");
        while Instant::now() < deadline {
            self.members[n].assert_running()?;
            let mut client = self.client(n).await;
            // A linearizable read first: the member has then applied what the others have.
            let asked = async {
                client.get("read index", None).await?;
                client.hash_kv(revision).await
            };
            match timeout(REQUEST, asked).await {
                Ok(Ok(hash)) => return Ok((hash.hash(), hash.compact_version())),
                Ok(Err(error)) => why = error.to_string(),
                Err(_) => why = "it does not answer".to_owned(),
            }
            sleep(POLL).await;
        }
        bail!("{} cannot be asked for its hash within {CALM:?}: {why}", member::name(n))
    }

    /// Panics are bugs whatever came of them.
    pub fn assert_no_panic(&self) -> Result<()> {
        for member in &self.members {
            let words = member.words();
            let line = words.lines().find(|line| line.contains("panicked"));
            ensure!(line.is_none(), "{}: {}", member::name(member.n), line.unwrap_or_default());
        }
        Ok(())
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        for member in self.members.drain(..) {
            let n = member.n;
            drop(member);
            if let Err(error) = self.host.unplug(n) {
                eprintln!("{error:#}");
            }
        }
    }
}

/// The list as of now. The client asks for what the member that it asks happens to know; a linearizable read before it
/// makes sure that this is everything.
async fn up_to_date_members(client: &mut Client) -> Result<MemberListResponse> {
    client.get("members", None).await?;
    Ok(client.member_list().await?)
}
