//! Changes to a history: such as always break it, and such as may.

use bytes::Bytes;
use history::{Answer, At, Event, History, KeyValue, Message, Outcome, RangeAnswer, Request, Response};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

type Corruption = fn(&mut History, &mut StdRng) -> Option<()>;

const CORRUPTIONS: [(&str, Corruption); 15] = [
    ("a read shows another value", |h, rng| change_shown(h, rng, |kv| kv.value = Bytes::from_static(b"other"))),
    ("a read shows another version", |h, rng| change_shown(h, rng, |kv| kv.version += 1)),
    ("a read shows another lease", |h, rng| change_shown(h, rng, |kv| kv.lease += 1)),
    ("a read misses a key", |h, rng| {
        let range = shown(h, rng)?;
        range.kvs.remove(rng.random_range(0..range.kvs.len()));
        Some(())
    }),
    ("a read is older than what was known", stale_read),
    ("two writes have one revision", duplicate_revision),
    ("a refused write happened", refused_write),
    ("a transaction took the other branch", other_branch),
    ("a watch misses an event", missed_event),
    ("a watch is told twice", |h, rng| {
        let responses = event_responses(h, rng, 1)?;
        let again = responses.iter().rfind(|r| !events(r).is_empty())?.clone();
        responses.push(again);
        Some(())
    }),
    ("a watch is told in another order", |h, rng| {
        let responses = event_responses(h, rng, 2)?;
        let mut at = responses.iter().enumerate().filter(|(_, r)| !events(r).is_empty()).map(|(at, _)| at);
        let (first, second) = (at.next()?, at.next()?);
        responses.swap(first, second);
        Some(())
    }),
    ("a watch is told of a change that was not", |h, rng| change_event(h, rng, |e| e.kv.value = Bytes::from("no"))),
    ("a watch is told another creation", |h, rng| change_event(h, rng, |e| e.kv.create_revision -= 1)),
    ("a watch is told after a bookmark", |h, rng| {
        let responses = event_responses(h, rng, 1)?;
        let at = responses.iter().position(|r| !events(r).is_empty())?;
        let revision = events(&responses[at]).first()?.kv.mod_revision;
        responses.insert(at, Response { at: responses[at].at, revision, message: Message::Progress });
        Some(())
    }),
    ("a watch is told what was before its start", |h, rng| {
        let n = watch_with_events(h, rng, 1)?;
        let watch = &mut h.watches[n];
        let revision = watch.responses.iter().flat_map(events).next()?.kv.mod_revision;
        watch.start_revision = revision + 1;
        Some(())
    }),
];

/// Breaks a history in one place and says how, or finds no place for what it wanted.
pub fn corrupt(history: &mut History, seed: u64) -> Option<&'static str> {
    let canceled = |r: &Response| matches!(r.message, Message::Canceled { .. });
    if history.watches[0].responses.iter().any(canceled) {
        // Nobody saw it all; what is missing might be explained in another way.
        return None;
    }
    let mut rng = StdRng::seed_from_u64(seed);
    let (what, corruption) = CORRUPTIONS.choose(&mut rng).expect("there are some");
    corruption(history, &mut rng).map(|()| *what)
}

fn events(response: &Response) -> &[Event] {
    match &response.message {
        Message::Events { events, .. } => events,
        _ => &[],
    }
}

/// A range's answer with something in it.
fn shown<'a>(history: &'a mut History, rng: &mut StdRng) -> Option<&'a mut RangeAnswer> {
    let mut found: Vec<&mut RangeAnswer> = Vec::new();
    for operation in &mut history.operations {
        if let Outcome::Answered { answer: Answer::Range(range), .. } = &mut operation.outcome
            && !range.kvs.is_empty()
        {
            found.push(range);
        }
    }
    let at = (!found.is_empty()).then(|| rng.random_range(0..found.len()))?;
    Some(found.swap_remove(at))
}

fn change_shown(history: &mut History, rng: &mut StdRng, change: fn(&mut KeyValue)) -> Option<()> {
    let range = shown(history, rng)?;
    let at = rng.random_range(0..range.kvs.len());
    change(&mut range.kvs[at]);
    Some(())
}

fn revision(outcome: &Outcome) -> Option<i64> {
    match outcome {
        Outcome::Answered { revision, .. } => Some(*revision),
        _ => None,
    }
}

/// Gives a read the answer that the same read had got before a newer revision was seen.
fn stale_read(history: &mut History, rng: &mut StdRng) -> Option<()> {
    let operations = &history.operations;
    let mut pairs = Vec::new();
    for (n, operation) in operations.iter().enumerate() {
        if !matches!(operation.request, Request::Range(_, At::Latest)) || revision(&operation.outcome).is_none() {
            continue;
        }
        let before = operations.iter().filter(|o| o.ret < operation.call);
        let Some(known) = before.filter_map(|o| revision(&o.outcome)).max() else { continue };
        for other in operations.iter().filter(|o| o.request == operation.request) {
            if revision(&other.outcome).is_some_and(|old| old < known) {
                pairs.push((n, other.outcome.clone()));
            }
        }
    }
    let (n, outcome) = pairs.choose(rng)?.clone();
    history.operations[n].outcome = outcome;
    Some(())
}

