//! Simple tokens, in this member's memory. They live as long as they are used.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::Rng;

/// The random part; with 52 letters 91 bits.
const LETTERS: usize = 16;
/// Beyond this the token that was not used for the longest time is forgotten: its holder
/// authenticates again.
const MAX_TOKENS: usize = 100_000;

struct Assigned {
    user: String,
    until: Instant,
}

pub struct Simple {
    ttl: Duration,
    assigned: Mutex<HashMap<String, Assigned>>,
}

impl Simple {
    pub fn new(ttl: Duration) -> Simple {
        Simple { ttl, assigned: Mutex::new(HashMap::new()) }
    }

    /// The random part of a new token.
    pub fn draw() -> String {
        let mut rng = rand::rng();
        (0..LETTERS).map(|_| char::from(rng.sample(rand::distr::Alphabetic))).collect()
    }

    pub fn assign(&self, token: String, user: String, now: Instant) {
        let mut assigned = self.assigned.lock();
        assigned.retain(|_, token| token.until > now);
        if assigned.len() >= MAX_TOKENS {
            let oldest = assigned.iter().min_by_key(|(_, token)| token.until).map(|(name, _)| name.clone());
            oldest.and_then(|oldest| assigned.remove(&oldest));
        }
        assigned.insert(token, Assigned { user, until: now + self.ttl });
    }

    /// Whose token this is. It counts as used.
    pub fn user(&self, token: &str, now: Instant) -> Option<String> {
        let mut assigned = self.assigned.lock();
        let found = assigned.get_mut(token).filter(|found| found.until > now)?;
        found.until = now + self.ttl;
        Some(found.user.clone())
    }

    pub fn forget(&self, user: &str) {
        self.assigned.lock().retain(|_, token| token.user != user);
    }

    pub fn forget_all(&self) {
        self.assigned.lock().clear();
    }

    /// The log index at which a token was assigned, as it says itself.
    pub fn index(token: &str) -> Option<u64> {
        token.split_once('.')?.1.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_live_while_they_are_used() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let tokens = Simple::new(Duration::from_secs(10));
        for (token, user) in [("a.1", "ann"), ("b.2", "bob"), ("c.3", "ann")] {
            tokens.assign(token.to_owned(), user.to_owned(), at(0));
        }
        assert_eq!(tokens.user("a.1", at(9)).as_deref(), Some("ann"));
        assert_eq!(tokens.user("a.1", at(18)).as_deref(), Some("ann"));
        assert_eq!(tokens.user("b.2", at(10)), None);
        tokens.assign("d.4".to_owned(), "bob".to_owned(), at(20));
        assert_eq!(tokens.assigned.lock().len(), 2, "what ran out is dropped");
        tokens.forget("ann");
        assert_eq!(tokens.user("a.1", at(20)), None);
        assert_eq!(tokens.user("d.4", at(20)).as_deref(), Some("bob"));
        tokens.forget_all();
        assert_eq!(tokens.user("d.4", at(20)), None);
    }

    #[test]
    fn a_token_tells_its_index() {
        let token = format!("{}.{}", Simple::draw(), 42);
        assert_eq!((Simple::index(&token), token.len()), (Some(42), LETTERS + 3));
        assert_eq!(Simple::index("nonsense"), None);
        assert_eq!(Simple::index("a.b"), None);
    }
}
