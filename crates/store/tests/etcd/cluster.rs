//! Three members: agreement, failover, catching up by entries and by snapshot, changes of members.

use std::time::Duration;

use etcd_client::{
    Client, ConnectOptions, EventType, GetOptions, LeaseGrantOptions, MemberAddOptions, PutOptions, TlsOptions,
};
use tokio::time::timeout;

use crate::harness::{DEADLINE, Server, refusal};

/// More than the members keep for one who lags, with these flags.
const MANY: usize = 2_000;
pub const KEEP_LITTLE: [&str; 4] = ["--snapshot-count", "1000", "--snapshot-catchup-entries", "10"];
const AT_ONCE: usize = 50;

pub struct Cluster {
    pub servers: Vec<Server>,
}

impl Cluster {
    pub fn start(flags: &[&str]) -> Cluster {
        let mut cluster = Cluster::new(flags);
        cluster.servers.iter_mut().for_each(Server::launch);
        cluster.servers.iter_mut().for_each(|server| server.await_line("ready to serve client requests"));
        cluster
    }

    /// Not started yet.
    pub fn new(flags: &[&str]) -> Cluster {
        let mut servers: Vec<Server> = (0..3).map(|_| Server::new(flags)).collect();
        let names: Vec<String> =
            servers.iter().enumerate().map(|(n, server)| format!("m{n}={}", server.peer_url())).collect();
        let initial = names.join(",");
        for (n, server) in servers.iter_mut().enumerate() {
            server.add_flags(&["--name", &format!("m{n}"), "--initial-cluster", &initial]);
        }
        // Members share one authority for their clients: any client may talk to any of them.
        for n in 1..servers.len() {
            for file in ["ca.crt", "tls.crt", "tls.key"] {
                std::fs::copy(servers[0].path(file), servers[n].path(file)).expect("writable");
            }
        }
        Cluster { servers }
    }

    /// A client of one member only.
    pub async fn client(&self, n: usize) -> Client {
        self.servers[n].client().await
    }

    /// A client of every member that runs.
    pub async fn any(&self) -> Client {
        let ca = std::fs::read(self.servers[0].path("ca.crt")).expect("written at the start");
        let tls = TlsOptions::new()
            .ca_certificate(etcd_client::Certificate::from_pem(ca))
            .domain_name("localhost")
            .identity(self.servers[0].identity());
        let urls: Vec<String> = self.servers.iter().filter(|s| s.runs()).map(Server::client_url).collect();
        Client::connect(urls, Some(ConnectOptions::new().with_tls(tls))).await.expect("valid endpoints")
    }

    pub async fn leader(&self) -> usize {
        let mut clients = Vec::new();
        for server in &self.servers {
            clients.push(server.client().await);
        }
        self.leader_told(&mut clients).await
    }

    /// As one client of each member is told.
    pub async fn leader_told(&self, clients: &mut [Client]) -> usize {
        for n in (0..self.servers.len()).cycle() {
            if !self.servers[n].runs() {
                continue;
            }
            let status = timeout(Duration::from_secs(2), clients[n].status()).await;
            let Ok(Ok(status)) = status else { continue };
            let header = status.header().expect("always");
            if status.leader() != 0 && status.leader() == header.member_id() {
                return n;
            }
        }
        unreachable!("the loop has no end")
    }

    pub async fn a_follower(&self) -> usize {
        let leader = timeout(DEADLINE, self.leader()).await.expect("a leader is elected");
        (leader + 1) % self.servers.len()
    }

    /// A server that is to join these members, not started yet.
    pub fn newcomer(&self, members: &[usize]) -> Server {
        let mut fresh = Server::new(&[]);
        for file in ["ca.crt", "tls.crt", "tls.key"] {
            std::fs::copy(self.servers[0].path(file), fresh.path(file)).expect("writable");
        }
        let others: Vec<String> = members.iter().map(|n| format!("m{n}={}", self.servers[*n].peer_url())).collect();
        let initial = format!("{},fresh={}", others.join(","), fresh.peer_url());
        fresh.add_flags(&["--name", "fresh", "--initial-cluster", &initial, "--initial-cluster-state", "existing"]);
        fresh
    }
}

