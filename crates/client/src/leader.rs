//! Leader election by a Lease: one process of several does the work. Holding is proven by renewing; a holder that
//! cannot renew within the deadline stops its work before another may start.

use std::future::Future;
use std::time::Duration;

use daemon::CancellationToken;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, PostParams};
use tokio::time::Instant;

/// Upstream's defaults.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub struct Election {
    pub namespace: String,
    pub name: String,
    /// Unique per process: upstream uses `<host>_<uuid>`.
    pub identity: String,
    pub lease_duration: Duration,
    pub renew_deadline: Duration,
    pub retry_period: Duration,
}

impl Election {
    pub fn new(name: &str, identity: String) -> Self {
        Self {
            namespace: "kube-system".to_owned(),
            name: name.to_owned(),
            identity,
            lease_duration: LEASE_DURATION,
            renew_deadline: RENEW_DEADLINE,
            retry_period: RETRY_PERIOD,
        }
    }
}

/// What another holder's lease looked like when it was first seen like that; its own clock is never compared with ours.
#[derive(Debug, Default)]
struct Observed {
    version: Option<String>,
    since: Option<Instant>,
}

/// Waits to become the leader, runs `work` with a token that is cancelled when leadership is lost, and gives the
/// lease back on the way out so that the next leader need not wait. Returns when `token` is cancelled or leadership
/// is lost; true means lost.
pub async fn run<F, Fut>(client: kube::Client, election: Election, token: CancellationToken, work: F) -> bool
where
    F: FnOnce(CancellationToken) -> Fut,
    Fut: Future<Output = ()> + Send,
{
    let api: Api<Lease> = Api::namespaced(client, &election.namespace);
    let mut observed = Observed::default();
    loop {
        match attempt(&api, &election, &mut observed).await {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "leader election"),
        }
        tokio::select! { () = token.cancelled() => return false, () = tokio::time::sleep(election.retry_period) => {} }
    }
    tracing::info!(lease = election.name, identity = election.identity, "became leader");
    let leading = token.child_token();
    let lost = {
        let mut work = std::pin::pin!(work(leading.clone()));
        let (lost, done) = tokio::select! {
            () = hold(&api, &election, &mut observed) => (true, false),
            () = &mut work => (false, true),
            () = token.cancelled() => (false, false),
        };
        leading.cancel();
        // Work ends with the same token, so it may be over already; a finished future must not be polled again.
        if !done {
            work.await;
        }
        lost
    };
    if !lost {
        release(&api, &election).await;
    }
    lost
}

/// Returns when the lease could not be renewed in time.
async fn hold(api: &Api<Lease>, election: &Election, observed: &mut Observed) {
    let mut renewed = Instant::now();
    while renewed.elapsed() < election.renew_deadline {
        tokio::time::sleep(election.retry_period).await;
        let left = election.renew_deadline.saturating_sub(renewed.elapsed());
        match tokio::time::timeout(left, attempt(api, election, observed)).await {
            Ok(Ok(true)) => renewed = Instant::now(),
            Ok(Ok(false)) => break,
            Ok(Err(error)) => tracing::debug!(%error, "lease not renewed"),
            Err(_) => break,
        }
    }
    tracing::warn!(lease = election.name, "lost leadership");
}

/// Takes or renews the lease; false when somebody else holds it.
async fn attempt(api: &Api<Lease>, election: &Election, observed: &mut Observed) -> kube::Result<bool> {
    let Some(mut lease) = api.get_opt(&election.name).await? else {
        let mut lease = Lease::default();
        lease.metadata.name = Some(election.name.clone());
        lease.metadata.namespace = Some(election.namespace.clone());
        lease.spec = Some(claim(election, None, Timestamp::now()));
        return conflict_is_no(api.create(&PostParams::default(), &lease).await);
    };
    let holder = lease.spec.as_ref().and_then(|s| s.holder_identity.as_deref()).unwrap_or_default();
    if holder != election.identity && !holder.is_empty() {
        if observed.version != lease.metadata.resource_version {
            *observed = Observed { version: lease.metadata.resource_version.clone(), since: Some(Instant::now()) };
        }
        let duration = lease.spec.as_ref().and_then(|s| s.lease_duration_seconds).unwrap_or(0);
        let duration = Duration::from_secs(u64::try_from(duration).unwrap_or(0));
        if observed.since.is_none_or(|since| since.elapsed() < duration) {
            return Ok(false);
        }
    }
    lease.spec = Some(claim(election, lease.spec.as_ref(), Timestamp::now()));
    conflict_is_no(api.replace(&election.name, &PostParams::default(), &lease).await)
}

fn conflict_is_no(result: kube::Result<Lease>) -> kube::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

fn claim(election: &Election, old: Option<&LeaseSpec>, now: Timestamp) -> LeaseSpec {
    let mut spec = old.cloned().unwrap_or_default();
    if spec.holder_identity.as_deref() != Some(&election.identity) {
        spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |n| n + 1));
        spec.acquire_time = Some(MicroTime(now));
        spec.holder_identity = Some(election.identity.clone());
    }
    spec.lease_duration_seconds = i32::try_from(election.lease_duration.as_secs()).ok();
    spec.renew_time = Some(MicroTime(now));
    spec
}

async fn release(api: &Api<Lease>, election: &Election) {
    let give_back = async {
        let mut lease = api.get(&election.name).await?;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(&election.identity) {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
            api.replace(&election.name, &PostParams::default(), &lease).await?;
        }
        Ok::<(), kube::Error>(())
    };
    // Upstream's bound: the API server may be between two leaders of its store. Where there is none this ends at once.
    match tokio::time::timeout(election.renew_deadline, give_back).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(lease = election.name, %error, "the lease was not given back"),
        Err(_) => tracing::warn!(lease = election.name, "the lease was not given back in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_hands_is_counted_and_a_renewal_is_not() {
        let election = Election::new("x", "me".into());
        let now = Timestamp::UNIX_EPOCH;
        let first = claim(&election, None, now);
        assert_eq!((first.lease_transitions, first.holder_identity.as_deref()), (Some(0), Some("me")));
        let renewed = claim(&election, Some(&first), now + Duration::from_secs(2));
        assert_eq!(renewed.lease_transitions, Some(0));
        assert_eq!(renewed.acquire_time, first.acquire_time);
        let other = claim(&Election::new("x", "you".into()), Some(&renewed), now);
        assert_eq!(other.lease_transitions, Some(1));
    }
}
