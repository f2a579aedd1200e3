//! What is applied before it is durable here, and what is not.

use super::*;
use crate::pb::kvraft::{MemberChange, member_change::Kind};

/// Reads at a member whose disk is slow would wait for it otherwise, though a quorum has what they are to see.
#[test]
fn what_is_committed_is_applied_before_it_is_durable_here() {
    use EntryType::{EntryConfChangeV2, EntryNormal};
    let mut core = member(vec![1, 2, 3], 1);
    committed(&mut core, &[EntryNormal, EntryNormal, EntryConfChangeV2, EntryNormal]);
    let applied = |core: &Core| core.shared.state.read().applied.index;
    assert_eq!(applied(&core), 2, "not what changes the members");
    assert_eq!(core.node.raft.raft_log.persisted, 0);
    assert_eq!(said(&core, MessageType::MsgAppendResponse), 0, "it is promised once it is durable");
    assert!(core.effects.jobs.is_empty(), "no checkpoint is ahead of the log");
    persist(&mut core);
    assert_eq!((applied(&core), core.node.raft.raft_log.persisted), (4, 4));
    assert_eq!(core.effects.jobs.len(), 1);
}

/// Whoever is left alone by a change, and forgot with a crash that it was committed, waits for members that are gone.
#[test]
fn a_change_of_members_waits_until_it_is_durable_that_it_is_committed() {
    use EntryType::{EntryConfChangeV2, EntryNormal};
    let mut core = member(vec![1, 2], 1_000);
    let entry = |index: u64, kind: EntryType| Entry {
        index,
        term: 1,
        entry_type: kind as i32,
        data: match kind {
            EntryNormal => Vec::new(),
            _ => ConfChange { changes: vec![Default::default()], ..ConfChange::default() }.encode_to_vec(),
        },
        ..Entry::default()
    };
    let append = |core: &mut Core, commit: u64, entries: Vec<Entry>| {
        let index = if entries.is_empty() { 3 } else { 0 };
        let log_term = u64::from(entries.is_empty());
        let mut message = Message { from: 2, to: 1, term: 1, commit, index, log_term, ..Message::default() };
        message.entries = entries;
        message.set_msg_type(MessageType::MsgAppend);
        core.take(Input::Messages(vec![message])).expect("taken");
        core.drive().expect("goes on");
    };
    append(&mut core, 0, vec![entry(1, EntryNormal), entry(2, EntryConfChangeV2), entry(3, EntryNormal)]);
    persist(&mut core);
    append(&mut core, 3, Vec::new());
    let applied = |core: &Core| core.shared.state.read().applied.index;
    assert_eq!(applied(&core), 1, "what comes before the change");
    let commit_told = core.effects.writes.iter().map(|write| match write {
        Write::Append { entries, hard_state, .. } => (entries.len(), hard_state.commit),
        _ => (0, 0),
    });
    assert_eq!(commit_told.collect::<Vec<_>>(), [(0, 3)]);
    persist(&mut core);
    assert_eq!(applied(&core), 3);
    append(&mut core, 3, Vec::new());
    assert!(core.effects.writes.is_empty(), "nothing is written for what changes nobody");
}

/// One who is removed may have applied, and answered, all that was committed until then.
#[test]
fn nobody_reads_alone_before_all_that_is_committed_is_applied() {
    let mut core = member_that_takes(1, vec![1, 2], 1_000);
    for id in [1, 2] {
        let member = pb::Member { id, name: format!("m{id}"), ..Default::default() };
        core.shared.state.write().members.insert(id, member);
    }
    elect(&mut core);
    let all = pb::DeleteRangeRequest { key: "a".into(), range_end: "z".into(), ..Default::default() };
    let member = pb::Member { id: 2, ..Default::default() };
    let removal = MemberChange { kind: Kind::Remove.into(), member: Some(member), ..Default::default() };
    let propose = |core: &mut Core, op: Op| {
        let (proposal, _answered) = proposal(op);
        core.take(Input::Propose(proposal)).expect("taken");
    };
    for op in [Op::MemberChange(removal), Op::DeleteRange(all.clone())] {
        propose(&mut core, op);
        core.drive().expect("proposed");
        persist(&mut core);
    }
    hear(&mut core, MessageType::MsgAppendResponse, 1, 3);
    core.effects.messages.clear();
    // Something is to be sent when the removal is applied.
    propose(&mut core, Op::DeleteRange(all));
    persist(&mut core);
    let applied = |core: &Core| core.shared.state.read().applied.index;
    assert_eq!((core.alone(), core.defers(), applied(&core)), (true, true, 2));
    assert!(!core.shared.status.is_alone());
    core.effects.messages.clear();
    core.drive().expect("goes on");
    persist(&mut core);
    assert_eq!((applied(&core), core.shared.status.is_alone()), (4, true));
}
