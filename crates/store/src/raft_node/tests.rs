//! The core by itself, driven by hand.

use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};

use prost::Message as _;
use raft::prelude::{ConfState, Entry, EntryType, Message, MessageType, Snapshot, SnapshotMetadata};
use raft::{ProgressState, StateRole};

use super::Kept;
use super::core::{Config, Core, Input, MAX_APPLIED_BYTES};
use super::effects::{Delivery, Effects, Write};
use super::handle::{Answer, Proposal};
use super::propose::Pending;
use crate::error::Refusal;
use crate::gate::Gate;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::ConfChange;
use crate::pb::kvraft::command::Op;
use crate::shared::Shared;
use crate::state::{Applied, State};
use crate::token;

mod ahead;
mod ending;

fn proposal(op: Op) -> (Proposal, oneshot::Receiver<Answer>) {
    proposal_in(None, op)
}

fn proposal_in(only_in: Option<u64>, op: Op) -> (Proposal, oneshot::Receiver<Answer>) {
    let (answer, answered) = oneshot::channel();
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("one is free");
    (Proposal { op, only_in, answer, _permit: permit }, answered)
}

/// A lone member that leads.
fn leader(snapshot_count: u64) -> Core {
    let mut core = member(vec![1], snapshot_count);
    core.begin().expect("alone");
    core.drive().expect("elected");
    core
}

fn member(voters: Vec<u64>, snapshot_count: u64) -> Core {
    member_that_takes(MAX_APPLIED_BYTES, voters, snapshot_count)
}

fn member_that_takes(max_applied_bytes: u64, voters: Vec<u64>, snapshot_count: u64) -> Core {
    let mut state = State::default();
    state.conf.voters = voters;
    let tokens = token::Config::parse("simple", std::time::Duration::from_secs(1)).expect("etcd's default");
    let shared = Arc::new(Shared::new(1, state, Gate::new(tokens, 4)));
    let config = Config {
        member_id: 1,
        snapshot_count,
        election_ticks: 10,
        tick_ms: 100,
        max_unsaved_bytes: 1 << 20,
        max_waiting_bytes: 1 << 20,
        max_applied_bytes,
        kept: Kept::of(100),
    };
    Core::new(config, shared, raftlog::Recovered::default(), 1).expect("nothing is there")
}

/// Member 2 says so to member 1.
fn hear(core: &mut Core, kind: MessageType, term: u64, index: u64) {
    let mut message = Message { from: 2, to: 1, term, index, ..Message::default() };
    message.set_msg_type(kind);
    core.take(Input::Messages(vec![message])).expect("taken");
    core.drive().expect("goes on");
}

/// Member 2 votes for it.
fn elect(core: &mut Core) {
    core.node.campaign().expect("it may");
    core.drive().expect("asks");
    persist(core);
    hear(core, MessageType::MsgRequestPreVoteResponse, 1, 0);
    persist(core);
    hear(core, MessageType::MsgRequestVoteResponse, 1, 0);
    persist(core);
}

/// Whoever applies for long sends nothing meanwhile: the others are to be as busy.
#[test]
fn peers_hear_of_what_takes_long_before_it_is_done() {
    let mut core = member(vec![1, 2, 3], 1_000);
    elect(&mut core);
    hear(&mut core, MessageType::MsgAppendResponse, 1, 1);
    let mut applied = 1;
    for (range_end, defers) in [("", false), ("z", true)] {
        let all = pb::DeleteRangeRequest { key: "a".into(), range_end: range_end.into(), ..Default::default() };
        let (proposal, _answered) = proposal(Op::DeleteRange(all));
        core.take(Input::Propose(proposal)).expect("taken");
        core.drive().expect("proposed");
        persist(&mut core);
        core.effects.messages.clear();
        hear(&mut core, MessageType::MsgAppendResponse, 1, applied + 1);
        assert!(core.effects.messages.iter().any(|m| m.to == 2 && m.commit == applied + 1));
        assert_eq!(core.defers(), defers, "{range_end:?}");
        assert_eq!(core.shared.state.read().applied.index == applied, defers, "{range_end:?}");
        core.drive().expect("goes on");
        applied += 1;
        assert_eq!(core.shared.state.read().applied.index, applied);
    }
}

