//! A recorded history: everything that all clients of a store did, and were told.

use std::fmt;

use crate::operation::Operation;
use crate::state::State;
use crate::watch::Watch;

/// What is checked. All writers must be in it; of the readers, as many as one likes.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The key space when the recording began.
    pub start: State,
    /// The leases that existed then.
    pub start_leases: Vec<i64>,
    pub operations: Vec<Operation>,
    pub watches: Vec<Watch>,
    /// What a second is in ticks; 0 if ticks only order. Lease TTLs are checked only against
    /// a clock.
    pub ticks_per_second: u64,
}

/// Who was told something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Operation(usize),
    Watch(usize),
}

impl History {
    /// An operation as a violation names it.
    pub(crate) fn name(&self, n: usize) -> String {
        let operation = &self.operations[n];
        let revision = operation.answered().map(|(revision, _)| format!(" -> @{revision}")).unwrap_or_default();
        let (client, call, ret) = (operation.client, operation.call, operation.ret);
        format!("#{n} ({}{revision}, client {client}, {call}..{ret})", operation.request)
    }

    /// A watch as a violation names it.
    pub(crate) fn watch_name(&self, n: usize) -> String {
        let watch = &self.watches[n];
        let from = if watch.start_revision > 0 { format!(" from @{}", watch.start_revision) } else { String::new() };
        format!("watch {n} ({}{from}, client {}, {}..)", watch.keys, watch.client, watch.call)
    }

    pub(crate) fn source_name(&self, source: Source) -> String {
        match source {
            Source::Operation(n) => self.name(n),
            Source::Watch(n) => self.watch_name(n),
        }
    }
}

/// Who made a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// An operation that was told so.
    Answered(usize),
    /// An operation whose outcome nobody knew.
    Unanswered(usize),
    /// A lease that ran out.
    Expired(i64),
    /// None that could have: a violation.
    Nobody,
}

impl History {
    pub(crate) fn writer_name(&self, writer: Writer) -> String {
        match writer {
            Writer::Answered(n) => self.name(n),
            Writer::Unanswered(n) => format!("{}, which was not answered", self.name(n)),
            Writer::Expired(lease) => format!("the end of lease {lease}"),
            Writer::Nobody => "nobody".to_owned(),
        }
    }
}

/// Bytes, revisions and answers side by side, for a sentence.
pub(crate) struct List<'a, T>(pub &'a [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        for (n, item) in self.0.iter().enumerate() {
            f.write_str(if n > 0 { ", " } else { "" })?;
            item.fmt(f)?;
        }
        Ok(())
    }
}
