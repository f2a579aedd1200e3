//! Leases for keys that expire (Events). One lease serves all keys written within a window, so that a storm of
//! Events costs a lease per minute and not one each; a key may therefore live up to one window longer than asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::Client;
use tokio::sync::Mutex;

use super::{Error, persist};

const REUSE: Duration = Duration::from_secs(60);
/// Revoking a lease deletes its keys in one transaction; this bounds it.
const MAX_KEYS: u32 = 1000;

#[derive(Clone, Default)]
pub struct Leases(Arc<Mutex<Option<Current>>>);

struct Current {
    id: i64,
    ttl: Duration,
    granted: Instant,
    keys: u32,
}

impl Leases {
    pub async fn get(&self, client: &Client, ttl: Duration) -> Result<i64, Error> {
        let mut current = self.0.lock().await;
        if let Some(lease) =
            current.as_mut().filter(|l| l.ttl == ttl && l.granted.elapsed() < REUSE && l.keys < MAX_KEYS)
        {
            lease.keys += 1;
            return Ok(lease.id);
        }
        let seconds = i64::try_from((ttl + REUSE).as_secs()).unwrap_or(i64::MAX);
        let id = persist(Error::Lease, |_| {
            let mut leases = client.lease_client();
            async move { leases.grant(seconds, None).await }
        })
        .await?
        .id();
        *current = Some(Current { id, ttl, granted: Instant::now(), keys: 1 });
        Ok(id)
    }
}
