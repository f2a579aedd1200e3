//! Users, roles and tokens, through the `etcd-client` crate. Beside root there is ann, who
//! reads `app/` and writes `app/lock`.

use std::process::Command;
use std::time::Instant;

use etcd_client::{
    AlarmAction, AlarmType, Client, Compare, CompareOp, DeleteOptions, GetOptions, Permission, PermissionType,
    PutOptions, Txn, TxnOp, UserAddOptions, WatchOptions,
};

use tokio::time::timeout;

use crate::concurrency::await_count;
use crate::harness::{DEADLINE, Server, refusal};
use crate::watch::next;

const UNKNOWN: i32 = 2;
pub const INVALID_ARGUMENT: i32 = 3;
const PERMISSION_DENIED: i32 = 7;
const FAILED_PRECONDITION: i32 = 9;
const UNAUTHENTICATED: i32 = 16;

/// Hashing is made cheap: what it costs is not tested.
pub const CHEAP: [&str; 2] = ["--bcrypt-cost", "4"];

pub fn check<T: std::fmt::Debug>(answer: Result<T, etcd_client::Error>, code: i32, words: &str) {
    assert_eq!(refusal(answer), (code, format!("etcdserver: {words}")));
}

pub fn denied<T: std::fmt::Debug>(answer: Result<T, etcd_client::Error>) {
    check(answer, PERMISSION_DENIED, "permission denied");
}

pub async fn add_users(client: &mut Client) {
    client.user_add("root", "root's", None).await.expect("a new user");
    client.user_grant_role("root", "root").await.expect("a role that is always there");
    client.user_add("ann", "ann's", None).await.expect("a new user");
    client.role_add("app").await.expect("a new role");
    let read = Permission::new(PermissionType::Read, "app/").with_range_end("app0");
    client.role_grant_permission("app", read).await.expect("a role");
    let write = Permission::new(PermissionType::Readwrite, "app/lock");
    client.role_grant_permission("app", write).await.expect("a role");
    client.user_grant_role("ann", "app").await.expect("user and role are there");
}

/// A server with authentication enabled, and its root.
async fn secured(flags: &[&str]) -> (Server, Client) {
    let server = Server::start(&[&CHEAP[..], flags].concat());
    let mut client = server.client().await;
    add_users(&mut client).await;
    client.put("app/x", "value", None).await.expect("everybody may, still");
    client.auth_enable().await.expect("root is there");
    let root = server.client_as("root", "root's").await.expect("the right password");
    (server, root)
}

#[tokio::test]
async fn enabling_needs_root_and_then_a_user() {
    let server = Server::start(&CHEAP);
    let mut client = server.client().await;
    check(client.auth_enable().await, FAILED_PRECONDITION, "root user does not exist");
    client.user_add("root", "root's", None).await.expect("a new user");
    check(client.auth_enable().await, FAILED_PRECONDITION, "root user does not have root role");
    let unneeded = server.client_as("root", "root's").await;
    check(unneeded.map(|_| ()), FAILED_PRECONDITION, "authentication is not enabled");
    client.user_grant_role("root", "root").await.expect("a role that is always there");
    client.auth_enable().await.expect("root is there");

    check(client.get("key", None).await, INVALID_ARGUMENT, "user name is empty");
    check(client.put("key", "", None).await, INVALID_ARGUMENT, "user name is empty");
    check(client.auth_disable().await, INVALID_ARGUMENT, "user name is empty");
    check(client.member_list().await, INVALID_ARGUMENT, "user name is empty");
    for (user, password) in [("root", "wrong"), ("root", ""), ("nobody", "root's")] {
        let failed = server.client_as(user, password).await.map(|_| ());
        check(failed, INVALID_ARGUMENT, "authentication failed, invalid user ID or password");
    }
    let mut root = server.client_as("root", "root's").await.expect("the right password");
    root.put("key", "", None).await.expect("root may");
    root.auth_enable().await.expect("enabling twice is no mistake");
    root.auth_disable().await.expect("root may");
    client.get("key", None).await.expect("everybody may");
}