/// Retries what a change of leaders may refuse.
async fn put_surely(client: &mut Client, key: &str, value: &str) {
    let trying = async {
        while client.put(key, value, None).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(DEADLINE, trying).await.expect("a quorum takes the write");
}

async fn value(client: &mut Client, key: &str, serializable: bool) -> Option<String> {
    let options = if serializable { GetOptions::new().with_serializable() } else { GetOptions::new() };
    let answer = client.get(key, Some(options)).await.expect("readable");
    answer.kvs().first().map(|kv| kv.value_str().expect("text").to_owned())
}

async fn await_value(client: &mut Client, key: &str, expected: &str) {
    let waiting = async {
        while value(client, key, true).await.as_deref() != Some(expected) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("{key} does not become {expected}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn members_agree_and_survive_their_leader() {
    let mut cluster = Cluster::start(&[]);
    let follower = cluster.a_follower().await;
    let mut client = cluster.client(follower).await;
    // Through a follower: written, read at once everywhere, watched.
    let mut watch = client.watch("k", None).await.expect("watchable");
    client.put("k", "one", None).await.expect("forwarded to the leader");
    for n in 0..3 {
        assert_eq!(value(&mut cluster.client(n).await, "k", false).await.as_deref(), Some("one"), "member {n}");
    }
    let event = async {
        loop {
            let response = watch.message().await.expect("open").expect("open");
            if let Some(event) = response.events().first() {
                return (event.event_type(), event.kv().expect("always").value().to_vec());
            }
        }
    };
    let event = timeout(DEADLINE, event).await.expect("the follower tells its watchers");
    assert_eq!(event, (EventType::Put, b"one".to_vec()));
    // A lease is renewed through a follower, and outlives the leader.
    let lease = client.lease_grant(60, Some(LeaseGrantOptions::new())).await.expect("granted").id();
    client.put("leased", "v", Some(PutOptions::new().with_lease(lease))).await.expect("attached");
    let (mut keeper, mut kept) = client.lease_keep_alive(lease).await.expect("a stream");
    keeper.keep_alive().await.expect("sent");
    let answer = timeout(DEADLINE, kept.message()).await.expect("in time").expect("open").expect("open");
    assert_eq!(answer.ttl(), 60);
    assert!(client.lease_time_to_live(lease, None).await.expect("known").ttl() > 50);

    let old = cluster.leader().await;
    cluster.servers[old].kill();
    let mut client = cluster.any().await;
    put_surely(&mut client, "k", "two").await;
    cluster.servers[old].restart();
    let mut back = cluster.client(old).await;
    assert_eq!(value(&mut back, "k", false).await.as_deref(), Some("two"));
    assert_eq!(value(&mut back, "leased", false).await.as_deref(), Some("v"));
    // Without a quorum nothing is written, and a member may still be asked for what it has.
    let alone = cluster.a_follower().await;
    for n in (0..3).filter(|n| *n != alone) {
        cluster.servers[n].kill();
    }
    let mut client = cluster.client(alone).await;
    assert_eq!(value(&mut client, "k", true).await.as_deref(), Some("two"));
    let refused = refusal(client.put("k", "three", None).await);
    assert_eq!(refused.0, i32::from(tonic::Code::Unavailable), "{refused:?}");
    // And what it has can be saved: it may be all that is left.
    let mut pieces = client.snapshot().await.expect("a stream");
    let saved = timeout(DEADLINE, pieces.message()).await.expect("in time").expect("no error");
    assert!(!saved.expect("not empty").blob().is_empty());
}

/// Who asks for a leader is not left to wait at a member that has none.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_leader_those_who_ask_for_one_are_told() {
    let mut cluster = Cluster::start(&[]);
    let alone = cluster.a_follower().await;
    let mut client = cluster.servers[alone].client_of_a_leader().await;
    client.put("k", "v", None).await.expect("there is a leader");
    let lease = client.lease_grant(60, None).await.expect("granted").id();
    let mut watch = client.watch("k", None).await.expect("watchable");
    let (_keeper, mut kept) = client.lease_keep_alive(lease).await.expect("a stream");
    for n in (0..3).filter(|n| *n != alone) {
        cluster.servers[n].kill();
    }
    let no_leader = (i32::from(tonic::Code::Unavailable), "etcdserver: no leader".to_owned());
    let told = async {
        loop {
            if let Err(etcd_client::Error::GRpcStatus(status)) = watch.message().await {
                return (status.code().into(), status.message().to_owned());
            }
        }
    };
    assert_eq!(timeout(DEADLINE, told).await.expect("the watch ends"), no_leader);
    assert_eq!(refusal(timeout(DEADLINE, kept.message()).await.expect("the renewals end")), no_leader);
    let here = || Some(GetOptions::new().with_serializable());
    assert_eq!(refusal(client.get("k", here()).await), no_leader);
    let undemanding = cluster.client(alone).await.get("k", here()).await;
    assert_eq!(undemanding.expect("readable").kvs()[0].value(), b"v");
}

impl Cluster {
    /// Writes so much while a member is away that only a snapshot can help it. Which member, and what keys below
    /// [`AT_ONCE`] are by then.
    pub async fn leave_one_behind(&mut self) -> (usize, String) {
        let absent = self.a_follower().await;
        self.servers[absent].kill();
        let client = self.any().await;
        for chunk in 0..MANY / AT_ONCE {
            let mut puts = tokio::task::JoinSet::new();
            for n in 0..AT_ONCE {
                let mut client = client.clone();
                puts.spawn(async move { client.put(format!("{n}"), format!("{chunk}"), None).await.map(drop) });
            }
            puts.join_all().await.into_iter().for_each(|put| put.expect("a quorum is there"));
        }
        (absent, format!("{}", MANY / AT_ONCE - 1))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_lags_too_far_is_sent_a_snapshot() {
    let mut cluster = Cluster::start(&KEEP_LITTLE);
    let (absent, last) = cluster.leave_one_behind().await;
    cluster.servers[absent].launch();
    cluster.servers[absent].await_line("installing a snapshot");
    cluster.servers[absent].await_line("ready to serve client requests");
    let mut client = cluster.client(absent).await;
    assert_eq!(value(&mut client, "7", false).await.as_ref(), Some(&last));
    // And goes on from there, also after a crash.
    put_surely(&mut cluster.any().await, "after", "snapshot").await;
    await_value(&mut client, "after", "snapshot").await;
    cluster.servers[absent].kill();
    cluster.servers[absent].restart();
    let mut client = cluster.client(absent).await;
    assert_eq!(value(&mut client, "7", true).await.as_ref(), Some(&last));
    assert_eq!(value(&mut client, "after", false).await.as_deref(), Some("snapshot"));
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_and_go() {
    let mut cluster = Cluster::start(&[]);
    put_surely(&mut cluster.any().await, "k", "v").await;
    // A dead member is replaced: removed, and a new one joins as a learner and is promoted.
    let dead = cluster.a_follower().await;
    let mut dead_client = cluster.client(dead).await;
    let dead_id = dead_client.status().await.expect("up").header().expect("always").member_id();
    cluster.servers[dead].kill();
    let mut client = cluster.any().await;
    let removed = async {
        while client.member_remove(dead_id).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(DEADLINE, removed).await.expect("the dead may go");
    let unknown = refusal(client.member_remove(dead_id).await);
    assert_eq!(unknown.1, "etcdserver: member not found");

    let others: Vec<usize> = (0..3).filter(|n| *n != dead).collect();
    let mut fresh = cluster.newcomer(&others);
    let learner = Some(MemberAddOptions::new().with_is_learner());
    let added = client.member_add([fresh.peer_url()], learner).await.expect("added");
    let id = added.member().expect("the new one").id();
    let again = refusal(client.member_add([fresh.peer_url()], None).await);
    assert_eq!(again.1, "etcdserver: Peer URLs already exists");
    fresh.launch();
    fresh.await_line("ready to serve client requests");
    let mut newcomer = fresh.client().await;
    await_value(&mut newcomer, "k", "v").await;
    let refused = refusal(newcomer.put("k", "w", None).await);
    let not_here = "etcdserver: rpc not supported for learner";
    assert_eq!(refused.1, not_here);
    assert_eq!(refusal(newcomer.watch("k", None).await.map(|_| ())).1, not_here);
    assert_eq!(refusal(newcomer.member_list().await).1, not_here);
    let piece = newcomer.snapshot().await.expect("a stream").message().await.expect("a learner's, too");
    assert!(!piece.expect("not empty").blob().is_empty());
    let promoted = async {
        while client.member_promote(id).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(DEADLINE, promoted).await.expect("it has caught up");
    put_surely(&mut newcomer, "k", "w").await;

    // The leadership moves to whom it is told to, and a member that is removed stops.
    let leader = timeout(DEADLINE, cluster.leader()).await.expect("a leader");
    cluster.client(leader).await.move_leader(id).await.expect("moved");
    assert_eq!(newcomer.status().await.expect("up").leader(), id);
    let old_id = cluster.client(leader).await.status().await.expect("up").header().expect("always").member_id();
    newcomer.member_remove(old_id).await.expect("removed");
    assert!(cluster.servers[leader].await_end().success(), "a removed member is done, it has not failed");
    put_surely(&mut newcomer, "k", "x").await;
    let members = newcomer.member_list().await.expect("listed");
    assert_eq!(members.members().len(), 2);
}

/// Who is left alone knows it after a crash, too: those who were removed do not come back to tell.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_member_starts_without_those_that_were_removed() {
    let mut cluster = Cluster::start(&[]);
    put_surely(&mut cluster.any().await, "k", "v").await;
    let left = timeout(DEADLINE, cluster.leader()).await.expect("a leader");
    let mut client = cluster.client(left).await;
    for n in (0..3).filter(|n| *n != left) {
        let id = cluster.client(n).await.status().await.expect("up").header().expect("always").member_id();
        let removed = async {
            while client.member_remove(id).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(DEADLINE, removed).await.expect("removed");
    }
    cluster.servers[left].kill();
    for n in (0..3).filter(|n| *n != left) {
        cluster.servers[n].kill();
    }
    cluster.servers[left].restart();
    put_surely(&mut cluster.client(left).await, "k", "w").await;
}

/// A snapshot is restored where a member was removed, and while another of its cluster still runs: neither does harm.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_cluster_is_another_one() {
    let mut cluster = Cluster::start(&[]);
    let mut client = cluster.client(0).await;
    put_surely(&mut client, "before", "1").await;
    let id = cluster.client(2).await.status().await.expect("served").header().expect("always").member_id();
    put_surely(&mut client, "before", "2").await;
    let removing = async {
        // Until the members have found each other. With a leader its answer may get lost.
        while client.member_remove(id).await.is_err() {
            if client.member_list().await.is_ok_and(|list| list.members().len() == 2) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(DEADLINE, removing).await.expect("two are left");
    cluster.servers[2].await_end();
    let (file, mut stream) = (cluster.servers[0].path("snapshot"), client.snapshot().await.expect("a stream"));
    let mut bytes = Vec::new();
    while let Some(piece) = stream.message().await.expect("no error") {
        bytes.extend_from_slice(piece.blob());
    }
    std::fs::write(&file, &bytes).expect("writable");
    put_surely(&mut client, "after", "1").await;

    cluster.servers[0].kill();
    cluster.servers[1].kill();
    let old = cluster.servers[1].path("old");
    std::fs::rename(cluster.servers[1].path("data"), &old).expect("the same file system");
    for server in &mut cluster.servers {
        let _ = std::fs::remove_dir_all(server.path("data"));
        let restored = server.command().arg("restore").arg(&file).output().expect("runs");
        assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
        server.launch();
    }
    cluster.servers.iter_mut().for_each(|server| server.await_line("ready to serve client requests"));
    for n in 0..3 {
        let mut client = cluster.client(n).await;
        put_surely(&mut client, &n.to_string(), "").await;
        assert_eq!(value(&mut client, "before", false).await.as_deref(), Some("2"));
        assert_eq!(value(&mut client, "after", false).await, None);
    }
    let member = &mut cluster.servers[1];
    member.kill();
    std::fs::remove_dir_all(member.path("data")).expect("removable");
    std::fs::rename(&old, member.path("data")).expect("the same file system");
    member.launch();
    member.await_line("cluster ID mismatch");
}

/// Two of three are lost for good, and the third was restarted, so that it answers nothing: it goes on alone, with all that
/// was acknowledged, and a cluster grows from it again.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_one_left_goes_on_alone() {
    let mut cluster = Cluster::start(&[]);
    let mut client = cluster.client(0).await;
    put_surely(&mut client, "before", "1").await;
    let last = cluster.a_follower().await;
    let ids = |list: &etcd_client::MemberListResponse| list.members().iter().map(|m| m.id()).collect::<Vec<_>>();
    let mut client = cluster.client(last).await;
    let header = client.status().await.expect("served").header().cloned().expect("always");
    put_surely(&mut client, "before", "2").await;
    cluster.servers.iter_mut().for_each(Server::kill);

    let member = &mut cluster.servers[last];
    member.add_flags(&["--force-new-cluster"]);
    member.restart();
    assert_eq!(value(&mut client, "before", false).await.as_deref(), Some("2"));
    put_surely(&mut client, "after", "1").await;
    let list = client.member_list().await.expect("listed");
    assert_eq!(ids(&list), [header.member_id()]);
    assert_eq!(list.header().expect("always").cluster_id(), header.cluster_id());

    // Once it is alone the flag does nothing more.
    member.kill();
    member.restart();
    assert_eq!(value(&mut client, "after", false).await.as_deref(), Some("1"));
    let mut fresh = cluster.newcomer(&[last]);
    client.member_add([fresh.peer_url()], None).await.expect("added");
    fresh.launch();
    fresh.await_line("ready to serve client requests");
    await_value(&mut fresh.client().await, "after", "1").await;
}

#[test]
fn nobody_goes_on_alone_with_nothing() {
    let mut server = Server::new(&["--force-new-cluster"]);
    server.launch();
    server.await_line("there is no log in");
    assert!(!server.await_end().success());
}

#[tokio::test]
async fn strangers_are_told_so() {
    let cluster = Cluster::start(&[]);
    let mut stranger = Server::new(&[]);
    let initial = format!("default={},m0={}", stranger.peer_url(), cluster.servers[0].peer_url());
    stranger.add_flags(&["--initial-cluster", &initial, "--initial-cluster-state", "existing"]);
    stranger.launch();
    stranger.await_line("the cluster does not know this member's peer URLs");
    assert!(!stranger.await_end().success());
}
