//! Who is a member. The membership of this version is fixed at one.

use tonic::{Request, Response, Status};

use super::Context;
use crate::error::Refusal;
use crate::pb::etcdserverpb as pb;

const SERVICE: &str = "etcdserverpb.Cluster";

pub struct Cluster(pub Context);

impl Cluster {
    async fn list(&self, r: Request<pb::MemberListRequest>) -> Result<pb::MemberListResponse, Status> {
        let (_, r) = self.0.admit(r).await?;
        if r.linearizable {
            self.0.node.read_index().await?;
        }
        let state = self.0.shared.state.read();
        Ok(pb::MemberListResponse {
            header: Some(self.0.shared.header(state.kv.revision())),
            members: state.members.values().cloned().collect(),
        })
    }

    /// Why a member is not changed.
    async fn refuse<A, T>(&self, r: Request<T>, id: impl FnOnce(&T) -> u64) -> Result<A, Status> {
        let id = id(&self.0.admit_admin(r).await?);
        let known = self.0.shared.state.read().members.contains_key(&id);
        Err(if known { fixed() } else { Refusal::MemberNotFound.into() })
    }
}

fn fixed() -> Status {
    Status::unimplemented("kube-store: the membership of a cluster of one cannot be changed")
}

#[tonic::async_trait]
impl pb::cluster_server::Cluster for Cluster {
    async fn member_add(&self, r: Request<pb::MemberAddRequest>) -> Result<Response<pb::MemberAddResponse>, Status> {
        let admitted = self.0.admit_admin(r).await.map_err(Status::from);
        self.0.answer(SERVICE, "MemberAdd", admitted.and_then(|_| Err(fixed())))
    }

    async fn member_remove(
        &self,
        r: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        let answer = self.refuse(r, |r| r.id).await;
        self.0.answer(SERVICE, "MemberRemove", answer)
    }

    async fn member_update(
        &self,
        r: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        let answer = self.refuse(r, |r| r.id).await;
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
        let answer = self.refuse(r, |r| r.id).await;
        self.0.answer(SERVICE, "MemberPromote", answer)
    }
}