#[test]
fn what_a_terms_leader_proposes_ends_with_the_term() {
    let mut core = leader(1_000);
    let term = core.node.raft.term;
    for (bound_to, refused) in [(term - 1, true), (term, false)] {
        let revocation = Op::LeaseRevoke(pb::LeaseRevokeRequest { id: 1 });
        let (proposal, mut answered) = proposal_in(Some(bound_to), revocation);
        core.take(Input::Propose(proposal)).expect("taken");
        core.drive().expect("proposed");
        let answer = answered.try_recv();
        assert_eq!(matches!(answer, Ok(Err(Refusal::NotLeader))), refused, "bound to term {bound_to}");
    }
    assert_eq!(core.pending.len(), 1);
}

/// Writes what there is to write, and says so.
fn persist(core: &mut Core) {
    for write in std::mem::take(&mut core.effects.writes) {
        if let Write::Append { number, .. } = write {
            core.take(Input::Persisted { number }).expect("taken");
        }
    }
    core.drive().expect("goes on");
}

/// Raft drops what a follower forwards while the leader hands over, and tells nobody.
#[test]
fn who_has_given_up_takes_no_place() {
    let mut core = leader(1_000);
    let lease = || Op::LeaseRevoke(pb::LeaseRevokeRequest { id: 1 });
    let (waiting, _answered) = proposal(lease());
    let (given_up, answered) = proposal(lease());
    for proposal in [waiting, given_up] {
        core.take(Input::Propose(proposal)).expect("taken");
    }
    core.drive().expect("proposed");
    drop(answered);
    assert_eq!(core.pending.len(), 2);
    core.tick();
    assert_eq!(core.pending.len(), 1);
}

#[test]
fn a_checkpoint_is_due_after_entries_or_after_the_records_of_large_ones() {
    let check = |puts: usize, entries: usize, due: bool| {
        let mut core = leader(100);
        persist(&mut core);
        for entry in 0..entries {
            let put = |n: usize| {
                let key = format!("{entry}/{n}").into();
                let put = pb::PutRequest { key, ..pb::PutRequest::default() };
                pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }
            };
            let txn = pb::TxnRequest { success: (0..puts).map(put).collect(), ..pb::TxnRequest::default() };
            let (proposal, _answered) = proposal(Op::Txn(txn));
            core.take(Input::Propose(proposal)).expect("taken");
        }
        core.drive().expect("proposed");
        persist(&mut core);
        assert_eq!(core.shared.state.read().kv.revision(), 1 + entries as i64);
        assert_eq!(!core.effects.jobs.is_empty(), due, "{entries} entries of {puts} puts");
    };
    check(1, 50, false);
    check(1, 100, true);
    check(100, 7, false);
    check(100, 8, true);
}

fn said(core: &Core, kind: MessageType) -> usize {
    core.effects.messages.iter().filter(|m| m.msg_type() == kind).count()
}

/// Reads wait for a leader that is heard, never for a disk.
#[test]
fn the_leader_is_heard_before_the_log_is_durable() {
    let mut core = member(vec![1, 2, 3], 1_000);
    hear(&mut core, MessageType::MsgHeartbeat, 3, 0);
    assert!(core.effects.writes.iter().any(|write| matches!(write, Write::Append { .. })), "the term is to be written");
    assert_eq!(said(&core, MessageType::MsgHeartbeatResponse), 1);
    hear(&mut core, MessageType::MsgAppend, 3, 0);
    assert_eq!(said(&core, MessageType::MsgAppendResponse), 0, "a promise waits");
    persist(&mut core);
    assert_eq!(said(&core, MessageType::MsgAppendResponse), 1);
}

/// As long as a large state takes to be written, a member that said nothing would count as lost: with another one lost the
/// leader had no quorum.
#[test]
fn who_installs_a_snapshot_answers_the_leader() {
    const INDEX: u64 = 60;
    let mut core = member(vec![1, 2, 3], 1_000);
    let conf = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
    let state = State { conf: conf.clone(), applied: Applied { index: INDEX, term: 2 }, ..State::default() };
    let metadata = Some(SnapshotMetadata { conf_state: Some(conf), index: INDEX, term: 2 });
    let snapshot = Some(Snapshot { metadata, ..Snapshot::default() });
    let mut message = Message { from: 2, to: 1, term: 2, snapshot, ..Message::default() };
    message.set_msg_type(MessageType::MsgSnapshot);
    core.take(Input::Snapshot(message, state.into())).expect("taken");
    core.drive().expect("begins");
    assert_eq!((core.effects.jobs.len(), core.effects.writes.len()), (1, 0), "the log waits for the checkpoint");
    for heartbeat in 1..=3 {
        hear(&mut core, MessageType::MsgHeartbeat, 2, 0);
        assert_eq!(said(&core, MessageType::MsgHeartbeatResponse), heartbeat);
    }
    // Another term is written behind the snapshot.
    hear(&mut core, MessageType::MsgHeartbeat, 3, 0);
    assert_eq!((core.effects.writes.len(), said(&core, MessageType::MsgAppendResponse)), (0, 0));
    core.take(Input::Checkpointed(raftlog::Mark { index: INDEX, term: 2 })).expect("taken");
    core.drive().expect("goes on");
    assert!(matches!(core.effects.writes[..], [Write::Jump(_), Write::Append { .. }, Write::Append { .. }]));
    persist(&mut core);
    assert_eq!(core.node.raft.raft_log.applied, INDEX);
}

