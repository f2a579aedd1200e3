//! Carries out one job of a pod: volumes, cgroup, sandbox, then its containers one after another.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::recorder::Type;
use cri::v1::{
    CreateContainerRequest, PodSandboxConfig, PodSandboxStatusRequest, RunPodSandboxRequest, StartContainerRequest,
};
use daemon::CancellationToken;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use podsync::{Job, Reason, Start, pod as spec};
use tokio::sync::mpsc;

use crate::container::{config, sandbox};
use crate::context::Context;
use crate::pods::hooks;
use crate::volumes::{self, Volumes};

/// News for the worker while the job runs.
#[derive(Debug)]
pub enum Note {
    Volumes(Volumes),
    Launching(Start),
    /// It runs, and its postStart hook, if it has one, is to come.
    Running,
    /// It runs, and its hook is through.
    Started(String),
    Failed(String, Reason),
    /// Nothing could be started at all.
    Blocked,
}

pub struct Starter {
    pub ctx: Arc<Context>,
    pub pod: Arc<Pod>,
    pub job: Job,
    /// The sandbox in use and its addresses, unless the job makes one.
    pub sandbox: Option<(String, Vec<String>, u32)>,
    /// The pod's volumes as they were set up last.
    pub volumes: Option<Volumes>,
    /// The newest instance of each container, by name.
    pub instances: BTreeMap<String, String>,
    pub notes: mpsc::Sender<Note>,
    /// The pod is to end: no further step is begun. A call to the runtime under way is not cut
    /// off, because the runtime would finish it all the same, unseen.
    pub cancel: CancellationToken,
}

impl Starter {
    pub async fn run(self) {
        if let Err((reason, message)) = self.try_run().await {
            self.ctx.events.pod(&self.pod, Type::Warning, reason, &message);
            self.note(Note::Blocked).await;
        }
    }

    async fn note(&self, note: Note) {
        // The worker outlives its job.
        let _ = self.notes.send(note).await;
    }

    async fn try_run(&self) -> Result<(), (&'static str, String)> {
        let known_ips = self.sandbox.as_ref().map(|(_, ips, _)| ips.clone()).unwrap_or_default();
        let mount = |message: String| ("FailedMount", message);
        let before = config::facts(&self.ctx, &known_ips);
        let earlier = self.volumes.as_ref();
        let mut volumes = volumes::setup(&self.ctx, &self.pod, &before, earlier).await.map_err(mount)?;
        self.ctx.cgroups.create_pod(&self.pod).map_err(|e| ("FailedCreatePodContainer", format!("{e:#}")))?;
        let (id, ips, attempt) = match (&self.sandbox, self.job.create_sandbox) {
            (Some(known), None) => known.clone(),
            (_, _) if self.cancel.is_cancelled() => return Ok(()),
            (_, attempt) => {
                let failed = |why: String| ("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {why}"));
                let handler = self.runtime_handler().await.map_err(failed)?;
                let made = self.create_sandbox(attempt.unwrap_or(0), handler).await;
                let made = made.map_err(|e| failed(e.to_string()))?;
                // Files made from the pod's address could not be right before.
                let facts = config::facts(&self.ctx, &made.1);
                volumes = volumes::setup(&self.ctx, &self.pod, &facts, Some(&volumes)).await.map_err(mount)?;
                made
            }
        };
        self.note(Note::Volumes(volumes.clone())).await;
        let sandbox = sandbox::config(&self.ctx, &self.pod, attempt);
        for start in &self.job.start {
            if self.cancel.is_cancelled() {
                break;
            }
            let Some(container) = spec::container(&self.pod, &start.name) else { continue };
            self.note(Note::Launching(start.clone())).await;
            let launch = Launch { starter: self, container: &container, start, volumes: &volumes, ips: &ips };
            match launch.run(&id, &sandbox).await {
                Ok(()) => self.note(Note::Started(start.name.clone())).await,
                Err(reason) => self.note(Note::Failed(start.name.clone(), reason)).await,
            }
        }
        Ok(())
    }

    /// What the pod's class is called in the runtime's configuration; without a class it is the runtime's default.
    async fn runtime_handler(&self) -> Result<String, String> {
        let name = self.pod.spec.as_ref().and_then(|s| s.runtime_class_name.as_deref()).unwrap_or_default();
        if name.is_empty() {
            return Ok(String::new());
        }
        let unknown = |why: &str| format!("failed to get runtime handler for pod: RuntimeClass {name:?}: {why}");
        let client = self.ctx.api.clone().ok_or_else(|| unknown("there is no API server to ask"))?;
        let class = kube::Api::<RuntimeClass>::all(client).get(name).await;
        class.map(|class| class.handler).map_err(|error| match error {
            kube::Error::Api(status) => unknown(&status.message),
            error => unknown(&error.to_string()),
        })
    }

    async fn create_sandbox(&self, attempt: u32, handler: String) -> cri::Result<(String, Vec<String>, u32)> {
        let dir = sandbox::log_dir(&self.ctx, &self.pod);
        if let Err(error) = std::fs::create_dir_all(&dir) {
            tracing::warn!(%error, dir = %dir.display(), "cannot make the pod's log directory");
        }
        let config = sandbox::config(&self.ctx, &self.pod, attempt);
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler: handler };
        let id = self.ctx.cri.run_pod_sandbox(request).await?.pod_sandbox_id;
        let status =
            self.ctx.cri.pod_sandbox_status(PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: false });
        let network = status.await?.status.and_then(|s| s.network).unwrap_or_default();
        let all = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|a| a.ip));
        let mut ips: Vec<String> = all.filter(|ip| !ip.is_empty()).collect();
        if spec::host_network(&self.pod) {
            ips = self.ctx.host_ips();
        }
        Ok((id, ips, attempt))
    }
}

