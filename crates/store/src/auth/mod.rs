//! Who may do what: users, their roles, the permissions of the roles.
//!
//! ```text
//! user "ann" --- role "reader" --- read       ["app/", "app0")
//!            \-- role "writer" --- read-write  "app/lock"
//! ```
//!
//! A user's permissions are merged into one set of disjoint ranges per right, so that a range
//! is permitted when the roles cover it together, none of them alone.
//!
//! Invariants
//! - No clock, no randomness, no hashing, no IO: passwords arrive hashed, tokens are assigned
//!   and forgotten elsewhere. The same changes in the same order give the same rights on every
//!   member, and rights are decided where a command is applied.
//! - Every change takes the next revision. Who was identified at an earlier one is asked to
//!   identify again before it may touch a key.
//! - While authentication is enabled there is a user `root` with the role `root`.
//! - While it is disabled everybody may do everything.

mod change;
mod guard;
mod rights;
mod store;

pub use change::Effect;
pub use guard::Guard;
pub use store::Store;

use crate::pb::kvraft;
use crate::pb::kvraft::attributed::By;
use crate::pb::kvraft::command::Op;

/// The user who may do everything, and the role that makes one so.
pub const ROOT: &str = "root";

/// Why authentication or authorization refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("etcdserver: root user does not exist")]
    RootUserNotExist,
    #[error("etcdserver: root user does not have root role")]
    RootRoleNotExist,
    #[error("etcdserver: user name already exists")]
    UserExists,
    #[error("etcdserver: user name is empty")]
    UserEmpty,
    #[error("etcdserver: user name not found")]
    UserNotFound,
    #[error("etcdserver: role name already exists")]
    RoleExists,
    #[error("etcdserver: role name is empty")]
    RoleEmpty,
    #[error("etcdserver: role name not found")]
    RoleNotFound,
    #[error("etcdserver: authentication failed, invalid user ID or password")]
    Failed,
    #[error("etcdserver: permission not given")]
    PermissionNotGiven,
    #[error("etcdserver: permission denied")]
    PermissionDenied,
    #[error("etcdserver: role is not granted to the user")]
    RoleNotGranted,
    #[error("etcdserver: permission is not granted to the role")]
    PermissionNotGranted,
    #[error("etcdserver: authentication is not enabled")]
    NotEnabled,
    #[error("etcdserver: invalid auth token")]
    InvalidToken,
    #[error("etcdserver: invalid auth management")]
    InvalidManagement,
    #[error("etcdserver: revision of auth store is old")]
    OldRevision,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asker {
    /// Nobody said who they are: all there is while authentication is disabled.
    Nobody,
    User(Caller),
    /// A member of the cluster, for the cluster's own sake.
    Member,
}

/// A user, as of the revision at which they were identified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub user: String,
    pub revision: u64,
}

impl Asker {
    /// A command as it goes into the log.
    pub fn sign(self, op: Op) -> Op {
        let by = match self {
            Asker::Nobody => return op,
            Asker::User(Caller { user, revision }) => By::Caller(kvraft::Caller { user, revision }),
            Asker::Member => By::Member(true),
        };
        let command = Some(Box::new(kvraft::Command { op: Some(op) }));
        Op::Attributed(Box::new(kvraft::Attributed { by: Some(by), command }))
    }
}

/// Takes apart what [`Asker::sign`] put together.
pub fn attribution(op: Op) -> (Asker, Op) {
    let Op::Attributed(attributed) = op else {
        return (Asker::Nobody, op);
    };
    let asker = match attributed.by {
        Some(By::Caller(kvraft::Caller { user, revision })) => Asker::User(Caller { user, revision }),
        Some(By::Member(_)) => Asker::Member,
        None => Asker::Nobody,
    };
    let inner = attributed.command.and_then(|command| command.op);
    (asker, inner.expect("whoever decoded the command looked inside"))
}

/// The command itself, whoever asked for it; nothing if this version does not know it.
pub fn attributed(op: &Op) -> Option<&Op> {
    match op {
        Op::Attributed(attributed) => attributed.command.as_ref()?.op.as_ref(),
        op => Some(op),
    }
}
