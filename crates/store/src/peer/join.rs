//! Joining a cluster that is there: ask its members who they are, and find oneself among them.
//!
//! A member that had begun and has lost its data has forgotten whom it voted for and what it acknowledged. It must not
//! come back as itself: with its vote one who lacks what was acknowledged could be elected.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use futures::future::join_all;
use tokio::time::timeout;

use super::client::PeerClient;
use super::connect::Connector;
use super::hello::{Hello, clock_ms};
use crate::pb::kvraft::MembersResponse;

/// What a joining member knows from its flags.
pub struct Joiner<'a> {
    pub name: &'a str,
    pub own_urls: &'a [String],
    /// Names and peer URLs of everyone.
    pub initial_cluster: &'a [(String, Vec<String>)],
}

/// Asks one after the other; the first that answers is believed, if what it says fits the flags.
pub async fn join(connector: &Connector, joiner: &Joiner<'_>) -> Result<MembersResponse> {
    let mut failures = Vec::new();
    for (name, urls) in joiner.initial_cluster.iter().filter(|(name, _)| name != joiner.name) {
        let nobody = Hello { cluster_id: 0, from: 0 };
        match PeerClient::new(connector.channel(urls), nobody, 0).members().await {
            Ok(found) => {
                check_clock(clock_ms(), &found)?;
                check(joiner, &found)?;
                return Ok(found);
            }
            Err(status) => failures.push(format!("{name} ({}): {}", urls.join(","), status.message())),
        }
    }
    bail!("cannot fetch the cluster's members from any peer: {}", failures.join("; "))
}

/// Clocks that somebody looks after are not nearly as far apart.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(10);
/// How long one who founds a cluster looks for it to be there already.
const LOOK: Duration = Duration::from_secs(1);

/// Before a cluster is founded: none of its members that are up may say that this one has been at work.
pub async fn assert_new(connector: &Connector, joiner: &Joiner<'_>) -> Result<()> {
    let others = joiner.initial_cluster.iter().filter(|(name, _)| name != joiner.name);
    let asked = others.map(|(_, urls)| async {
        let nobody = Hello { cluster_id: 0, from: 0 };
        let mut peer = PeerClient::new(connector.channel(urls), nobody, 0);
        let found = timeout(LOOK, peer.members()).await.ok()?.ok()?;
        Some(check_clock(clock_ms(), &found).and_then(|()| assert_not_begun(joiner, &found)))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// Members work with clocks that differ, and only say so. One that is about to become a member is stopped: leases,
/// tokens and certificates would run out at other times than people see there.
fn check_clock(now_ms: u64, found: &MembersResponse) -> Result<()> {
    let apart = Duration::from_millis(found.clock_ms.abs_diff(now_ms));
    ensure!(
        found.clock_ms == 0 || apart <= MAX_CLOCK_SKEW,
        "clock mismatch: this machine's clock and that of a member are {} s apart: synchronize them, and start again",
        apart.as_secs()
    );
    Ok(())
}

/// A member tells its name once it has begun.
fn assert_not_begun(joiner: &Joiner<'_>, found: &MembersResponse) -> Result<()> {
    let own = found.members.iter().find(|m| m.peer_ur_ls.iter().any(|url| joiner.own_urls.contains(url)));
    let Some(own) = own.filter(|m| !m.name.is_empty()) else { return Ok(()) };
    let (id, data) = (own.id, "its data directory is empty");
    bail!("member {id:x} has already been bootstrapped, and {data}: remove the member, and add it again")
}

/// etcd's rule: the flags must name the members that there are.
fn check(joiner: &Joiner, found: &MembersResponse) -> Result<()> {
    let own = |urls: &[String]| urls.iter().any(|url| joiner.own_urls.contains(url));
    ensure!(
        found.members.iter().any(|m| own(&m.peer_ur_ls)),
        "the cluster does not know this member's peer URLs ({}): add it first, with `etcdctl member add`",
        joiner.own_urls.join(",")
    );
    assert_not_begun(joiner, found)?;
    ensure!(
        found.members.len() == joiner.initial_cluster.len(),
        "error validating peerURLs: the cluster has {} members, --initial-cluster names {}",
        found.members.len(),
        joiner.initial_cluster.len()
    );
    for (name, urls) in joiner.initial_cluster {
        ensure!(
            found.members.iter().any(|m| m.peer_ur_ls.iter().any(|url| urls.contains(url))),
            "error validating peerURLs: no member has {name}'s URLs ({})",
            urls.join(",")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::etcdserverpb::Member;

    #[test]
    fn a_member_that_has_begun_does_not_begin_again() {
        let check = |name: &str, url: &str, may: bool| {
            let member = Member { id: 7, name: name.to_owned(), peer_ur_ls: vec![url.to_owned()], ..Member::default() };
            let found = MembersResponse { cluster_id: 1, members: vec![member], clock_ms: 0 };
            let joiner = Joiner { name: "m0", own_urls: &["http://a:2380".to_owned()], initial_cluster: &[] };
            assert_eq!(assert_not_begun(&joiner, &found).is_ok(), may, "{name:?} at {url}");
        };
        check("m0", "http://a:2380", false);
        check("", "http://a:2380", true);
        check("m1", "http://b:2380", true);
    }

    #[test]
    fn whoever_becomes_a_member_has_the_time_of_the_others() {
        let check = |clock_ms: u64, may: bool| {
            let found = MembersResponse { clock_ms, ..MembersResponse::default() };
            assert_eq!(check_clock(1_000_000, &found).is_ok(), may, "{clock_ms}");
        };
        for clock_ms in [0, 990_000, 1_000_000, 1_010_000] {
            check(clock_ms, true);
        }
        for clock_ms in [1, 989_999, 1_010_001, u64::MAX] {
            check(clock_ms, false);
        }
    }
}
