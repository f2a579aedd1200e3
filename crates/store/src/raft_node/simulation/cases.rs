//! Courses of events that chance seldom takes: what etcd was found to do wrong, and what this store was.

use history::{At, Keys, Outcome, Request};
use raft::prelude::{ConfState, Message, MessageType, Snapshot, SnapshotMetadata};

use super::clients::{deletion, permit};
use super::cluster::{CLUSTER_ID, Cluster};
use super::dice::Dice;
use super::member::{Member, Settings};
use super::operator::of;
use super::plant::Plant;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::command::Op;
use crate::pb::kvraft::member_change::Kind;
use crate::raft_node::Kept;
use crate::raft_node::core::{Input, MAX_APPLIED_BYTES};
use crate::raft_node::handle::Proposal;
use crate::state::{Applied, State, conf_of};

/// No member has this id.
const NOBODY: u64 = 999;
/// Nor a lease this one.
const NO_LEASE: i64 = 999;
const SETTINGS: Settings = Settings {
    seed: 1,
    snapshot_count: 1_000,
    kept: Kept { entries: 1_000, lacked: 1_000 },
    max_applied_bytes: MAX_APPLIED_BYTES,
};

type Done = Result<(), String>;

fn settled(settings: Settings, size: u64) -> Result<Cluster, String> {
    planted(settings, size, None)
}

fn planted(settings: Settings, size: u64, plant: Option<Plant>) -> Result<Cluster, String> {
    let mut cluster = Cluster::quiet(settings, size, plant);
    cluster.recover()?;
    Ok(cluster)
}

fn leader(cluster: &Cluster) -> usize {
    let id = cluster.leader().expect("settled").id;
    cluster.position(id).expect("a member")
}

fn put(cluster: &mut Cluster, client: usize, n: usize) -> Done {
    let request = cluster.clients[client].put(&mut cluster.dice);
    let input = cluster.clients[client].submit(cluster.now, cluster.members[n].id, request);
    cluster.input(n, input)
}

fn steps(cluster: &mut Cluster, until: u64) -> Done {
    while cluster.now < until {
        cluster.step()?;
    }
    Ok(())
}

fn finish(mut cluster: Cluster) -> Done {
    cluster.recover()?;
    cluster.judge().map(drop)
}

/// etcd: a lone member answered before its entry was on the disk.
#[test]
fn a_lone_member_loses_nothing_wherever_it_ends() -> Done {
    for delay in 0..40 {
        let mut cluster = settled(Settings { seed: delay, snapshot_count: 2, ..SETTINGS }, 1)?;
        for client in 0..3 {
            put(&mut cluster, client, 0)?;
        }
        let until = cluster.now + delay;
        steps(&mut cluster, until)?;
        cluster.crash(0);
        finish(cluster)?;
    }
    Ok(())
}

/// Everything is deleted and compacted, and the process ends so many milliseconds later.
pub fn interrupted_compaction(delay: u64, plant: Option<Plant>) -> Done {
    let mut cluster = planted(Settings { seed: delay, snapshot_count: 1, ..SETTINGS }, 1, plant)?;
    put(&mut cluster, 0, 0)?;
    cluster.recover()?;
    let (now, id) = (cluster.now, cluster.members[0].id);
    let input = cluster.clients[0].submit(now, id, deletion(Keys::all()));
    cluster.input(0, input)?;
    cluster.recover()?;
    let compaction = cluster.clients[0].compact_all();
    let input = cluster.clients[0].submit(cluster.now, id, compaction);
    cluster.input(0, input)?;
    let until = cluster.now + delay;
    steps(&mut cluster, until)?;
    cluster.crash(0);
    cluster.recover()?;
    put(&mut cluster, 0, 0)?;
    finish(cluster)
}

/// etcd: the revision was taken from the newest record that a compaction had left.
#[test]
fn the_revision_stays_when_a_compaction_is_interrupted() -> Done {
    (0..150).try_for_each(|delay| interrupted_compaction(delay, None))
}

/// etcd: a leader that had been stopped answered reads, and more, before it knew that it leads no more.
#[test]
fn a_leader_that_was_stopped_answers_nothing_old() -> Done {
    for seed in 0..20 {
        let mut cluster = settled(Settings { seed, ..SETTINGS }, 3)?;
        let old = leader(&cluster);
        let resumes = cluster.now + 1_000;
        cluster.members[old].paused_until = resumes;
        let other = (old + 1) % 3;
        let now = cluster.now;
        steps(&mut cluster, now + 600)?;
        put(&mut cluster, 0, other)?;
        steps(&mut cluster, resumes - 1)?;
        // It waits in the stopped process's socket, before everything that the others have sent meanwhile.
        let id = cluster.members[old].id;
        let read = cluster.clients[1].linearizable(cluster.now, id, Keys::all(), At::Latest);
        cluster.input(old, read)?;
        put(&mut cluster, 2, old)?;
        finish(cluster)?;
    }
    Ok(())
}

