//! Joining a cluster that is there: ask its members who they are, and find oneself among them.

use anyhow::{Result, bail, ensure};

use super::client::PeerClient;
use super::connect::Connector;
use super::hello::Hello;
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
                check(joiner, &found)?;
                return Ok(found);
            }
            Err(status) => failures.push(format!("{name} ({}): {}", urls.join(","), status.message())),
        }
    }
    bail!("cannot fetch the cluster's members from any peer: {}", failures.join("; "))
}

/// etcd's rule: the flags must name the members that there are.
fn check(joiner: &Joiner, found: &MembersResponse) -> Result<()> {
    let own = |urls: &[String]| urls.iter().any(|url| joiner.own_urls.contains(url));
    ensure!(
        found.members.iter().any(|m| own(&m.peer_ur_ls)),
        "the cluster does not know this member's peer URLs ({}): add it first, with `etcdctl member add`",
        joiner.own_urls.join(",")
    );
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
