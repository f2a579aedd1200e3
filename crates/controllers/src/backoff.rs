//! Exponential back-off per key as plain data: who keeps it decides how long it is remembered.

use std::collections::HashMap;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    entries: HashMap<String, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    delay: Duration,
    until: jiff::Timestamp,
}

impl Backoff {
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, entries: HashMap::new() }
    }

    /// How long `key` still has to wait.
    pub fn remaining(&self, key: &str, now: jiff::Timestamp) -> Option<Duration> {
        let entry = self.entries.get(key)?;
        Duration::try_from(entry.until.duration_since(now)).ok().filter(|left| !left.is_zero())
    }

    /// Doubles the delay of `key` and starts it now; an entry that was quiet for twice the maximum starts afresh.
    pub fn next(&mut self, key: &str, now: jiff::Timestamp) {
        let max = self.max;
        self.entries.retain(|_, entry| now.duration_since(entry.until).as_secs_f64() < 2.0 * max.as_secs_f64());
        let delay = self.entries.get(key).map_or(self.initial, |entry| (entry.delay * 2).min(max));
        let until = now.checked_add(delay).unwrap_or(jiff::Timestamp::MAX);
        self.entries.insert(key.to_owned(), Entry { delay, until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_maximum_and_forgets() {
        let second = |n| jiff::Timestamp::from_second(n).expect("in range");
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(4));
        assert_eq!(backoff.remaining("a", second(0)), None);
        for (at, expected) in [(0, 1), (5, 2), (10, 4), (20, 4), (100, 1)] {
            backoff.next("a", second(at));
            assert_eq!(backoff.remaining("a", second(at)), Some(Duration::from_secs(expected)), "at {at}");
        }
        assert_eq!(backoff.remaining("a", second(200)), None);
    }
}