#[tokio::test]
async fn keys_are_guarded_in_every_way_to_reach_them() {
    let (server, mut root) = secured(&[]).await;
    root.put("other", "secret", None).await.expect("root may");
    let mut ann = server.client_as("ann", "ann's").await.expect("the right password");
    let prefix = |_| Some(GetOptions::new().with_prefix());
    assert_eq!(ann.get("app/", prefix(())).await.expect("granted").count(), 1);
    denied(ann.get("app", prefix(())).await);
    denied(ann.get("other", None).await);
    denied(ann.get("", Some(GetOptions::new().with_all_keys())).await);
    denied(ann.get("app/", Some(GetOptions::new().with_from_key())).await);
    denied(ann.get("other", Some(GetOptions::new().with_serializable().with_count_only())).await);

    ann.put("app/lock", "held", None).await.expect("granted");
    denied(ann.put("app/x", "", None).await);
    denied(ann.delete("app/x", None).await);
    denied(ann.delete("app/lock", Some(DeleteOptions::new().with_from_key())).await);

    let compare = |key: &str| Txn::new().when([Compare::version(key, CompareOp::Greater, 0)]);
    let own = compare("app/x").and_then([TxnOp::put("app/lock", "", None)]).or_else([TxnOp::get("app/x", None)]);
    assert!(ann.txn(own).await.expect("granted").succeeded());
    denied(ann.txn(compare("other")).await);
    denied(ann.txn(compare("app/x").or_else([TxnOp::get("other", None)])).await);
    denied(ann.txn(compare("app/x").or_else([TxnOp::put("other", "", None)])).await);
    let nested = Txn::new().and_then([TxnOp::delete("other", None)]);
    denied(ann.txn(Txn::new().or_else([TxnOp::txn(nested)])).await);
    assert_eq!(root.get("other", None).await.expect("root may").kvs()[0].value(), b"secret");

    let mut watch = ann.watch("app/lock", None).await.expect("granted");
    ann.put("app/lock", "again", None).await.expect("granted");
    assert!(next(&mut watch).await.created());
    let event = next(&mut watch).await;
    assert_eq!(event.events()[0].kv().expect("a put").value(), b"again");
    for options in [None, Some(WatchOptions::new().with_from_key())] {
        let mut watch = ann.watch("app0", options).await.expect("a stream");
        let refused = next(&mut watch).await;
        assert!(refused.canceled());
        assert_eq!(refused.cancel_reason(), "rpc error: code = PermissionDenied desc = etcdserver: permission denied");
    }
}

#[tokio::test]
async fn a_lease_is_guarded_by_its_keys() {
    let (server, mut root) = secured(&[]).await;
    let mut ann = server.client_as("ann", "ann's").await.expect("the right password");
    let lease = ann.lease_grant(600, None).await.expect("any user may").id();
    let attach = || Some(PutOptions::new().with_lease(lease));
    ann.put("app/lock", "", attach()).await.expect("granted");
    let (mut keeper, mut renewals) = server.client().await.lease_keep_alive(lease).await.expect("anybody may");
    root.put("other", "", attach()).await.expect("root may");
    denied(ann.put("app/lock", "", attach()).await);
    let inside = Txn::new().and_then([TxnOp::put("app/lock", "", attach())]);
    denied(ann.txn(inside).await);
    denied(ann.lease_revoke(lease).await);
    ann.lease_time_to_live(lease, None).await.expect("any user may");
    let keys = Some(etcd_client::LeaseTimeToLiveOptions::new().with_keys());
    denied(ann.lease_time_to_live(lease, keys).await);
    denied(ann.leases().await);
    keeper.keep_alive().await.expect("sent");
    let renewed = renewals.message().await.expect("renewed").expect("the stream goes on");
    assert_eq!(renewed.ttl(), 600, "whoever attaches what");
    root.lease_revoke(lease).await.expect("root may");
    assert_eq!(root.get("other", None).await.expect("root may").count(), 0);
}

/// Nobody asks for it but the server itself.
#[tokio::test]
async fn a_lease_runs_out() {
    let (_server, mut root) = secured(&[]).await;
    let lease = root.lease_grant(1, None).await.expect("any user may").id();
    root.put("leased", "", Some(PutOptions::new().with_lease(lease))).await.expect("root may");
    let deadline = Instant::now() + DEADLINE;
    while root.get("leased", None).await.expect("root may").count() > 0 {
        assert!(Instant::now() < deadline, "the lease does not end");
    }
}

