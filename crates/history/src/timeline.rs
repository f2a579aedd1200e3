//! When which revision was known to exist.
//!
//! Every answer and every watch response carries a revision, so it proves that this revision
//! existed when it was received. Two questions follow from that:
//!
//! ```text
//! received   #1 @5      #2 @9   #3 @7
//! time    ----10----------20------30-------->
//!
//! newest_before(25) = #2 @9    what is called at 25 happens at 9 or later
//! first_seen(6)     = #2 at 20 whatever made revision 6 was called by 20
//! ```

use crate::history::{History, Source};
use crate::watch::{Message, Response};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    pub at: u64,
    pub revision: i64,
    pub source: Source,
}

pub struct Timeline {
    /// By time; each is the newest revision received until then.
    newest: Vec<(u64, Sight)>,
    /// By revision; each is the first that showed this revision or a later one.
    first: Vec<(i64, Sight)>,
}

impl Timeline {
    pub fn of(history: &History) -> Timeline {
        let mut sights = sights(history);
        sights.sort_by_key(|s| s.at);
        let mut newest: Vec<(u64, Sight)> = Vec::with_capacity(sights.len());
        for sight in &sights {
            let best = newest.last().map(|(_, best)| *best).filter(|best| best.revision >= sight.revision);
            newest.push((sight.at, best.unwrap_or(*sight)));
        }
        sights.sort_by_key(|s| s.revision);
        let mut first: Vec<(i64, Sight)> = Vec::with_capacity(sights.len());
        for sight in sights.iter().rev() {
            let best = first.last().map(|(_, best)| *best).filter(|best| best.at <= sight.at);
            first.push((sight.revision, best.unwrap_or(*sight)));
        }
        first.reverse();
        Timeline { newest, first }
    }

    /// The newest revision that was received before this time.
    pub fn newest_before(&self, time: u64) -> Option<Sight> {
        let before = self.newest.partition_point(|(at, _)| *at < time);
        before.checked_sub(1).map(|last| self.newest[last].1)
    }

    /// The first proof that a revision exists.
    pub fn first_seen(&self, revision: i64) -> Option<Sight> {
        let older = self.first.partition_point(|(known, _)| *known < revision);
        self.first.get(older).map(|(_, sight)| *sight)
    }

    pub fn last_revision(&self) -> Option<i64> {
        self.first.last().map(|(revision, _)| *revision)
    }
}

fn sights(history: &History) -> Vec<Sight> {
    let mut sights = Vec::new();
    for (n, operation) in history.operations.iter().enumerate() {
        if let Some((revision, _)) = operation.answered() {
            sights.push(Sight { at: operation.ret, revision, source: Source::Operation(n) });
        }
    }
    for (n, watch) in history.watches.iter().enumerate() {
        for response in &watch.responses {
            sights.push(Sight { at: response.at, revision: shown(response), source: Source::Watch(n) });
        }
    }
    sights
}

/// The newest revision that a response shows; its header should tell, but need not be right.
fn shown(response: &Response) -> i64 {
    let Message::Events { events, .. } = &response.message else {
        return response.revision;
    };
    events.iter().map(|e| e.kv.mod_revision).fold(response.revision, i64::max)
}
