//! Registers the node and keeps its status current.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::recorder::{Type, reference};
use cri::v1::{
    ListImagesRequest, NetworkConfig, RuntimeConfig, StatusRequest, UpdateRuntimeConfigRequest, VersionRequest,
};
use daemon::CancellationToken;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeSpec, ObjectReference};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::Notify;

use crate::context::Context;
use crate::node::status::{self, Observed};
use crate::node::{capacity, pressure};

const RETRY: Duration = Duration::from_secs(1);
/// While the node is not Ready its status is looked at more often.
const UNREADY: Duration = Duration::from_millis(500);

/// A runtime that does not answer counts as down after this; upstream's patience. Until then its containers go on, and so
/// does what was last seen of it.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(30);

pub struct Registrar {
    ctx: Arc<Context>,
    api: Api<Node>,
    /// Rung when the node's object changed: a pod range may have come.
    pub changed: Arc<Notify>,
    announced: Option<String>,
    reported: Option<Instant>,
    was_ready: bool,
    was_cordoned: bool,
    /// When the runtime last answered, and what.
    last_seen: Option<(Instant, Observed)>,
}

/// The recorder's subject for events about the node: upstream uses its name as uid.
pub fn node_reference(name: &str) -> ObjectReference {
    let mut node = Node::default();
    node.metadata.name = Some(name.to_owned());
    node.metadata.uid = Some(name.to_owned());
    reference(&node)
}

impl Registrar {
    pub fn new(ctx: Arc<Context>, client: kube::Client, changed: Arc<Notify>) -> Registrar {
        Registrar {
            ctx,
            api: Api::all(client),
            changed,
            announced: None,
            reported: None,
            was_ready: false,
            was_cordoned: false,
            last_seen: None,
        }
    }

    pub async fn run(mut self, token: CancellationToken) {
        let work = async {
            loop {
                let pause = match self.sync().await {
                    Ok(()) if self.was_ready => self.ctx.settings.config.node_status_update_frequency,
                    Ok(()) => UNREADY,
                    Err(error) => {
                        tracing::warn!(%error, "cannot update the node");
                        RETRY
                    }
                };
                tokio::select! { () = tokio::time::sleep(pause) => {}, () = self.changed.notified() => {} }
            }
        };
        tokio::select! { () = token.cancelled() => {}, () = work => {} }
    }

    async fn sync(&mut self) -> kube::Result<()> {
        let name = self.ctx.settings.node_name.clone();
        let known = self.ctx.node.read().clone();
        let node = match known {
            Some(node) => node,
            None => match self.api.get_opt(&name).await? {
                Some(node) => Arc::new(self.reconcile(node).await?),
                None if self.ctx.settings.config.register_node => Arc::new(self.create().await?),
                None => return Ok(()),
            },
        };
        self.announce(&node).await;
        let seen = self.observe_patiently().await;
        let port = self.ctx.settings.config.port;
        let new = status::build(&self.ctx.machine, &name, port, Some(&node), &seen, Timestamp::now());
        let ready = seen.runtime_version.is_some() && seen.not_ready.is_empty();
        let old = node.status.clone().unwrap_or_default();
        let due = self.reported.is_none_or(|at| at.elapsed() >= self.ctx.settings.config.node_status_report_frequency);
        let mut current = node;
        if due || differs_from(&old, &new) {
            current = Arc::new(self.write(&name, &new).await?);
            self.reported = Some(Instant::now());
            status::pressure_events(&old, &new).into_iter().for_each(|reason| self.tell(&name, reason));
        }
        self.tell_schedulable(&name, &current);
        *self.ctx.node.write() = Some(current);
        if ready != self.was_ready {
            self.was_ready = ready;
            let reason = if ready { "NodeReady" } else { "NodeNotReady" };
            self.tell(&name, reason);
        }
        Ok(())
    }

    fn tell(&self, name: &str, reason: &str) {
        let text = format!("Node {name} status is now: {reason}");
        self.ctx.events.node(&node_reference(name), Type::Normal, reason, &text);
    }

    fn tell_schedulable(&mut self, name: &str, node: &Node) {
        let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or_default();
        if std::mem::replace(&mut self.was_cordoned, cordoned) != cordoned {
            self.tell(name, if cordoned { "NodeNotSchedulable" } else { "NodeSchedulable" });
        }
    }

    /// Conditions and addresses merge by type; what is not named stays.
    async fn write(&self, name: &str, status: &k8s_openapi::api::core::v1::NodeStatus) -> kube::Result<Node> {
        let patch = Patch::Strategic(json!({"status": status}));
        self.api.patch_status(name, &PatchParams::default(), &patch).await
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.ctx.settings.node_labels.clone();
        for prefix in ["kubernetes.io", "beta.kubernetes.io"] {
            labels.insert(format!("{prefix}/os"), "linux".into());
            labels.insert(format!("{prefix}/arch"), capacity::architecture().into());
        }
        labels.insert("kubernetes.io/hostname".into(), self.ctx.settings.node_name.clone());
        labels
    }

