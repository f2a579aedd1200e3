//! What a user may do who reads `app/` and writes `app/lock` and `own`.

use super::*;
use crate::auth::ROOT;
use crate::pb::authpb::{Permission, permission::Type};

fn store() -> Store {
    let mut store = Store::default();
    let user = |name: &str| Change::UserAdd(pb::AuthUserAddRequest { name: name.to_owned(), ..Default::default() });
    let grant = |user: &str, role: &str| {
        Change::UserGrantRole(pb::AuthUserGrantRoleRequest { user: user.to_owned(), role: role.to_owned() })
    };
    let permit = |role: &str, key: &'static str, end: &'static str, kind: Type| {
        let perm = Permission { perm_type: kind.into(), key: key.into(), range_end: end.into() };
        Change::RoleGrantPermission(pb::AuthRoleGrantPermissionRequest { name: role.to_owned(), perm: Some(perm) })
    };
    let role = |name: &str| Change::RoleAdd(pb::AuthRoleAddRequest { name: name.to_owned() });
    for change in [
        user(ROOT),
        grant(ROOT, ROOT),
        role("reader"),
        permit("reader", "app/", "app0", Type::Read),
        role("writer"),
        permit("writer", "app/lock", "", Type::Readwrite),
        permit("writer", "own", "", Type::Write),
        user("ann"),
        grant("ann", "reader"),
        grant("ann", "writer"),
        Change::Enable(pb::AuthEnableRequest {}),
    ] {
        store.apply(change, 1).expect("valid");
    }
    store
}

fn asker(store: &Store, user: &str) -> Asker {
    Asker::User(Caller { user: user.to_owned(), revision: store.revision() })
}

/// Ann and root ask for the same; root always may.
fn check(judge: impl Fn(Guard<'_>) -> Result<(), Error>, expected: Result<(), Error>) {
    let store = store();
    assert_eq!(judge(store.guard(&asker(&store, "ann"))), expected);
    assert_eq!(judge(store.guard(&asker(&store, ROOT))), Ok(()));
    assert_eq!(judge(store.guard(&Asker::Member)), Ok(()));
    assert_eq!(judge(store.guard(&Asker::Nobody)), Err(Error::UserEmpty));
    let open = Store::default();
    assert_eq!(judge(open.guard(&Asker::Nobody)), Ok(()), "disabled");
}

const DENIED: Result<(), Error> = Err(Error::PermissionDenied);

fn range(key: &'static str, end: &'static str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.into(), range_end: end.into(), ..Default::default() }
}

fn put(key: &'static str) -> pb::PutRequest {
    pb::PutRequest { key: key.into(), ..Default::default() }
}

fn delete(key: &'static str, end: &'static str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.into(), range_end: end.into(), prev_kv: false }
}

#[test]
fn single_requests() {
    let leases = Leases::default();
    check(|g| g.range(&range("app/", "app0")), Ok(()));
    check(|g| g.range(&range("app/x", "")), Ok(()));
    check(|g| g.range(&range("app/x", "\0")), DENIED);
    check(|g| g.range(&range("own", "")), DENIED);
    check(|g| g.put(&put("app/lock"), &leases), Ok(()));
    check(|g| g.put(&put("app/x"), &leases), DENIED);
    check(|g| g.put(&put("own"), &leases), Ok(()));
    check(|g| g.put(&pb::PutRequest { prev_kv: true, ..put("own") }, &leases), DENIED);
    check(|g| g.put(&pb::PutRequest { prev_kv: true, ..put("app/lock") }, &leases), Ok(()));
    check(|g| g.delete(&delete("own", "")), Ok(()));
    check(|g| g.delete(&delete("own", "\0")), DENIED);
    check(|g| g.delete(&pb::DeleteRangeRequest { prev_kv: true, ..delete("own", "") }), DENIED);
}

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

