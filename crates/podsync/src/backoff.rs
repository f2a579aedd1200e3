//! Doubling back-off per key, forgotten after twice its ceiling of good behaviour.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

#[derive(Debug, Clone, Copy)]
struct Entry {
    delay: Duration,
    /// When the delay was last raised.
    updated: Timestamp,
}

/// Crash-loop and image-pull back-off both start at 10 s and end at 5 min.
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    ceiling: Duration,
    entries: BTreeMap<String, Entry>,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { initial: Duration::from_secs(10), ceiling: Duration::from_secs(300), entries: BTreeMap::new() }
    }
}

fn add(instant: Timestamp, duration: Duration) -> Timestamp {
    instant + SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

impl Backoff {
    /// A live entry: one whose last trouble is no further back than twice the ceiling.
    fn entry(&self, key: &str, event: Timestamp) -> Option<&Entry> {
        let entry = self.entries.get(key)?;
        (event <= add(entry.updated, self.ceiling * 2)).then_some(entry)
    }

    /// When a retry is due, if it must wait: counted from `event`, the moment of the failure.
    pub fn until(&self, key: &str, event: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let due = add(event, self.entry(key, event)?.delay);
        (now < due).then_some(due)
    }

    /// As [`Backoff::until`], counted from the last raise: for failures that have no time of their own.
    pub fn until_since_update(&self, key: &str, now: Timestamp) -> Option<Timestamp> {
        let entry = self.entry(key, now)?;
        let due = add(entry.updated, entry.delay);
        (now < due).then_some(due)
    }

    pub fn delay(&self, key: &str) -> Duration {
        self.entries.get(key).map_or(Duration::ZERO, |entry| entry.delay)
    }

    /// Raises the delay: the first time to the initial one, then doubling.
    pub fn next(&mut self, key: &str, event: Timestamp, now: Timestamp) {
        let delay = self.entry(key, event).map_or(self.initial, |entry| (entry.delay * 2).min(self.ceiling));
        self.entries.insert(key.to_owned(), Entry { delay, updated: now });
    }

    pub fn reset(&mut self, key: &str) {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn doubles_to_its_ceiling() {
        let mut backoff = Backoff::default();
        let mut delays = Vec::new();
        for now in 0..7 {
            assert_eq!(backoff.until("c", at(now), at(now)).is_some(), now != 0);
            backoff.next("c", at(now), at(now));
            delays.push(backoff.delay("c").as_secs());
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn is_counted_from_the_crash_and_forgotten_after_ten_minutes() {
        let mut backoff = Backoff::default();
        backoff.next("c", at(0), at(0));
        assert_eq!(backoff.until("c", at(5), at(6)), Some(at(15)));
        assert_eq!(backoff.until("c", at(5), at(15)), None);
        assert_eq!(backoff.until("c", at(601), at(602)), None, "a run of ten minutes clears the slate");
        backoff.next("c", at(601), at(602));
        assert_eq!(backoff.delay("c").as_secs(), 10);
    }
}