fn renew(cluster: &mut Cluster, client: usize, n: usize, lease: i64) -> Done {
    let (id, shared) = (cluster.members[n].id, cluster.members[n].shared.clone());
    let (input, at_once) = cluster.clients[client].renewal(cluster.now, id, &shared, lease);
    cluster.history.operations.extend(at_once);
    input.map_or(Ok(()), |input| cluster.input(n, input))
}

/// A leader sleeps for longer than a lease lasts, which is renewed at the next one all the time, and looks at its leases
/// before it hears of that.
pub fn renewed_elsewhere(seed: u64, plant: Option<Plant>) -> Done {
    let mut cluster = planted(Settings { seed, ..SETTINGS }, 3, plant)?;
    let old = leader(&cluster);
    let id = cluster.members[old].id;
    let grant = cluster.clients[0].grant(1);
    let input = cluster.clients[0].submit(cluster.now, id, grant);
    cluster.input(old, input)?;
    cluster.recover()?;
    let lease = cluster.clients[0].newest_lease().ok_or("no lease was granted")?;
    let put = cluster.clients[0].put_with_lease(lease, &mut cluster.dice);
    let input = cluster.clients[0].submit(cluster.now, id, put);
    cluster.input(old, input)?;
    cluster.recover()?;
    let wakes = cluster.now + 2_500;
    cluster.members[old].paused_until = wakes;
    while cluster.now < wakes + 500 {
        let next = leader(&cluster);
        if next != old && cluster.clients[0].is_idle() {
            renew(&mut cluster, 0, next, lease)?;
        }
        let until = cluster.now + 100;
        steps(&mut cluster, until)?;
    }
    finish(cluster)
}

#[test]
fn a_lease_that_is_renewed_elsewhere_goes_on() -> Done {
    (0..20).try_for_each(|seed| renewed_elsewhere(seed, None))
}

/// A leader that was sure of itself is stopped, another ends the lease, and the first is asked to renew it.
pub fn ended_elsewhere(seed: u64, plant: Option<Plant>) -> Done {
    let mut cluster = planted(Settings { seed, ..SETTINGS }, 3, plant)?;
    let old = leader(&cluster);
    let (other, id) = ((old + 1) % 3, cluster.members[old].id);
    let grant = cluster.clients[0].grant(86_400);
    let input = cluster.clients[0].submit(cluster.now, id, grant);
    cluster.input(old, input)?;
    cluster.recover()?;
    let lease = cluster.clients[0].newest_lease().ok_or("no lease was granted")?;
    renew(&mut cluster, 0, old, lease)?;
    cluster.recover()?;
    let resumes = cluster.now + 1_000;
    cluster.members[old].paused_until = resumes;
    steps(&mut cluster, resumes - 400)?;
    let revoke = (Request::LeaseRevoke { id: lease }, Op::LeaseRevoke(pb::LeaseRevokeRequest { id: lease }));
    let input = cluster.clients[1].submit(cluster.now, cluster.members[other].id, revoke);
    cluster.input(other, input)?;
    steps(&mut cluster, resumes - 1)?;
    renew(&mut cluster, 2, old, lease)?;
    finish(cluster)
}

#[test]
fn a_lease_that_was_ended_elsewhere_is_not_renewed() -> Done {
    (0..20).try_for_each(|seed| ended_elsewhere(seed, None))
}

/// The disk of a leader that is sure of itself takes its time, with a change of members to be written, which it may not
/// apply before; the others commit a lease's end and answer, and the leader is asked to renew it.
pub fn ended_while_the_disk_waits(seed: u64, plant: Option<Plant>) -> Done {
    let mut cluster = planted(Settings { seed, ..SETTINGS }, 3, plant)?;
    let slow = leader(&cluster);
    let (other, id) = ((slow + 1) % 3, cluster.members[slow].id);
    let grant = cluster.clients[0].grant(86_400);
    let input = cluster.clients[0].submit(cluster.now, id, grant);
    cluster.input(slow, input)?;
    cluster.recover()?;
    let lease = cluster.clients[0].newest_lease().ok_or("no lease was granted")?;
    renew(&mut cluster, 0, slow, lease)?;
    while !cluster.clients[0].is_idle() {
        cluster.step()?;
    }
    remove(&mut cluster, slow, NOBODY)?;
    let revoke = (Request::LeaseRevoke { id: lease }, Op::LeaseRevoke(pb::LeaseRevokeRequest { id: lease }));
    let input = cluster.clients[1].submit(cluster.now, cluster.members[other].id, revoke);
    cluster.input(other, input)?;
    let waits = cluster.now + 500;
    while !cluster.clients[1].is_idle() && cluster.now < waits {
        if cluster.clients[0].is_idle() {
            // Asked before the end is committed, it makes the leader sure once more.
            let read = cluster.clients[0].linearizable(cluster.now, id, Keys::all(), At::Latest);
            cluster.input(slow, read)?;
        }
        cluster.step()?;
        if let Some(at) = &mut cluster.members[slow].synced_at {
            *at = waits;
        }
    }
    let after = cluster.now + 1;
    steps(&mut cluster, after)?;
    renew(&mut cluster, 2, slow, lease)?;
    finish(cluster)
}

