//! The users and roles, and their form in a checkpoint.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mvcc::KeyRange;

use super::guard::Guard;
use super::rights::Rights;
use super::{Asker, Error, ROOT};
use crate::pb::{authpb, kvraft};

/// The first revision; zero would be nobody's.
const FIRST_REVISION: u64 = 1;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct User {
    /// As bcrypt writes hashes; empty is no password that could be right.
    pub password: String,
    /// Known by a certificate only.
    pub no_password: bool,
    pub roles: BTreeSet<String>,
    /// What the roles permit together.
    pub rights: Rights,
}

impl User {
    pub fn is_root(&self) -> bool {
        self.roles.contains(ROOT)
    }
}

/// The kind of each permission, by key and end as they were given.
pub(super) type Role = BTreeMap<(Bytes, Bytes), authpb::permission::Type>;

#[derive(Debug, PartialEq, Eq)]
pub struct Store {
    pub(super) enabled: bool,
    pub(super) revision: u64,
    pub(super) users: BTreeMap<String, User>,
    pub(super) roles: BTreeMap<String, Role>,
}

impl Default for Store {
    fn default() -> Store {
        Store { enabled: false, revision: FIRST_REVISION, users: BTreeMap::new(), roles: BTreeMap::new() }
    }
}

impl Store {
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What `asker` may do now.
    pub fn guard<'a>(&'a self, asker: &'a Asker) -> Guard<'a> {
        Guard { store: self, asker }
    }

    /// The hash to check a user's password against. Whether the user is unknown or has no
    /// password is not told.
    pub fn password_hash(&self, user: &str) -> Result<String, Error> {
        if !self.enabled {
            return Err(Error::NotEnabled);
        }
        let user = self.users.get(user).filter(|user| !user.no_password);
        user.map(|user| user.password.clone()).ok_or(Error::Failed)
    }

    pub fn users(&self) -> Vec<String> {
        self.users.keys().cloned().collect()
    }

    pub fn roles(&self) -> Vec<String> {
        self.roles.keys().cloned().collect()
    }

    pub fn roles_of(&self, user: &str) -> Result<Vec<String>, Error> {
        let user = self.users.get(user).ok_or(Error::UserNotFound)?;
        Ok(user.roles.iter().cloned().collect())
    }

    /// The permissions of a role. Those of `root` are given by its name.
    pub fn permissions_of(&self, role: &str) -> Result<Vec<authpb::Permission>, Error> {
        let permissions = self.roles.get(role).ok_or(Error::RoleNotFound)?;
        if role == ROOT {
            let all = authpb::Permission {
                perm_type: authpb::permission::Type::Readwrite.into(),
                key: Bytes::new(),
                range_end: Bytes::from_static(&[0]),
            };
            return Ok(vec![all]);
        }
        Ok(to_wire(permissions))
    }

    /// Merges a user's permissions anew.
    pub(super) fn refresh(&mut self, user: &str) {
        let Some(user) = self.users.get_mut(user) else {
            return;
        };
        let permissions: Vec<_> = user
            .roles
            .iter()
            .filter_map(|role| self.roles.get(role))
            .flatten()
            .map(|((key, end), kind)| (KeyRange::from_wire(key.clone(), end.clone()), *kind))
            .collect();
        user.rights = Rights::merge(permissions.iter().map(|(keys, kind)| (keys, *kind)));
    }

    pub fn head(&self) -> kvraft::Auth {
        let user = |(name, user): (&String, &User)| authpb::User {
            name: Bytes::copy_from_slice(name.as_bytes()),
            password: Bytes::copy_from_slice(user.password.as_bytes()),
            roles: user.roles.iter().cloned().collect(),
            options: user.no_password.then_some(authpb::UserAddOptions { no_password: true }),
        };
        let role = |(name, permissions): (&String, &Role)| authpb::Role {
            name: Bytes::copy_from_slice(name.as_bytes()),
            key_permission: to_wire(permissions),
        };
        kvraft::Auth {
            enabled: self.enabled,
            revision: self.revision,
            users: self.users.iter().map(user).collect(),
            roles: self.roles.iter().map(role).collect(),
        }
    }

    /// A head without this part was written before there was any.
    pub fn restore(head: Option<kvraft::Auth>) -> Store {
        let Some(head) = head else {
            return Store::default();
        };
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let user = |user: authpb::User| {
            let restored = User {
                password: text(&user.password),
                no_password: user.options.is_some_and(|options| options.no_password),
                roles: user.roles.into_iter().collect(),
                rights: Rights::default(),
            };
            (text(&user.name), restored)
        };
        let role = |role: authpb::Role| {
            let name = text(&role.name);
            let permissions = role.key_permission.into_iter().map(|p| {
                let kind = p.perm_type();
                ((p.key, p.range_end), kind)
            });
            (name, permissions.collect())
        };
        let mut store = Store {
            enabled: head.enabled,
            revision: head.revision,
            users: head.users.into_iter().map(user).collect(),
            roles: head.roles.into_iter().map(role).collect(),
        };
        for name in store.users() {
            store.refresh(&name);
        }
        store
    }
}

fn to_wire(permissions: &Role) -> Vec<authpb::Permission> {
    let permission = |((key, end), kind): (&(Bytes, Bytes), &authpb::permission::Type)| authpb::Permission {
        perm_type: (*kind).into(),
        key: key.clone(),
        range_end: end.clone(),
    };
    permissions.iter().map(permission).collect()
}