#[test]
fn every_branch_of_a_transaction() {
    let leases = Leases::default();
    let check = |r: pb::TxnRequest, expected| check(|g| g.txn(&r, &leases), expected);
    let compare = |key: &'static str, end: &'static str| pb::TxnRequest {
        compare: vec![pb::Compare { key: key.into(), range_end: end.into(), ..Default::default() }],
        ..Default::default()
    };
    check(compare("app/x", ""), Ok(()));
    check(compare("own", ""), DENIED);
    check(compare("app/", "\0"), DENIED);
    for (request, expected) in [
        (Request::RequestRange(range("app/x", "")), Ok(())),
        (Request::RequestRange(range("own", "")), DENIED),
        (Request::RequestPut(put("own")), Ok(())),
        (Request::RequestPut(put("other")), DENIED),
        (Request::RequestPut(pb::PutRequest { prev_kv: true, ..put("own") }), DENIED),
        (Request::RequestDeleteRange(delete("own", "")), Ok(())),
        (Request::RequestDeleteRange(delete("app/", "app0")), DENIED),
    ] {
        let ops = || vec![op(request.clone())];
        let success = pb::TxnRequest { success: ops(), ..Default::default() };
        let failure = pb::TxnRequest { failure: ops(), ..Default::default() };
        let nested = pb::TxnRequest { failure: vec![op(Request::RequestTxn(failure.clone()))], ..Default::default() };
        for r in [success, failure, nested] {
            check(r, expected);
        }
    }
}

#[test]
fn a_lease_is_judged_by_its_keys() {
    let mut kv = mvcc::Store::default();
    for (id, keys) in [(1, vec![]), (2, vec!["own", "app/lock"]), (3, vec!["other"])] {
        kv.grant(id, 10).expect("a new lease");
        for key in keys {
            kv.put(mvcc::Put { key: key.into(), lease: id, ..Default::default() }).expect("a plain put");
        }
    }
    let leases = kv.leases();
    for (id, expected) in [(1, Ok(())), (2, Ok(())), (3, DENIED), (4, Ok(()))] {
        check(|g| g.write_attached(leases.get(id)), expected);
        check(|g| g.put(&pb::PutRequest { lease: id, ..put("own") }, leases), expected);
    }
    check(|g| g.read_attached(leases.get(1)), Ok(()));
    check(|g| g.read_attached(leases.get(2)), DENIED);
}

#[test]
fn administration() {
    check(|g| g.admin(), DENIED);
    check(|g| g.identified(), Ok(()));
    check(|g| g.user_get("ann"), Ok(()));
    check(|g| g.user_get(ROOT), DENIED);
    check(|g| g.role_get("writer"), Ok(()));
    check(|g| g.role_get("other"), DENIED);
    check(|g| g.change(&Change::Disable(pb::AuthDisableRequest {})), DENIED);
    let store = store();
    let authenticate = Change::Authenticate(Default::default());
    assert_eq!(store.guard(&Asker::Nobody).change(&authenticate), Ok(()));
    assert_eq!(store.guard(&asker(&store, "gone")).admin(), Err(Error::UserNotFound));
}

#[test]
fn who_was_identified_earlier_is_asked_again() {
    let mut store = store();
    let (ann, root) = (asker(&store, "ann"), asker(&store, ROOT));
    let gone = asker(&store, "gone");
    let key = KeyRange::Single("app/x".into());
    assert_eq!(store.guard(&gone).read(&key), DENIED);
    store.apply(Change::RoleAdd(pb::AuthRoleAddRequest { name: "new".to_owned() }), 1).expect("valid");
    assert_eq!(store.guard(&ann).read(&key), Err(Error::OldRevision));
    assert_eq!(store.guard(&root).read(&key), Err(Error::OldRevision));
    assert_eq!(store.guard(&root).admin(), Ok(()));
    assert_eq!(store.guard(&asker(&store, "ann")).read(&key), Ok(()));
}