fn answered_puts(history: &History) -> Vec<usize> {
    let put = |n: &usize| {
        let operation = &history.operations[*n];
        matches!(operation.request, Request::Put(_)) && revision(&operation.outcome).is_some()
    };
    (0..history.operations.len()).filter(put).collect()
}

fn duplicate_revision(history: &mut History, rng: &mut StdRng) -> Option<()> {
    let puts = answered_puts(history);
    let two: Vec<usize> = puts.choose_multiple(rng, 2).copied().collect();
    let [one, other] = two[..] else { return None };
    history.operations[one].outcome = history.operations[other].outcome.clone();
    Some(())
}

fn refused_write(history: &mut History, rng: &mut StdRng) -> Option<()> {
    let n = *answered_puts(history).choose(rng)?;
    history.operations[n].outcome = Outcome::Refused("etcdserver: request timed out".to_owned());
    Some(())
}

fn other_branch(history: &mut History, rng: &mut StdRng) -> Option<()> {
    let mut found = Vec::new();
    for operation in &mut history.operations {
        if let Outcome::Answered { answer: Answer::Txn { succeeded, .. }, .. } = &mut operation.outcome {
            found.push(succeeded);
        }
    }
    let at = (!found.is_empty()).then(|| rng.random_range(0..found.len()))?;
    *found[at] = !*found[at];
    Some(())
}

fn watch_with_events(history: &History, rng: &mut StdRng, at_least: usize) -> Option<usize> {
    let enough = |n: &usize| history.watches[*n].responses.iter().filter(|r| !events(r).is_empty()).count() >= at_least;
    let found: Vec<usize> = (0..history.watches.len()).filter(enough).collect();
    found.choose(rng).copied()
}

fn event_responses<'a>(history: &'a mut History, rng: &mut StdRng, at_least: usize) -> Option<&'a mut Vec<Response>> {
    let n = watch_with_events(history, rng, at_least)?;
    Some(&mut history.watches[n].responses)
}

/// Takes an event away that is not of the last revision sent: that one is vouched for.
fn missed_event(history: &mut History, rng: &mut StdRng) -> Option<()> {
    let responses = event_responses(history, rng, 1)?;
    let last = responses.iter().flat_map(events).map(|e| e.kv.mod_revision).max()?;
    let mut lists: Vec<&mut Vec<Event>> = Vec::new();
    for response in responses {
        if let Message::Events { events, .. } = &mut response.message {
            lists.push(events);
        }
    }
    let early = |list: &Vec<Event>| list.first().is_some_and(|e| e.kv.mod_revision < last);
    lists.retain(|list| early(list));
    let at = (!lists.is_empty()).then(|| rng.random_range(0..lists.len()))?;
    lists[at].remove(0);
    Some(())
}

fn change_event(history: &mut History, rng: &mut StdRng, change: fn(&mut Event)) -> Option<()> {
    let responses = event_responses(history, rng, 1)?;
    let changed = responses.iter_mut().find_map(|response| match &mut response.message {
        Message::Events { events, .. } => events.first_mut(),
        _ => None,
    })?;
    change(changed);
    Some(())
}

/// Changes something that may or may not matter.
pub fn meddle(history: &mut History, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let n = rng.random_range(0..history.operations.len());
    let other = history.operations.choose(&mut rng).expect("the last read at least").outcome.clone();
    let operation = &mut history.operations[n];
    match rng.random_range(0..8) {
        0 => operation.outcome = Outcome::Unknown,
        1 => operation.outcome = Outcome::Refused("etcdserver: no leader".to_owned()),
        2 => operation.call = operation.call.saturating_sub(rng.random_range(1..8)),
        3 => operation.ret += rng.random_range(1..8),
        4 => operation.call = operation.ret,
        5 if alike(&operation.outcome, &other) => operation.outcome = other,
        _ => {
            if let Outcome::Answered { revision, answer } = &mut operation.outcome {
                tweak(revision, answer, &mut rng);
            }
        }
    }
}

fn alike(one: &Outcome, other: &Outcome) -> bool {
    match (one, other) {
        (Outcome::Answered { answer: one, .. }, Outcome::Answered { answer: other, .. }) => {
            std::mem::discriminant(one) == std::mem::discriminant(other)
        }
        _ => false,
    }
}

fn tweak(revision: &mut i64, answer: &mut Answer, rng: &mut StdRng) {
    match answer {
        Answer::Range(range) if rng.random() => {
            range.kvs.pop();
            range.count = range.kvs.len();
        }
        Answer::Delete { deleted, prev_kvs } if rng.random() => {
            *deleted = 0;
            prev_kvs.clear();
        }
        Answer::Txn { succeeded, .. } if rng.random() => *succeeded = !*succeeded,
        _ => *revision += rng.random_range(-2..=2),
    }
}
