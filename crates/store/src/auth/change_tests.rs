//! What each change refuses, and what it leaves behind.

use super::*;
use crate::auth::store::Store;

fn user_add(name: &str) -> Change {
    Change::UserAdd(pb::AuthUserAddRequest {
        name: name.to_owned(),
        hashed_password: format!("hash of {name}"),
        ..Default::default()
    })
}

fn grant_role(user: &str, role: &str) -> Change {
    Change::UserGrantRole(pb::AuthUserGrantRoleRequest { user: user.to_owned(), role: role.to_owned() })
}

fn revoke_role(name: &str, role: &str) -> Change {
    Change::UserRevokeRole(pb::AuthUserRevokeRoleRequest { name: name.to_owned(), role: role.to_owned() })
}

fn user_delete(name: &str) -> Change {
    Change::UserDelete(pb::AuthUserDeleteRequest { name: name.to_owned() })
}

fn role_add(name: &str) -> Change {
    Change::RoleAdd(pb::AuthRoleAddRequest { name: name.to_owned() })
}

fn role_delete(role: &str) -> Change {
    Change::RoleDelete(pb::AuthRoleDeleteRequest { role: role.to_owned() })
}

fn password(name: &str) -> Change {
    Change::UserChangePassword(pb::AuthUserChangePasswordRequest {
        name: name.to_owned(),
        hashed_password: "another hash".to_owned(),
        ..Default::default()
    })
}

fn permit(role: &str, key: &'static str, end: &'static str) -> Change {
    let perm = crate::pb::authpb::Permission { key: key.into(), range_end: end.into(), ..Default::default() };
    Change::RoleGrantPermission(pb::AuthRoleGrantPermissionRequest { name: role.to_owned(), perm: Some(perm) })
}

fn forbid(role: &str, key: &'static str) -> Change {
    Change::RoleRevokePermission(pb::AuthRoleRevokePermissionRequest {
        role: role.to_owned(),
        key: key.into(),
        range_end: Bytes::new(),
    })
}

fn authenticate(user: &str, revision: u64) -> Change {
    Change::Authenticate(kvraft::Authenticate { user: user.to_owned(), token: "letters".to_owned(), revision })
}

fn enable() -> Change {
    Change::Enable(pb::AuthEnableRequest {})
}

fn disable() -> Change {
    Change::Disable(pb::AuthDisableRequest {})
}

/// Applies a change and says what it does to the revision: a refused one does nothing.
fn check(store: &mut Store, change: Change, expected: Result<(Effect, u64), Error>) {
    let before = store.revision();
    let words = format!("{change:?}");
    let effect = store.apply(change, 7);
    assert_eq!(effect.map(|effect| (effect, store.revision() - before)), expected, "{words}");
}

#[test]
fn users_and_roles() {
    let store = &mut Store::default();
    let done = || Ok((Effect::None, 1));
    check(store, user_add(""), Err(Error::UserEmpty));
    check(store, user_add("ann"), done());
    check(store, user_add("ann"), Err(Error::UserExists));
    check(store, role_add(""), Err(Error::RoleEmpty));
    check(store, role_add("reader"), done());
    check(store, role_add("reader"), Err(Error::RoleExists));
    check(store, grant_role("bob", "reader"), Err(Error::UserNotFound));
    check(store, grant_role("ann", "none"), Err(Error::RoleNotFound));
    check(store, grant_role("ann", "reader"), done());
    check(store, grant_role("ann", "reader"), Ok((Effect::None, 0)));
    check(store, revoke_role("bob", "reader"), Err(Error::UserNotFound));
    check(store, revoke_role("ann", "none"), Err(Error::RoleNotGranted));
    check(store, revoke_role("ann", "reader"), done());
    check(store, grant_role("ann", "reader"), done());
    check(store, role_delete("none"), Err(Error::RoleNotFound));
    check(store, role_delete("reader"), done());
    assert_eq!(store.roles_of("ann"), Ok(Vec::new()));
    check(store, password("bob"), Err(Error::UserNotFound));
    check(store, password("ann"), Ok((Effect::Voided("ann".to_owned()), 1)));
    check(store, user_delete("ann"), Ok((Effect::Voided("ann".to_owned()), 1)));
    check(store, user_delete("ann"), Err(Error::UserNotFound));
}

