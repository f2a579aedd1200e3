//! What happened, transaction by transaction: the source of every watch.
//!
//! The history holds each transaction from the compacted revision on, so a watcher needs no
//! queue of its own: it remembers where it is and reads on from there. A slow watcher costs
//! nothing, and nothing is ever dropped for it.
//!
//! # Worked example
//!
//! ```text
//! revision      2          3                   4          5
//! history     [put a] [put b, delete a]    [put c]    [put a]
//! ```
//!
//! Who watches `a` from 2 on, at most one event at a time, reads `put a` and is to go on at 3; then `delete a`, and goes on
//! at 4; then nothing of 4 and `put a` of 5, and is done at 6. A transaction is never cut in two: who watches everything is
//! told both changes of 3 at once. `compact(4)` lets go of 2 and 3: nobody begins there any more. Who watched already and is
//! only about to read 3 does so all the same, for the newest of what was compacted is kept for them; who has fallen further
//! behind is told that 4 is the first revision there is.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::Error;
use crate::kv::Event;
use crate::watch::Filter;

/// How many events one reading looks at before it lets go of the store again.
const MAX_SCANNED: usize = 16_384;
/// What is kept of compacted transactions, for watchers who are about to read them.
const KEPT_BYTES: usize = 16 << 20;
/// What an event costs beside its keys and values.
const EVENT_OVERHEAD_BYTES: usize = 256;

/// Where one reading stops; it always gets at least one transaction further.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// With so many it is enough.
    pub events: usize,
    /// Of keys and values, those before the changes included; not exceeded but by a transaction that alone does.
    pub bytes: usize,
}

/// All changes of one main revision, in order. Never empty, and cheap to clone.
#[derive(Debug, Clone)]
pub struct Transaction(Events);

/// Most have one, which needs no room of its own.
#[derive(Debug, Clone)]
enum Events {
    One(Event),
    Several(Arc<Box<[Event]>>),
}

impl Transaction {
    pub(crate) fn of(mut events: Vec<Event>) -> Transaction {
        assert!(!events.is_empty(), "a transaction has events");
        Transaction(match (events.pop(), events.is_empty()) {
            (Some(only), true) => Events::One(only),
            (last, _) => {
                events.extend(last);
                Events::Several(Arc::new(events.into_boxed_slice()))
            }
        })
    }

    pub fn events(&self) -> &[Event] {
        match &self.0 {
            Events::One(event) => std::slice::from_ref(event),
            Events::Several(events) => events,
        }
    }

    pub fn revision(&self) -> i64 {
        self.events()[0].kv.mod_revision
    }

    fn bytes(&self) -> usize {
        self.events().iter().map(|event| event.bytes() + EVENT_OVERHEAD_BYTES).sum()
    }
}

/// The transactions from `oldest` on, oldest first.
#[derive(Debug, Default)]
pub struct History {
    transactions: VecDeque<Transaction>,
    compacted: i64,
    /// From here on nothing is missing; not after `compacted`.
    oldest: i64,
    /// What the transactions before `compacted` come to.
    kept_bytes: usize,
}

/// What one reading of the history gave.
#[derive(Debug, Default)]
pub struct Batch {
    /// Matching events, whole transactions only.
    pub events: Vec<Event>,
    /// Where the next reading begins.
    pub next: i64,
    /// Whether the end was reached, of the history or of what was to be read.
    pub done: bool,
    /// How many events were looked at.
    pub scanned: usize,
}

/// A part of the history, for those who read it together.
#[derive(Debug, Default)]
pub struct Part {
    pub transactions: Vec<Transaction>,
    /// Where the next part begins.
    pub next: i64,
    /// Whether the end of the history was reached.
    pub done: bool,
}

impl History {
    pub(crate) fn push(&mut self, transaction: Transaction) {
        assert!(
            self.transactions.back().is_none_or(|last| last.revision() < transaction.revision()),
            "revisions only grow"
        );
        self.transactions.push_back(transaction);
    }

    /// Lets go of everything before `at`, but for what watchers may be about to read. Returns what no longer counts as
    /// unread history since the last time: the transactions up to and including `at`.
    pub(crate) fn compact(&mut self, at: i64) -> Vec<Transaction> {
        assert!(at >= self.compacted, "compaction only goes forward");
        let (from, gone, passed) = (self.position(self.compacted), self.position(at), self.position(at + 1));
        let list = self.transactions.range(from..passed).cloned().collect();
        self.kept_bytes += self.transactions.range(from..gone).map(|t| t.bytes()).sum::<usize>();
        self.compacted = at;
        self.keep(KEPT_BYTES);
        list
    }

