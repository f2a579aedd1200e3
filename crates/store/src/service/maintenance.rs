//! Status, alarms, hashes, snapshots.

use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::Stream;
use prost::Message;
use tonic::{Request, Response, Status};

use super::{Context, snapshot_stream};
use crate::config::ETCD_VERSION;
use crate::convert;
use crate::error::Refusal;
use crate::metrics::Counted;
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::alarm_request::AlarmAction;
use crate::pb::kvraft::command::Op as Command;
use crate::shared::Shared;
use crate::state::Outcome;

const SERVICE: &str = "etcdserverpb.Maintenance";
/// How long a transfer of the leadership may take; Raft itself gives up after one election timeout.
const TRANSFER_ELECTIONS: u32 = 2;
const TRANSFER_POLL: Duration = Duration::from_millis(5);
const STORAGE_VERSION: &str = "3.6.0";

pub struct Maintenance(pub Context);

pub(super) type Snapshots = Pin<Box<dyn Stream<Item = Result<pb::SnapshotResponse, Status>> + Send>>;

impl Maintenance {
    fn status(&self) -> pb::StatusResponse {
        let shared = &self.0.shared;
        let state = shared.state.read();
        let in_use = i64::try_from(state.kv.size_bytes()).unwrap_or(i64::MAX);
        let on_disk = i64::try_from(shared.gauges.disk_bytes()).unwrap_or(i64::MAX);
        let alarm = |(member, alarm): &(u64, i32)| {
            let kind = pb::AlarmType::try_from(*alarm).map_or("", |a| a.as_str_name());
            format!("memberID:{member} alarm:{kind} ")
        };
        let mut errors: Vec<String> = state.alarms.iter().map(alarm).collect();
        if shared.status.leader() == 0 {
            errors.push(Refusal::NoLeader.to_string());
        }
        pb::StatusResponse {
            header: Some(shared.header(state.kv.revision())),
            version: ETCD_VERSION.to_owned(),
            db_size: on_disk.max(in_use),
            db_size_in_use: in_use,
            db_size_quota: i64::try_from(self.0.limits.quota_bytes).unwrap_or(i64::MAX),
            leader: shared.status.leader(),
            raft_index: shared.status.committed(),
            raft_term: shared.status.term(),
            raft_applied_index: state.applied.index,
            is_learner: state.members.get(&shared.member_id).is_some_and(|m| m.is_learner),
            storage_version: STORAGE_VERSION.to_owned(),
            errors,
        }
    }

    async fn alarm(&self, r: Request<pb::AlarmRequest>) -> Result<pb::AlarmResponse, Status> {
        let (asker, r) = self.0.admit(r).await?;
        if r.action() == AlarmAction::Get {
            let alarms = self.0.shared.state.read().alarms.clone();
            let alarms = alarms
                .into_iter()
                .filter(|(_, alarm)| r.alarm == 0 || r.alarm == *alarm)
                .map(|(member_id, alarm)| pb::AlarmMember { member_id, alarm });
            return Ok(pb::AlarmResponse { header: self.0.shared.header_now(), alarms: alarms.collect() });
        }
        let Outcome::Alarm(mut response) = self.0.propose(asker, Command::Alarm(r)).await? else {
            unreachable!("an alarm answers an alarm")
        };
        self.0.shared.complete(&mut response.header);
        Ok(response)
    }

    /// Waits for what was written before, where that can be known: not at a learner, and not without a quorum. What such a
    /// member has may be all that is left, and is worth saving then.
    async fn catch_up(&self) {
        let status = &self.0.shared.status;
        if !status.is_voter() || status.leader() == 0 {
            return;
        }
        if let Err(why) = self.0.read_index().await {
            tracing::warn!(%why, "the snapshot is of what this member has, which may not be the newest");
        }
    }

    /// Returns once the other member leads.
    async fn move_to(&self, target: u64) -> Result<(), Refusal> {
        let shared = &self.0.shared;
        if shared.status.leader() != shared.member_id {
            return Err(Refusal::NotLeader);
        }
        if target == shared.member_id {
            return Ok(());
        }
        let fit = shared.state.read().members.get(&target).is_some_and(|m| !m.is_learner);
        if !fit {
            return Err(Refusal::BadLeaderTransferee);
        }
        self.0.node.transfer_leader(target)?;
        let deadline = tokio::time::Instant::now() + TRANSFER_ELECTIONS * self.0.limits.election_timeout;
        let mut moved = tokio::time::interval(TRANSFER_POLL);
        while shared.status.leader() != target {
            if tokio::time::Instant::now() > deadline {
                return Err(Refusal::LeaderTransferTimedOut);
            }
            moved.tick().await;
        }
        Ok(())
    }
}

