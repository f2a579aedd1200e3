//! One put, many watchers: how long until the last of them has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::{Client, Clients, VALUE_BYTES, value};
use crate::connection::{Call, Connection};
use crate::environment::{CONCURRENCY, Environment};
use crate::pb::etcdserverpb::watch_request::RequestUnion;
use crate::pb::etcdserverpb::{PutRequest, WatchCreateRequest, WatchRequest, WatchResponse};

const KEY: &[u8] = b"/bench/watch";

pub struct Workload;

#[async_trait::async_trait]
impl super::Workload for Workload {
    async fn prepare(&self, environment: &Environment, watchers: usize) -> Result<Clients> {
        let opening: Vec<_> = (0..watchers).map(|n| Watcher::open(environment.clone(), n)).collect();
        let opened: Vec<Watcher> = stream::iter(opening).buffer_unordered(CONCURRENCY).try_collect().await?;
        let arrivals = Arc::new(Arrivals::default());
        let mut reading = JoinSet::new();
        for watcher in opened {
            reading.spawn(watcher.read(arrivals.clone(), watchers));
        }
        let (store, value) = (environment.connection(0), value(VALUE_BYTES));
        Ok(vec![Box::new(Writer { store, value, arrivals, reading })])
    }
}

#[derive(Default)]
struct Arrivals {
    count: AtomicUsize,
    complete: Notify,
}

struct Watcher(Call<WatchResponse>);

impl Watcher {
    async fn open(environment: Environment, n: usize) -> Result<Watcher> {
        let create = WatchCreateRequest { key: Bytes::from_static(KEY), ..WatchCreateRequest::default() };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let mut call = environment.connection(n).watch();
        call.send(&request);
        match call.message().await? {
            Some(WatchResponse { created: true, canceled: false, .. }) => {}
            other => bail!("instead of a watch there came {other:?}"),
        }
        Ok(Watcher(call))
    }

    async fn read(mut self, arrivals: Arc<Arrivals>, watchers: usize) -> Result<()> {
        loop {
            let response = self.0.message().await?.context("a watch stream has ended")?;
            let events = response.events.len();
            if arrivals.count.fetch_add(events, Ordering::AcqRel) + events == watchers {
                arrivals.complete.notify_one();
            }
        }
    }
}

struct Writer {
    store: Connection,
    value: Bytes,
    arrivals: Arc<Arrivals>,
    reading: JoinSet<Result<()>>,
}

#[async_trait::async_trait]
impl Client for Writer {
    async fn request(&mut self) -> Result<u64> {
        // The last event of the put before has arrived: nobody counts at this moment.
        self.arrivals.count.store(0, Ordering::Release);
        let put = PutRequest { key: Bytes::from_static(KEY), value: self.value.clone(), ..PutRequest::default() };
        self.store.put(&put).await?;
        tokio::select! {
            () = self.arrivals.complete.notified() => Ok(1),
            Some(ended) = self.reading.join_next() => {
                ended??;
                bail!("a watcher has ended")
            }
        }
    }
}
