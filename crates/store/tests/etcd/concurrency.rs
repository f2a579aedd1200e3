//! The server's own locks and elections, as the `etcd-client` crate asks for them, and its health by gRPC. The words and
//! revisions are what etcd answers to the same calls.

use std::time::Duration;

use etcd_client::{
    CampaignResponse, Client, GetOptions, LeaderKey, LockOptions, ObserveStream, ProclaimOptions, ResignOptions,
};
use tokio::time::timeout;

use crate::harness::{DEADLINE, Server, refusal};

const UNKNOWN: i32 = 2;

async fn lease(client: &mut Client) -> i64 {
    client.lease_grant(600, None).await.expect("granted").id()
}

fn with(lease: i64) -> Option<LockOptions> {
    Some(LockOptions::new().with_lease(lease))
}

/// Waits until so many keys begin with a prefix.
pub async fn await_count(client: &mut Client, prefix: &str, count: i64) {
    let counted = async {
        loop {
            let got = client.get(prefix, Some(GetOptions::new().with_prefix().with_count_only())).await;
            if got.expect("readable").count() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, counted).await.unwrap_or_else(|_| panic!("there are never {count} keys of {prefix}"));
}

#[tokio::test]
async fn a_lock_goes_to_who_has_waited_longest() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let first = lease(&mut client).await;
    let held = client.lock("l", with(first)).await.expect("free");
    assert_eq!(held.key(), format!("l/{first:x}").as_bytes());
    assert_eq!(held.header().expect("always").revision(), 2);
    assert_eq!(client.lock("l", with(first)).await.expect("held already").key(), held.key());

    let mut waiting = Vec::new();
    for place in 0..3 {
        let (mut other, lease) = (client.clone(), lease(&mut client).await);
        waiting.push((lease, tokio::spawn(async move { other.lock("l", with(lease)).await })));
        await_count(&mut client, "l/", 2 + place).await;
    }
    // The second gives up, the third's lease ends: neither is waited for, and the fourth is next.
    waiting[0].1.abort();
    await_count(&mut client, "l/", 3).await;
    client.lease_revoke(waiting[1].0).await.expect("granted");
    assert!(!waiting[2].1.is_finished());
    client.unlock(held.key()).await.expect("held");
    let mut waiting = waiting.into_iter().skip(1).map(|(_, lock)| timeout(DEADLINE, lock));
    let expired = waiting.next().expect("the third").await.expect("in time").expect("no panic");
    assert_eq!(refusal(expired), (UNKNOWN, "mutex: session is expired".to_owned()));
    let next = waiting.next().expect("the fourth").await.expect("in time").expect("no panic").expect("its turn");
    assert_eq!(
        client.get("l/", Some(GetOptions::new().with_prefix())).await.expect("readable").kvs()[0].key(),
        next.key()
    );

    let lost = refusal(client.lock("other", with(12_345)).await);
    assert_eq!(lost, (UNKNOWN, "etcdserver: requested lease not found".to_owned()));
    client.lock("other", None).await.expect("with a lease of its own");
}

async fn heard(observer: &mut ObserveStream) -> String {
    let message = timeout(DEADLINE, observer.message()).await.expect("in time");
    let leader = message.expect("no error").expect("the stream goes on");
    leader.kv().expect("always").value_str().expect("text").to_owned()
}

fn key(elected: &CampaignResponse) -> LeaderKey {
    elected.leader().expect("always").clone()
}

