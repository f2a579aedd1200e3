//! Elections: the first in line leads, and what it says is the value of its key.

use std::pin::Pin;

use futures::Stream;
use mvcc::{Event, KeyRange, KeyValue};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::turns::{Follow, Queue, from_inside};
use super::{Context, requires_leader};
use crate::convert;
use crate::error::Refusal;
use crate::leader_watch;
use crate::metrics::Counted;
use crate::pb::etcdserverpb::PutRequest;
use crate::pb::etcdserverpb::request_op::Request as Op;
use crate::pb::v3electionpb as pb;

const SERVICE: &str = "v3electionpb.Election";
/// Proclamations that an observer has not read.
const MAX_UNSENT: usize = 16;

pub struct Election(pub Context);

type Observed = Result<pb::LeaderResponse, Status>;
type Observations = Pin<Box<dyn Stream<Item = Observed> + Send>>;

impl Election {
    async fn campaign(&self, r: Request<pb::CampaignRequest>) -> Result<pb::CampaignResponse, Status> {
        let (asker, r) = self.0.admit(r).await?;
        let queue = Queue::new(&self.0, asker, &r.name);
        let place = queue.join(r.lease, r.value.clone()).await?;
        if place.taken.as_ref().is_some_and(|taken| *taken != r.value) {
            let said =
                PutRequest { key: place.key.clone(), value: r.value, lease: place.lease, ..PutRequest::default() };
            let changed = queue.change(&place.key, place.revision, Op::RequestPut(said)).await?;
            if !changed.succeeded {
                return Err(Refusal::NotElected.into());
            }
        }
        queue.turn(&place).await?;
        let leader = pb::LeaderKey { name: r.name, key: place.key, rev: place.revision, lease: place.lease };
        Ok(pb::CampaignResponse { header: place.header, leader: Some(leader) })
    }

    async fn proclaim(&self, r: Request<pb::ProclaimRequest>) -> Result<pb::ProclaimResponse, Status> {
        let (asker, r) = self.0.admit(r).await?;
        let leader = r.leader.ok_or(Refusal::NoLeaderKey)?;
        let lease = self.0.session(&asker, leader.lease).await?;
        let said = PutRequest { key: leader.key.clone(), value: r.value, lease, ..PutRequest::default() };
        let queue = Queue::new(&self.0, asker, &leader.name);
        let changed = queue.change(&leader.key, leader.rev, Op::RequestPut(said)).await?;
        if !changed.succeeded {
            return Err(Refusal::NotElected.into());
        }
        Ok(pb::ProclaimResponse { header: changed.header })
    }

    async fn leader(&self, r: Request<pb::LeaderRequest>) -> Result<pb::LeaderResponse, Status> {
        let (asker, r) = self.0.admit(r).await?;
        let (first, revision) = Queue::new(&self.0, asker, &r.name).first().await?;
        let first = first.ok_or(Refusal::NobodyElected)?;
        Ok(observed(&self.0, &first, revision))
    }

    async fn resign(&self, r: Request<pb::ResignRequest>) -> Result<pb::ResignResponse, Status> {
        let (asker, r) = self.0.admit(r).await?;
        let leader = r.leader.ok_or(Refusal::NoLeaderKey)?;
        let left = Queue::new(&self.0, asker, &leader.name).leave(&leader.key, leader.rev).await?;
        Ok(pb::ResignResponse { header: left.header })
    }

    async fn observe(&self, r: Request<pb::LeaderRequest>) -> Result<ReceiverStream<Observed>, Status> {
        let requires_leader = requires_leader(r.metadata().as_ref());
        let (asker, r) = self.0.admit(r).await?;
        let (said, heard) = mpsc::channel(MAX_UNSENT);
        let observer = Observer { context: self.0.clone(), queue: Queue::new(&self.0, asker, &r.name), said };
        tokio::spawn(async move {
            let closed = observer.said.clone();
            tokio::select! {
                Err(error) = observer.run() => {
                    let _ = closed.send(Err(error)).await;
                }
                () = leader_watch::lost(&observer.context.shared, requires_leader) => {
                    let _ = closed.send(Err(Refusal::NoLeader.into())).await;
                }
                () = closed.closed() => {}
            }
        });
        Ok(ReceiverStream::new(heard))
    }
}

