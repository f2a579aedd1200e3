//! One put, many watchers: how long until the last of them has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Client, Clients, VALUE_BYTES, value};
use crate::connection::Connection;
use crate::environment::{CONCURRENCY, Environment};
use crate::pb::etcdserverpb::kv_client::KvClient;
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
        let (kv, value) = (environment.kv(0), value(VALUE_BYTES));
        Ok(vec![Box::new(Writer { kv, value, arrivals, reading })])
    }
}

#[derive(Default)]
struct Arrivals {
    count: AtomicUsize,
    complete: Notify,
}

struct Watcher {
    responses: Streaming<WatchResponse>,
    /// The stream lasts as long as its requests do.
    _requests: mpsc::Sender<WatchRequest>,
}

impl Watcher {
    async fn open(environment: Environment, n: usize) -> Result<Watcher> {
        let (requests, receiver) = mpsc::channel(1);
        let create = WatchCreateRequest { key: Bytes::from_static(KEY), ..WatchCreateRequest::default() };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        requests.send(request).await?;
        let answer = environment.watch(n).watch(ReceiverStream::new(receiver)).await?;
        let mut responses = answer.into_inner();
        match responses.message().await? {
            Some(WatchResponse { created: true, canceled: false, .. }) => {}
            other => bail!("instead of a watch there came {other:?}"),
        }
        Ok(Watcher { responses, _requests: requests })
    }

    async fn read(mut self, arrivals: Arc<Arrivals>, watchers: usize) -> Result<()> {
        loop {
            let response = self.responses.message().await?.context("a watch stream has ended")?;
            let events = response.events.len();
            if arrivals.count.fetch_add(events, Ordering::AcqRel) + events == watchers {
                arrivals.complete.notify_one();
            }
        }
    }
}

struct Writer {
    kv: KvClient<Connection>,
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
        self.kv.put(put).await?;
        tokio::select! {
            () = self.arrivals.complete.notified() => Ok(1),
            Some(ended) = self.reading.join_next() => {
                ended??;
                bail!("a watcher has ended")
            }
        }
    }
}
