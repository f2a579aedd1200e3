//! Histories that must fail, one or more for every guarantee, each beside one that differs in
//! a single place and is right.

use history::{Kind, Outcome, Request};

use crate::script::*;

fn unanswered() -> Outcome {
    Outcome::Unknown
}

fn refused() -> Outcome {
    Outcome::Refused("etcdserver: request timed out".to_owned())
}

#[test]
fn a_stale_read() {
    let history = |called: u64, read: Outcome| {
        vec![
            op(1, (1, 2), put("k", "1"), written(2)),
            op(1, (3, 6), put("k", "2"), written(3)),
            op(2, (called, 9), get("k"), read),
        ]
    };
    let old = || shown(2, &[new("k", "1", 2)]);
    // As long as the put has not returned, the read may be before it.
    expect(history(5, old()), vec![], &[], &[]);
    expect(history(7, shown(3, &[kv("k", "2", 2, 3, 2)])), vec![], &[], &[]);
    expect(history(7, old()), vec![], &[Kind::StaleRead], &["#2 (get k* -> @2", "by #1 (put k=2 -> @3"]);
}

/// A member that was paused answers from what it had, at a revision that is up to date.
#[test]
fn an_old_state_under_a_new_revision() {
    let history = |read: Outcome| {
        vec![
            op(1, (1, 2), put("k", "1"), written(2)),
            op(1, (3, 4), put("k", "2"), written(3)),
            op(2, (5, 6), get("k"), read),
        ]
    };
    expect(history(shown(3, &[new("k", "1", 2)])), vec![], &[Kind::LostWrite], &["not k=2 @3", "#1"]);
}

#[test]
fn a_lost_write() {
    let history = |read: Outcome| {
        vec![
            op(1, (1, 2), put("a", "1"), written(2)),
            op(2, (3, 4), put("b", "1"), written(3)),
            op(3, (5, 6), get(""), read),
        ]
    };
    let (a, b) = (new("a", "1", 2), new("b", "1", 3));
    expect(history(shown(3, &[a.clone(), b.clone()])), vec![], &[], &[]);
    expect(history(shown(3, &[b])), vec![], &[Kind::LostWrite], &["#2 (get *", "does not show a=1 @2", "#0 (put a=1"]);
    expect(history(shown(3, &[a])), vec![], &[Kind::LostWrite], &["does not show b=1 @3"]);
}

#[test]
fn a_deletion_that_does_not_last() {
    let history = |read: Outcome| {
        vec![
            op(1, (1, 2), put("a", "1"), written(2)),
            op(1, (3, 4), delete("a"), deleted(3)),
            op(2, (5, 6), get(""), read),
        ]
    };
    expect(history(shown(3, &[])), vec![], &[], &[]);
    expect(history(shown(3, &[new("a", "1", 2)])), vec![], &[Kind::LostWrite], &["still shows a=1 @2", "#1 (delete a"]);
}

/// One member, `kill -9`, and the log's end was not on disk: the revision is given again.
#[test]
fn a_write_lost_in_a_crash() {
    let before = || vec![op(1, (1, 2), put("a", "1"), written(2)), op(1, (3, 4), put("b", "1"), written(3))];
    let mut again = before();
    again.push(op(1, (10, 11), put("c", "1"), written(3)));
    expect(again, vec![], &[Kind::DuplicateRevision, Kind::RevisionBack], &["#1 (put b=1", "#2 (put c=1"]);

    let mut read = before();
    read.push(op(1, (10, 11), get(""), shown(2, &[new("a", "1", 2)])));
    expect(read, vec![], &[Kind::StaleRead], &["revision 3 had been seen"]);
}

#[test]
fn a_revision_that_goes_back() {
    let history =
        |second: (u64, u64)| vec![op(1, (1, 6), put("a", "1"), written(3)), op(2, second, put("b", "1"), written(2))];
    expect(history((4, 9)), vec![], &[], &[]);
    expect(history((7, 9)), vec![], &[Kind::RevisionBack], &["#1 (put b=1 -> @2", "revision 3 had been seen"]);
}

#[test]
fn a_revision_given_twice() {
    let history =
        |second: i64| vec![op(1, (1, 6), put("a", "1"), written(2)), op(2, (1, 6), put("b", "1"), written(second))];
    expect(history(3), vec![], &[], &[]);
    expect(history(2), vec![], &[Kind::DuplicateRevision], &["#0", "#1"]);
}