#[tokio::test]
async fn an_election_is_led_by_one_and_heard_by_all() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let nobody = refusal(client.leader("e").await);
    assert_eq!(nobody, (UNKNOWN, "election: no leader".to_owned()));
    let mut observer = client.election_client().observe("e").await.expect("a stream");
    let (one, two) = (lease(&mut client).await, lease(&mut client).await);

    let first = client.campaign("e", "one", one).await.expect("free");
    let revision = first.header().expect("always").revision();
    assert_eq!((key(&first).rev(), key(&first).key()), (revision, format!("e/{one:x}").as_bytes()));
    assert_eq!(heard(&mut observer).await, "one");
    let of_first = || Some(ProclaimOptions::new().with_leader(key(&first)));
    client.proclaim("one again", of_first()).await.expect("leads");
    client.proclaim("and again", of_first()).await.expect("leads");
    assert_eq!(heard(&mut observer).await, "one again");
    assert_eq!(heard(&mut observer).await, "and again");

    let mut other = client.clone();
    let campaign = tokio::spawn(async move { other.campaign("e", "two", two).await });
    await_count(&mut client, "e/", 2).await;
    let leads = client.leader("e").await.expect("somebody leads");
    assert_eq!(leads.kv().expect("always").value(), b"and again");
    client.resign(Some(ResignOptions::new().with_leader(key(&first)))).await.expect("led");
    let second = timeout(DEADLINE, campaign).await.expect("in time").expect("no panic").expect("its turn");
    assert_eq!(heard(&mut observer).await, "two");

    let lost = refusal(client.proclaim("still", of_first()).await);
    assert_eq!(lost, (UNKNOWN, "election: not leader".to_owned()));
    client.resign(Some(ResignOptions::new().with_leader(key(&first)))).await.expect("nothing to give up");
    let nameless = refusal(client.resign(None).await);
    assert_eq!(nameless, (UNKNOWN, "\"leader\" field must be provided".to_owned()));
    let again = client.campaign("e", "two still", two).await.expect("leads already");
    assert_eq!(key(&again).rev(), key(&second).rev());
    assert_eq!(heard(&mut observer).await, "two still");
}

/// Something that has nothing to do with it, and then nothing older is left.
async fn compact_everything(client: &mut Client) {
    for _ in 0..20 {
        client.put("noise", "", None).await.expect("a plain put");
    }
    let newest = client.get("noise", None).await.expect("readable").header().expect("always").revision();
    client.compact(newest, None).await.expect("a past revision");
}

#[tokio::test]
async fn who_waits_does_not_mind_a_compaction() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let held = client.lock("l", None).await.expect("free");
    let mut waiting = Vec::new();
    for place in 0..2 {
        let (mut other, lease) = (client.clone(), lease(&mut client).await);
        waiting.push(tokio::spawn(async move { other.lock("l", with(lease)).await }));
        await_count(&mut client, "l/", 2 + place).await;
        // The second comes after it, and what it waits for is gone from the history.
        compact_everything(&mut client).await;
    }
    let mut held = held.key().to_vec();
    for next in waiting {
        assert!(!next.is_finished(), "nobody is let go");
        client.unlock(held).await.expect("held");
        let lock = timeout(DEADLINE, next).await.expect("in time").expect("no panic").expect("its turn");
        held = lock.key().to_vec();
    }
}

#[tokio::test]
async fn an_observer_misses_nothing_after_a_compaction() {
    const WORDS: i32 = 20;
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let lease = lease(&mut client).await;
    let mut observer = client.election_client().observe("e").await.expect("a stream");
    let elected = client.campaign("e", "0", lease).await.expect("free");
    assert_eq!(heard(&mut observer).await, "0");
    compact_everything(&mut client).await;
    let options = || Some(ProclaimOptions::new().with_leader(key(&elected)));
    let said = async {
        for word in 1..=WORDS {
            client.clone().proclaim(word.to_string(), options()).await.expect("leads");
        }
    };
    let listening = async {
        for word in 1..=WORDS {
            assert_eq!(heard(&mut observer).await, word.to_string());
        }
    };
    tokio::join!(said, listening);
}

#[tokio::test]
async fn health_is_told_by_grpc() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;

    let server = Server::start(&[]);
    let answer = HealthClient::new(server.channel().await).check(HealthCheckRequest::default()).await.expect("served");
    assert_eq!(answer.get_ref().status(), ServingStatus::Serving);
}
