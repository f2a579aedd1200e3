//! How a stream's watches read the history on, each by itself or, when they are far behind, together.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use mvcc::{KeyRange, Registry};
use prost::Message;

use super::Task;
use super::fragments::fragments;
use crate::config::GRPC_OVERHEAD_BYTES;
use crate::convert;
use crate::error::Refusal;
use crate::pb::etcdserverpb as pb;
use crate::shared::Shared;

/// One response takes up to this, and then whole transactions.
const LIMITS: mvcc::Limits = mvcc::Limits { events: 1_000, bytes: 1 << 20 };
/// So many revisions behind, a watch reads on with the others that are.
const FAR: i64 = 1_000;
/// How many events are looked at before others have their turn.
const TURN_EVENTS: usize = 8_192;
/// Parts are smaller where there are many watches, each of which may want every event.
const PART_WORK: usize = 1 << 20;
const MIN_PART_EVENTS: usize = 256;
/// What a reading costs by itself, in events looked at.
const READING_EVENTS: usize = 64;

impl Task {
    pub(super) async fn read_marked(&mut self) {
        let newest = self.context.shared.state.read().kv.revision();
        for (id, marked) in self.stream.take_marked() {
            let Some(place) = self.watches.get_mut(&id).filter(|_| !self.behind.contains(id)) else { continue };
            // Nothing that concerns it happened before.
            place.next = place.next.max(marked);
            if newest - place.next < FAR {
                self.read_on(id, i64::MAX).await;
            } else {
                self.behind.insert(id, place.filter.range.clone());
            }
        }
    }

    /// The history is looked through once for all watches that are far behind, and whom it concerns reads it. Marks set
    /// meanwhile do not matter to them: who is behind has yet to look at what is there by then.
    pub(super) async fn catch_up(&mut self) {
        let places = self.behind.ids().filter_map(|id| self.watches.get(&id));
        let Some(from) = places.map(|place| place.next).min() else { return };
        // A task of its own: this one rests while its client takes nothing, and would keep the turn of others.
        let (shared, behind) = (self.context.shared.clone(), std::mem::take(&mut self.behind));
        let looking = tokio::spawn(look_through(shared, behind, from));
        let (behind, part) = looking.await.expect("it neither panics nor is stopped");
        self.behind = behind;
        match part {
            Ok(part) => self.take_part(part).await,
            Err(mvcc::Error::Compacted { compact_revision }) => self.fallen_behind(from, compact_revision).await,
            Err(error) => unreachable!("reading the history answered {error}"),
        }
        tokio::task::yield_now().await;
    }

    async fn take_part(&mut self, part: Part) {
        for (id, revisions) in part.concerned {
            if let Some(place) = self.watches.get_mut(&id) {
                place.next = place.next.max(revisions.start);
                self.read_on(id, revisions.end).await;
            }
        }
        for id in self.behind.ids() {
            if let Some(place) = self.watches.get_mut(&id) {
                place.next = place.next.max(part.next);
            }
        }
        if part.done {
            self.behind = Behind::default();
        }
    }

    /// Those that were to read on from here.
    async fn fallen_behind(&mut self, from: i64, compact_revision: i64) {
        let is_there = |id: &i64| self.watches.get(id).is_some_and(|place| place.next == from);
        for id in self.behind.ids().filter(is_there).collect::<Vec<_>>() {
            self.compacted(id, compact_revision).await;
        }
    }

    /// Sends everything from the watch's place up to a revision, or to the end of the history.
    async fn read_on(&mut self, id: i64, end: i64) {
        while let Some(place) = self.watches.get_mut(&id) {
            let (read, revision) = {
                let state = self.context.shared.state.read();
                (state.kv.history().read(place.next..end, &place.filter, LIMITS), state.kv.revision())
            };
            let batch = match read {
                Ok(batch) => batch,
                Err(mvcc::Error::Compacted { compact_revision }) => return self.compacted(id, compact_revision).await,
                Err(error) => unreachable!("reading the history answered {error}"),
            };
            place.next = batch.next;
            if !batch.events.is_empty() {
                place.spoke = true;
                place.said = batch.events.last().map_or(0, |last| last.kv.mod_revision);
                self.said = self.said.max(place.said);
                let tells = |e: &mvcc::Event| place.prev_kv && e.kv.mod_revision > place.compacted;
                let events = batch.events.iter().map(|e| convert::event(e, tells(e))).collect();
                let fragment = place.fragment;
                let response = pb::WatchResponse { events, ..self.response(id, revision) };
                self.send_events(response, fragment).await;
            }
            self.let_others_work(batch.scanned + READING_EVENTS).await;
            if batch.done {
                return;
            }
        }
    }

    async fn let_others_work(&mut self, looked_at: usize) {
        self.looked_at += looked_at;
        if self.looked_at >= TURN_EVENTS {
            self.looked_at = 0;
            tokio::task::yield_now().await;
        }
    }

    async fn send_events(&self, response: pb::WatchResponse, fragment: bool) {
        let max = self.context.limits.max_request_bytes + GRPC_OVERHEAD_BYTES;
        if !fragment || response.encoded_len() < max {
            return self.send(response).await;
        }
        for part in fragments(response, max) {
            self.send(part).await;
        }
    }

    pub(super) async fn compacted(&mut self, id: i64, compact_revision: i64) {
        self.forget(id);
        self.cancelled.insert(id);
        let revision = self.context.shared.state.read().kv.revision();
        let canceled = pb::WatchResponse {
            canceled: true,
            compact_revision: convert::compact_revision(compact_revision),
            cancel_reason: Refusal::Compacted.to_string(),
            ..self.response(id, revision)
        };
        self.send(canceled).await
    }
}

/// What a part of the history has for those who are behind.
struct Part {
    /// Whom it concerns, and between which revisions.
    concerned: BTreeMap<i64, Range<i64>>,
    /// Where the next part begins.
    next: i64,
    done: bool,
}

async fn look_through(shared: Arc<Shared>, behind: Behind, from: i64) -> (Behind, Result<Part, mvcc::Error>) {
    let events = (PART_WORK / behind.watches.len().max(1)).clamp(MIN_PART_EVENTS, TURN_EVENTS);
    let _turn = shared.hub.turn().await;
    let part = shared.state.read().kv.history().part(from, events);
    let part = part.map(|part| Part {
        concerned: behind.ranges.concerned(&part.transactions),
        next: part.next,
        done: part.done,
    });
    (behind, part)
}

/// The watches of a stream that are far behind.
#[derive(Default)]
pub struct Behind {
    watches: BTreeMap<i64, KeyRange>,
    ranges: Registry<i64>,
}

impl Behind {
    fn insert(&mut self, id: i64, range: KeyRange) {
        self.ranges.insert(range.clone(), id);
        self.watches.insert(id, range);
    }

    pub fn remove(&mut self, id: i64) {
        if let Some(range) = self.watches.remove(&id) {
            self.ranges.remove(&range, &id);
        }
    }

    pub fn contains(&self, id: i64) -> bool {
        self.watches.contains_key(&id)
    }

    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    fn ids(&self) -> impl Iterator<Item = i64> {
        self.watches.keys().copied()
    }
}