#[test]
fn permissions() {
    let store = &mut Store::default();
    let done = || Ok((Effect::None, 1));
    check(store, permit("reader", "a", ""), Err(Error::RoleNotFound));
    check(store, role_add("reader"), done());
    let nothing = pb::AuthRoleGrantPermissionRequest { name: "reader".to_owned(), perm: None };
    check(store, Change::RoleGrantPermission(nothing), Err(Error::PermissionNotGiven));
    check(store, permit("reader", "", ""), Err(Error::InvalidManagement));
    check(store, permit("reader", "b", "a"), Err(Error::InvalidManagement));
    check(store, permit("reader", "a", ""), done());
    check(store, permit("reader", "a", "b"), done());
    assert_eq!(store.permissions_of("reader").map(|all| all.len()), Ok(2));
    check(store, forbid("none", "a"), Err(Error::RoleNotFound));
    check(store, forbid("reader", "b"), Err(Error::PermissionNotGranted));
    check(store, forbid("reader", "a"), done());
    assert_eq!(store.permissions_of("reader").map(|all| all[0].range_end.clone()), Ok(Bytes::from("b")));
    assert_eq!(store.permissions_of("none"), Err(Error::RoleNotFound));
}

#[test]
fn root_comes_before_enabling_and_stays() {
    let store = &mut Store::default();
    check(store, enable(), Err(Error::RootUserNotExist));
    check(store, user_add(ROOT), Ok((Effect::None, 1)));
    check(store, enable(), Err(Error::RootRoleNotExist));
    check(store, grant_role(ROOT, ROOT), Ok((Effect::None, 1)));
    check(store, authenticate(ROOT, 3), Err(Error::NotEnabled));
    check(store, enable(), Ok((Effect::Enabled, 0)));
    check(store, enable(), Ok((Effect::None, 0)));
    check(store, role_add(ROOT), Ok((Effect::None, 1)));
    for change in [user_delete(ROOT), revoke_role(ROOT, ROOT), role_delete(ROOT)] {
        check(store, change, Err(Error::InvalidManagement));
    }
    check(store, disable(), Ok((Effect::Disabled, 1)));
    check(store, disable(), Ok((Effect::None, 0)));
    check(store, user_delete(ROOT), Ok((Effect::Voided(ROOT.to_owned()), 1)));
}

#[test]
fn a_token_is_assigned_at_the_revision_of_its_password() {
    let store = &mut Store::default();
    let silent = pb::AuthUserAddRequest {
        name: "silent".to_owned(),
        options: Some(crate::pb::authpb::UserAddOptions { no_password: true }),
        ..Default::default()
    };
    for change in [user_add(ROOT), grant_role(ROOT, ROOT), Change::UserAdd(silent), enable()] {
        store.apply(change, 1).expect("valid");
    }
    let revision = store.revision();
    check(store, authenticate("nobody", revision), Err(Error::Failed));
    check(store, authenticate("silent", revision), Err(Error::Failed));
    let assigned = Effect::Assigned { token: "letters.7".to_owned(), user: ROOT.to_owned() };
    check(store, authenticate(ROOT, revision), Ok((assigned, 0)));
    check(store, password(ROOT), Ok((Effect::Voided(ROOT.to_owned()), 1)));
    check(store, authenticate(ROOT, revision), Err(Error::OldRevision));
}

#[test]
fn a_checkpoint_keeps_everything() {
    let store = &mut Store::default();
    assert_eq!(Store::restore(None), *store);
    for change in [
        user_add(ROOT),
        grant_role(ROOT, ROOT),
        user_add("ann"),
        role_add("reader"),
        permit("reader", "a", "b"),
        permit("reader", "c", "\0"),
        grant_role("ann", "reader"),
        enable(),
    ] {
        store.apply(change, 1).expect("valid");
    }
    assert_eq!(Store::restore(Some(store.head())), *store);
}
