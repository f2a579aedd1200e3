//! Answers of upstream servers, remembered for a short while, negative ones too.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{LowerName, RData, RecordType};
use parking_lot::Mutex;

/// Answers kept at once.
const MAX_ENTRIES: usize = 10_000;
/// Nothing is remembered for longer, whatever its own time to live.
const MAX_TTL: u32 = 30;

type Question = (LowerName, RecordType);

#[derive(Default)]
pub struct Cache {
    entries: Mutex<HashMap<Question, Remembered, ahash::RandomState>>,
}

struct Remembered {
    message: Message,
    since: Instant,
    until: Instant,
}

impl Cache {
    /// The answer, with what is left of its times to live.
    pub fn get(&self, question: &Question, now: Instant) -> Option<Message> {
        let mut entries = self.entries.lock();
        let remembered = entries.get(question)?;
        if remembered.until <= now {
            entries.remove(question);
            return None;
        }
        let age = u32::try_from(now.duration_since(remembered.since).as_secs()).unwrap_or(u32::MAX);
        let mut message = remembered.message.clone();
        let sections = [&mut message.answers, &mut message.authorities, &mut message.additionals];
        for record in sections.into_iter().flatten() {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(message)
    }

    pub fn put(&self, question: Question, message: &Message, now: Instant) {
        let Some(ttl) = time_to_live(message).filter(|ttl| *ttl > 0) else { return };
        let until = now + Duration::from_secs(u64::from(ttl));
        let mut entries = self.entries.lock();
        if entries.len() >= MAX_ENTRIES {
            entries.retain(|_, remembered| remembered.until > now);
        }
        if entries.len() >= MAX_ENTRIES {
            // Full of answers that still hold: any one makes room.
            let victim = entries.keys().next().cloned();
            victim.and_then(|victim| entries.remove(&victim));
        }
        entries.insert(question, Remembered { message: message.clone(), since: now, until });
    }

    pub fn len(&self) -> usize {
        self.entries.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The shortest of an answer; of an absence what its SOA allows, and without one nothing.
fn time_to_live(message: &Message) -> Option<u32> {
    let soa = message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    let shortest = message.answers.iter().map(|record| record.ttl).min();
    let ttl = match message.metadata.response_code {
        ResponseCode::NoError => shortest.or(soa),
        ResponseCode::NXDomain => soa,
        _ => None,
    };
    ttl.map(|ttl| ttl.min(MAX_TTL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::rdata::{A, SOA};
    use hickory_proto::rr::{Name, Record};

    fn answer(ttl: u32) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        message.add_answer(Record::from_rdata(Name::root(), ttl, RData::A(A::new(1, 2, 3, 4))));
        message
    }

    fn absence(minimum: u32) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        message.metadata.response_code = ResponseCode::NXDomain;
        let soa = SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, minimum);
        message.add_authority(Record::from_rdata(Name::root(), 900, RData::SOA(soa)));
        message
    }

    #[test]
    fn answers_are_remembered_as_long_as_they_hold_and_not_too_long() {
        let check = |message: &Message, after: u64, left: Option<u32>| {
            let cache = Cache::default();
            let question = (LowerName::new(&Name::root()), RecordType::A);
            let now = Instant::now();
            cache.put(question.clone(), message, now);
            let found = cache.get(&question, now + Duration::from_secs(after));
            let ttl = found.map(|found| found.answers.first().or(found.authorities.first()).expect("a record").ttl);
            assert_eq!(ttl, left, "after {after}");
        };
        check(&answer(20), 0, Some(20));
        check(&answer(20), 19, Some(1));
        check(&answer(20), 20, None);
        check(&answer(600), 29, Some(571));
        check(&answer(600), 30, None);
        check(&answer(0), 0, None);
        check(&absence(10), 9, Some(891));
        check(&absence(10), 10, None);
        let mut failure = Message::response(1, OpCode::Query);
        failure.metadata.response_code = ResponseCode::ServFail;
        check(&failure, 0, None);
    }

    #[test]
    fn it_does_not_grow_past_its_bound() {
        let cache = Cache::default();
        let now = Instant::now();
        for i in 0..MAX_ENTRIES + 10 {
            let name = Name::from_ascii(format!("n{i}.example.")).expect("a name");
            cache.put((LowerName::new(&name), RecordType::A), &answer(20), now);
        }
        assert_eq!(cache.len(), MAX_ENTRIES);
    }
}
