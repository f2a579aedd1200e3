//! The whole check.

use crate::history::History;
use crate::index::Index;
use crate::search::{Found, MAX_STEPS, Search};
use crate::violation::{MAX_VIOLATIONS, Report};
use crate::{order, stream};

/// Checks a history against everything etcd guarantees of keys, transactions, leases and
/// watches.
pub fn check(history: &History) -> Report {
    let index = Index::of(history);
    let mut violations = order::check(&index);
    violations.extend(stream::check(history));
    violations.extend(index.leases.check(history, &index.timeline));
    let (told, undecided) = match Search::new(&index).find(MAX_STEPS) {
        Found::Explained => (Vec::new(), false),
        Found::Impossible(path) => (Search::new(&index).tell(&path), false),
        Found::Undecided => (Vec::new(), true),
    };
    violations.extend(told);
    violations.truncate(MAX_VIOLATIONS);
    Report { violations, undecided }
}
