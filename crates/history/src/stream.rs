//! The watch guarantees that one watch alone can break: order, uniqueness, whole
//! transactions, start, bookmarks, filters, cancellation.
//!
//! Whether what came is what happened, and all of it, is checked where the state is known:
//! in [`crate::verify`].

use std::collections::HashSet;

use bytes::Bytes;

use crate::history::History;
use crate::kv::{Event, Text};
use crate::violation::{Kind, Violation};
use crate::watch::{Message, Response, Watch};

pub fn check(history: &History) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (n, watch) in history.watches.iter().enumerate() {
        let mut stream = Stream::new(watch);
        for response in &watch.responses {
            stream.receive(response);
        }
        let name = history.watch_name(n);
        let found = stream.found.into_iter();
        violations.extend(found.map(|(kind, what)| Violation { kind, text: format!("{name}: {what}.") }));
    }
    violations
}

/// One watch, as far as it was received.
struct Stream<'a> {
    watch: &'a Watch,
    from: i64,
    created: bool,
    canceled: bool,
    /// Events received.
    seen: HashSet<(i64, &'a Bytes)>,
    /// The newest revision an event had.
    newest: i64,
    /// What the last progress notification said.
    bookmark: i64,
    /// The last response was a piece; what follows belongs to it.
    open: bool,
    header: i64,
    found: Vec<(Kind, String)>,
}

