//! Writers of one object take turns once they have got into each other's way. The swap at the store decides who was
//! first; without turns the slow would lose to the quick again and again, and only who names a version may lose. Who
//! names one takes no turn: while it waited, its version would become old.

use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::sync::{Mutex, MutexGuard};

/// Objects share turns by their hash: more than there are requests at a time, so few wait for a stranger.
const STRIPES: usize = 1024;

pub struct Turns(Box<[Mutex<()>]>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..STRIPES).map(|_| Mutex::default()).collect())
    }
}

/// One writer's place among those of an object.
pub struct Turn<'a> {
    stripe: &'a Mutex<()>,
    held: Option<MutexGuard<'a, ()>>,
}

impl Turns {
    /// Goes ahead when nobody waits, else lines up.
    pub async fn begin(&self, key: &str) -> Turn<'_> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % STRIPES as u64).expect("less than the stripes");
        let stripe = &self.0[at];
        let held = if stripe.try_lock().is_ok() { None } else { Some(stripe.lock().await) };
        Turn { stripe, held }
    }
}

impl Turn<'_> {
    /// Somebody was faster. True after having waited for the turn: what is known of the object is old by then.
    pub async fn lost(&mut self) -> bool {
        if self.held.is_some() {
            return false;
        }
        self.held = Some(self.stripe.lock().await);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_loses_waits_and_then_stays_ahead() {
        let turns = Turns::default();
        let (mut a, mut b) = (turns.begin("k").await, turns.begin("k").await);
        assert!(a.lost().await);
        assert!(!a.lost().await);
        let newcomer = turns.begin("k");
        let mut newcomer = std::pin::pin!(newcomer);
        assert!(futures::poll!(newcomer.as_mut()).is_pending());
        let mut waiting = std::pin::pin!(b.lost());
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        drop(a);
        // In the order in which they came.
        drop(newcomer.await);
        assert!(waiting.await);
    }
}
