//! Members that are to end, or have to.

use super::*;
use crate::auth::Asker;
use crate::pb::kvraft::MemberChange;
use crate::pb::kvraft::member_change::Kind;
use crate::raft_node::propose::member_change_entry;

/// A member that is told to end waits for an election, and for nothing when there is none to come.
#[test]
fn without_a_quorum_a_member_that_ends_keeps_nobody_waiting() {
    let mut core = member(vec![1, 2, 3], 1_000);
    hear(&mut core, MessageType::MsgHeartbeat, 1, 0);
    let (put, mut forwarded) = proposal(put_of("a"));
    core.take(Input::Propose(put)).expect("taken");
    core.drive().expect("forwards");
    while core.node.raft.leader_id != raft::INVALID_ID {
        core.tick();
    }
    let (put, mut arrived) = proposal(put_of("b"));
    let (ready, mut readable) = oneshot::channel();
    for input in [Input::Propose(put), Input::Read(ready), Input::Drain] {
        core.take(input).expect("taken");
    }
    for _ in 0..9 {
        core.drive().expect("goes on");
        assert!(forwarded.try_recv().is_err() && arrived.try_recv().is_err(), "another may be elected");
        core.tick();
    }
    core.drive().expect("goes on");
    for answered in [&mut forwarded, &mut arrived] {
        assert!(matches!(answered.try_recv(), Ok(Err(Refusal::Stopped))));
    }
    assert!(matches!(readable.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
}

/// A leader knows nothing any more of whom it has removed, and answers no question of theirs.
#[test]
fn who_was_removed_keeps_nobody_waiting() {
    let mut core = member(vec![1, 2, 3], 1_000);
    let of = |id| pb::Member { id, ..pb::Member::default() };
    core.shared.state.write().members = (1..=3).map(|id| (id, of(id))).collect();
    hear(&mut core, MessageType::MsgHeartbeat, 1, 0);
    let (put, mut forwarded) = proposal(put_of("a"));
    let (ready, mut readable) = oneshot::channel();
    for input in [Input::Propose(put), Input::Read(ready)] {
        core.take(input).expect("taken");
    }
    core.drive().expect("asks the leader");
    assert_eq!((core.pending.len(), core.asked.len()), (1, 1));
    let removal = MemberChange { kind: Kind::Remove.into(), member: Some(of(1)), ..MemberChange::default() };
    let entry = member_change_entry(Asker::Member.sign(Op::MemberChange(removal)));
    let entries = vec![Entry { index: 1, term: 1, ..entry }];
    let mut message = Message { from: 2, to: 1, term: 1, commit: 1, entries, ..Message::default() };
    message.set_msg_type(MessageType::MsgAppend);
    core.take(Input::Messages(vec![message])).expect("taken");
    core.drive().expect("takes it down");
    assert!(forwarded.try_recv().is_err(), "it may still be answered");
    persist(&mut core);
    assert!(core.effects.removed && core.shared.status.is_removed());
    let (put, mut arrived) = proposal(put_of("b"));
    core.take(Input::Propose(put)).expect("taken");
    core.drive().expect("goes on");
    for answered in [&mut forwarded, &mut arrived] {
        assert!(matches!(answered.try_recv(), Ok(Err(Refusal::Stopped))));
    }
    assert!(matches!(readable.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
}
