//! The recent events of one resource, bounded by count and by the bytes they keep alive.
//!
//! Every event after `floor` is here. Events have consecutive sequence numbers, so a cursor is one number and costs
//! nothing while it sleeps.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Event;

const MAX_EVENTS: usize = 8192;
const MAX_BYTES: usize = 8 << 20;
/// Kept whatever they weigh, so that a few large objects do not make every resume impossible.
const MIN_EVENTS: usize = 100;

#[derive(Default)]
pub struct Ring {
    events: VecDeque<Arc<Event>>,
    /// The sequence number of the first event kept.
    first: u64,
    /// All events with a greater revision are kept.
    floor: u64,
    bytes: usize,
}

impl Ring {
    pub fn starting_at(revision: u64) -> Self {
        Self { floor: revision, ..Self::default() }
    }

    pub fn push(&mut self, event: Arc<Event>) {
        self.bytes += event.weight();
        self.events.push_back(event);
        while self.events.len() > MAX_EVENTS || (self.bytes > MAX_BYTES && self.events.len() > MIN_EVENTS) {
            let Some(oldest) = self.events.pop_front() else { return };
            self.bytes -= oldest.weight();
            self.floor = oldest.revision;
            self.first += 1;
        }
    }

    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// The sequence number that the next event will get.
    pub fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// The cursor at the first event after `revision`; `None` when some of those are gone.
    pub fn cursor_after(&self, revision: u64) -> Option<u64> {
        if revision < self.floor {
            return None;
        }
        Some(self.first + self.events.partition_point(|e| e.revision <= revision) as u64)
    }

    /// Up to `max` events from a cursor on; `None` when the cursor has fallen off the ring.
    pub fn read(&self, cursor: u64, max: usize) -> Option<Vec<Arc<Event>>> {
        let skip = usize::try_from(cursor.checked_sub(self.first)?).ok()?;
        Some(self.events.iter().skip(skip).take(max).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::cache::Entry;
    use crate::catalog::Catalog;
    use crate::object::EventType;

    fn event(revision: u64, weight: usize) -> Arc<Event> {
        let catalog = Catalog::builtin();
        let kind = catalog.find("", "v1", "configmaps").expect("built in");
        let (entry, _) = Entry::decode(kind, EventType::Added, "a", b"{}", revision).expect("JSON");
        let frame = Bytes::from(vec![0; weight]);
        Arc::new(Event::new(EventType::Added, Arc::new(entry), None, revision, frame))
    }

    #[test]
    fn a_cursor_resumes_after_a_revision_or_is_lost() {
        let mut ring = Ring::starting_at(10);
        [12, 15, 15, 20].into_iter().for_each(|r| ring.push(event(r, 1)));
        let check = |revision, expected: Option<&[u64]>| {
            let read = ring.cursor_after(revision).and_then(|c| ring.read(c, 10));
            assert_eq!(read.map(|e| e.iter().map(|e| e.revision).collect::<Vec<_>>()), expected.map(<[u64]>::to_vec));
        };
        check(9, None);
        check(10, Some(&[12, 15, 15, 20]));
        check(12, Some(&[15, 15, 20]));
        check(20, Some(&[]));
        check(99, Some(&[]));
    }

    #[test]
    fn it_is_bounded_by_bytes_and_by_count() {
        let mut ring = Ring::default();
        (1..=200).for_each(|r| ring.push(event(r, MAX_BYTES / 10)));
        assert_eq!((ring.events.len(), ring.floor()), (MIN_EVENTS, 100));
        let mut ring = Ring::default();
        (1..=MAX_EVENTS as u64 + 5).for_each(|r| ring.push(event(r, 0)));
        assert_eq!((ring.events.len(), ring.floor(), ring.end()), (MAX_EVENTS, 5, MAX_EVENTS as u64 + 5));
        assert!(ring.read(4, 1).is_none());
    }
}
