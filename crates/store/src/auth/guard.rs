//! What one asker may do, at one state of the users and roles.

use bytes::Bytes;
use mvcc::{KeyRange, Lease, Leases};

use super::rights::Rights;
use super::store::{Store, User};
use super::{Asker, Caller, Error};
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::kvraft::auth_change::Change;

#[derive(Clone, Copy)]
pub struct Guard<'a> {
    pub(super) store: &'a Store,
    pub(super) asker: &'a Asker,
}

impl<'a> Guard<'a> {
    /// Who is to be judged; nobody if there is nothing to judge.
    fn caller(&self) -> Result<Option<&'a Caller>, Error> {
        match self.asker {
            _ if !self.store.enabled => Ok(None),
            Asker::Member => Ok(None),
            Asker::Nobody => Err(Error::UserEmpty),
            Asker::User(caller) => Ok(Some(caller)),
        }
    }

    fn user(&self, caller: &Caller) -> Option<&'a User> {
        self.store.users.get(&caller.user)
    }

    /// What limits the asker; nothing if they may do everything.
    fn limits(&self) -> Result<Option<&'a Rights>, Error> {
        let Some(caller) = self.caller()? else {
            return Ok(None);
        };
        if caller.revision < self.store.revision {
            return Err(Error::OldRevision);
        }
        let user = self.user(caller).ok_or(Error::PermissionDenied)?;
        Ok((!user.is_root()).then_some(&user.rights))
    }

    /// Any user will do.
    pub fn identified(&self) -> Result<(), Error> {
        self.caller().map(|_| ())
    }

    /// Only who has the role `root`. Identified when does not matter: otherwise a signed token
    /// would be good for a single change.
    pub fn admin(&self) -> Result<(), Error> {
        let Some(caller) = self.caller()? else {
            return Ok(());
        };
        let user = self.user(caller).ok_or(Error::UserNotFound)?;
        if user.is_root() { Ok(()) } else { Err(Error::PermissionDenied) }
    }

    fn judge(&self, may: impl FnOnce(&Rights) -> bool) -> Result<(), Error> {
        match self.limits()? {
            Some(rights) if !may(rights) => Err(Error::PermissionDenied),
            _ => Ok(()),
        }
    }

    pub fn read(&self, keys: &KeyRange) -> Result<(), Error> {
        self.judge(|rights| rights.may_read(keys))
    }

    pub fn range(&self, r: &pb::RangeRequest) -> Result<(), Error> {
        self.judge(|rights| may_range(rights, r))
    }

    pub fn put(&self, r: &pb::PutRequest, leases: &Leases) -> Result<(), Error> {
        self.judge(|rights| may_put(rights, r, leases))
    }

    pub fn delete(&self, r: &pb::DeleteRangeRequest) -> Result<(), Error> {
        self.judge(|rights| may_delete(rights, r))
    }

    pub fn txn(&self, r: &pb::TxnRequest, leases: &Leases) -> Result<(), Error> {
        self.judge(|rights| may_txn(rights, r, leases))
    }

    /// To attach to a lease or to end it is to decide over its keys.
    pub fn write_attached(&self, lease: Option<&Lease>) -> Result<(), Error> {
        self.judge(|rights| attached(lease).all(|key| rights.may_write(&key)))
    }

    /// To be told a lease's keys is to read them.
    pub fn read_attached(&self, lease: Option<&Lease>) -> Result<(), Error> {
        self.judge(|rights| attached(lease).all(|key| rights.may_read(&key)))
    }

    /// The users and roles are the administrator's; to identify is everybody's.
    pub fn change(&self, change: &Change) -> Result<(), Error> {
        match change {
            Change::Authenticate(_) => Ok(()),
            _ => self.admin(),
        }
    }

    /// Of themselves everybody may know.
    pub fn user_get(&self, name: &str) -> Result<(), Error> {
        match self.caller()? {
            Some(caller) if caller.user == name => Ok(()),
            _ => self.admin(),
        }
    }

    pub fn role_get(&self, role: &str) -> Result<(), Error> {
        let user = self.caller()?.and_then(|caller| self.user(caller));
        if user.is_some_and(|user| user.roles.contains(role)) { Ok(()) } else { self.admin() }
    }
}

fn keys(key: &Bytes, range_end: &Bytes) -> KeyRange {
    KeyRange::from_wire(key.clone(), range_end.clone())
}

fn attached(lease: Option<&Lease>) -> impl Iterator<Item = KeyRange> {
    lease.into_iter().flat_map(|lease| &lease.keys).map(|key| KeyRange::Single(key.clone()))
}

fn may_range(rights: &Rights, r: &pb::RangeRequest) -> bool {
    rights.may_read(&keys(&r.key, &r.range_end))
}

/// The value that is replaced is read, and a lease takes with it all keys attached.
fn may_put(rights: &Rights, r: &pb::PutRequest, leases: &Leases) -> bool {
    let key = KeyRange::Single(r.key.clone());
    rights.may_write(&key)
        && (!r.prev_kv || rights.may_read(&key))
        && attached(leases.get(r.lease)).all(|key| rights.may_write(&key))
}

fn may_delete(rights: &Rights, r: &pb::DeleteRangeRequest) -> bool {
    let keys = keys(&r.key, &r.range_end);
    rights.may_write(&keys) && (!r.prev_kv || rights.may_read(&keys))
}

/// Everything the transaction could do, whichever branches it takes.
fn may_txn(rights: &Rights, r: &pb::TxnRequest, leases: &Leases) -> bool {
    let may = |op: &pb::RequestOp| match &op.request {
        Some(Request::RequestRange(r)) => may_range(rights, r),
        Some(Request::RequestPut(r)) => may_put(rights, r, leases),
        Some(Request::RequestDeleteRange(r)) => may_delete(rights, r),
        Some(Request::RequestTxn(r)) => may_txn(rights, r, leases),
        None => true,
    };
    r.compare.iter().all(|compare| rights.may_read(&keys(&compare.key, &compare.range_end)))
        && r.success.iter().chain(&r.failure).all(may)
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