    async fn create(&self) -> kube::Result<Node> {
        let mut node = Node::default();
        node.metadata.name = Some(self.ctx.settings.node_name.clone());
        node.metadata.labels = Some(self.labels());
        node.spec = Some(NodeSpec {
            taints: Some(self.ctx.settings.taints.clone()).filter(|t| !t.is_empty()),
            provider_id: self.ctx.settings.config.provider_id.clone(),
            ..NodeSpec::default()
        });
        let seen = self.observe().await;
        let settings = &self.ctx.settings;
        let now = Timestamp::now();
        node.status =
            Some(status::build(&self.ctx.machine, &settings.node_name, settings.config.port, None, &seen, now));
        let node = self.api.create(&PostParams::default(), &node).await?;
        tracing::info!(node = settings.node_name, "node registered");
        Ok(node)
    }

    /// A node object that was here before: our labels may have changed.
    async fn reconcile(&self, node: Node) -> kube::Result<Node> {
        let labels = self.labels();
        let old = node.metadata.labels.clone().unwrap_or_default();
        if labels.iter().all(|(key, value)| old.get(key) == Some(value)) {
            return Ok(node);
        }
        let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
        self.api.patch(&self.ctx.settings.node_name, &PatchParams::default(), &patch).await
    }

    /// Runtimes that write their own CNI configuration want to know the pod range.
    async fn announce(&mut self, node: &Node) {
        let Some(cidr) = node.spec.as_ref().and_then(|s| s.pod_cidrs.clone()).map(|all| all.join(",")) else { return };
        if self.announced.as_ref() == Some(&cidr) {
            return;
        }
        let network_config = Some(NetworkConfig { pod_cidr: cidr.clone() });
        let request = UpdateRuntimeConfigRequest { runtime_config: Some(RuntimeConfig { network_config }) };
        match self.ctx.cri.update_runtime_config(request).await {
            Ok(_) => self.announced = Some(cidr),
            Err(error) => tracing::warn!(%error, cidr, "cannot tell the runtime its pod range"),
        }
    }

    async fn observe_patiently(&mut self) -> Observed {
        let seen = self.observe().await;
        if seen.runtime_version.is_some() {
            self.last_seen = Some((Instant::now(), seen.clone()));
            return seen;
        }
        match &self.last_seen {
            Some((at, last)) if at.elapsed() < RUNTIME_PATIENCE => Observed {
                runtime_version: last.runtime_version.clone(),
                not_ready: last.not_ready.clone(),
                images: last.images.clone(),
                ..seen
            },
            _ => seen,
        }
    }

    async fn observe(&self) -> Observed {
        let mut seen = Observed { pressures: pressure::pressures(&self.ctx).await, ..Observed::default() };
        let Ok(version) = self.ctx.cri.version(VersionRequest { version: "v1".into() }).await else { return seen };
        seen.runtime_version = Some(format!("{}://{}", version.runtime_name, version.runtime_version));
        match self.ctx.cri.status(StatusRequest { verbose: false }).await {
            Ok(answer) => seen.not_ready = answer.status.map(|s| not_ready(&s.conditions)).unwrap_or_default(),
            Err(error) => seen.not_ready.push(format!("container runtime status check failed: {error}")),
        }
        let images = self.ctx.cri.list_images(ListImagesRequest::default()).await;
        seen.images = images.map(|list| list.images).unwrap_or_default();
        seen
    }
}

fn not_ready(conditions: &[cri::v1::RuntimeCondition]) -> Vec<String> {
    let name = |type_: &str| if type_ == "NetworkReady" { "container runtime network" } else { "container runtime" };
    let bad = conditions.iter().filter(|c| !c.status && matches!(c.r#type.as_str(), "RuntimeReady" | "NetworkReady"));
    bad.map(|c| {
        format!("{} not ready: {}={} reason:{} message:{}", name(&c.r#type), c.r#type, c.status, c.reason, c.message)
    })
    .collect()
}

/// Compared in what we report only: the server keeps more in a status than this node writes.
fn differs_from(old: &k8s_openapi::api::core::v1::NodeStatus, new: &k8s_openapi::api::core::v1::NodeStatus) -> bool {
    let mut base = new.clone();
    base.conditions.clone_from(&old.conditions);
    base.addresses.clone_from(&old.addresses);
    base.capacity.clone_from(&old.capacity);
    base.allocatable.clone_from(&old.allocatable);
    base.images.clone_from(&old.images);
    base.node_info.clone_from(&old.node_info);
    status::differs(&base, new)
}