#[tokio::test]
async fn only_root_administers() {
    let (server, mut root) = secured(&[]).await;
    let mut ann = server.client_as("ann", "ann's").await.expect("the right password");
    denied(ann.user_add("eve", "eve's", None).await);
    denied(ann.user_grant_role("ann", "root").await);
    denied(ann.user_list().await);
    denied(ann.role_list().await);
    denied(ann.user_get("root").await);
    denied(ann.auth_disable().await);
    denied(ann.compact(2, None).await);
    denied(ann.defragment().await);
    denied(ann.hash().await);
    denied(ann.snapshot().await.map(|_| ()));
    denied(ann.member_remove(1).await);
    denied(ann.alarm(AlarmAction::Activate, AlarmType::Nospace, None).await);
    ann.alarm(AlarmAction::Get, AlarmType::None, None).await.expect("any user may");
    server.client().await.status().await.expect("anybody may");
    ann.member_list().await.expect("any user may");
    assert_eq!(ann.user_get("ann").await.expect("herself").roles(), ["app"]);
    assert_eq!(ann.role_get("app").await.expect("her role").permissions().len(), 2);

    check(root.user_delete("root").await, INVALID_ARGUMENT, "invalid auth management");
    check(root.user_get("eve").await, FAILED_PRECONDITION, "user name not found");
    check(root.role_get("eve").await, FAILED_PRECONDITION, "role name not found");
    check(root.role_add("app").await, FAILED_PRECONDITION, "role name already exists");
    check(root.user_add("ann", "", None).await, FAILED_PRECONDITION, "user name already exists");
    check(root.role_add("").await, INVALID_ARGUMENT, "role name is empty");
    let permission = Permission::new(PermissionType::Read, "b").with_range_end("a");
    check(root.role_grant_permission("app", permission).await, INVALID_ARGUMENT, "invalid auth management");
    check(root.user_revoke_role("root", "root").await, INVALID_ARGUMENT, "invalid auth management");
    let not_granted = "permission is not granted to the role";
    check(root.role_revoke_permission("app", "none", None).await, FAILED_PRECONDITION, not_granted);
    root.compact(2, None).await.expect("root may");
}

#[tokio::test]
async fn a_right_that_is_taken_is_gone_at_once() {
    let (server, mut root) = secured(&[]).await;
    let mut ann = server.client_as("ann", "ann's").await.expect("the right password");
    root.user_revoke_role("ann", "app").await.expect("granted before");
    denied(ann.get("app/x", None).await);
    root.user_grant_role("ann", "app").await.expect("user and role are there");
    ann.get("app/x", None).await.expect("granted");
    root.role_delete("app").await.expect("a role");
    denied(ann.get("app/x", None).await);
    root.user_change_password("ann", "new").await.expect("a user");
    check(ann.get("app/x", None).await, UNAUTHENTICATED, "invalid auth token");
    let mut ann = server.client_as("ann", "new").await.expect("the new password");
    denied(ann.get("app/x", None).await);
    root.user_delete("ann").await.expect("a user");
    check(ann.get("app/x", None).await, UNAUTHENTICATED, "invalid auth token");
}

/// Other changes of users do not matter to who waits; that the right is gone does, and so is the place then.
#[tokio::test]
async fn who_waits_for_a_lock_is_judged_when_it_is_free() {
    let (server, mut root) = secured(&[]).await;
    let locks = Permission::new(PermissionType::Readwrite, "l/").with_range_end("l0");
    root.role_add("locks").await.expect("a new role");
    root.role_grant_permission("locks", locks).await.expect("a role");
    for revoked in [false, true] {
        root.user_grant_role("ann", "locks").await.expect("user and role are there");
        let held = root.lock("l", None).await.expect("free");
        let mut ann = server.client_as("ann", "ann's").await.expect("the right password");
        let waiting = tokio::spawn(async move { ann.lock("l", None).await });
        await_count(&mut root, "l/", 2).await;
        if revoked {
            root.user_revoke_role("ann", "locks").await.expect("granted before");
        } else {
            root.user_add("bob", "bob's", None).await.expect("a new user");
        }
        root.unlock(held.key()).await.expect("held");
        let answer = timeout(DEADLINE, waiting).await.expect("in time").expect("no panic");
        match answer {
            Ok(lock) if !revoked => _ = root.unlock(lock.key()).await.expect("root may"),
            answer => assert_eq!(refusal(answer), (UNKNOWN, "etcdserver: permission denied".to_owned())),
        }
        await_count(&mut root, "l/", 0).await;
    }
}