/// A checksum over every record up to a revision; equal on members with equal data. At revision 0 the newest.
pub async fn hash(shared: &Shared, revision: i64) -> Result<pb::HashKvResponse, Status> {
    let (records, now, compact_revision) = {
        let state = shared.state.read();
        (state.kv.records(), state.kv.revision(), convert::compact_revision(state.kv.compacted()))
    };
    let hash_revision = if revision == 0 { now } else { revision };
    if hash_revision > now {
        return Err(Refusal::FutureRevision.into());
    }
    // Before the first revision there is nothing to hash, compacted or not.
    if (0..compact_revision).contains(&hash_revision) {
        return Err(Refusal::Compacted.into());
    }
    let hashed = tokio::task::spawn_blocking(move || {
        let mut hasher = crc32fast::Hasher::new();
        for (at, kv) in records.iter().take_while(|(at, _)| at.main <= hash_revision) {
            hasher.update(&at.main.to_be_bytes());
            hasher.update(&at.sub.to_be_bytes());
            hasher.update(&convert::key_value(kv).encode_to_vec());
        }
        hasher.finalize()
    });
    let hash = hashed.await.map_err(|_| Status::internal("the hash was not finished"))?;
    let header = Some(shared.header(now));
    Ok(pb::HashKvResponse { header, hash, compact_revision, hash_revision })
}

#[tonic::async_trait]
impl pb::maintenance_server::Maintenance for Maintenance {
    type SnapshotStream = Counted<Snapshots>;

    async fn alarm(&self, r: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        let answer = self.alarm(r).await;
        self.0.answer(SERVICE, "Alarm", answer)
    }

    /// Whoever may connect may ask, as with etcd: tools look for the leader by it before they log in.
    async fn status(&self, _: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        self.0.answer(SERVICE, "Status", Ok(self.status()))
    }

    /// Space is reused online; what can be done on demand is a checkpoint and a cut of the log.
    async fn defragment(&self, r: Request<pb::DefragmentRequest>) -> Result<Response<pb::DefragmentResponse>, Status> {
        let answer = async {
            self.0.admit_admin(r).await?;
            let start = Instant::now();
            self.0.node.checkpoint().await?;
            self.0.shared.gauges.defragmentations.observe(start.elapsed());
            Ok(pb::DefragmentResponse { header: self.0.shared.header_now() })
        };
        let answer = answer.await;
        self.0.answer(SERVICE, "Defragment", answer)
    }

    async fn hash(&self, r: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        let answer = async {
            self.0.admit_admin(r).await?;
            let start = Instant::now();
            let pb::HashKvResponse { header, hash, .. } = hash(&self.0.shared, 0).await?;
            self.0.shared.gauges.hashes.observe(start.elapsed());
            Ok(pb::HashResponse { header, hash })
        };
        let answer = answer.await;
        self.0.answer(SERVICE, "Hash", answer)
    }

    async fn hash_kv(&self, r: Request<pb::HashKvRequest>) -> Result<Response<pb::HashKvResponse>, Status> {
        let answer = async {
            let (_, r) = self.0.admit_admin(r).await?;
            let start = Instant::now();
            let hashed = hash(&self.0.shared, r.revision).await?;
            self.0.shared.gauges.hashes_of_a_revision.observe(start.elapsed());
            Ok(hashed)
        };
        let answer = answer.await;
        self.0.answer(SERVICE, "HashKV", answer)
    }

    async fn snapshot(&self, r: Request<pb::SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let answer = async {
            let (asker, _) = self.0.admit_to_learner(r).await?;
            self.0.shared.state.read().auth.guard(&asker).admin()?;
            self.catch_up().await;
            Ok(snapshot_stream::stream(&self.0.shared))
        };
        let answer = answer.await;
        self.0.answer_stream(SERVICE, "Snapshot", answer)
    }

    async fn move_leader(&self, r: Request<pb::MoveLeaderRequest>) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        let answer = async {
            let (_, r) = self.0.admit_admin(r).await?;
            self.move_to(r.target_id).await?;
            Ok(pb::MoveLeaderResponse { header: self.0.shared.header_now() })
        };
        let answer = answer.await;
        self.0.answer(SERVICE, "MoveLeader", answer)
    }
}
