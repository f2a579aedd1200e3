//! Why a request is refused, with the codes and words etcd's clients look for.

use tonic::{Code, Status};

use crate::auth;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    #[error("etcdserver: key not found")]
    KeyNotFound,
    #[error("etcdserver: value is provided")]
    ValueProvided,
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    #[error("etcdserver: too many requests")]
    TooManyRequests,
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    #[error("etcdserver: member not found")]
    MemberNotFound,
    #[error("etcdserver: bad leader transferee")]
    BadLeaderTransferee,
    #[error("etcdserver: member ID already exist")]
    MemberExists,
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExists,
    #[error("etcdserver: given member URLs are invalid")]
    BadMemberUrls,
    #[error("etcdserver: can only promote a learner member")]
    MemberNotLearner,
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
    #[error("etcdserver: not leader")]
    NotLeader,
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    LeaderTransferTimedOut,
    #[error("etcdserver: rpc not supported for learner")]
    NotForLearner,
    #[error("etcdserver: no leader")]
    NoLeader,
    #[error("etcdserver: request timed out")]
    TimedOut,
    #[error("etcdserver: server stopped")]
    Stopped,
    #[error("mutex: session is expired")]
    SessionExpired,
    #[error("election: not leader")]
    NotElected,
    #[error("election: no leader")]
    NobodyElected,
    #[error("\"leader\" field must be provided")]
    NoLeaderKey,
    #[error(transparent)]
    Auth(#[from] auth::Error),
}

impl Refusal {
    fn code(self) -> Code {
        use Refusal::{
            Auth, BadLeaderTransferee, BadMemberUrls, Compacted, Corrupt, DuplicateKey, EmptyKey, FutureRevision,
            InvalidSortOption, KeyNotFound, LeaderTransferTimedOut, LearnerNotReady, LeaseExists, LeaseNotFound,
            LeaseProvided, LeaseTtlTooLarge, MemberExists, MemberNotFound, MemberNotLearner, NoLeader, NoLeaderKey,
            NoSpace, NobodyElected, NotElected, NotEnoughStarted, NotForLearner, NotLeader, PeerUrlExists,
            RequestTooLarge, SessionExpired, Stopped, TimedOut, TooManyLearners, TooManyOps, TooManyRequests,
            Unhealthy, ValueProvided,
        };
        match self {
            EmptyKey | KeyNotFound | ValueProvided | LeaseProvided | TooManyOps | DuplicateKey | InvalidSortOption
            | RequestTooLarge | BadMemberUrls => Code::InvalidArgument,
            Compacted | FutureRevision | LeaseTtlTooLarge => Code::OutOfRange,
            NoSpace | TooManyRequests => Code::ResourceExhausted,
            Corrupt => Code::DataLoss,
            LeaseNotFound | MemberNotFound => Code::NotFound,
            LeaseExists | BadLeaderTransferee | MemberExists | PeerUrlExists | MemberNotLearner | LearnerNotReady
            | TooManyLearners | NotEnoughStarted | NotLeader => Code::FailedPrecondition,
            NoLeader | TimedOut | Stopped | Unhealthy | LeaderTransferTimedOut | NotForLearner => Code::Unavailable,
            SessionExpired | NotElected | NobodyElected | NoLeaderKey => Code::Unknown,
            Auth(error) => auth_code(error),
        }
    }
}

fn auth_code(error: auth::Error) -> Code {
    use auth::Error::{
        Failed, InvalidManagement, InvalidToken, NotEnabled, OldRevision, PermissionDenied, PermissionNotGiven,
        PermissionNotGranted, RoleEmpty, RoleExists, RoleNotFound, RoleNotGranted, RootRoleNotExist, RootUserNotExist,
        UserEmpty, UserExists, UserNotFound,
    };
    match error {
        UserEmpty | RoleEmpty | Failed | PermissionNotGiven | InvalidManagement | OldRevision => Code::InvalidArgument,
        RootUserNotExist | RootRoleNotExist | UserExists | UserNotFound | RoleExists | RoleNotFound
        | RoleNotGranted | PermissionNotGranted | NotEnabled => Code::FailedPrecondition,
        PermissionDenied => Code::PermissionDenied,
        InvalidToken => Code::Unauthenticated,
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        Status::new(refusal.code(), refusal.to_string())
    }
}

impl From<auth::Error> for Status {
    fn from(error: auth::Error) -> Status {
        Refusal::from(error).into()
    }
}

impl From<mvcc::Error> for Refusal {
    fn from(error: mvcc::Error) -> Refusal {
        match error {
            mvcc::Error::Compacted { .. } => Refusal::Compacted,
            mvcc::Error::FutureRevision => Refusal::FutureRevision,
            mvcc::Error::KeyNotFound => Refusal::KeyNotFound,
            mvcc::Error::LeaseNotFound => Refusal::LeaseNotFound,
            mvcc::Error::LeaseExists => Refusal::LeaseExists,
            mvcc::Error::LeaseTtlTooLarge => Refusal::LeaseTtlTooLarge,
        }
    }
}