/// A leader of three, all of whose members have everything.
fn elected() -> Core {
    let mut core = member(vec![1, 2, 3], 1_000);
    core.node.campaign().expect("it may");
    core.drive().expect("asks");
    persist(&mut core);
    for kind in [MessageType::MsgRequestPreVoteResponse, MessageType::MsgRequestVoteResponse] {
        hear(&mut core, kind, 1, 0);
        persist(&mut core);
    }
    core
}

/// Entries that somebody lacks who has just been there stay: sent a snapshot instead, he would lack those behind it by the
/// time he has it, and so on.
#[test]
fn what_is_kept_is_what_a_peer_lacks_that_was_heard_of() {
    let mut core = elected();
    let lacked = |core: &Core| core.lacked(&core.shared.state.read()).first;
    hear(&mut core, MessageType::MsgAppendResponse, 1, 1);
    assert_eq!(lacked(&core), 1, "the third has said nothing yet, and may");
    let heard_by_member_2 = |core: &mut Core, ticks: u64| {
        for _ in 0..ticks {
            hear(core, MessageType::MsgHeartbeatResponse, 1, 0);
            core.tick();
        }
    };
    heard_by_member_2(&mut core, 100);
    assert_eq!(lacked(&core), 1, "the third is away, not for long");
    heard_by_member_2(&mut core, 150);
    assert_eq!(lacked(&core), 2, "it has been away for long");
    let third = core.node.raft.mut_prs().get_mut(3).expect("a member");
    third.become_snapshot(1);
    assert_eq!(lacked(&core), 2, "what is behind a snapshot on its way");
    core.node.raft.become_follower(2, 2);
    assert_eq!(lacked(&core), u64::MAX, "nobody asks a follower");
}

/// What a leader of term 1 says to member 1: entries from 1 on, all of them committed.
fn committed(core: &mut Core, kinds: &[EntryType]) {
    let entries = (1..).zip(kinds).map(|(index, kind)| Entry {
        index,
        term: 1,
        entry_type: *kind as i32,
        data: match kind {
            EntryType::EntryNormal => Vec::new(),
            // Of a member that is not there, by nobody.
            _ => ConfChange { changes: vec![Default::default()], ..ConfChange::default() }.encode_to_vec(),
        },
        ..Entry::default()
    });
    let entries: Vec<Entry> = entries.collect();
    let mut message = Message { from: 2, to: 1, term: 1, commit: entries.len() as u64, entries, ..Message::default() };
    message.set_msg_type(MessageType::MsgAppend);
    core.take(Input::Messages(vec![message])).expect("taken");
    core.drive().expect("goes on");
}

