//! Changes of the users and roles.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::rights::is_valid;
use super::store::{Role, Store, User};
use super::{Error, ROOT};
use crate::pb::authpb::permission::Type;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::{self, auth_change::Change};

/// What a change means beyond the users and roles: for tokens, and for whether credentials
/// are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    None,
    Enabled,
    /// All tokens are void.
    Disabled,
    /// The tokens of this user are void.
    Voided(String),
    /// The token identifies the user.
    Assigned {
        token: String,
        user: String,
    },
}

impl Store {
    /// Applies the change that stands at `index` in the log, whole or not at all.
    pub fn apply(&mut self, change: Change, index: u64) -> Result<Effect, Error> {
        let before = self.revision;
        let effect = match change {
            Change::Enable(_) => self.enable(),
            Change::Disable(_) => Ok(self.disable()),
            Change::UserAdd(r) => self.user_add(r),
            Change::UserDelete(r) => self.user_delete(r),
            Change::UserChangePassword(r) => self.user_change_password(r),
            Change::UserGrantRole(r) => self.user_grant_role(r),
            Change::UserRevokeRole(r) => self.user_revoke_role(&r),
            Change::RoleAdd(r) => self.role_add(r),
            Change::RoleDelete(r) => self.role_delete(&r.role),
            Change::RoleGrantPermission(r) => self.role_grant_permission(r),
            Change::RoleRevokePermission(r) => self.role_revoke_permission(r),
            Change::Authenticate(r) => self.authenticate(r, index),
        };
        assert!(effect.is_ok() || self.revision == before, "a change that is refused changes nothing");
        effect
    }

    fn changed(&mut self) -> Effect {
        self.revision += 1;
        Effect::None
    }

    /// Enabling twice is no mistake. The revision stays: who could identify before, still can.
    fn enable(&mut self) -> Result<Effect, Error> {
        if self.enabled {
            return Ok(Effect::None);
        }
        let root = self.users.get(ROOT).ok_or(Error::RootUserNotExist)?;
        if !root.is_root() {
            return Err(Error::RootRoleNotExist);
        }
        self.enabled = true;
        Ok(Effect::Enabled)
    }

    fn disable(&mut self) -> Effect {
        if !self.enabled {
            return Effect::None;
        }
        self.enabled = false;
        self.changed();
        Effect::Disabled
    }

    fn user_add(&mut self, r: pb::AuthUserAddRequest) -> Result<Effect, Error> {
        if r.name.is_empty() {
            return Err(Error::UserEmpty);
        }
        if self.users.contains_key(&r.name) {
            return Err(Error::UserExists);
        }
        let no_password = r.options.is_some_and(|options| options.no_password);
        let password = if no_password { String::new() } else { r.hashed_password };
        self.users.insert(r.name, User { password, no_password, ..User::default() });
        Ok(self.changed())
    }

    fn user_delete(&mut self, r: pb::AuthUserDeleteRequest) -> Result<Effect, Error> {
        if self.enabled && r.name == ROOT {
            return Err(Error::InvalidManagement);
        }
        self.users.remove(&r.name).ok_or(Error::UserNotFound)?;
        self.changed();
        Ok(Effect::Voided(r.name))
    }

    fn user_change_password(&mut self, r: pb::AuthUserChangePasswordRequest) -> Result<Effect, Error> {
        let user = self.users.get_mut(&r.name).ok_or(Error::UserNotFound)?;
        if !user.no_password {
            user.password = r.hashed_password;
        }
        self.changed();
        Ok(Effect::Voided(r.name))
    }

    /// The role `root` can be granted before it was added.
    fn user_grant_role(&mut self, r: pb::AuthUserGrantRoleRequest) -> Result<Effect, Error> {
        let user = self.users.get_mut(&r.user).ok_or(Error::UserNotFound)?;
        if r.role != ROOT && !self.roles.contains_key(&r.role) {
            return Err(Error::RoleNotFound);
        }
        if !user.roles.insert(r.role) {
            return Ok(Effect::None);
        }
        self.refresh(&r.user);
        Ok(self.changed())
    }

    fn user_revoke_role(&mut self, r: &pb::AuthUserRevokeRoleRequest) -> Result<Effect, Error> {
        if self.enabled && r.name == ROOT && r.role == ROOT {
            return Err(Error::InvalidManagement);
        }
        let user = self.users.get_mut(&r.name).ok_or(Error::UserNotFound)?;
        if !user.roles.remove(&r.role) {
            return Err(Error::RoleNotGranted);
        }
        self.refresh(&r.name);
        Ok(self.changed())
    }

    fn role_add(&mut self, r: pb::AuthRoleAddRequest) -> Result<Effect, Error> {
        if r.name.is_empty() {
            return Err(Error::RoleEmpty);
        }
        if self.roles.contains_key(&r.name) {
            return Err(Error::RoleExists);
        }
        self.roles.insert(r.name, Role::new());
        Ok(self.changed())
    }

    fn role_delete(&mut self, role: &str) -> Result<Effect, Error> {
        if self.enabled && role == ROOT {
            return Err(Error::InvalidManagement);
        }
        self.roles.remove(role).ok_or(Error::RoleNotFound)?;
        for user in self.users_with(role) {
            self.users.get_mut(&user).expect("just found").roles.remove(role);
            self.refresh(&user);
        }
        Ok(self.changed())
    }

    fn users_with(&self, role: &str) -> BTreeSet<String> {
        self.users.iter().filter(|(_, user)| user.roles.contains(role)).map(|(name, _)| name.clone()).collect()
    }

    fn role_grant_permission(&mut self, r: pb::AuthRoleGrantPermissionRequest) -> Result<Effect, Error> {
        let permission = r.perm.ok_or(Error::PermissionNotGiven)?;
        if !is_valid(&permission.key, &permission.range_end) {
            return Err(Error::InvalidManagement);
        }
        let kind = Type::try_from(permission.perm_type).map_err(|_| Error::InvalidManagement)?;
        let role = self.roles.get_mut(&r.name).ok_or(Error::RoleNotFound)?;
        role.insert((own(&permission.key), own(&permission.range_end)), kind);
        self.refresh_role(&r.name);
        Ok(self.changed())
    }

    fn role_revoke_permission(&mut self, r: pb::AuthRoleRevokePermissionRequest) -> Result<Effect, Error> {
        let role = self.roles.get_mut(&r.role).ok_or(Error::RoleNotFound)?;
        role.remove(&(r.key, r.range_end)).ok_or(Error::PermissionNotGranted)?;
        self.refresh_role(&r.role);
        Ok(self.changed())
    }

    fn refresh_role(&mut self, role: &str) {
        for user in self.users_with(role) {
            self.refresh(&user);
        }
    }

    /// The password was right at the revision the request names; since then it may have
    /// become another.
    fn authenticate(&self, r: kvraft::Authenticate, index: u64) -> Result<Effect, Error> {
        self.password_hash(&r.user)?;
        if r.revision != self.revision {
            return Err(Error::OldRevision);
        }
        Ok(Effect::Assigned { token: format!("{}.{index}", r.token), user: r.user })
    }
}

/// What stays is copied out of the buffer it came in.
fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
