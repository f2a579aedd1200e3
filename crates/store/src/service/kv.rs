//! Keys and values.

use prost::Message;
use tonic::{Request, Response, Status};

use super::Context;
use crate::auth::Asker;
use crate::error::Refusal;
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::request_op::Request as Op;
use crate::pb::kvraft::command::Op as Command;
use crate::state::{Outcome, put_bytes};
use crate::{convert, validate};

const SERVICE: &str = "etcdserverpb.KV";

/// What etcd puts around a request in its log and counts with it: a header with the request's number, and the tag and
/// the length of a request as large as the limit.
const ENVELOPE_BYTES: usize = 18;

pub struct Kv(pub Context);

impl Kv {
    async fn range(&self, r: Request<pb::RangeRequest>) -> Result<pb::RangeResponse, Status> {
        let (asker, r) = self.0.admit_to_learner(r).await?;
        if !r.serializable {
            self.0.check_voter()?;
        }
        validate::range(&r)?;
        if !r.serializable {
            self.0.read_index().await?;
        }
        let result = {
            let state = self.0.shared.state.read();
            state.auth.guard(&asker).range(&r)?;
            state.kv.range(&convert::range(r)?).map_err(Refusal::from)?
        };
        self.0.shared.gauges.operations.ranges.inc();
        let mut response = convert::range_response(&result);
        self.0.shared.complete(&mut response.header);
        Ok(response)
    }

    async fn put(&self, r: Request<pb::PutRequest>) -> Result<pb::PutResponse, Status> {
        let (asker, r) = self.0.admit(r).await?;
        validate::put(&r)?;
        self.check_size(&r)?;
        let _room = self.0.check_space(r.key.len() + r.value.len()).await?;
        let Outcome::Put(mut response) = self.0.propose(asker, Command::Put(r)).await? else {
            unreachable!("a put answers a put")
        };
        self.0.shared.complete(&mut response.header);
        Ok(response)
    }

    async fn delete_range(&self, r: Request<pb::DeleteRangeRequest>) -> Result<pb::DeleteRangeResponse, Status> {
        let (asker, r) = self.0.admit(r).await?;
        self.delete_as(asker, r).await
    }

    pub async fn delete_as(&self, asker: Asker, r: pb::DeleteRangeRequest) -> Result<pb::DeleteRangeResponse, Status> {
        validate::delete(&r)?;
        self.check_size(&r)?;
        let Outcome::DeleteRange(mut response) = self.0.propose(asker, Command::DeleteRange(r)).await? else {
            unreachable!("a deletion answers a deletion")
        };
        self.0.shared.complete(&mut response.header);
        Ok(response)
    }

    async fn txn(&self, r: Request<pb::TxnRequest>) -> Result<pb::TxnResponse, Status> {
        let (asker, r) = self.0.admit(r).await?;
        self.txn_as(asker, r).await
    }

    pub async fn txn_as(&self, asker: Asker, r: pb::TxnRequest) -> Result<pb::TxnResponse, Status> {
        validate::txn(&r, self.0.limits.max_txn_ops)?;
        let mut response = if reads_only(&r) {
            self.read_txn(&asker, r).await?
        } else {
            self.check_size(&r)?;
            let _room = match put_bytes(&r) {
                0 => None,
                puts => Some(self.0.check_space(puts).await?),
            };
            match self.0.propose(asker, Command::Txn(r)).await? {
                Outcome::Txn(response) => response,
                _ => unreachable!("a transaction answers a transaction"),
            }
        };
        self.0.shared.complete(&mut response.header);
        Ok(response)
    }

    /// A transaction that writes nothing needs no log entry.
    async fn read_txn(&self, asker: &Asker, r: pb::TxnRequest) -> Result<pb::TxnResponse, Refusal> {
        if !serializable(&r) {
            self.0.read_index().await?;
        }
        let state = self.0.shared.state.read();
        state.auth.guard(asker).txn(&r, state.kv.leases())?;
        let result = state.kv.read_txn(convert::txn(r)?)?;
        drop(state);
        let response = convert::txn_response(&result);
        self.0.shared.gauges.operations.count_txn(&response);
        Ok(response)
    }

    async fn compact(&self, r: Request<pb::CompactionRequest>) -> Result<pb::CompactionResponse, Status> {
        let (asker, r) = self.0.admit(r).await?;
        let Outcome::Compaction(mut response) = self.0.propose(asker, Command::Compaction(r)).await? else {
            unreachable!("a compaction answers a compaction")
        };
        if r.physical {
            self.0.node.checkpoint().await?;
        }
        self.0.shared.complete(&mut response.header);
        Ok(response)
    }

    fn check_size(&self, r: &impl Message) -> Result<(), Refusal> {
        let fits = r.encoded_len() + ENVELOPE_BYTES <= self.0.limits.max_request_bytes;
        if fits { Ok(()) } else { Err(Refusal::RequestTooLarge) }
    }
}

fn ops(r: &pb::TxnRequest) -> impl Iterator<Item = &Op> {
    r.success.iter().chain(&r.failure).filter_map(|op| op.request.as_ref())
}

fn reads_only(r: &pb::TxnRequest) -> bool {
    ops(r).all(|op| match op {
        Op::RequestRange(_) => true,
        Op::RequestTxn(r) => reads_only(r),
        Op::RequestPut(_) | Op::RequestDeleteRange(_) => false,
    })
}

/// Whether no read of it asks for the newest state. A transaction without reads compares
/// with the newest.
fn serializable(r: &pb::TxnRequest) -> bool {
    let local = ops(r).all(|op| match op {
        Op::RequestRange(r) => r.serializable,
        Op::RequestTxn(r) => serializable(r),
        Op::RequestPut(_) | Op::RequestDeleteRange(_) => false,
    });
    local && ops(r).next().is_some()
}

#[tonic::async_trait]
impl pb::kv_server::Kv for Kv {
    async fn range(&self, r: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let answer = self.range(r).await;
        self.0.answer(SERVICE, "Range", answer)
    }

    async fn put(&self, r: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        let answer = self.put(r).await;
        self.0.answer(SERVICE, "Put", answer)
    }

    async fn delete_range(
        &self,
        r: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let answer = self.delete_range(r).await;
        self.0.answer(SERVICE, "DeleteRange", answer)
    }

    async fn txn(&self, r: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        let answer = self.txn(r).await;
        self.0.answer(SERVICE, "Txn", answer)
    }

    async fn compact(&self, r: Request<pb::CompactionRequest>) -> Result<Response<pb::CompactionResponse>, Status> {
        let answer = self.compact(r).await;
        self.0.answer(SERVICE, "Compact", answer)
    }
}