impl<'a> Stream<'a> {
    fn new(watch: &'a Watch) -> Stream<'a> {
        Stream {
            watch,
            from: watch.from().unwrap_or(0),
            created: false,
            canceled: false,
            seen: HashSet::new(),
            newest: 0,
            bookmark: 0,
            open: false,
            header: 0,
            found: Vec::new(),
        }
    }

    fn receive(&mut self, response: &'a Response) {
        let at = response.at;
        if self.canceled {
            self.report(Kind::Protocol, format!("it was sent something at {at} after it had been cancelled"));
        }
        match &response.message {
            Message::Created if self.created => {
                self.report(Kind::Protocol, format!("it was created a second time at {at}"));
            }
            Message::Created => self.created = true,
            Message::Events { events, fragment } => self.events(response, events, *fragment),
            Message::Progress => self.progress(response),
            Message::Canceled { compact_revision } => self.cancel(*compact_revision),
        }
    }

    fn report(&mut self, kind: Kind, what: String) {
        self.found.push((kind, what));
    }

    fn events(&mut self, response: &Response, events: &'a [Event], fragment: bool) {
        if !self.created {
            self.report(Kind::Protocol, format!("events came at {} before it was created", response.at));
        }
        if fragment && !self.watch.fragment {
            let what = format!("the response at {} came in pieces, which the client had not asked for", response.at);
            self.report(Kind::Protocol, what);
        }
        if response.revision < self.header {
            let what = format!("a response of revision {} followed one of {}", response.revision, self.header);
            self.report(Kind::OutOfOrder, what);
        }
        self.header = self.header.max(response.revision);
        // Up to here other responses, of which this is no piece, had shown.
        let closed = if self.open { 0 } else { self.newest };
        for event in events {
            self.event(event, closed);
            if event.kv.mod_revision > response.revision {
                let what = format!("{} came in a response of revision {}", event.kv, response.revision);
                self.report(Kind::WrongEvent, what);
            }
        }
        self.open = fragment;
    }

    fn event(&mut self, event: &'a Event, closed: i64) {
        let revision = event.kv.mod_revision;
        if !self.seen.insert((revision, &event.kv.key)) {
            self.report(Kind::Duplicated, format!("{} came twice", event.kv));
        } else if revision < self.from {
            self.report(Kind::BeforeStart, format!("{} came, but it starts at revision {}", event.kv, self.from));
        } else if revision < self.newest {
            self.report(Kind::OutOfOrder, format!("{} came after revision {}", event.kv, self.newest));
        } else if revision == closed {
            self.report(Kind::Split, format!("{} came apart from the other changes of its revision", event.kv));
        }
        if revision <= self.bookmark {
            let what = format!("{} came after everything up to {} was said to be sent", event.kv, self.bookmark);
            self.report(Kind::BookmarkBroken, what);
        }
        self.newest = self.newest.max(revision);
        self.filters(event);
    }

    fn filters(&mut self, event: &Event) {
        let key = Text(&event.kv.key);
        if !self.watch.keys.contains(&event.kv.key) {
            self.report(Kind::Unwanted, format!("{} is not of its keys", event.kv));
        } else if !self.watch.wants(event) {
            self.report(Kind::Unwanted, format!("{} is of a type that it had filtered out", event.kv));
        }
        if event.prev_kv.is_some() && !self.watch.prev_kv {
            self.report(Kind::Unwanted, format!("a previous version of {key} came, for which it had not asked"));
        }
    }

    fn progress(&mut self, response: &Response) {
        if response.revision < self.newest.max(self.bookmark) {
            let newest = self.newest.max(self.bookmark);
            let what = format!("a progress notification of revision {} followed revision {newest}", response.revision);
            self.report(Kind::OutOfOrder, what);
        }
        self.bookmark = self.bookmark.max(response.revision);
    }

    /// Whoever is cut off by a compaction must be told a revision from which to go on, and it
    /// must be beyond where the watch stood: otherwise nothing had been lost.
    fn cancel(&mut self, compact_revision: i64) {
        self.canceled = true;
        let next = self.from.max(self.newest + 1);
        if compact_revision > 0 && compact_revision <= next {
            let what = format!("it was cancelled for a compaction at {compact_revision}, but it only needed {next}");
            self.report(Kind::Protocol, what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{KeyValue, Keys};

    fn put(key: &'static str, revision: i64) -> Event {
        let kv = KeyValue {
            key: Bytes::from(key),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            ..KeyValue::default()
        };
        Event { kv, prev_kv: None }
    }

    fn events(events: &[(&'static str, i64)], fragment: bool) -> Message {
        Message::Events { events: events.iter().map(|(key, revision)| put(key, *revision)).collect(), fragment }
    }

    fn check(responses: &[(i64, Message)], expected: &[Kind]) {
        let responses = responses.iter().zip(1..);
        let received =
            responses.map(|((revision, message), at)| Response { at, revision: *revision, message: message.clone() });
        let watch = Watch {
            client: 1,
            call: 0,
            keys: Keys::Prefix(Bytes::from("k")),
            start_revision: 5,
            prev_kv: false,
            no_put: false,
            no_delete: true,
            fragment: true,
            responses: received.collect(),
        };
        let history = History { watches: vec![watch], ..History::default() };
        let violations = super::check(&history);
        let kinds: Vec<Kind> = violations.iter().map(|v| v.kind).collect();
        assert_eq!(kinds, expected, "{violations:?}");
    }

    #[test]
    fn what_one_watch_can_break() {
        use Message::{Canceled, Created, Progress};
        let created = (9, Created);
        let whole = |list| events(list, false);
        check(&[created.clone(), (9, whole(&[("k1", 5), ("k2", 5), ("k1", 9)])), (9, Progress)], &[]);
        check(&[created.clone(), (9, events(&[("k1", 5)], true)), (9, whole(&[("k2", 5), ("k1", 6)]))], &[]);
        check(&[created.clone(), (9, Canceled { compact_revision: 6 })], &[]);

        check(&[created.clone(), (9, whole(&[("k1", 6), ("k1", 5)]))], &[Kind::OutOfOrder]);
        check(&[created.clone(), (9, whole(&[("k1", 6)])), (9, whole(&[("k1", 6)]))], &[Kind::Duplicated]);
        check(&[created.clone(), (9, whole(&[("k1", 6)])), (9, whole(&[("k2", 6)]))], &[Kind::Split]);
        check(&[created.clone(), (9, whole(&[("k1", 4)]))], &[Kind::BeforeStart]);
        check(&[created.clone(), (7, Progress), (9, whole(&[("k1", 7)]))], &[Kind::BookmarkBroken]);
        check(&[created.clone(), (9, whole(&[("k1", 8)])), (7, Progress)], &[Kind::OutOfOrder]);
        check(&[created.clone(), (9, whole(&[("j", 8)]))], &[Kind::Unwanted]);
        check(&[created.clone(), (7, whole(&[("k1", 8)]))], &[Kind::WrongEvent]);
        check(&[created.clone(), (9, whole(&[("k1", 7)])), (8, whole(&[("k1", 8)]))], &[Kind::OutOfOrder]);
        check(&[(9, whole(&[("k1", 7)]))], &[Kind::Protocol]);
        check(&[created.clone(), (9, Canceled { compact_revision: 5 })], &[Kind::Protocol]);
        check(&[created.clone(), (9, Canceled { compact_revision: 0 }), (9, Progress)], &[Kind::Protocol]);
        check(&[created.clone(), created], &[Kind::Protocol]);
    }
}