#[test]
fn a_lease_that_was_ended_while_the_disk_waited_is_not_renewed() -> Done {
    (0..20).try_for_each(|seed| ended_while_the_disk_waits(seed, None))
}

/// A command that changes nothing, asked by nobody.
fn nothing() -> Proposal {
    let (answer, _answered) = tokio::sync::oneshot::channel();
    let op = Op::LeaseRevoke(pb::LeaseRevokeRequest { id: NO_LEASE });
    Proposal { op, only_in: None, answer, _permit: permit() }
}

fn remove(cluster: &mut Cluster, asked: usize, id: u64) -> Done {
    let (answer, _answered) = tokio::sync::oneshot::channel();
    let op = Op::MemberChange(of(Kind::Remove, id));
    cluster.input(asked, Input::Propose(Proposal { op, only_in: None, answer, _permit: permit() }))
}

/// Here: Raft keeps no progress of a leader that was removed, and panicked when that leader's entries were acknowledged.
#[test]
fn a_leader_removes_itself_with_writes_under_way() -> Done {
    for seed in 0..50 {
        let mut cluster = settled(Settings { seed, ..SETTINGS }, 2 + seed % 4)?;
        let leads = leader(&cluster);
        let id = cluster.members[leads].id;
        put(&mut cluster, 0, leads)?;
        remove(&mut cluster, leads, id)?;
        for client in 1..4 {
            put(&mut cluster, client, leads)?;
            let now = cluster.now;
            steps(&mut cluster, now + seed % 7)?;
        }
        finish(cluster)?;
    }
    Ok(())
}

/// Here: whoever was left alone without leading waited for messages, and let no time pass.
#[test]
fn the_last_one_leads() -> Done {
    let mut cluster = settled(SETTINGS, 2)?;
    let leads = leader(&cluster);
    let (gone, left) = (cluster.members[leads].id, 1 - leads);
    remove(&mut cluster, leads, gone)?;
    let now = cluster.now;
    steps(&mut cluster, now + 3_000)?;
    assert!(cluster.members[leads].core.is_none(), "it is gone:\n{}", cluster.describe());
    assert!(cluster.members[left].leads(), "it leads:\n{}", cluster.describe());
    put(&mut cluster, 0, left)?;
    finish(cluster)
}

/// Two part, with entries under way behind the removal of which one takes long to apply: until the others have been told.
/// The one that goes has applied them all, and answers a write behind that one.
pub fn parted(seed: u64, plant: Option<Plant>) -> Done {
    let mut cluster = planted(Settings { seed, max_applied_bytes: 1, ..SETTINGS }, 2, plant)?;
    let left = leader(&cluster);
    let [id, gone] = [left, 1 - left].map(|n| cluster.members[n].id);
    remove(&mut cluster, left, gone)?;
    let input = cluster.clients[0].submit(cluster.now, id, deletion(Keys::all()));
    cluster.input(left, input)?;
    put(&mut cluster, 1, 1 - left)?;
    let waits = cluster.now + 40;
    while cluster.now < waits + 100 {
        cluster.step()?;
        if let Some(at) = cluster.members[left].synced_at.as_mut().filter(|at| **at < waits) {
            *at = waits;
        }
        // There is always something to send when it goes on.
        if let Some(core) = &mut cluster.members[left].core {
            core.take(Input::Propose(nothing())).map_err(|e| format!("{e:#}"))?;
        }
        if cluster.clients[3].is_idle() {
            let shared = cluster.members[left].shared.clone();
            let (asked, read) = cluster.clients[3].newest(cluster.now, id, &shared, Keys::all(), At::Latest);
            cluster.history.operations.extend(read);
            asked.map_or(Ok(()), |input| cluster.input(left, input))?;
        }
    }
    finish(cluster)
}

/// Here: whoever was left alone answered by itself before it had applied what the other had answered.
#[test]
fn who_is_left_alone_has_applied_what_the_other_answered() -> Done {
    (0..100).try_for_each(|seed| parted(seed, None))
}