struct Launch<'a> {
    starter: &'a Starter,
    container: &'a Container,
    start: &'a Start,
    volumes: &'a Volumes,
    ips: &'a [String],
}

impl Launch<'_> {
    async fn run(&self, sandbox_id: &str, sandbox: &PodSandboxConfig) -> Result<(), Reason> {
        let (ctx, pod) = (&self.starter.ctx, &self.starter.pod);
        let image = tokio::select! {
            image = ctx.images.ensure(pod, self.container, sandbox) => image?,
            () = self.starter.cancel.cancelled() => return Err(self.cancelled()),
        };
        let target_id = self.target_id().map_err(|message| self.fail("CreateContainerConfigError", message))?;
        let wanted = config::Wanted {
            pod,
            target_id,
            container: self.container,
            restart_count: self.start.restart_count,
            image: &image,
            volumes: self.volumes,
            pod_ips: self.ips,
        };
        let config = config::build(ctx, &wanted).await;
        let config = config.map_err(|message| self.fail("CreateContainerConfigError", message))?;
        let logs = sandbox::log_dir(ctx, pod).join(&self.container.name);
        std::fs::create_dir_all(&logs).map_err(|e| self.fail("CreateContainerError", e.to_string()))?;
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox.clone()),
        };
        let created = ctx.cri.create_container(request).await;
        let id = created.map_err(|e| self.fail("CreateContainerError", e.message()))?.container_id;
        self.event(Type::Normal, "Created", &format!("Created container: {}", self.container.name));
        let started = ctx.cri.start_container(StartContainerRequest { container_id: id.clone() }).await;
        started.map_err(|e| self.fail("RunContainerError", e.message()))?;
        self.event(Type::Normal, "Started", &format!("Started container {}", self.container.name));
        self.starter.note(Note::Running).await;
        self.post_start(&id).await
    }

    fn target_id(&self) -> Result<Option<&str>, String> {
        let Some(name) = spec::target(&self.starter.pod, &self.container.name) else { return Ok(None) };
        let id = self.starter.instances.get(name);
        id.map(|id| Some(id.as_str())).ok_or_else(|| format!("unable to find target container {name}"))
    }

    async fn post_start(&self, id: &str) -> Result<(), Reason> {
        let Some(handler) = self.container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else {
            return Ok(());
        };
        let (ctx, pod) = (&self.starter.ctx, &self.starter.pod);
        let ip = self.ips.first().map(String::as_str);
        let hook = tokio::select! {
            hook = hooks::run(ctx, pod, self.container, id, ip, handler, std::time::Duration::ZERO) => hook,
            () = self.starter.cancel.cancelled() => return Err(self.cancelled()),
        };
        let Err(error) = hook else { return Ok(()) };
        let message = format!("PostStartHook failed: {error}");
        tracing::error!(pod = spec::full_name(pod), container = self.container.name, error, "PostStartHook failed");
        // Who may read events need not know what a hook says: there may be secrets in it.
        self.event(Type::Warning, "FailedPostStartHook", "PostStartHook failed");
        self.event(Type::Normal, "Killing", "FailedPostStartHook");
        let grace = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
        let _ = ctx.cri.stop_container(id, grace).await;
        Err(Reason::new("PostStartHookError", message))
    }

    fn cancelled(&self) -> Reason {
        Reason::new("ContainerCreating", "")
    }

    fn event(&self, kind: Type, reason: &str, message: &str) {
        self.starter.ctx.events.container(&self.starter.pod, &self.container.name, kind, reason, message);
    }

    fn fail(&self, reason: &str, message: String) -> Reason {
        self.event(Type::Warning, "Failed", &format!("Error: {message}"));
        Reason::new(reason, message)
    }
}
