//! Locks: the first in line has it.

use bytes::Bytes;
use tonic::{Request, Response, Status};

use super::Context;
use super::kv::Kv;
use super::turns::Queue;
use crate::pb::etcdserverpb as etcd;
use crate::pb::v3lockpb as pb;

const SERVICE: &str = "v3lockpb.Lock";

pub struct Lock(pub Context);

impl Lock {
    async fn lock(&self, r: Request<pb::LockRequest>) -> Result<pb::LockResponse, Status> {
        let (asker, r) = self.0.admit(r).await?;
        let queue = Queue::new(&self.0, asker, &r.name);
        let place = queue.join(r.lease, Bytes::new()).await?;
        let header = queue.turn(&place).await?;
        Ok(pb::LockResponse { header: Some(header), key: place.key })
    }

    async fn unlock(&self, r: Request<pb::UnlockRequest>) -> Result<pb::UnlockResponse, Status> {
        let (asker, r) = self.0.admit(r).await?;
        let delete = etcd::DeleteRangeRequest { key: r.key, ..etcd::DeleteRangeRequest::default() };
        let deleted = Kv(self.0.clone()).delete_as(asker, delete).await?;
        Ok(pb::UnlockResponse { header: deleted.header })
    }
}

#[tonic::async_trait]
impl pb::lock_server::Lock for Lock {
    async fn lock(&self, r: Request<pb::LockRequest>) -> Result<Response<pb::LockResponse>, Status> {
        let answer = self.lock(r).await;
        self.0.answer_inside(SERVICE, "Lock", answer)
    }

    async fn unlock(&self, r: Request<pb::UnlockRequest>) -> Result<Response<pb::UnlockResponse>, Status> {
        let answer = self.unlock(r).await;
        self.0.answer_inside(SERVICE, "Unlock", answer)
    }
}