/// Over a kill the log has everything, over an orderly end the checkpoint.
#[tokio::test]
async fn users_and_roles_outlive_the_process() {
    let (mut server, mut root) = secured(&["--snapshot-count", "4"]).await;
    for n in 0..20 {
        root.put(n.to_string(), "", None).await.expect("root may");
    }
    root.role_add("late").await.expect("a new role");
    for restart in 0..2 {
        if restart == 0 {
            server.kill()
        } else {
            server.terminate()
        }
        server.restart();
        check(server.client().await.get("app/x", None).await, INVALID_ARGUMENT, "user name is empty");
        let mut ann = server.client_as("ann", "ann's").await.expect("the password is known");
        ann.get("app/x", None).await.expect("granted");
        denied(ann.put("app/x", "", None).await);
        let mut root = server.client_as("root", "root's").await.expect("the password is known");
        assert_eq!(root.role_list().await.expect("root may").roles(), ["app", "late"]);
    }
}

#[tokio::test]
async fn a_certificate_names_its_user() {
    let (server, mut root) = secured(&[]).await;
    let ca = server.path("ca.crt");
    let mut ann = server.client_with(&ca, Some(server.identity_of("ann"))).await;
    ann.get("app/x", None).await.expect("granted");
    denied(ann.get("other", None).await);
    root.user_delete("ann").await.expect("a user");
    denied(ann.get("app/x", None).await);
    let no_password = UserAddOptions::new().with_no_pwd();
    root.user_add("ann", "", Some(no_password)).await.expect("a new user");
    root.user_grant_role("ann", "app").await.expect("user and role are there");
    ann.get("app/x", None).await.expect("granted");
    let failed = server.client_as("ann", "").await.map(|_| ());
    check(failed, INVALID_ARGUMENT, "authentication failed, invalid user ID or password");
}

/// A trusted authority alone says who may connect, not who they are.
#[tokio::test]
async fn a_certificate_names_nobody_unless_asked_to() {
    let (server, _) = secured(&["--client-cert-auth=false"]).await;
    let ca = server.path("ca.crt");
    let mut ann = server.client_with(&ca, Some(server.identity_of("ann"))).await;
    check(ann.get("app/x", None).await, INVALID_ARGUMENT, "user name is empty");
    let mut stranger = server.client_with(&ca, None).await;
    assert!(stranger.get("app/x", None).await.is_err_and(|e| e.to_string().contains("transport")), "not served at all");
}

#[tokio::test]
async fn signed_tokens_carry_the_revision() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let key = rcgen::KeyPair::generate().expect("randomness");
    let (private, public) = (dir.path().join("key"), dir.path().join("pub"));
    std::fs::write(&private, key.serialize_pem()).expect("writable");
    std::fs::write(&public, key.public_key_pem()).expect("writable");
    let option = format!("jwt,sign-method=ES256,pub-key={},priv-key={}", public.display(), private.display());
    let (mut server, _) = secured(&["--auth-token", &option]).await;
    let mut ann = server.client_as("ann", "ann's").await.expect("the right password");
    ann.get("app/x", None).await.expect("granted");
    // What is signed needs no memory.
    server.kill();
    server.restart();
    let deadline = Instant::now() + DEADLINE;
    while let Err(error) = ann.get("app/x", None).await {
        // The old connection has to be found dead first.
        assert!(error.to_string().contains("transport"), "{error}");
        assert!(Instant::now() < deadline, "{error}");
    }
    let mut root = server.client_as("root", "root's").await.expect("the right password");
    root.role_add("new").await.expect("root may");
    check(ann.get("app/x", None).await, INVALID_ARGUMENT, "revision of auth store is old");
    root.role_add("newer").await.expect("administration goes on");
    let mut ann = server.client_as("ann", "ann's").await.expect("the right password");
    ann.get("app/x", None).await.expect("granted");
}

/// Nothing of a password is on the disk.
#[tokio::test]
async fn passwords_are_kept_as_hashes() {
    let (mut server, mut root) = secured(&[]).await;
    root.user_add("eve", "a password unlike others", None).await.expect("a new user");
    root.user_change_password("eve", "a password unlike others").await.expect("a user");
    server.client_as("eve", "a password unlike others").await.expect("the right password");
    server.terminate();
    let found = |words: &str| {
        let data = server.path("data");
        let grep = Command::new("grep").args(["-rqaF", words]).arg(data).status();
        grep.expect("grep exists").success()
    };
    assert!(found("eve"), "the search works");
    assert!(!found("unlike others"));
}
