//! The calls of the store that are measured.

use anyhow::Result;

use crate::connection::{Call, Connection};
use crate::pb::etcdserverpb::{
    CompactionRequest, CompactionResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse,
    LeaseRevokeRequest, LeaseRevokeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, StatusRequest,
    StatusResponse, TxnRequest, TxnResponse, WatchResponse,
};

impl Connection {
    pub async fn put(&self, put: &PutRequest) -> Result<PutResponse> {
        self.unary("/etcdserverpb.KV/Put", put).await
    }

    pub async fn range(&self, range: &RangeRequest) -> Result<RangeResponse> {
        self.unary("/etcdserverpb.KV/Range", range).await
    }

    pub async fn txn(&self, txn: &TxnRequest) -> Result<TxnResponse> {
        self.unary("/etcdserverpb.KV/Txn", txn).await
    }

    pub async fn compact(&self, compaction: &CompactionRequest) -> Result<CompactionResponse> {
        self.unary("/etcdserverpb.KV/Compact", compaction).await
    }

    pub async fn revoke(&self, revoke: &LeaseRevokeRequest) -> Result<LeaseRevokeResponse> {
        self.unary("/etcdserverpb.Lease/LeaseRevoke", revoke).await
    }

    pub async fn grant(&self, grant: &LeaseGrantRequest) -> Result<LeaseGrantResponse> {
        self.unary("/etcdserverpb.Lease/LeaseGrant", grant).await
    }

    pub async fn status(&self) -> Result<StatusResponse> {
        self.unary("/etcdserverpb.Maintenance/Status", &StatusRequest {}).await
    }

    pub fn keep_alive(&self) -> Call<LeaseKeepAliveResponse> {
        self.stream("/etcdserverpb.Lease/LeaseKeepAlive")
    }

    pub fn watch(&self) -> Call<WatchResponse> {
        self.stream("/etcdserverpb.Watch/Watch")
    }
}
