//! Carries a plan out. Every step compares before it changes, so a sync that finds all in place changes nothing.

use std::sync::Arc;

use anyhow::Context;
use netfilter::Iptables;
use tokio::sync::Notify;

use crate::cni;
use crate::config::Config;
use crate::plan::Plan;
use crate::routes::Netlink;
use crate::rules;
use crate::sysctl;

pub struct Network {
    config: Config,
    netlink: Netlink,
    random_fully: bool,
    /// The rules as last written, per IP family: rewritten when the plan changes, or when they are gone.
    written: [Option<String>; 2],
}

impl Network {
    /// `lost` is notified when something that was brought about is gone.
    pub async fn new(config: Config, lost: Arc<Notify>) -> anyhow::Result<Self> {
        let random_fully = Iptables::V4.has_random_fully().await.context("iptables is needed")?;
        Ok(Self { config, netlink: Netlink::connect(lost)?, random_fully, written: [None, None] })
    }

    pub async fn sync(&mut self, plan: &Plan) -> anyhow::Result<()> {
        sysctl::apply(plan.pod_cidrs.iter().any(|cidr| cidr.addr().is_ipv6()))?;
        self.sync_rules(plan).await?;
        // A route that cannot be made yet, as its node is down, must not keep local pods from starting.
        let routed = self.netlink.sync(&plan.routes).await;
        cni::write(&self.config.cni_conf_dir, &cni::render(&self.config, &plan.pod_cidrs))?;
        routed.map_err(anyhow::Error::from)
    }

    async fn sync_rules(&mut self, plan: &Plan) -> anyhow::Result<()> {
        for (family, written) in self.written.iter_mut().enumerate() {
            let of_family = |cidr: &&ipnet::IpNet| cidr.addr().is_ipv4() == (family == 0);
            let pod_cidr = plan.pod_cidrs.iter().find(of_family);
            let cluster_cidr = self.config.cluster_cidrs.iter().find(of_family);
            let (Some(pod_cidr), Some(cluster_cidr)) = (pod_cidr, cluster_cidr) else { continue };
            let wanted = format!("{pod_cidr} {cluster_cidr}");
            if written.as_ref() == Some(&wanted) {
                continue;
            }
            let iptables = iptables(family);
            let save = iptables.save().await.context("cannot read the rules")?;
            let text = rules::render(*pod_cidr, *cluster_cidr, self.random_fully, &save);
            iptables.restore(&text).await.context("cannot write the masquerade rules")?;
            *written = Some(wanted);
        }
        Ok(())
    }

    /// Are the rules still there? If somebody flushed them, the next sync writes them again.
    pub async fn rules_live(&mut self) -> bool {
        let mut live = true;
        for (family, written) in self.written.iter_mut().enumerate().filter(|(_, written)| written.is_some()) {
            match iptables(family).save().await {
                Ok(save) if rules::are_live(&save) => {}
                Ok(_) => {
                    live = false;
                    *written = None;
                }
                Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "cannot look for the rules"),
            }
        }
        live
    }
}

pub(crate) fn iptables(family: usize) -> Iptables {
    if family == 0 { Iptables::V4 } else { Iptables::V6 }
}
