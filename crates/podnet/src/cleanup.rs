//! `--cleanup`: removes the CNI configuration first, so that no pod starts meanwhile, then rules, routes and bridge.

use std::sync::Arc;

use anyhow::Context;
use tokio::sync::Notify;

use crate::cni;
use crate::config::Flags;
use crate::routes::{Netlink, Routes};
use crate::rules;
use crate::sync::iptables;

pub async fn run(flags: &Flags) -> anyhow::Result<()> {
    cni::remove(&flags.cni_conf_dir)?;
    for family in [0, 1] {
        let iptables = iptables(family);
        let save = match iptables.save().await {
            Ok(save) => save,
            // A host may lack ip6tables; then there is nothing of ours to remove.
            Err(error) if family == 1 => {
                tracing::debug!(%error, "no IPv6 rules");
                continue;
            }
            Err(error) => return Err(error).context("cannot read the rules"),
        };
        let text = rules::cleanup(&save);
        if !text.is_empty() {
            iptables.restore(&text).await.context("cannot remove the rules")?;
        }
    }
    let netlink = Netlink::connect(Arc::new(Notify::new()))?;
    netlink.sync(&Routes::new()).await?;
    netlink.delete_link(&flags.bridge_name).await?;
    Ok(())
}
