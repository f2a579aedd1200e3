//! Leases: granted and ended through the log, renewed in memory.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::ready;
use futures::stream::{self, Stream, StreamExt};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::{Context, requires_leader};
use crate::auth::Asker;
use crate::error::Refusal;
use crate::leader_watch;
use crate::lessor::KeptAlive;
use crate::metrics::Counted;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::command::Op as Command;
use crate::server;
use crate::shared::Shared;
use crate::state::Outcome;

const SERVICE: &str = "etcdserverpb.Lease";
/// What etcd answers as the TTL of a lease that does not exist.
const NO_LEASE_TTL: i64 = -1;
/// A leader that takes longer may be none any more.
const LEADER_TIMEOUT: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(50);

pub struct Lease(pub Context);

type KeepAlives = Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send>>;

impl Lease {
    async fn grant(&self, r: Request<pb::LeaseGrantRequest>) -> Result<pb::LeaseGrantResponse, Status> {
        let (asker, r) = self.0.admit(r).await?;
        Ok(self.0.grant(asker, r).await?)
    }

    async fn revoke(&self, r: Request<pb::LeaseRevokeRequest>) -> Result<pb::LeaseRevokeResponse, Status> {
        let (asker, r) = self.0.admit(r).await?;
        let Outcome::LeaseRevoke(mut response) = self.0.propose(asker, Command::LeaseRevoke(r)).await? else {
            unreachable!("a revocation answers a revocation")
        };
        self.0.shared.complete(&mut response.header);
        Ok(response)
    }

