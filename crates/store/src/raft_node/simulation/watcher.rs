//! A watcher follows everything, at one member after the other: it goes on where it was.

use history::{Event, Keys, Message, Response, Watch};
use mvcc::{Filter, Limits};

use super::clients::{everything, shown};
use super::plant::Plant;
use crate::shared::Shared;

const LIMITS: Limits = Limits { events: 100, bytes: 1 << 20 };

pub struct Watcher {
    pub member: u64,
    next: i64,
    watch: Watch,
    /// Watches that were cancelled, because what they asked for was compacted.
    ended: Vec<Watch>,
    moved: bool,
    arrives: bool,
    plant: Option<Plant>,
}

fn begun(client: u32, call: u64, start_revision: i64, revision: i64) -> Watch {
    Watch {
        client,
        call,
        keys: Keys::all(),
        start_revision,
        prev_kv: false,
        no_put: false,
        no_delete: false,
        fragment: false,
        responses: vec![Response { at: call, revision, message: Message::Created }],
    }
}

impl Watcher {
    /// `from` may be a revision that does not exist yet.
    pub fn new(number: u32, member: u64, from: i64, plant: Option<Plant>) -> Watcher {
        let next = if plant == Some(Plant::IgnoreStartRevision) { 2 } else { from };
        Watcher {
            member,
            next,
            watch: begun(number, 0, from, 1),
            ended: Vec::new(),
            moved: false,
            arrives: true,
            plant,
        }
    }

    /// Taken up again elsewhere, from where it was.
    pub fn move_to(&mut self, member: u64) {
        self.member = member;
        (self.moved, self.arrives) = (true, true);
    }

    fn planted(&mut self) {
        match self.plant {
            Some(Plant::DropEvent) if std::mem::take(&mut self.moved) => self.next += 1,
            Some(Plant::RepeatEvent) if std::mem::take(&mut self.moved) => self.next = (self.next - 1).max(2),
            _ => {}
        }
    }

    /// Everything that the member has and the watcher has not seen.
    pub fn read(&mut self, now: u64, shared: &Shared) {
        let state = shared.state.read();
        let revision = state.kv.revision();
        if revision < self.next {
            return;
        }
        self.planted();
        let filter = Filter { range: everything().keys, no_put: false, no_delete: false };
        loop {
            let history = state.kv.history();
            // To a member that it was not at before, it is a new watch.
            let admitted = if std::mem::take(&mut self.arrives) { history.admit(self.next) } else { Ok(()) };
            let batch = match admitted.and_then(|()| history.read(self.next..i64::MAX, &filter, LIMITS)) {
                Ok(batch) => batch,
                Err(mvcc::Error::Compacted { compact_revision }) => {
                    self.start_again(now, compact_revision, revision);
                    continue;
                }
                Err(error) => unreachable!("a reading fails only for compaction: {error}"),
            };
            self.next = batch.next;
            if !batch.events.is_empty() {
                let event =
                    |event: &mvcc::Event| Event { kv: shown(&crate::convert::key_value(&event.kv)), prev_kv: None };
                let events = batch.events.iter().map(event).collect();
                let message = Message::Events { events, fragment: false };
                self.watch.responses.push(Response { at: now, revision, message });
            }
            if batch.done {
                return;
            }
        }
    }

    fn start_again(&mut self, now: u64, compact_revision: i64, revision: i64) {
        let message = Message::Canceled { compact_revision };
        self.watch.responses.push(Response { at: now, revision, message });
        let next = begun(self.watch.client, now, compact_revision, revision);
        self.ended.push(std::mem::replace(&mut self.watch, next));
        self.next = compact_revision;
    }

    /// At the end: everything up to here was seen.
    pub fn finish(mut self, now: u64, shared: &Shared) -> Vec<Watch> {
        self.read(now, shared);
        let revision = shared.state.read().kv.revision();
        self.watch.responses.push(Response { at: now, revision, message: Message::Progress });
        self.ended.push(self.watch);
        self.ended
    }
}
