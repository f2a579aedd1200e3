//! Puts to random keys of a bounded set.

use anyhow::Result;
use bytes::Bytes;
use rand::Rng;

use super::{Client, Clients, KEYS, VALUE_BYTES, value};
use crate::connection::Connection;
use crate::environment::Environment;
use crate::pb::etcdserverpb::PutRequest;

pub struct Workload;

#[async_trait::async_trait]
impl super::Workload for Workload {
    async fn prepare(&self, environment: &Environment, clients: usize) -> Result<Clients> {
        let client =
            |n| -> Box<dyn Client> { Box::new(Putter { store: environment.connection(n), value: value(VALUE_BYTES) }) };
        Ok((0..clients).map(client).collect())
    }
}

struct Putter {
    store: Connection,
    value: Bytes,
}

#[async_trait::async_trait]
impl Client for Putter {
    async fn request(&mut self) -> Result<u64> {
        let key = format!("/bench/put/{:06}", rand::rng().random_range(0..KEYS));
        let put = PutRequest { key: key.into(), value: self.value.clone(), ..PutRequest::default() };
        self.store.put(&put).await?;
        Ok(1)
    }
}