    async fn time_to_live(
        &self,
        r: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<pb::LeaseTimeToLiveResponse, Status> {
        let (asker, r) = self.0.admit(r).await?;
        self.0.read_index().await?;
        // Only the leader knows when a lease ends.
        let remaining = match self.0.leading_peer()? {
            None => self.0.shared.lessor.remaining_seconds(r.id),
            Some(mut leader) => {
                let told = tokio::time::timeout(self.0.node.request_timeout, leader.remaining(r.id)).await;
                Some(told.map_err(|_| Refusal::TimedOut)??.ttl)
            }
        };
        let state = self.0.shared.state.read();
        if r.keys {
            state.auth.guard(&asker).read_attached(state.kv.leases().get(r.id))?;
        }
        let header = Some(self.0.shared.header(state.kv.revision()));
        let Some(lease) = state.kv.leases().get(r.id) else {
            let gone = pb::LeaseTimeToLiveResponse { header, id: r.id, ttl: NO_LEASE_TTL, ..Default::default() };
            return Ok(gone);
        };
        Ok(pb::LeaseTimeToLiveResponse {
            header,
            id: r.id,
            ttl: remaining.unwrap_or(lease.ttl_seconds),
            granted_ttl: lease.ttl_seconds,
            keys: if r.keys { lease.keys.iter().cloned().collect() } else { Vec::new() },
        })
    }

    async fn leases(&self, r: Request<pb::LeaseLeasesRequest>) -> Result<pb::LeaseLeasesResponse, Status> {
        let (asker, _) = self.0.admit(r).await?;
        self.0.read_index().await?;
        let state = self.0.shared.state.read();
        let guard = state.auth.guard(&asker);
        for (_, lease) in state.kv.leases().iter() {
            guard.read_attached(Some(lease))?;
        }
        let leases = state.kv.leases().iter().map(|(id, _)| pb::LeaseStatus { id });
        Ok(pb::LeaseLeasesResponse {
            header: Some(self.0.shared.header(state.kv.revision())),
            leases: leases.collect(),
        })
    }
}

/// A lease lives through an election and a half: else nobody could renew it in time.
fn min_ttl_seconds(election_timeout: Duration) -> i64 {
    let seconds = (election_timeout * 3 / 2).as_secs_f64().ceil();
    // A float that is too large becomes the largest number there is.
    seconds as i64
}

impl Context {
    /// One without an id is given one.
    pub async fn grant(&self, asker: Asker, mut r: pb::LeaseGrantRequest) -> Result<pb::LeaseGrantResponse, Refusal> {
        let _room = self.check_space(mvcc::LEASE_BYTES).await?;
        r.ttl = r.ttl.max(min_ttl_seconds(self.limits.election_timeout));
        while r.id == 0 {
            let id: i64 = rand::random::<i64>() & i64::MAX;
            if self.shared.state.read().kv.leases().get(id).is_none() {
                r.id = id;
            }
        }
        let Outcome::LeaseGrant(mut response) = self.propose(asker, Command::LeaseGrant(r)).await? else {
            unreachable!("a grant answers a grant")
        };
        self.shared.complete(&mut response.header);
        Ok(response)
    }
}

/// A lease that is gone is answered with no TTL, not with an error: the stream serves others.
/// Whoever knows the id may, as with etcd: a token that has run out is no reason for a lease to end.
async fn renew(context: &Context, id: i64) -> Result<pb::LeaseKeepAliveResponse, Status> {
    let deadline = Instant::now() + context.node.request_timeout;
    let ttl = loop {
        match renew_at_leader(context, id).await {
            Ok(ttl) => break ttl,
            Err(why) if Instant::now() > deadline => return Err(why),
            // The leader may just have changed.
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    };
    Ok(pb::LeaseKeepAliveResponse { header: context.shared.header_now(), id, ttl })
}

async fn renew_at_leader(context: &Context, id: i64) -> Result<i64, Status> {
    let Some(mut leader) = context.leading_peer()? else {
        return Ok(keep_alive(context, id).await?);
    };
    let renewed = tokio::time::timeout(LEADER_TIMEOUT, leader.renew(id)).await;
    Ok(renewed.map_err(|_| Refusal::TimedOut)??.ttl)
}

/// Renews a lease at this member, which leads; 0 if there is no such lease. One that is past its deadline is not
/// renewed but waited for.
pub async fn keep_alive(context: &Context, id: i64) -> Result<i64, Refusal> {
    let ttl = match renew_if_sure(&context.shared, id) {
        Some(renewed) => renewed?,
        None => {
            // Another may lead by now, without this member knowing, and have ended the lease.
            context.node.read_index().await?;
            renew_here(&context.shared, id)?
        }
    };
    if ttl > 0 {
        context.shared.gauges.leases.renewed.inc();
    }
    Ok(ttl)
}

/// Renews a lease without asking anyone, while nobody can have been told that it has ended.
pub fn renew_if_sure(shared: &Shared, id: i64) -> Option<Result<i64, Refusal>> {
    let state = shared.state.read();
    let ttl = state.kv.leases().get(id)?.ttl_seconds;
    shared.lessor.keep_alive_if_sure(id, ttl).map(|kept| renewal(kept, ttl))
}

/// What follows once this member is sure to know of every lease that was ended before.
pub fn renew_here(shared: &Shared, id: i64) -> Result<i64, Refusal> {
    let ttl = shared.state.read().kv.leases().get(id).map_or(0, |lease| lease.ttl_seconds);
    if ttl == 0 {
        return Ok(0);
    }
    renewal(shared.lessor.keep_alive(id, ttl), ttl)
}

fn renewal(kept: KeptAlive, ttl: i64) -> Result<i64, Refusal> {
    match kept {
        KeptAlive::Renewed => Ok(ttl),
        KeptAlive::RunOut => Err(Refusal::TimedOut),
        KeptAlive::Elsewhere => Err(Refusal::NotLeader),
    }
}

/// Why a stream of renewals is ended from this side.
async fn ending(context: Context, requires_leader: bool) -> Refusal {
    tokio::select! {
        () = context.drain.cancelled() => Refusal::Stopped,
        () = leader_watch::lost(&context.shared, requires_leader) => Refusal::NoLeader,
    }
}

#[tonic::async_trait]
impl pb::lease_server::Lease for Lease {
    type LeaseKeepAliveStream = Counted<KeepAlives>;

    async fn lease_grant(&self, r: Request<pb::LeaseGrantRequest>) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let answer = self.grant(r).await;
        self.0.answer(SERVICE, "LeaseGrant", answer)
    }

    async fn lease_revoke(
        &self,
        r: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let answer = self.revoke(r).await;
        self.0.answer(SERVICE, "LeaseRevoke", answer)
    }

    async fn lease_keep_alive(
        &self,
        r: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        if let Err(refusal) = self.0.check_voter() {
            return self.0.answer_stream(SERVICE, "LeaseKeepAlive", Err(refusal.into()));
        }
        let ending = ending(self.0.clone(), requires_leader(r.metadata().as_ref()));
        let context = Arc::new(self.0.clone());
        let renewed = r.into_inner().then(move |r| {
            let context = context.clone();
            async move {
                let r = r.map_err(|status| server::too_large(&status).unwrap_or(status))?;
                context.shared.gauges.calls.asked(SERVICE, "LeaseKeepAlive");
                renew(&context, r.id).await
            }
        });
        // Either the client has no more, or there is a reason to end; that is an error, after which nothing is sent.
        let answers = renewed.map(Some).chain(stream::once(ready(None)));
        let reason = stream::once(ending).map(|why| Some(Err(why.into())));
        let all = stream::select(answers, reason).take_while(|answer| ready(answer.is_some())).filter_map(ready);
        let stream: KeepAlives = Box::pin(all);
        self.0.answer_stream(SERVICE, "LeaseKeepAlive", Ok(stream))
    }

    async fn lease_time_to_live(
        &self,
        r: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let answer = self.time_to_live(r).await;
        self.0.answer(SERVICE, "LeaseTimeToLive", answer)
    }

    async fn lease_leases(
        &self,
        r: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let answer = self.leases(r).await;
        self.0.answer(SERVICE, "LeaseLeases", answer)
    }
}