#[test]
fn a_revision_nobody_made() {
    let history = |lost: Outcome| {
        vec![
            op(1, (1, 2), put("a", "1"), written(2)),
            op(2, (1, 2), put("b", "1"), lost),
            op(1, (5, 6), put("a", "2"), written(4)),
        ]
    };
    expect(history(unanswered()), vec![], &[], &[]);
    expect(history(refused()), vec![], &[Kind::UnexplainedRevision], &["made by nobody"]);
}

#[test]
fn a_read_from_a_write_that_did_not_happen() {
    let history = |outcome: Outcome| {
        vec![op(1, (1, 2), put("a", "1"), outcome), op(2, (3, 4), get("a"), shown(2, &[new("a", "1", 2)]))]
    };
    expect(history(unanswered()), vec![], &[], &[]);
    let words = ["#1 (get a*", "shows a=1 @2", "#0 (put a=1", "request timed out"];
    expect(history(refused()), vec![], &[Kind::UnexplainedRevision], &words);
    // Never sent at all; and a value that was, under a revision that is another's.
    let phantom =
        vec![op(1, (1, 2), put("a", "1"), written(2)), op(2, (3, 4), get("a"), shown(2, &[new("a", "2", 2)]))];
    expect(phantom, vec![], &[Kind::PhantomRead], &["shows a=2 @2", "nobody wrote"]);
}

/// It is shown before it is called: it cannot be the one that was shown.
#[test]
fn a_read_from_the_future() {
    let history = |called: u64| {
        vec![op(1, (called, 9), put("a", "1"), unanswered()), op(2, (1, 4), get("a"), shown(2, &[new("a", "1", 2)]))]
    };
    expect(history(3), vec![], &[], &[]);
    expect(history(5), vec![], &[Kind::UnexplainedRevision], &["cannot have written then"]);
}

#[test]
fn a_compare_that_did_not_hold() {
    let history = |compared: i64| {
        vec![
            op(1, (1, 2), put("a", "1"), written(2)),
            op(1, (3, 4), put("a", "2"), written(3)),
            op(2, (5, 6), swap("a", compared, "3"), swapped(4, 1)),
        ]
    };
    expect(history(3), vec![], &[], &[]);
    expect(history(2), vec![], &[Kind::WrongAnswer], &["#2 (txn on a then put a=3"]);
}

/// Two clients swap the same version, and both are told that they did.
#[test]
fn two_swaps_of_one_version() {
    let history = vec![
        op(1, (1, 2), put("a", "1"), written(2)),
        op(1, (3, 9), swap("a", 2, "2"), swapped(3, 1)),
        op(2, (3, 9), swap("a", 2, "3"), swapped(4, 1)),
    ];
    expect(history, vec![], &[Kind::WrongAnswer], &["#2"]);
}

#[test]
fn a_wrong_version_or_creation() {
    let history = |read| {
        vec![
            op(1, (1, 2), put("a", "1"), written(2)),
            op(1, (3, 4), put("a", "2"), written(3)),
            op(1, (5, 6), get("a"), shown(3, &[read])),
        ]
    };
    expect(history(kv("a", "2", 2, 3, 2)), vec![], &[], &[]);
    expect(history(kv("a", "2", 2, 3, 1)), vec![], &[Kind::WrongAnswer], &["version 1", "version 2"]);
    expect(history(kv("a", "2", 3, 3, 2)), vec![], &[Kind::WrongAnswer], &["created @3"]);
}

#[test]
fn a_compacted_revision_read() {
    let past = |at| Request::Range(history::Range { keys: history::Keys::all(), limit: 0 }, history::At::Revision(at));
    let history = |at: i64, read: Outcome| {
        vec![
            op(1, (1, 2), put("a", "1"), written(2)),
            op(1, (3, 4), put("a", "2"), written(3)),
            op(1, (5, 6), Request::Compact { revision: 3 }, done(3)),
            op(1, (7, 8), past(at), read),
        ]
    };
    expect(history(3, shown(3, &[kv("a", "2", 2, 3, 2)])), vec![], &[], &[]);
    expect(history(2, shown(3, &[new("a", "1", 2)])), vec![], &[Kind::CompactedRead], &["#2 (compact 3"]);
}

mod leases {
    use super::*;

    fn grant() -> history::Operation {
        op(1, (1, 2), Request::LeaseGrant { id: 7, ttl_seconds: 1 }, done(1))
    }

    fn leased(revision: i64) -> history::KeyValue {
        history::KeyValue { lease: 7, ..new("a", "1", revision) }
    }

