//! Who is a member, and changing it: checked here, so that the asker learns why not, then put through the log.

use tonic::{Request, Response, Status};
use url::Url;

use super::Context;
use crate::auth::Asker;
use crate::config::has_port;
use crate::error::Refusal;
use crate::members;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::command::Op;
use crate::pb::kvraft::{MemberChange, member_change::Kind};
use crate::state::Outcome;

const SERVICE: &str = "etcdserverpb.Cluster";
/// A learner may be promoted when it has nine tenths of the leader's log; etcd's measure.
const READY_TENTHS: u64 = 9;

pub struct Cluster(pub Context);

type Members = Vec<pb::Member>;

impl Cluster {
    async fn list(&self, r: Request<pb::MemberListRequest>) -> Result<pb::MemberListResponse, Status> {
        let (_, r) = self.0.admit(r).await?;
        if r.linearizable {
            self.0.read_index().await?;
        }
        let members = self.0.shared.state.read().member_list();
        Ok(pb::MemberListResponse { header: self.0.shared.header_now(), members })
    }

    async fn add(&self, r: Request<pb::MemberAddRequest>) -> Result<pb::MemberAddResponse, Status> {
        let (asker, r) = self.0.admit_admin(r).await?;
        let peer_ur_ls = peer_urls(&r.peer_ur_ls)?;
        let nonce: u64 = rand::random();
        let id = members::id(&[peer_ur_ls.concat().as_bytes(), &nonce.to_be_bytes()]);
        let member = pb::Member { id, peer_ur_ls, is_learner: r.is_learner, ..pb::Member::default() };
        let members = change(&self.0, asker, Kind::Add, member.clone()).await?;
        Ok(pb::MemberAddResponse { header: self.0.shared.header_now(), member: Some(member), members })
    }

    async fn remove(&self, r: Request<pb::MemberRemoveRequest>) -> Result<pb::MemberRemoveResponse, Status> {
        let (asker, r) = self.0.admit_admin(r).await?;
        let member = pb::Member { id: r.id, ..pb::Member::default() };
        let members = change(&self.0, asker, Kind::Remove, member).await?;
        Ok(pb::MemberRemoveResponse { header: self.0.shared.header_now(), members })
    }

    async fn update(&self, r: Request<pb::MemberUpdateRequest>) -> Result<pb::MemberUpdateResponse, Status> {
        let (asker, r) = self.0.admit_admin(r).await?;
        if !self.0.shared.state.read().members.contains_key(&r.id) {
            return Err(Refusal::MemberNotFound.into());
        }
        let member = pb::Member { id: r.id, peer_ur_ls: peer_urls(&r.peer_ur_ls)?, ..pb::Member::default() };
        members::check_update(&self.0.shared.state.read(), &member)?;
        let members = listed(self.0.propose(asker, Op::MemberUpdate(member)).await?);
        Ok(pb::MemberUpdateResponse { header: self.0.shared.header_now(), members })
    }

    async fn promote(&self, r: Request<pb::MemberPromoteRequest>) -> Result<pb::MemberPromoteResponse, Status> {
        let (asker, r) = self.0.admit_admin(r).await?;
        let members = match self.0.leading_peer()? {
            None => promote(&self.0, asker, r.id).await?,
            Some(mut leader) => {
                let promoted = tokio::time::timeout(self.0.node.request_timeout, leader.promote(r.id)).await;
                promoted.map_err(|_| Refusal::TimedOut)??.members
            }
        };
        Ok(pb::MemberPromoteResponse { header: self.0.shared.header_now(), members })
    }
}

/// At the leader, who knows how far the learner has come.
pub async fn promote(context: &Context, asker: Asker, id: u64) -> Result<Members, Refusal> {
    let member = pb::Member { id, ..pb::Member::default() };
    members::check(&context.shared.state.read(), &wanted(Kind::Promote, member.clone()))?;
    let progress = context.node.progress(id).await?.ok_or(Refusal::LearnerNotReady)?;
    if progress.matched.saturating_mul(10) < progress.leader.saturating_mul(READY_TENTHS) {
        return Err(Refusal::LearnerNotReady);
    }
    let promoted = change(context, asker, Kind::Promote, member).await?;
    context.shared.gauges.promotions.inc();
    Ok(promoted)
}