    /// Nobody is about to read, and what was compacted is not whole: it was read from a checkpoint.
    pub(crate) fn forget_compacted(&mut self) {
        self.keep(0);
        self.oldest = self.compacted;
    }

    fn keep(&mut self, bytes: usize) {
        while self.kept_bytes > bytes
            && let Some(gone) = self.transactions.pop_front()
        {
            self.kept_bytes -= gone.bytes();
            self.oldest = gone.revision() + 1;
        }
        if self.transactions.capacity() > 4 * self.transactions.len() {
            self.transactions.shrink_to_fit();
        }
    }

    /// Whether a watch may begin at a revision.
    pub fn admit(&self, revision: i64) -> Result<(), Error> {
        self.check(revision, self.compacted)
    }

    fn check(&self, revision: i64, first: i64) -> Result<(), Error> {
        if revision < first { Err(Error::Compacted { compact_revision: self.compacted }) } else { Ok(()) }
    }

    /// The index of the first transaction at or after `revision`.
    fn position(&self, revision: i64) -> usize {
        let Some(last) = self.transactions.back() else { return 0 };
        // Revisions follow each other without a gap but where history was lost to a restart after
        // a compaction, so counting back from the end nearly always meets the one that is sought.
        let from_end = usize::try_from(last.revision() + 1 - revision).unwrap_or(0);
        if let Some(guess) = self.transactions.len().checked_sub(from_end)
            && self.transactions.get(guess).is_none_or(|t| t.revision() == revision)
        {
            return guess;
        }
        self.transactions.partition_point(|t| t.revision() < revision)
    }

    /// The transactions from `revision` on.
    pub fn since(&self, revision: i64) -> impl Iterator<Item = &Transaction> {
        self.transactions.range(self.position(revision)..)
    }

    /// Reads on for one watcher: whole transactions, until a limit or the end is reached, or enough was looked at for one
    /// go. A compaction since the watch was admitted does not matter to one who has nearly kept up.
    pub fn read(&self, revisions: Range<i64>, filter: &Filter, limits: Limits) -> Result<Batch, Error> {
        self.check(revisions.start, self.oldest)?;
        let mut batch = Batch { next: revisions.start, ..Batch::default() };
        let mut bytes = 0;
        for transaction in self.since(revisions.start).take_while(|t| t.revision() < revisions.end) {
            if batch.events.len() >= limits.events || batch.scanned >= MAX_SCANNED {
                return Ok(batch);
            }
            batch.scanned += transaction.events().len();
            let matching = || transaction.events().iter().filter(|event| filter.matches(event));
            bytes += matching().map(Event::bytes).sum::<usize>();
            if bytes > limits.bytes && !batch.events.is_empty() {
                return Ok(batch);
            }
            batch.events.extend(matching().cloned());
            batch.next = transaction.revision() + 1;
        }
        batch.done = true;
        Ok(batch)
    }

    /// The next transactions for watchers who read on together, until they have so many events.
    pub fn part(&self, from: i64, events: usize) -> Result<Part, Error> {
        self.check(from, self.oldest)?;
        let mut part = Part { next: from, ..Part::default() };
        let mut taken = 0;
        for transaction in self.since(from) {
            if taken >= events {
                return Ok(part);
            }
            taken += transaction.events().len();
            part.next = transaction.revision() + 1;
            part.transactions.push(transaction.clone());
        }
        part.done = true;
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::KeyValue;

    /// Every write has one, for as long as it is not compacted.
    #[test]
    fn a_transaction_of_one_event_takes_no_more_than_the_event() {
        assert_eq!(size_of::<Transaction>(), size_of::<Event>());
        let event =
            |revision| Event { kv: Arc::new(KeyValue { mod_revision: revision, ..KeyValue::default() }), prev: None };
        for events in 1..4 {
            let transaction = Transaction::of((0..events).map(|_| event(7)).collect());
            assert_eq!((transaction.events().len(), transaction.revision()), (events, 7));
        }
    }
}
