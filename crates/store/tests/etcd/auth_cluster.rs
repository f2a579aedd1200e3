//! Authentication on three members: what is decided through one holds on all, and stays when the leader goes.

use std::time::Duration;

use etcd_client::{Client, Error, GetOptions, MemberAddOptions, Permission, PermissionType, PutOptions};
use tokio::time::timeout;

use crate::auth::{CHEAP, INVALID_ARGUMENT, add_users, check, denied};
use crate::cluster::Cluster;
use crate::harness::{DEADLINE, Server, refusal};

/// Three members with authentication enabled, and root at each of them.
struct Secured {
    cluster: Cluster,
    roots: Vec<Client>,
}

impl Secured {
    /// Enabled through a follower. A read sees it on every member, and every member asks from then on.
    async fn start() -> Secured {
        let cluster = Cluster::start(&CHEAP);
        let mut client = cluster.client(cluster.a_follower().await).await;
        add_users(&mut client).await;
        client.put("app/x", "value", None).await.expect("everybody may, still");
        client.auth_enable().await.expect("root is there");
        let mut roots = Vec::new();
        for server in &cluster.servers {
            nobody_reads(server).await;
            roots.push(server.client_as("root", "root's").await.expect("the right password"));
        }
        Secured { cluster, roots }
    }

    async fn leader(&mut self) -> usize {
        timeout(DEADLINE, self.cluster.leader_told(&mut self.roots)).await.expect("a leader is elected")
    }

    async fn ann(&self, n: usize) -> Client {
        login(&self.cluster.servers[n], "ann", "ann's").await
    }

    /// Until a member knows what was decided through others: it reads the newest users and roles.
    async fn settle(&mut self, n: usize) {
        self.roots[n].role_list().await.expect("root may");
    }

    async fn id(&mut self, n: usize) -> u64 {
        self.roots[n].status().await.expect("any user may").header().expect("always").member_id()
    }
}

async fn nobody_reads(server: &Server) {
    check(server.client().await.get("app/x", None).await, INVALID_ARGUMENT, "user name is empty");
}

/// As soon as there is a leader.
async fn login(server: &Server, user: &str, password: &str) -> Client {
    surely(async || server.client_as(user, password).await).await
}