    #[test]
    fn a_key_that_survives_its_revocation() {
        let history = |revoked: i64, read: Outcome| {
            let revoke = op(1, (5, 6), Request::LeaseRevoke { id: 7 }, done(revoked));
            vec![grant(), op(1, (3, 4), put_on(7, "a", "1"), written(2)), revoke, op(1, (7, 8), get("a"), read)]
        };
        expect(history(3, shown(3, &[])), vec![], &[], &[]);
        expect(
            history(2, shown(2, &[leased(2)])),
            vec![],
            &[Kind::LeaseBroken],
            &["still there after #2 (revoke lease 7"],
        );
        expect(history(3, shown(3, &[leased(2)])), vec![], &[Kind::LeaseBroken], &["still shows a=1 @2", "#2"]);
    }

    #[test]
    fn a_key_on_a_lease_that_is_gone() {
        let history = |written_at: i64, revoked: i64, put: (u64, u64)| {
            let revoke = op(1, (5, 9), Request::LeaseRevoke { id: 7 }, done(revoked));
            vec![grant(), revoke, op(2, put, put_on(7, "a", "1"), written(written_at))]
        };
        expect(history(2, 3, (6, 9)), vec![], &[], &[]);
        expect(history(2, 1, (10, 11)), vec![], &[Kind::LeaseBroken], &["#2 (put a=1 on lease 7", "had ended with #1"]);
        let never = vec![op(2, (1, 2), put_on(8, "a", "1"), written(2))];
        expect(never, vec![], &[Kind::LeaseBroken], &["a lease that nobody was granted"]);
    }

    /// Whether a revocation took a revision shows only in what it deleted.
    #[test]
    fn a_revocation_at_a_revision_that_was_there() {
        let history = |called: u64| {
            let put = op(1, (3, 4), put_on(7, "a", "1"), written(2));
            let revoke = op(1, (called, 12), Request::LeaseRevoke { id: 7 }, done(3));
            vec![grant(), put, op(2, (5, 8), get("a"), shown(3, &[])), revoke]
        };
        expect(history(7), vec![], &[], &[]);
        let kinds = [Kind::UnexplainedRevision, Kind::LeaseBroken, Kind::LostWrite];
        expect(history(9), vec![], &kinds, &["Revision 3 was made by nobody"]);
    }

    #[test]
    fn a_lease_alive_after_its_end() {
        let renewed = |ttl_seconds| history::Answer::KeepAlive { ttl_seconds };
        let history = |ttl: i64| {
            let revoke = op(1, (5, 6), Request::LeaseRevoke { id: 7 }, done(1));
            let outcome = Outcome::Answered { revision: 1, answer: renewed(ttl) };
            vec![grant(), revoke, op(2, (7, 8), Request::LeaseKeepAlive { id: 7 }, outcome)]
        };
        expect(history(0), vec![], &[], &[]);
        expect(history(1), vec![], &[Kind::LeaseBroken], &["#2 (keep lease 7 alive", "ended with #1"]);
    }

    /// A second is ten ticks here.
    #[test]
    fn a_lease_that_ends_too_soon() {
        let history = |read: u64| {
            vec![grant(), op(1, (3, 4), put_on(7, "a", "1"), written(2)), op(1, (5, read), get("a"), shown(3, &[]))]
        };
        expect(history(12), vec![], &[], &[]);
        expect(history(8), vec![], &[Kind::LeaseTooShort], &["Lease 7 ended at revision 3", "#0 (grant lease 7"]);
    }
}

mod watches {
    use super::*;

    fn four_puts() -> Vec<history::Operation> {
        let keys = ["a", "b", "a", "c"];
        let puts = keys.iter().zip(0u64..).zip(2i64..);
        puts.map(|((key, n), revision)| op(1, (2 * n + 1, 2 * n + 2), put(key, "v"), written(revision))).collect()
    }

    fn seen() -> [history::KeyValue; 4] {
        [new("a", "v", 2), new("b", "v", 3), kv("a", "v", 2, 4, 2), new("c", "v", 5)]
    }

    fn check(start: i64, responses: Vec<history::Response>, expected: &[Kind], words: &[&str]) {
        let mut all = vec![created(0, 1)];
        all.extend(responses);
        expect(four_puts(), vec![watch(start, all)], expected, words);
    }

