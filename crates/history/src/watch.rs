//! What watches asked for and what they were sent.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use crate::kv::{Event, Keys};

/// One watch as the server knows it: a watch that is taken up again after its stream broke
/// is another one, which starts where the first ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    pub client: u32,
    /// When it was asked for, in the ticks of the operations.
    pub call: u64,
    pub keys: Keys,
    /// 0 is from now on.
    pub start_revision: i64,
    pub prev_kv: bool,
    pub no_put: bool,
    pub no_delete: bool,
    /// Whether the client allowed large responses to be cut in pieces.
    pub fragment: bool,
    /// In the order received. A progress notification for a whole stream is recorded with
    /// each of the stream's watches.
    pub responses: Vec<Response>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// When it was received.
    pub at: u64,
    /// The revision in its header.
    pub revision: i64,
    pub message: Message,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Created,
    Events {
        events: Vec<Event>,
        /// More of the same response follows.
        fragment: bool,
    },
    /// Everything up to the header's revision was sent.
    Progress,
    /// `compact_revision` is 0 unless the watch fell behind a compaction.
    Canceled {
        compact_revision: i64,
    },
}

impl Watch {
    /// Whether an event concerns this watch.
    pub(crate) fn wants(&self, event: &Event) -> bool {
        let unwanted = if event.kv.is_tombstone() { self.no_delete } else { self.no_put };
        !unwanted && self.keys.contains(&event.kv.key)
    }

    /// The first revision it must be told of; known once it was created, or at once if it
    /// named its start.
    pub(crate) fn from(&self) -> Option<i64> {
        if self.start_revision > 0 {
            return Some(self.start_revision);
        }
        let created = self.responses.iter().find(|r| r.message == Message::Created)?;
        Some(created.revision + 1)
    }
}

/// What a watch has vouched for.
pub(crate) struct Coverage<'a> {
    pub watch: &'a Watch,
    pub from: i64,
    /// The last revision that it was shown whole; below `from` if none.
    pub through: i64,
    events: HashMap<i64, Vec<&'a Event>>,
}

impl<'a> Coverage<'a> {
    pub fn of(watch: &'a Watch) -> Coverage<'a> {
        let from = watch.from().unwrap_or(i64::MAX);
        let mut coverage = Coverage { watch, from, through: 0, events: HashMap::new() };
        let mut seen: BTreeSet<(i64, &Bytes)> = BTreeSet::new();
        for response in &watch.responses {
            match &response.message {
                Message::Events { events, fragment } => {
                    // What arrived twice is told by the check of the order; here it counts once.
                    for event in events.iter().filter(|e| seen.insert((e.kv.mod_revision, &e.kv.key))) {
                        coverage.events.entry(event.kv.mod_revision).or_default().push(event);
                    }
                    let last = events.iter().map(|e| e.kv.mod_revision).max().unwrap_or(0);
                    // The rest of the last transaction may be in the next piece.
                    coverage.through = coverage.through.max(last - i64::from(*fragment));
                }
                Message::Progress => coverage.through = coverage.through.max(response.revision),
                Message::Created | Message::Canceled { .. } => {}
            }
        }
        coverage
    }

    /// The events it was sent for a revision.
    pub fn at(&self, revision: i64) -> &[&'a Event] {
        self.events.get(&revision).map_or(&[], Vec::as_slice)
    }

    pub fn revisions(&self) -> impl Iterator<Item = i64> {
        self.events.keys().copied()
    }

    /// Whether all of a revision must have been sent.
    pub fn covers(&self, revision: i64) -> bool {
        (self.from..=self.through).contains(&revision)
    }
}
