//! What can be wrong with a history, and the sentence that says so.

use std::fmt;

/// The guarantee that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Two transactions claim one revision.
    DuplicateRevision,
    /// A write got a revision that others had seen before it was called.
    RevisionBack,
    /// A linearizable answer is older than what was known before it was called.
    StaleRead,
    /// A revision exists that no operation can have written.
    UnexplainedRevision,
    /// A read does not show what was written.
    LostWrite,
    /// A read shows what was never written.
    PhantomRead,
    /// An answer differs from the model's in some other way.
    WrongAnswer,
    /// A revision could be read although it had been compacted.
    CompactedRead,
    /// A key outlived its lease, or was attached to a lease that was not there.
    LeaseBroken,
    /// A lease ended sooner than granted.
    LeaseTooShort,
    /// Watch: revisions went back.
    OutOfOrder,
    /// Watch: an event came twice.
    Duplicated,
    /// Watch: a revision's events came in several responses.
    Split,
    /// Watch: an event did not come.
    Missing,
    /// Watch: an event from before the start.
    BeforeStart,
    /// Watch: an event came that a progress notification had said was past.
    BookmarkBroken,
    /// Watch: an event of a key or a type that was not asked for.
    Unwanted,
    /// Watch: an event that did not happen, or not so.
    WrongEvent,
    /// Watch: cancelled or used against the protocol.
    Protocol,
}

/// One broken guarantee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub kind: Kind,
    /// A whole sentence; operations are named as `#n`, their place in the history.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}

/// How many violations a report lists. One broken write may spoil every read after it.
pub const MAX_VIOLATIONS: usize = 100;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    pub violations: Vec<Violation>,
    /// Too many operations without an outcome could have been what nobody saw: no assignment
    /// was found within [`crate::MAX_STEPS`], nor shown to be impossible. The violations are
    /// then those that stand in any case.
    pub undecided: bool,
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty() && !self.undecided
    }

    pub fn has(&self, kind: Kind) -> bool {
        self.violations.iter().any(|v| v.kind == kind)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for violation in &self.violations {
            writeln!(f, "{violation}")?;
        }
        if self.undecided {
            writeln!(f, "undecided: too many ways to account for the operations without an outcome")?;
        }
        Ok(())
    }
}