    #[test]
    fn the_events_as_they_were() {
        let [a, b, a2, c] = seen();
        check(1, vec![events(20, [a.clone(), b]), events(21, [a2.clone(), c.clone()])], &[], &[]);
        check(4, vec![events(20, [a2, c])], &[], &[]);
        check(0, vec![events(20, [a])], &[], &[]);
    }

    #[test]
    fn a_dropped_event() {
        let [a, b, a2, c] = seen();
        check(1, vec![events(20, [a.clone(), a2, c])], &[Kind::Missing], &["was not sent b=v @3", "#1 (put b=v"]);
        check(1, vec![events(20, [a]), progress(21, 5)], &[Kind::Missing], &["b=v @3", "c=v @5"]);
        check(1, vec![events(20, [b])], &[Kind::Missing], &["a=v @2"]);
    }

    #[test]
    fn a_reordered_event() {
        let [a, b, a2, c] = seen();
        check(1, vec![events(20, [a, a2, b, c])], &[Kind::OutOfOrder], &["b=v @3", "came after revision 4"]);
    }

    #[test]
    fn a_duplicate_delivery() {
        let [a, b, ..] = seen();
        check(1, vec![events(20, [a, b.clone()]), events(21, [b])], &[Kind::Duplicated], &["b=v @3", "came twice"]);
    }

    #[test]
    fn a_watch_that_goes_back_in_time() {
        let [a, b, a2, c] = seen();
        let first = watch(1, vec![created(0, 1), events(20, [a, b.clone(), a2.clone()])]);
        let resumed = |list: &[history::KeyValue]| watch(5, vec![created(30, 5), events(30, list.to_vec())]);
        expect(four_puts(), vec![first.clone(), resumed(std::slice::from_ref(&c))], &[], &[]);
        expect(four_puts(), vec![first, resumed(&[a2, c])], &[Kind::BeforeStart], &["watch 1 (* from @5", "a=v @4"]);
    }

    #[test]
    fn a_broken_bookmark() {
        let [a, b, ..] = seen();
        check(1, vec![events(20, [a.clone()]), progress(21, 2), events(22, [b.clone()])], &[], &[]);
        check(1, vec![events(20, [a]), progress(21, 3), events(22, [b])], &[Kind::BookmarkBroken], &["b=v @3"]);
    }

    #[test]
    fn an_event_before_a_start_in_the_future() {
        let [_, _, a2, c] = seen();
        check(5, vec![events(20, [a2, c])], &[Kind::BeforeStart], &["a=v @4", "starts at revision 5"]);
    }

    #[test]
    fn a_split_transaction() {
        let both = || vec![op(1, (1, 2), put_both(["a", "b"], "v"), swapped(2, 2))];
        let (a, b) = (new("a", "v", 2), new("b", "v", 2));
        let together = watch(1, vec![created(0, 1), events(20, [a.clone(), b.clone()])]);
        expect(both(), vec![together], &[], &[]);
        let apart = watch(1, vec![created(0, 1), events(20, [a.clone()]), events(21, [b])]);
        expect(both(), vec![apart], &[Kind::Split], &["b=v @2", "apart from the other changes"]);
        let half = watch(1, vec![created(0, 1), events(20, [a])]);
        expect(both(), vec![half], &[Kind::Missing], &["was not sent b=v @2"]);
    }

    #[test]
    fn an_event_that_did_not_happen() {
        let [a, ..] = seen();
        check(1, vec![events(20, [new("a", "x", 2)])], &[Kind::WrongEvent], &["a=x @2", "a=v @2"]);
        check(
            1,
            vec![events(20, [a, new("b", "v", 3), gone("b", 4)])],
            &[Kind::Missing, Kind::WrongEvent],
            &["b deleted @4"],
        );
    }

    #[test]
    fn a_previous_version_that_was_not() {
        let [a, b, a2, _] = seen();
        let shown = |prev| {
            let mut response = events(20, [a.clone(), b.clone(), a2.clone()]);
            if let history::Message::Events { events, .. } = &mut response.message {
                events[2].prev_kv = prev;
            }
            history::Watch { prev_kv: true, ..watch(1, vec![created(0, 1), response]) }
        };
        expect(four_puts(), vec![shown(Some(a.clone()))], &[], &[]);
        expect(four_puts(), vec![shown(None)], &[Kind::WrongEvent], &["was sent nothing as the version of a before"]);
        expect(four_puts(), vec![shown(Some(b.clone()))], &[Kind::WrongEvent], &["was sent b=v @3"]);
    }
}
