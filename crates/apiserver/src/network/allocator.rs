//! Numbers out of a range, each at most once. Upstream's split: what is chosen for a user comes from the upper part of
//! the range, so that numbers a user picks by hand from the lower part rarely collide.

use std::collections::BTreeSet;

#[derive(Debug)]
pub struct Allocator {
    from: u32,
    /// Included.
    to: u32,
    /// Numbers below this are only given when asked for, or when nothing else is left.
    reserved_to: u32,
    taken: BTreeSet<u32>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    Taken,
    OutOfRange,
    Full,
}

impl Allocator {
    pub fn new(from: u32, to: u32) -> Self {
        let size = to - from + 1;
        // min(max(16, size/16), 256), and nothing for small ranges.
        let reserved = if size / 16 < 16 { 0 } else { (size / 16).min(256) };
        Self { from, to, reserved_to: from + reserved, taken: BTreeSet::new() }
    }

    /// As people write it: `30000-32767`.
    pub fn range(&self) -> String {
        format!("{}-{}", self.from, self.to)
    }

    pub fn contains(&self, number: u32) -> bool {
        (self.from..=self.to).contains(&number)
    }

    pub fn take(&mut self, number: u32) -> Result<(), Error> {
        if !self.contains(number) {
            return Err(Error::OutOfRange);
        }
        if self.taken.insert(number) { Ok(()) } else { Err(Error::Taken) }
    }

    /// Any free number; `seed` chooses where the search begins.
    pub fn next(&mut self, seed: u64) -> Result<u32, Error> {
        let within = |from: u32, to: u32, taken: &BTreeSet<u32>| -> Option<u32> {
            if from > to {
                return None;
            }
            let size = u64::from(to - from) + 1;
            let start = from + u32::try_from(seed % size).expect("less than a u32 range");
            (start..=to).chain(from..start).find(|n| !taken.contains(n))
        };
        let upper = within(self.reserved_to, self.to, &self.taken);
        let lower = || within(self.from, self.reserved_to.saturating_sub(1), &self.taken);
        let found = upper.or_else(lower).ok_or(Error::Full)?;
        self.taken.insert(found);
        Ok(found)
    }

    pub fn release(&mut self, number: u32) {
        self.taken.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_given_once() {
        let mut numbers = Allocator::new(100, 611);
        let mut given: Vec<u32> = (0..512).map(|seed| numbers.next(seed * 7).expect("room")).collect();
        assert_eq!(numbers.next(0), Err(Error::Full));
        // 512 / 16 = 32 numbers are kept for those who ask.
        assert!(given[..480].iter().all(|n| *n >= 132) && given[480..].iter().all(|n| *n < 132));
        given.sort_unstable();
        given.dedup();
        assert_eq!(given.len(), 512);
        numbers.release(300);
        assert_eq!(numbers.next(9), Ok(300));
    }

    #[test]
    fn numbers_asked_for() {
        let mut numbers = Allocator::new(10, 20);
        assert_eq!(numbers.take(15), Ok(()));
        assert_eq!(numbers.take(15), Err(Error::Taken));
        assert_eq!(numbers.take(21), Err(Error::OutOfRange));
    }
}
