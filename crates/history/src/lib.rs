//! Checks what clients of an etcd-like store recorded: did it keep its promises?
//!
//! A [`History`] holds what concurrent clients asked, when, and what they were told: ranges,
//! puts, deletions, transactions, leases ([`Operation`]), and watches with every response
//! they got ([`Watch`]). [`check()`] says whether a store that serves its clients one at a time
//! could have given these answers, and if not, in sentences, which operations show it.
//!
//! Invariants
//! - No disk, no clock, no threads: ticks are part of the history, and the same history gives
//!   the same report.
//! - A history that a right store can produce is never reported. Where too much is unknown to
//!   tell, the report says that it is [undecided](Report::undecided), never that all is well.
//! - The checker believes nothing but the rules: its model ([`State`]) is its own, and is
//!   tested against the store's.
//!
//! # How it works: revisions are the order
//!
//! To decide whether a history is linearizable is hard in general. A store that numbers its
//! transactions gives the order away: every answered write carries the revision it made, every
//! read the revision it shows. So there is one order to check, not all of them:
//!
//! ```text
//! #0  put a=1   |-----| @2                          order:  #0 @2
//! #1  put b=1       |--------| @3                           #1 @3
//! #2  get a           |---| @2, a=1 @2                      #2 after @2, before @3
//! #3  put a=2                    |----- no answer           #3 @4, or never
//! #4  get a                         |---| @4, a=2 @4        so #3 was @4
//! ```
//!
//! 1. **Real time.** What returned before an operation was called happened before it: a write's
//!    revision is above all that had been returned, a linearizable read's not below. A
//!    serializable read may be old, but what it shows existed by then.
//! 2. **Every revision has one writer.** Two claims on one revision are a violation. A revision
//!    nobody claims was made by an operation whose outcome is unknown, or by a lease that ran
//!    out; what reads and watches show of the revision says by which. Several that fit are
//!    tried in turn.
//! 3. **Replay.** The model goes through the transactions in order. Every answer must be the
//!    model's at its revision, to the last field, and every watch must have been sent what
//!    happened, all of it, once.
//!
//! A write that was answered and is lost, for example:
//!
//! ```
//! use history::*;
//! # use bytes::Bytes;
//! # let op = |call, ret, request, revision, answer| Operation {
//! #     client: 1, call, ret, request, outcome: Outcome::Answered { revision, answer },
//! # };
//! # let key = || Bytes::from_static(b"a");
//! let put = Put { key: key(), value: Bytes::from_static(b"1"), lease: 0, prev_kv: false };
//! let get = Range { keys: Keys::One(key()), limit: 0 };
//! let nothing = RangeAnswer::default();
//! let history = History {
//!     operations: vec![
//!         op(1, 2, Request::Put(put), 2, Answer::Put { prev_kv: None }),
//!         op(3, 4, Request::Range(get, At::Latest), 2, Answer::Range(nothing)),
//!     ],
//!     ..History::default()
//! };
//! let report = check(&history);
//! assert!(report.has(Kind::LostWrite));
//! assert_eq!(
//!     report.violations[0].text,
//!     "#1 (get a -> @2, client 1, 3..4) does not show a=1 @2 (created @2, version 1), \
//!      written by #0 (put a=1 -> @2, client 1, 1..2)."
//! );
//! ```
//!
//! # Watches
//!
//! etcd promises that a watch is *ordered*, *unique*, *atomic* (a transaction is never split,
//! unless the client allowed fragments), *reliable* (nothing is missing between the first and
//! the last revision seen), *resumable* (from any revision, or it is cancelled with a later
//! `compact_revision`) and *bookmarkable* (nothing up to a progress notification's revision
//! follows it). A watch vouches for what lies between its start and the last revision it was
//! shown, by an event or a progress notification:
//!
//! ```text
//! happened     @2 a=1    @3 b=1    @4 a=2    @5 c=1
//! watch of *   @2 a=1              @4 a=2              Missing: b=1 @3
//! watch of a*  @2 a=1              @4 a=2  progress @5    right
//! watch of c*  (nothing yet)                              right: @5 may come
//! watch of c*                              progress @5    Missing: c=1 @5
//! ```
//!
//! # Leases
//!
//! A key is attached only to a lease that exists, and goes with it, in one transaction. A
//! lease that nobody revoked may run out at any time, but not before the TTL that its last
//! renewal gave it, if ticks are a clock ([`History::ticks_per_second`]), nor while later
//! renewals find it alive. Ids are expected to be granted once; what is granted again is
//! not judged.
//!
//! # What a recorder must see to
//!
//! - Every writer is recorded. What is there at the start goes into [`History::start`].
//! - Values are unique, so that a value seen tells who wrote it.
//! - An operation is [`Outcome::Refused`] only if the server said so in a way that excludes
//!   that it happened; a time-out or a broken connection is [`Outcome::Unknown`].
//! - `call` is taken before the request is sent, `ret` after the answer was received.
//! - At the end, when all is calm, one linearizable range of everything and a progress
//!   notification on every watch: what was lost shows there.
//!
//! [`exhaustive`] decides the same without trusting revisions, for short histories, and is
//! what the fast checker is tested against.

mod check;
pub mod exhaustive;
mod explain;
mod history;
mod index;
mod kv;
mod lease;
mod operation;
mod order;
mod search;
mod state;
mod stream;
mod timeline;
mod verify;
mod violation;
mod watch;

pub use check::check;
pub use history::{History, Writer};
pub use kv::{Event, KeyValue, Keys};
pub use operation::{
    Answer, At, Compare, Delete, Operation, Outcome, Put, Range, RangeAnswer, Relation, Request, Target, Txn, TxnOp,
};
pub use search::MAX_STEPS;
pub use state::State;
pub use violation::{Kind, MAX_VIOLATIONS, Report, Violation};
pub use watch::{Message, Response, Watch};