fn wanted(kind: Kind, member: pb::Member) -> MemberChange {
    MemberChange { kind: kind.into(), member: Some(member), ..MemberChange::default() }
}

async fn change(context: &Context, asker: Asker, kind: Kind, member: pb::Member) -> Result<Members, Refusal> {
    let wanted = wanted(kind, member);
    {
        let state = context.shared.state.read();
        members::check(&state, &wanted)?;
        if context.limits.strict_reconfig_check {
            members::keeps_quorum(&state, &wanted)?;
        }
    }
    if context.limits.strict_reconfig_check && !is_healthy(context, &wanted) {
        return Err(Refusal::Unhealthy);
    }
    Ok(listed(context.propose(asker, Op::MemberChange(wanted)).await?))
}

/// Adding or removing a voter while others are away could leave nobody to decide anything. Who is away itself may go.
fn is_healthy(context: &Context, wanted: &MemberChange) -> bool {
    let id = wanted.member.as_ref().map_or(0, |m| m.id);
    let is_voter = wanted.member.as_ref().is_some_and(|m| !m.is_learner);
    let up = |id: u64| id == context.shared.member_id || context.peers.is_connected(id);
    let voters: Vec<u64> =
        context.shared.state.read().members.values().filter(|m| !m.is_learner).map(|m| m.id).collect();
    match wanted.kind() {
        Kind::Add if is_voter => voters.iter().all(|id| up(*id)),
        Kind::Remove if voters.contains(&id) && up(id) => {
            let left = voters.iter().filter(|other| **other != id);
            let alive = left.clone().filter(|id| up(**id)).count();
            alive > left.count() / 2
        }
        _ => true,
    }
}

fn listed(outcome: Outcome) -> Members {
    match outcome {
        Outcome::Members(members) => members,
        _ => unreachable!("a change of members answers with the members"),
    }
}

/// Of a scheme, a host and a port, and nothing behind them.
fn is_peer_url(url: &str) -> bool {
    let plain = |u: Url| matches!(u.scheme(), "http" | "https") && u.has_host() && u.path() == "/";
    Url::parse(url).is_ok_and(plain) && !url.ends_with('/') && has_port(url)
}

fn peer_urls(urls: &[String]) -> Result<Vec<String>, Refusal> {
    if urls.is_empty() || !urls.iter().all(|url| is_peer_url(url)) {
        return Err(Refusal::BadMemberUrls);
    }
    let mut urls = urls.to_vec();
    urls.sort();
    Ok(urls)
}

#[tonic::async_trait]
impl pb::cluster_server::Cluster for Cluster {
    async fn member_add(&self, r: Request<pb::MemberAddRequest>) -> Result<Response<pb::MemberAddResponse>, Status> {
        let answer = self.add(r).await;
        self.0.answer(SERVICE, "MemberAdd", answer)
    }

    async fn member_remove(
        &self,
        r: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        let answer = self.remove(r).await;
        self.0.answer(SERVICE, "MemberRemove", answer)
    }

    async fn member_update(
        &self,
        r: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        let answer = self.update(r).await;
        self.0.answer(SERVICE, "MemberUpdate", answer)
    }

    async fn member_list(&self, r: Request<pb::MemberListRequest>) -> Result<Response<pb::MemberListResponse>, Status> {
        let answer = self.list(r).await;
        self.0.answer(SERVICE, "MemberList", answer)
    }

    async fn member_promote(
        &self,
        r: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let answer = self.promote(r).await;
        self.0.answer(SERVICE, "MemberPromote", answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_found_by_scheme_host_and_port() {
        let check = |url: &str, good: bool| assert_eq!(peer_urls(&[url.to_owned()]).is_ok(), good, "{url}");
        for url in ["http://a:2380", "https://10.0.0.1:443", "http://[::1]:80"] {
            check(url, true);
        }
        for url in [
            "http://a",
            "http://[::1]",
            "http://a:2380/path",
            "http://a:2380/",
            "ftp://a:1",
            "unix://a:1",
            "a:2380",
            "http://:1",
            "",
        ] {
            check(url, false);
        }
        assert_eq!(peer_urls(&[]), Err(Refusal::BadMemberUrls));
    }
}