/// Of each entry: its members keep what was committed before it.
pub fn committed_one_by_one(plant: Option<Plant>) -> Done {
    let mut cluster = planted(SETTINGS, 3, plant)?;
    for _ in 0..5 {
        let leads = leader(&cluster);
        let before = cluster.members[leads].shared.state.read().applied.index;
        put(&mut cluster, 0, leads)?;
        cluster.recover()?;
        // Entries are applied before they are durable.
        let now = cluster.now;
        steps(&mut cluster, now + 200)?;
        for member in &cluster.members {
            let kept = member.disk.committed();
            if kept < before {
                return Err(format!("member {} keeps {kept}, {before} was committed before", member.id));
            }
        }
    }
    finish(cluster)
}

/// Here: what was known to be committed was written only when it became known together with an entry. A member that had
/// forgotten it went back to configurations of before, and could be elected by those who had been removed.
#[test]
fn an_entry_is_kept_with_what_was_committed_by_then() -> Done {
    committed_one_by_one(None)
}

/// A member with nothing, that was sent snapshots which end at these entries.
fn snapshots_arrive(ends: &[u64]) -> Result<Member, String> {
    let mut member = Member::new(10, State { cluster_id: CLUSTER_ID, ..State::default() }, 0, None);
    let mut dice = Dice::new(1);
    member.start(0, SETTINGS, &mut dice)?;
    let core = member.core.as_mut().expect("started");
    for end in ends {
        let conf = ConfState { voters: vec![1, 10], ..ConfState::default() };
        let state = State { conf, applied: Applied { index: *end, term: 2 }, ..State::default() };
        let conf_state = Some(conf_of(&state.head()));
        let metadata = Some(SnapshotMetadata { conf_state, index: *end, term: 2 });
        let snapshot = Some(Snapshot { metadata, ..Snapshot::default() });
        let mut message = Message { from: 1, to: 10, term: 2, snapshot, ..Message::default() };
        message.set_msg_type(MessageType::MsgSnapshot);
        core.take(Input::Snapshot(message, state.into())).map_err(|e| format!("{e:#}"))?;
    }
    core.drive().map_err(|e| format!("{e:#}"))?;
    Ok(member)
}

/// Here: of two snapshots only the one that came last was kept, which need not be the one that Raft took.
#[test]
fn of_two_snapshots_the_newer_is_installed() -> Done {
    for ends in [[50, 60], [60, 50], [60, 60]] {
        let member = snapshots_arrive(&ends)?;
        assert_eq!(member.shared.state.read().applied.index, 60, "{ends:?}");
    }
    Ok(())
}

/// Here: an election timeout, or a leader's word to campaign, between a snapshot's checkpoint and its place in the log
/// made Raft look for entries that it contains.
#[test]
fn no_election_before_a_snapshot_is_applied() -> Done {
    let mut member = snapshots_arrive(&[60])?;
    let core = member.core.as_mut().expect("started");
    let said = |e: anyhow::Error| format!("{e:#}");
    for job in std::mem::take(&mut core.effects).jobs {
        core.take(Input::Checkpointed(raftlog::Mark { index: job.head.applied_index, term: 2 })).map_err(said)?;
    }
    let mut message = Message { from: 1, to: 10, term: 2, ..Message::default() };
    message.set_msg_type(MessageType::MsgTimeoutNow);
    core.take(Input::Messages(vec![message])).map_err(said)?;
    for _ in 0..50 {
        core.tick();
        core.drive().map_err(said)?;
    }
    assert_eq!(core.node.raft.state, raft::StateRole::Follower);
    let number = core.written;
    core.take(Input::Persisted { number }).map_err(said)?;
    core.drive().map_err(said)?;
    assert_eq!(core.node.raft.raft_log.applied, 60);
    Ok(())
}

/// Here: whoever wrote while the lead was handed over was told that there is no leader, or that it has changed.
#[test]
fn a_lead_that_is_handed_over_costs_no_write() -> Done {
    for seed in 0..20 {
        let mut cluster = settled(Settings { seed, ..SETTINGS }, 3)?;
        for turn in 0..4 {
            let leads = leader(&cluster);
            for client in 0..3 {
                put(&mut cluster, client, client)?;
                let now = cluster.now;
                steps(&mut cluster, now + (seed + turn) % 4)?;
                if client == 0 {
                    let to = cluster.members[(leads + 1) % 3].id;
                    cluster.input(leads, Input::TransferLeader(to))?;
                }
            }
            cluster.recover()?;
        }
        let refused = cluster.history.operations.iter().find(|o| !matches!(o.outcome, Outcome::Answered { .. }));
        assert!(refused.is_none(), "seed {seed}: {refused:?}");
        finish(cluster)?;
    }
    Ok(())
}
