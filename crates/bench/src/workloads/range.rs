//! Reads of single keys.

use anyhow::{Result, ensure};
use bytes::Bytes;
use rand::Rng;

use super::{Client, Clients, KEYS, VALUE_BYTES, value};
use crate::connection::Connection;
use crate::environment::Environment;
use crate::pb::etcdserverpb::{PutRequest, RangeRequest};

pub struct Workload {
    pub serializable: bool,
}

fn key(n: usize) -> Bytes {
    format!("/bench/range/{n:06}").into()
}

#[async_trait::async_trait]
impl super::Workload for Workload {
    async fn prepare(&self, environment: &Environment, clients: usize) -> Result<Clients> {
        let put = |n| PutRequest { key: key(n), value: value(VALUE_BYTES), ..PutRequest::default() };
        environment.write_all((0..KEYS).map(put).collect()).await?;
        let serializable = self.serializable;
        let client = |n| -> Box<dyn Client> { Box::new(Reader { store: environment.connection(n), serializable }) };
        Ok((0..clients).map(client).collect())
    }
}

struct Reader {
    store: Connection,
    serializable: bool,
}

#[async_trait::async_trait]
impl Client for Reader {
    async fn request(&mut self) -> Result<u64> {
        let key = key(rand::rng().random_range(0..KEYS));
        let range = RangeRequest { key, serializable: self.serializable, ..RangeRequest::default() };
        let answer = self.store.range(&range).await?;
        ensure!(answer.kvs.len() == 1, "a key that was written is not there");
        Ok(0)
    }
}