/// One that was long on its way, through an election perhaps, would come behind what was asked and answered since.
#[test]
fn a_forwarded_command_is_for_the_leader_of_its_term() {
    let mut follower = member(vec![1, 2, 3], 1_000);
    hear(&mut follower, MessageType::MsgHeartbeat, 1, 0);
    let (command, _answered) = proposal(Op::LeaseRevoke(pb::LeaseRevokeRequest { id: 1 }));
    follower.take(Input::Propose(command)).expect("taken");
    follower.drive().expect("forwards");
    let forwarded = follower.effects.messages.iter().find(|m| m.msg_type() == MessageType::MsgPropose);
    assert_eq!(forwarded.map(|m| (m.to, m.term)), Some((2, 1)));
    for (term, taken) in [(0, true), (1, true), (2, false)] {
        let mut leader = elected();
        let last = leader.node.raft.raft_log.last_index();
        let entries = vec![Entry::default()];
        let mut message = Message { from: 2, to: 1, term, entries, ..Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        leader.take(Input::Messages(vec![message])).expect("taken");
        assert_eq!(leader.node.raft.raft_log.last_index() > last, taken, "of term {term}");
    }
}

/// It would commit with the others, who wait for nobody, and keep all of it in memory.
#[test]
fn a_leader_whose_disk_hangs_lets_another_lead() {
    let mut core = elected();
    hear(&mut core, MessageType::MsgAppendResponse, 1, 1);
    let (command, _answered) = proposal(Op::LeaseRevoke(pb::LeaseRevokeRequest { id: 1 }));
    core.take(Input::Propose(command)).expect("taken");
    core.drive().expect("proposed");
    hear(&mut core, MessageType::MsgAppendResponse, 1, 2);
    // With the twentieth Raft has just forgotten whom it has heard.
    for tick in 0..=20 {
        assert_eq!(said(&core, MessageType::MsgTimeoutNow), 0, "after {tick} ticks");
        core.tick();
        hear(&mut core, MessageType::MsgHeartbeatResponse, 1, 0);
    }
    assert_eq!(said(&core, MessageType::MsgTimeoutNow), 1);
}

/// The end of its log is gone. What the others count on it for is gone with it.
#[test]
fn a_member_without_what_it_has_acknowledged_ends() {
    let mut core = member(vec![1, 2, 3], 1_000);
    committed(&mut core, &[EntryType::EntryNormal]);
    let mut message = Message { from: 2, to: 1, term: 1, commit: 2, ..Message::default() };
    message.set_msg_type(MessageType::MsgHeartbeat);
    let refused = core.take(Input::Messages(vec![message])).expect_err("it cannot have that");
    assert!(refused.to_string().contains("ends at entry 1, and this member has acknowledged entry 2"), "{refused}");
}

/// Memory and log would grow for as long as the disk is slower than the clients.
#[test]
fn a_leader_takes_no_more_than_its_checkpoints_keep_up_with() {
    let mut core = leader(1_000_000);
    persist(&mut core);
    let put = |core: &mut Core| {
        let value = vec![0; 600 << 10].into();
        let (put, answered) = proposal(Op::Put(pb::PutRequest { key: "k".into(), value, ..Default::default() }));
        core.take(Input::Propose(put)).expect("taken");
        core.drive().expect("proposed");
        persist(core);
        answered
    };
    let revision = |core: &Core| core.shared.state.read().kv.revision();
    let first = [put(&mut core), put(&mut core)];
    assert_eq!((revision(&core), core.effects.jobs.len()), (3, 1), "a megabyte brings a checkpoint");
    let second = [put(&mut core), put(&mut core), put(&mut core), put(&mut core)];
    assert_eq!(revision(&core), 7);
    let waits = put(&mut core);
    drop(put(&mut core));
    assert_eq!((revision(&core), core.shared.status.is_held()), (7, true), "two more may wait");
    let index = core.effects.jobs[0].head.applied_index;
    core.take(Input::Checkpointed(raftlog::Mark { index, term: 1 })).expect("taken");
    core.drive().expect("goes on");
    persist(&mut core);
    assert_eq!((revision(&core), core.shared.status.is_held()), (8, false), "nobody waits for the last");
    drop((first, second, waits));
}

/// Nothing is committed then, and log and memory would grow with all that is asked.
#[test]
fn a_leader_takes_no_more_than_a_quorum_writes() {
    let mut core = elected();
    hear(&mut core, MessageType::MsgAppendResponse, 1, 1);
    let put = |core: &mut Core| {
        let value = vec![0; 600 << 10].into();
        let (put, answered) = proposal(Op::Put(pb::PutRequest { key: "k".into(), value, ..Default::default() }));
        core.take(Input::Propose(put)).expect("taken");
        core.drive().expect("proposed");
        persist(core);
        answered
    };
    let mut taken = [put(&mut core), put(&mut core)];
    assert!(taken.iter_mut().all(|answer| answer.try_recv().is_err()), "they wait for the others");
    assert!(matches!(put(&mut core).try_recv(), Ok(Err(Refusal::TooManyRequests))));
    let mut forwarded = Message { from: 3, to: 1, term: 1, entries: vec![Entry::default()], ..Message::default() };
    forwarded.set_msg_type(MessageType::MsgPropose);
    core.take(Input::Messages(vec![forwarded])).expect("taken");
    assert_eq!(core.node.raft.raft_log.last_index(), 3);
    hear(&mut core, MessageType::MsgAppendResponse, 1, 3);
    assert_eq!(core.shared.state.read().applied.index, 3);
    let _taken = put(&mut core);
    assert_eq!(core.node.raft.raft_log.last_index(), 4, "who has caught up takes more");
}

/// A leader sends on as long as its heartbeats are answered, and they are, without the disk.
#[test]
fn a_member_takes_no_more_than_its_disk_writes() {
    let mut core = member(vec![1, 2, 3], 1_000);
    let append = |core: &mut Core, index: u64| {
        let entries = vec![Entry { index, term: 1, data: vec![0; 600 << 10], ..Entry::default() }];
        let log_term = u64::from(index > 1);
        let mut message =
            Message { from: 2, to: 1, term: 1, index: index - 1, log_term, entries, ..Message::default() };
        message.set_msg_type(MessageType::MsgAppend);
        core.take(Input::Messages(vec![message])).expect("taken");
        core.drive().expect("goes on");
        core.node.raft.raft_log.last_index()
    };
    assert_eq!([1, 2, 3].map(|index| append(&mut core, index)), [1, 2, 2]);
    persist(&mut core);
    assert_eq!(append(&mut core, 3), 3);
}

#[test]
fn who_leads_no_more_stops_the_snapshots_it_was_sending() {
    let mut core = leader(100);
    core.effects = Effects::default();
    hear(&mut core, MessageType::MsgHeartbeat, 9, 0);
    assert!(core.effects.deposed);
}

/// It would keep its place among the writes, and the member from ending.
#[test]
fn who_is_left_alone_lets_go_of_what_it_had_forwarded() {
    let mut core = leader(100);
    assert!(!core.needs_clock());
    let (forwarded, answer) = proposal(Op::Put(pb::PutRequest::default()));
    core.pending.insert(7, Pending { proposal: forwarded, term: 1 });
    drop(answer);
    assert!(core.needs_clock());
    core.tick();
    assert!(!core.needs_clock());
}

fn put_of(key: &'static str) -> Op {
    Op::Put(pb::PutRequest { key: key.into(), ..pb::PutRequest::default() })
}

/// What member 1 has forwarded: to whom, in which term, and what.
fn forwarded(core: &mut Core) -> Vec<(u64, u64, Entry)> {
    let sent = std::mem::take(&mut core.effects.messages);
    let proposals = sent.into_iter().filter(|m| m.msg_type() == MessageType::MsgPropose);
    proposals.flat_map(|m| m.entries.into_iter().map(move |entry| (m.to, m.term, entry))).collect()
}

/// Member 3 leads in term 2, and says what was committed before, and in its own.
fn another_leads(core: &mut Core, entries: Vec<Entry>) {
    let commit = entries.len() as u64;
    let mut message = Message { from: 3, to: 1, term: 2, commit, entries, ..Message::default() };
    message.set_msg_type(MessageType::MsgAppend);
    core.take(Input::Messages(vec![message])).expect("taken");
    core.drive().expect("goes on");
}

/// Whether a leader that is gone has put it into a log shows with the first entry of the next one's term.
#[test]
fn what_did_not_come_into_a_log_is_proposed_anew() {
    for came in [false, true] {
        let mut core = member(vec![1, 2, 3], 1_000);
        hear(&mut core, MessageType::MsgHeartbeat, 1, 0);
        let (put, mut answered) = proposal(put_of("k"));
        let (revocation, mut ended) = proposal_in(Some(1), Op::LeaseRevoke(pb::LeaseRevokeRequest { id: 1 }));
        for proposal in [put, revocation] {
            core.take(Input::Propose(proposal)).expect("taken");
        }
        core.drive().expect("forwards");
        assert!(matches!(ended.try_recv(), Ok(Err(Refusal::NotLeader))), "it does not lead");
        let sent = forwarded(&mut core);
        assert_eq!(sent.iter().map(|(to, term, _)| (*to, *term)).collect::<Vec<_>>(), [(2, 1)]);
        another_leads(&mut core, Vec::new());
        assert!(forwarded(&mut core).is_empty(), "nobody knows yet");
        let own = Entry { index: 1, term: 2, ..Entry::default() };
        let entries = match came {
            true => vec![Entry { index: 1, term: 1, ..sent[0].2.clone() }, Entry { index: 2, ..own }],
            false => vec![own],
        };
        another_leads(&mut core, entries);
        let again: Vec<_> = forwarded(&mut core).into_iter().map(|(to, term, _)| (to, term)).collect();
        let answered = matches!(answered.try_recv(), Ok(Ok(_)));
        let delivered = core.effects.deliveries.iter().map(answers).sum::<usize>();
        match came {
            true => assert_eq!((again, delivered), (vec![], 1)),
            false => assert_eq!((again, delivered, answered), (vec![(3, 2)], 0, false)),
        }
    }
}

fn answers(delivery: &Delivery) -> usize {
    match delivery {
        Delivery::Applied { answers, .. } => answers.len(),
        _ => 0,
    }
}

/// Most elections end soon, and who writes need not hear of them.
#[test]
fn a_write_waits_for_a_leader_but_not_for_long() {
    let mut core = member(vec![1, 2, 3], 1_000);
    let (put, mut answered) = proposal(put_of("a"));
    core.take(Input::Propose(put)).expect("taken");
    for _ in 0..29 {
        core.tick();
        core.drive().expect("goes on");
        assert!(answered.try_recv().is_err(), "it waits");
    }
    core.tick();
    core.drive().expect("goes on");
    assert!(matches!(answered.try_recv(), Ok(Err(Refusal::NoLeader))));
    let (put, mut answered) = proposal(put_of("b"));
    core.take(Input::Propose(put)).expect("taken");
    core.drive().expect("goes on");
    assert!(matches!(answered.try_recv(), Ok(Err(Refusal::NoLeader))), "nobody has led for long");
    let term = core.node.raft.term;
    hear(&mut core, MessageType::MsgHeartbeat, term, 0);
    core.tick();
    core.effects.messages.clear();
    let (put, _answered) = proposal(put_of("c"));
    core.take(Input::Propose(put)).expect("taken");
    core.drive().expect("goes on");
    assert_eq!(forwarded(&mut core).len(), 1);
}

#[test]
fn writes_wait_while_the_lead_is_handed_over() {
    let mut core = elected();
    hear(&mut core, MessageType::MsgAppendResponse, 1, 1);
    core.take(Input::TransferLeader(2)).expect("taken");
    let (put, _answered) = proposal(put_of("k"));
    core.take(Input::Propose(put)).expect("taken");
    let mut message = Message { from: 3, to: 1, term: 1, entries: vec![Entry::default()], ..Message::default() };
    message.set_msg_type(MessageType::MsgPropose);
    core.take(Input::Messages(vec![message])).expect("taken");
    core.drive().expect("goes on");
    assert_eq!(core.node.raft.raft_log.last_index(), 1);
    // Member 2 does not take it.
    while core.node.raft.lead_transferee.is_some() {
        core.tick();
    }
    core.drive().expect("goes on");
    assert_eq!(core.node.raft.raft_log.last_index(), 3);
}

/// Here: after a snapshot another was sent for nothing, and whoever had written at the peer meanwhile was told "timed out".
#[test]
fn what_a_peer_had_before_its_snapshot_is_behind_it() {
    let mut core = elected();
    for key in ["a", "b", "c"] {
        core.take(Input::Propose(proposal(put_of(key)).0)).expect("taken");
        core.drive().expect("proposes");
    }
    let third = core.node.raft.mut_prs().get_mut(3).expect("a member");
    third.recent_active = true;
    third.become_snapshot(3);
    core.take(Input::SnapshotSent { to: 3, term: 1, arrived: true }).expect("taken");
    let says = |core: &mut Core, term: u64, index: u64| {
        let mut message = Message { from: 3, to: 1, term, index, ..Message::default() };
        message.set_msg_type(MessageType::MsgAppendResponse);
        core.take(Input::Messages(vec![message])).expect("taken");
        let third = core.node.raft.prs().get(3).expect("a member");
        (third.state, third.next_idx)
    };
    assert_eq!(says(&mut core, 1, 2), (ProgressState::Probe, 4), "the entries that it had");
    assert_eq!(says(&mut core, 1, 3), (ProgressState::Replicate, 5), "the snapshot");
    let third = core.node.raft.mut_prs().get_mut(3).expect("a member");
    third.become_probe();
    says(&mut core, 2, 0);
    assert_eq!(core.node.raft.state, StateRole::Follower, "another leads by now");
}