/// Retries what a change of leaders may refuse, and nothing else.
async fn surely<T>(mut ask: impl AsyncFnMut() -> Result<T, Error>) -> T {
    let trying = async {
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(Error::GRpcStatus(status)) if status.code() != tonic::Code::Unavailable => panic!("{status}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    timeout(DEADLINE, trying).await.expect("a quorum answers")
}

/// The client goes on at another member, with the token that it has.
async fn go(client: &Client, from: &Server, to: &Server) {
    client.add_endpoint(to.client_url()).await.expect("a valid endpoint");
    client.remove_endpoint(from.client_url()).await.expect("a valid endpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_permissions_hold_on_every_member() {
    let mut secured = Secured::start().await;
    let leader = secured.leader().await;
    let (first, second) = ((leader + 1) % 3, (leader + 2) % 3);
    let mut ann = secured.ann(first).await;
    let mut at = first;
    for n in [second, leader, first] {
        go(&ann, &secured.cluster.servers[at], &secured.cluster.servers[n]).await;
        at = n;
        let got = ann.get("app/x", None).await.expect("the token is known here too");
        assert_eq!(got.header().expect("always").member_id(), secured.id(n).await, "asked of this member");
        ann.put("app/lock", "", None).await.expect("granted");
        denied(ann.put("app/x", "", None).await);
        denied(ann.get("late", None).await);
    }
    let late = Permission::new(PermissionType::Readwrite, "late");
    secured.roots[second].role_grant_permission("app", late).await.expect("a role");
    secured.settle(first).await;
    ann.put("late", "", None).await.expect("granted through another member");
    secured.roots[leader].role_revoke_permission("app", "late", None).await.expect("granted before");
    secured.settle(first).await;
    denied(ann.put("late", "", None).await);
    denied(ann.get("late", None).await);

    // Whoever knows a lease may renew it through any member, whose keys it ever has.
    let lease = ann.lease_grant(600, None).await.expect("any user may").id();
    let attach = || Some(PutOptions::new().with_lease(lease));
    ann.put("app/lock", "", attach()).await.expect("granted");
    let (mut keeper, mut renewals) = ann.lease_keep_alive(lease).await.expect("any user may");
    secured.roots[leader].put("other", "", attach()).await.expect("root may");
    secured.settle(first).await;
    keeper.keep_alive().await.expect("sent");
    assert_eq!(renewals.message().await.expect("renewed").expect("the stream goes on").ttl(), 600);
    denied(ann.lease_revoke(lease).await);

    secured.roots[second].user_change_password("ann", "new").await.expect("a user");
    secured.settle(first).await;
    assert_eq!(refusal(ann.get("app/x", None).await).1, "etcdserver: invalid auth token");
    keeper.keep_alive().await.expect("sent");
    let renewed = renewals.message().await.expect("renewed").expect("the stream goes on");
    assert_eq!(renewed.ttl(), 600, "the lease does not end with the token");
    login(&secured.cluster.servers[leader], "ann", "new").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn authentication_survives_the_leader() {
    let mut secured = Secured::start().await;
    let old = secured.leader().await;
    let (first, second) = ((old + 1) % 3, (old + 2) % 3);
    let mut ann = secured.ann(first).await;
    let lease = ann.lease_grant(2, None).await.expect("any user may").id();
    ann.put("app/lock", "", Some(PutOptions::new().with_lease(lease))).await.expect("granted");
    secured.roots[old].role_add("last").await.expect("root may");
    secured.cluster.servers[old].kill();

    // The token was given out under the leader that was. It holds, at either member that is left.
    let mut kept = secured.roots[first].clone();
    let roles = surely(async || kept.role_list().await).await;
    assert_eq!(roles.roles(), ["app", "last"]);
    for n in [first, second] {
        surely(async || ann.get("app/x", None).await).await;
        denied(ann.put("app/x", "", None).await);
        nobody_reads(&secured.cluster.servers[n]).await;
        if n == first {
            go(&ann, &secured.cluster.servers[first], &secured.cluster.servers[second]).await;
        }
    }
    // The new leader ends the lease for the cluster's sake.
    let ended = async {
        while kept.get("app/lock", None).await.expect("root may").count() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(DEADLINE, ended).await.expect("the lease runs out");
    kept.role_add("later").await.expect("root may");

    secured.cluster.servers[old].restart();
    nobody_reads(&secured.cluster.servers[old]).await;
    let mut ann = secured.ann(old).await;
    ann.get("app/x", None).await.expect("granted");
    denied(ann.put("app/x", "", None).await);
    let mut root = login(&secured.cluster.servers[old], "root", "root's").await;
    assert_eq!(root.role_list().await.expect("root may").roles(), ["app", "last", "later"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_changes_members_and_nobody_else() {
    let mut secured = Secured::start().await;
    let leader = secured.leader().await;
    let follower = (leader + 1) % 3;
    let mut fresh = secured.cluster.newcomer(&[0, 1, 2]);
    let learner = || Some(MemberAddOptions::new().with_is_learner());
    let (own, other) = (fresh.peer_url(), "http://127.0.0.1:1".to_owned());
    let (own, other) = (|| [own.clone()], || [other.clone()]);
    for n in [leader, follower] {
        let id = secured.id(n).await;
        let mut nobody = secured.cluster.client(n).await;
        check(nobody.member_add(own(), learner()).await, INVALID_ARGUMENT, "user name is empty");
        check(nobody.member_remove(id).await, INVALID_ARGUMENT, "user name is empty");
        let mut ann = secured.ann(n).await;
        denied(ann.member_add(own(), learner()).await);
        denied(ann.member_remove(id).await);
        denied(ann.member_update(id, other()).await);
        denied(ann.member_promote(id).await);
        denied(ann.move_leader(id).await);
    }
    let mut root = secured.roots[follower].clone();
    let added = root.member_add(other(), learner()).await.expect("root may");
    let id = added.member().expect("the new one").id();
    root.member_update(id, own()).await.expect("root may");
    let early = refusal(root.member_promote(id).await);
    assert_eq!(early.1, "etcdserver: can only promote a learner member which is in sync with leader");

    // Who joins learns the users from a snapshot.
    fresh.launch();
    fresh.await_line("ready to serve client requests");
    let local = || Some(GetOptions::new().with_serializable());
    let mut nobody = fresh.client().await;
    check(nobody.get("app/x", local()).await, INVALID_ARGUMENT, "user name is empty");
    let learning = refusal(fresh.client_as("ann", "ann's").await.map(|_| ()));
    assert_eq!(learning.1, "etcdserver: rpc not supported for learner");
    let mut ann = secured.ann(follower).await;
    denied(ann.member_promote(id).await);
    let promoted = async {
        while let Err(error) = root.member_promote(id).await {
            assert!(error.to_string().contains("in sync with leader"), "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(DEADLINE, promoted).await.expect("it has caught up");
    let mut ann = login(&fresh, "ann", "ann's").await;
    ann.get("app/x", None).await.expect("granted");
    denied(ann.member_remove(id).await);
    let gone = secured.id(follower).await;
    let left = secured.roots[leader].member_remove(gone).await.expect("root may");
    assert_eq!(left.members().len(), 3);
    assert!(secured.cluster.servers[follower].await_end().success(), "a removed member is done, it has not failed");
}
