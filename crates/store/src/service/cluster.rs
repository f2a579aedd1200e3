//! Who is a member. The membership of this version is fixed at one.

use tonic::{Request, Response, Status};

use super::Context;
use crate::error::Refusal;
use crate::pb::etcdserverpb as pb;

const SERVICE: &str = "etcdserverpb.Cluster";

pub struct Cluster(pub Context);

impl Cluster {
    async fn list(&self, r: pb::MemberListRequest) -> Result<pb::MemberListResponse, Status> {
        if r.linearizable {
            self.0.node.read_index().await?;
        }
        let state = self.0.shared.state.read();
        Ok(pb::MemberListResponse {
            header: Some(self.0.shared.header(state.kv.revision())),
            members: state.members.values().cloned().collect(),
        })
    }

    fn known(&self, id: u64) -> Result<(), Refusal> {
        let known = self.0.shared.state.read().members.contains_key(&id);
        if known { Ok(()) } else { Err(Refusal::MemberNotFound) }
    }
}

fn fixed() -> Status {
    Status::unimplemented("kube-store: the membership of a cluster of one cannot be changed")
}

#[tonic::async_trait]
impl pb::cluster_server::Cluster for Cluster {
    async fn member_add(&self, _: Request<pb::MemberAddRequest>) -> Result<Response<pb::MemberAddResponse>, Status> {
        self.0.answer(SERVICE, "MemberAdd", Err(fixed()))
    }

    async fn member_remove(
        &self,
        r: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        let answer = self.known(r.get_ref().id).map_err(Status::from).and_then(|()| Err(fixed()));
        self.0.answer(SERVICE, "MemberRemove", answer)
    }

    async fn member_update(
        &self,
        r: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        let answer = self.known(r.get_ref().id).map_err(Status::from).and_then(|()| Err(fixed()));
        self.0.answer(SERVICE, "MemberUpdate", answer)
    }

    async fn member_list(&self, r: Request<pb::MemberListRequest>) -> Result<Response<pb::MemberListResponse>, Status> {
        let answer = self.list(r.into_inner()).await;
        self.0.answer(SERVICE, "MemberList", answer)
    }

    async fn member_promote(
        &self,
        r: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let answer = self.known(r.get_ref().id).map_err(Status::from).and_then(|()| Err(fixed()));
        self.0.answer(SERVICE, "MemberPromote", answer)
    }
}