fn observed(context: &Context, kv: &KeyValue, revision: i64) -> pb::LeaderResponse {
    pb::LeaderResponse { header: Some(context.shared.header(revision)), kv: Some(convert::key_value(kv)) }
}

/// Tells one client of every proclamation of every leader, in order.
struct Observer {
    context: Context,
    queue: Queue,
    said: mpsc::Sender<Observed>,
}

impl Observer {
    /// Until something fails; the client's going ends it from outside.
    async fn run(&self) -> Result<(), Status> {
        loop {
            let (leader, at) = match self.queue.first().await? {
                (Some(leader), at) => (leader, at),
                (None, at) => match self.first_after(at).await {
                    // What happened meanwhile is compacted: looks again.
                    Err(Refusal::Compacted) => continue,
                    found => found?,
                },
            };
            if !self.tell(&leader, at).await {
                return Ok(());
            }
            match self.follow(&leader, at).await {
                Ok(true) | Err(Refusal::Compacted) => {}
                Ok(false) => return Ok(()),
                Err(refusal) => return Err(refusal.into()),
            }
        }
    }

    async fn tell(&self, leader: &KeyValue, at: i64) -> bool {
        self.said.send(Ok(observed(&self.context, leader, at))).await.is_ok()
    }

    /// The first that comes after a revision at which there was none.
    async fn first_after(&self, at: i64) -> Result<(std::sync::Arc<KeyValue>, i64), Refusal> {
        let mut places = self.queue.follow(at + 1);
        loop {
            if let Some(put) = places.next().await?.into_iter().find(|event| !event.is_delete()) {
                let at = put.kv.mod_revision;
                return Ok((put.kv, at));
            }
        }
    }

    /// Tells what a leader says after a revision, until it leads no more. Whether the client still listens.
    async fn follow(&self, leader: &KeyValue, at: i64) -> Result<bool, Refusal> {
        let mut words = Follow::new(&self.context, KeyRange::Single(leader.key.clone()), at + 1);
        loop {
            for Event { kv, .. } in words.next().await? {
                if kv.is_tombstone() {
                    return Ok(true);
                }
                if !self.tell(&kv, kv.mod_revision).await {
                    return Ok(false);
                }
            }
        }
    }
}

#[tonic::async_trait]
impl pb::election_server::Election for Election {
    type ObserveStream = Counted<Observations>;

    async fn campaign(&self, r: Request<pb::CampaignRequest>) -> Result<Response<pb::CampaignResponse>, Status> {
        let answer = self.campaign(r).await;
        self.0.answer_inside(SERVICE, "Campaign", answer)
    }

    async fn proclaim(&self, r: Request<pb::ProclaimRequest>) -> Result<Response<pb::ProclaimResponse>, Status> {
        let answer = self.proclaim(r).await;
        self.0.answer_inside(SERVICE, "Proclaim", answer)
    }

    async fn leader(&self, r: Request<pb::LeaderRequest>) -> Result<Response<pb::LeaderResponse>, Status> {
        let answer = self.leader(r).await;
        self.0.answer_inside(SERVICE, "Leader", answer)
    }

    async fn observe(&self, r: Request<pb::LeaderRequest>) -> Result<Response<Self::ObserveStream>, Status> {
        let stream = self.observe(r).await.map(|stream| Box::pin(stream) as Observations);
        self.0.answer_stream(SERVICE, "Observe", stream.map_err(from_inside))
    }

    async fn resign(&self, r: Request<pb::ResignRequest>) -> Result<Response<pb::ResignResponse>, Status> {
        let answer = self.resign(r).await;
        self.0.answer_inside(SERVICE, "Resign", answer)
    }
}
