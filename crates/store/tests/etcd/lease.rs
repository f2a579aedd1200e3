//! Leases: attachment, expiry, renewal, and a full TTL after a restart.

use std::time::Instant;

use etcd_client::{EventType, LeaseTimeToLiveOptions, PutOptions};
use tokio::time::timeout;

use crate::harness::{DEADLINE, Server, refusal};

#[tokio::test]
async fn a_lease_that_runs_out_takes_its_keys_in_one_revision() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let started = Instant::now();
    let lease = client.lease_grant(2, None).await.expect("granted");
    assert_eq!(lease.ttl(), 2);
    for key in ["a", "b"] {
        let options = PutOptions::new().with_lease(lease.id());
        client.put(key, "", Some(options)).await.expect("the lease exists");
    }
    let keys = Some(LeaseTimeToLiveOptions::new().with_keys());
    let told = client.lease_time_to_live(lease.id(), keys).await.expect("exists");
    assert_eq!((told.granted_ttl(), told.keys().len()), (2, 2));

    let mut stream =
        client.watch("a", Some(etcd_client::WatchOptions::new().with_range("c"))).await.expect("a new stream");
    let mut deleted = Vec::new();
    while deleted.len() < 2 {
        let message = timeout(DEADLINE, stream.message()).await.expect("in time");
        let response = message.expect("no error").expect("the stream goes on");
        for event in response.events() {
            assert_eq!(event.event_type(), EventType::Delete);
            deleted.push(event.kv().expect("always").mod_revision());
        }
    }
    assert_eq!(deleted, [4, 4]);
    assert!(started.elapsed().as_secs() >= 2, "never sooner than granted");
    assert_eq!(client.lease_time_to_live(lease.id(), None).await.expect("answered").ttl(), -1);
    assert_eq!(client.leases().await.expect("answered").leases().len(), 0);
}

#[tokio::test]
async fn a_lease_is_renewed_revoked_and_survives_a_restart_in_full() {
    let mut server = Server::start(&[]);
    let mut client = server.client().await;
    let lease = client.lease_grant(600, None).await.expect("granted").id();
    let options = || Some(PutOptions::new().with_lease(lease));
    client.put("key", "", options()).await.expect("the lease exists");
    let again = Some(etcd_client::LeaseGrantOptions::new().with_id(lease));
    let taken = refusal(client.lease_grant(600, again).await);
    assert_eq!(taken, (9, "etcdserver: lease already exists".to_owned()));

    let (mut keeper, mut renewals) = client.lease_keep_alive(lease).await.expect("a new stream");
    keeper.keep_alive().await.expect("sent");
    let renewed = renewals.message().await.expect("no error").expect("answered");
    assert_eq!((renewed.id(), renewed.ttl()), (lease, 600));

    server.kill();
    server.restart();
    let mut client = server.client().await;
    let told = client.lease_time_to_live(lease, None).await.expect("exists");
    assert!(told.ttl() > 590, "granted again in full, {} s are left", told.ttl());
    client.lease_revoke(lease).await.expect("exists");
    assert_eq!(client.get("key", None).await.expect("readable").count(), 0);
    assert!(client.lease_keep_alive(lease).await.is_err(), "a lease that is gone has no TTL");
}
