//! `--cleanup`: removes every rule and chain of kube-proxy from the kernel, of either IP family.

use anyhow::Context;
use netfilter::Iptables;
use proxyrules::{Family, cleanup};

pub async fn run() -> anyhow::Result<()> {
    for family in [Family::V4, Family::V6] {
        let iptables = iptables(family);
        let save = match iptables.save().await {
            Ok(save) => save,
            // A host may lack ip6tables; then there is nothing of ours to remove.
            Err(error) if family == Family::V6 => {
                tracing::debug!(%error, "no IPv6 rules");
                continue;
            }
            Err(error) => return Err(error).context("cannot read the rules"),
        };
        let text = cleanup(&save);
        if !text.is_empty() {
            iptables.restore(&text).await.context("cannot remove the rules")?;
        }
    }
    Ok(())
}

pub(crate) fn iptables(family: Family) -> Iptables {
    match family {
        Family::V4 => Iptables::V4,
        Family::V6 => Iptables::V6,
    }
}
