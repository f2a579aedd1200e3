//! The history by revision: who claims one, who must be checked at it, what was seen of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::history::History;
use crate::kv::KeyValue;
use crate::lease::Leases;
use crate::operation::{At, Operation, Outcome, Request};
use crate::timeline::Timeline;
use crate::watch::Coverage;

pub struct Index<'a> {
    pub history: &'a History,
    pub timeline: Timeline,
    pub leases: Leases,
    /// The answered writes, by the revision they say is theirs.
    pub claims: BTreeMap<i64, Vec<usize>>,
    /// The answers that show the state at a revision.
    pub looks: HashMap<i64, Vec<usize>>,
    /// Answered revocations, by the revision in their header. It is theirs if the lease had
    /// keys, which they do not tell.
    pub revocations: HashMap<i64, Vec<usize>>,
    /// The writes without an outcome.
    pub unanswered: Vec<usize>,
    /// Versions of keys in answers, by the revision that wrote them, and who was answered.
    pub sightings: HashMap<i64, Vec<(&'a KeyValue, usize)>>,
    pub coverages: Vec<Coverage<'a>>,
    /// The revisions of which anything is known.
    pub known: BTreeSet<i64>,
    /// Up to where a compaction may have gone.
    compacted: i64,
    /// The last revision to account for.
    pub last: i64,
}

impl<'a> Index<'a> {
    pub fn of(history: &'a History) -> Index<'a> {
        let timeline = Timeline::of(history);
        let last = timeline.last_revision().unwrap_or(0).max(history.start.revision);
        let mut index = Index {
            history,
            leases: Leases::of(history),
            claims: BTreeMap::new(),
            looks: HashMap::new(),
            revocations: HashMap::new(),
            unanswered: Vec::new(),
            sightings: HashMap::new(),
            coverages: history.watches.iter().map(Coverage::of).collect(),
            known: BTreeSet::from([last]),
            compacted: compacted(history),
            timeline,
            last,
        };
        for (n, operation) in history.operations.iter().enumerate() {
            index.file(n, operation);
        }
        let watched: Vec<i64> = index.coverages.iter().flat_map(Coverage::revisions).collect();
        index.known.extend(watched);
        index
    }

    fn file(&mut self, n: usize, operation: &'a Operation) {
        let Some((revision, answer)) = operation.answered() else {
            if operation.outcome == Outcome::Unknown && operation.may_write() {
                self.unanswered.push(n);
            }
            return;
        };
        self.known.insert(revision);
        for kv in answer.sightings() {
            self.known.insert(kv.mod_revision);
            self.sightings.entry(kv.mod_revision).or_default().push((kv, n));
        }
        if answer.claims_change() {
            self.claims.entry(revision).or_default().push(n);
            return;
        }
        match &operation.request {
            Request::LeaseRevoke { .. } => self.revocations.entry(revision).or_default().push(n),
            Request::Range(_, At::Revision(at)) if *at > 0 => self.look(*at, n),
            Request::Range(..) | Request::Put(_) | Request::Delete(_) | Request::Txn(_) => self.look(revision, n),
            Request::Compact { .. } | Request::LeaseGrant { .. } | Request::LeaseKeepAlive { .. } => {}
        }
    }

    fn look(&mut self, revision: i64, n: usize) {
        self.known.insert(revision);
        self.looks.entry(revision).or_default().push(n);
    }

    /// The next revision, from this one on, of which anything is known.
    pub fn next_known(&self, revision: i64) -> i64 {
        self.known.range(revision..).next().copied().unwrap_or(self.last).min(self.last)
    }

    pub fn at<T>(map: &HashMap<i64, Vec<T>>, revision: i64) -> &[T] {
        map.get(&revision).map_or(&[], Vec::as_slice)
    }

    /// Whether what was before a revision may have been compacted.
    pub fn may_be_compacted(&self, revision: i64) -> bool {
        revision <= self.compacted
    }

    /// Whether an operation may have made this revision: it was called before anyone saw it.
    pub fn may_have_made(&self, n: usize, revision: i64) -> bool {
        let call = self.history.operations[n].call;
        self.timeline.newest_before(call).is_none_or(|seen| revision > seen.revision)
    }
}

fn compacted(history: &History) -> i64 {
    let compactions = history.operations.iter().filter(|op| !matches!(op.outcome, Outcome::Refused(_)));
    let revisions = compactions.filter_map(|op| match op.request {
        Request::Compact { revision } => Some(revision),
        _ => None,
    });
    revisions.max().unwrap_or(0)
}
