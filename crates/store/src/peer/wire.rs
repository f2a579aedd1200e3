//! Raft's messages on the wire: our own types, so that bytes of a peer are decoded by nothing else.

use bytes::Bytes;
use raft::prelude::{ConfState, Entry, Message, Snapshot, SnapshotMetadata};

use crate::pb::kvraft::{LogEntry, RaftMessage, SnapshotMark};

pub fn to_wire(message: Message) -> RaftMessage {
    RaftMessage {
        r#type: u32::try_from(message.msg_type).expect("message types are small"),
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: message.entries.into_iter().map(entry_to_wire).collect(),
        commit: message.commit,
        commit_term: message.commit_term,
        request_snapshot: message.request_snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: Bytes::from(message.context),
        priority: message.priority,
        snapshot: message.snapshot.and_then(|s| s.metadata).map(mark),
    }
}

/// `None`: a type or a field that this version does not know.
pub fn from_wire(wire: RaftMessage) -> Option<Message> {
    let snapshot = wire.snapshot.map(|mark| Snapshot { data: Vec::new(), metadata: Some(metadata(mark)) });
    let message = Message {
        msg_type: i32::try_from(wire.r#type).ok()?,
        to: wire.to,
        from: wire.from,
        term: wire.term,
        log_term: wire.log_term,
        index: wire.index,
        entries: wire.entries.into_iter().map(entry_from_wire).collect::<Option<Vec<Entry>>>()?,
        commit: wire.commit,
        commit_term: wire.commit_term,
        snapshot,
        request_snapshot: wire.request_snapshot,
        reject: wire.reject,
        reject_hint: wire.reject_hint,
        context: wire.context.into(),
        priority: wire.priority,
        ..Message::default()
    };
    raft::eraftpb::MessageType::from_i32(message.msg_type).map(|_| message)
}

fn entry_to_wire(entry: Entry) -> LogEntry {
    LogEntry {
        index: entry.index,
        term: entry.term,
        kind: u32::try_from(entry.entry_type).expect("Raft has three kinds of entries"),
        context: Bytes::from(entry.context),
        data: Bytes::from(entry.data),
    }
}

fn entry_from_wire(wire: LogEntry) -> Option<Entry> {
    let entry_type = i32::try_from(wire.kind).ok()?;
    raft::eraftpb::EntryType::from_i32(entry_type)?;
    Some(Entry {
        entry_type,
        index: wire.index,
        term: wire.term,
        data: wire.data.into(),
        context: wire.context.into(),
        ..Entry::default()
    })
}

fn mark(metadata: SnapshotMetadata) -> SnapshotMark {
    let conf = metadata.conf_state.unwrap_or_default();
    SnapshotMark {
        index: metadata.index,
        term: metadata.term,
        voters: conf.voters,
        learners: conf.learners,
        voters_outgoing: conf.voters_outgoing,
        learners_next: conf.learners_next,
        auto_leave: conf.auto_leave,
    }
}

fn metadata(mark: SnapshotMark) -> SnapshotMetadata {
    let conf_state = ConfState {
        voters: mark.voters,
        learners: mark.learners,
        voters_outgoing: mark.voters_outgoing,
        learners_next: mark.learners_next,
        auto_leave: mark.auto_leave,
    };
    SnapshotMetadata { conf_state: Some(conf_state), index: mark.index, term: mark.term }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::prelude::MessageType;

    #[test]
    fn messages_survive_the_wire() {
        let mut message = Message { to: 1, from: 2, term: 3, log_term: 4, index: 5, ..Message::default() };
        message.set_msg_type(MessageType::MsgAppend);
        message.entries = vec![Entry { index: 6, term: 3, data: vec![1], context: vec![2], ..Entry::default() }];
        message.snapshot = Some(Snapshot {
            metadata: Some(SnapshotMetadata {
                index: 9,
                term: 2,
                conf_state: Some(ConfState { voters: vec![1, 2], learners: vec![3], ..ConfState::default() }),
            }),
            ..Snapshot::default()
        });
        (message.commit, message.commit_term, message.reject_hint, message.priority) = (7, 8, 9, -1);
        (message.reject, message.context, message.request_snapshot) = (true, vec![4], 11);
        assert_eq!(from_wire(to_wire(message.clone())), Some(message));
    }

    #[test]
    fn what_is_unknown_is_dropped() {
        let check = |wire: RaftMessage| assert_eq!(from_wire(wire), None);
        check(RaftMessage { r#type: 99, ..RaftMessage::default() });
        let entries = vec![LogEntry { kind: 9, ..LogEntry::default() }];
        check(RaftMessage { r#type: 3, entries, ..RaftMessage::default() });
    }
}
