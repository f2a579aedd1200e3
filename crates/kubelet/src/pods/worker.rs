//! One task per pod: observe, plan, report, act, wait.
//!
//! The worker acts on state only; what wakes it carries no meaning. It never waits for anything
//! slow: jobs and kills are tasks of their own, whose end wakes it again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::recorder::Type;
use cri::v1::{RemoveContainerRequest, RemovePodSandboxRequest, StopPodSandboxRequest};
use daemon::CancellationToken;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use podsync::plan::deadline;
use podsync::{Input, Job, Kill, Memory, Plan, PodRuntime, Reason, Stage, labels, pod as spec};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::container::config;
use crate::context::Context;
use crate::pods::entry::View;
use crate::pods::observe::Observer;
use crate::pods::starter::{Note, Starter};
use crate::pods::{Entry, Pods, killer, publish};
use crate::probes;
use crate::volumes;

/// Notes of a job waiting for the worker.
const NOTES: usize = 32;
/// After the runtime did not answer.
const RUNTIME_RETRY: Duration = Duration::from_secs(1);
/// After a volume could not be brought up to date: doubled each time.
const REFRESH_RETRY: Duration = Duration::from_secs(5);
const REFRESH_RETRY_MOST: Duration = Duration::from_secs(120);
/// After the API server did not take the deletion, or something would not go away.
const FINISH_RETRY: Duration = Duration::from_secs(1);

enum Done {
    Job,
    Killed {
        id: String,
    },
    /// The sandboxes that were.
    Stopped(Vec<String>),
    Refreshed(volumes::Result<volumes::Volumes>),
}

pub struct Worker {
    ctx: Arc<Context>,
    pods: Arc<Pods>,
    entry: Arc<Entry>,
    memory: Memory,
    observer: Observer,
    probes: probes::Manager,
    tasks: JoinSet<Done>,
    job: Option<AbortHandle>,
    cancel: CancellationToken,
    kills: BTreeMap<String, AbortHandle>,
    /// The grace period kills under way were given by a termination.
    kill_grace: Option<i64>,
    stopping: bool,
    notes: (mpsc::Sender<Note>, mpsc::Receiver<Note>),
    volumes: Option<volumes::Volumes>,
    refreshing: bool,
    /// When to try again what could not be brought up to date.
    refresh_again: Option<Timestamp>,
    refresh_pause: Duration,
    states: watch::Sender<Option<PodStatus>>,
    published_to: Option<String>,
    /// Why this node would not take the pod.
    rejected: Option<Reason>,
    admitted: bool,
    /// Once it is to end, it is to end.
    ending: Option<Option<Reason>>,
    released: bool,
    /// The API server has been told that the pod is gone.
    handed_back: bool,
    /// The back-offs events were sent about.
    told: BTreeMap<String, Reason>,
    /// The sandbox an event was sent about.
    told_lost: Option<String>,
}

impl Worker {
    pub fn new(ctx: Arc<Context>, pods: Arc<Pods>, entry: Arc<Entry>) -> Worker {
        let (states, receiver) = watch::channel(None);
        tokio::spawn(publish::run(ctx.clone(), entry.clone(), receiver));
        Worker {
            probes: probes::Manager::new(ctx.clone(), entry.clone()),
            ctx,
            pods,
            entry,
            memory: Memory::default(),
            observer: Observer::default(),
            tasks: JoinSet::new(),
            job: None,
            cancel: CancellationToken::new(),
            kills: BTreeMap::new(),
            kill_grace: None,
            stopping: false,
            notes: mpsc::channel(NOTES),
            volumes: None,
            refreshing: false,
            refresh_again: None,
            refresh_pause: REFRESH_RETRY,
            states,
            published_to: None,
            rejected: None,
            admitted: false,
            ending: None,
            released: false,
            handed_back: false,
            told: BTreeMap::new(),
            told_lost: None,
        }
    }

    pub async fn run(mut self) {
        loop {
            let wake_at = match self.step().await {
                Next::Gone => return,
                Next::At(wake_at) => wake_at,
            };
            self.wait(wake_at).await;
        }
    }

    async fn wait(&mut self, wake_at: Option<Timestamp>) {
        let pause = wake_at.map(|at| at.duration_since(Timestamp::now()).unsigned_abs());
        let late = wake_at.is_some_and(|at| at <= Timestamp::now());
        let timer = async {
            match pause {
                Some(pause) if !late => tokio::time::sleep(pause).await,
                Some(_) => {}
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.entry.woken() => {}
            () = timer => {}
            Some(note) = self.notes.1.recv() => self.take_note(note),
            Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => self.take_done(done.ok()),
        }
    }

    fn take_note(&mut self, note: Note) {
        let now = Timestamp::now();
        match note {
            Note::Volumes(volumes) => self.take_volumes(volumes),
            Note::Launching(start) => {
                self.told.remove(&start.name);
                self.memory.record_start(&start, now);
            }
            // Clients find it from now on, its hook may take long.
            Note::Running => {}
            Note::Started(name) => self.memory.record_started(&name),
            Note::Failed(name, reason) => self.memory.record_failure(&name, reason, now),
            Note::Blocked => self.memory.record_job_failure(now),
        }
    }

    fn take_done(&mut self, done: Option<Done>) {
        match done {
            Some(Done::Killed { id }) => {
                self.memory.killing.remove(&id);
                self.kills.remove(&id);
            }
            Some(Done::Stopped(ids)) => {
                self.stopping = false;
                self.memory.stopped.extend(ids);
            }
            Some(Done::Refreshed(result)) => {
                self.refreshing = false;
                match result {
                    Ok(volumes) => self.take_volumes(volumes),
                    Err(message) => self.retry_volumes(&[message]),
                }
            }
            // A kill that was replaced ends as an error here; the one that replaced it counts.
            Some(Done::Job) | None => {}
        }
        if self.job.as_ref().is_some_and(AbortHandle::is_finished) {
            while let Ok(note) = self.notes.1.try_recv() {
                self.take_note(note);
            }
            self.job = None;
            self.memory.busy = false;
            self.memory.launching.clear();
        }
    }

    fn take_volumes(&mut self, volumes: volumes::Volumes) {
        self.refresh_again = None;
        if volumes.failures.is_empty() {
            self.refresh_pause = REFRESH_RETRY;
        } else {
            self.retry_volumes(&volumes.failures);
        }
        self.volumes = Some(volumes);
    }

    /// Less and less often: what can be watched tells when there is something new.
    fn retry_volumes(&mut self, failures: &[String]) {
        let pod = self.entry.desired().pod;
        for message in failures {
            self.ctx.events.pod(&pod, Type::Warning, "FailedMount", message);
        }
        self.refresh_again = Some(Timestamp::now() + self.refresh_pause);
        self.refresh_pause = (self.refresh_pause * 2).min(REFRESH_RETRY_MOST);
    }

    async fn step(&mut self) -> Next {
        let runtime = match self.observer.observe(&self.ctx, &self.entry.uid).await {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::warn!(%error, pod = self.entry.uid, "cannot read the pod's state from the runtime");
                return Next::At(Some(Timestamp::now() + RUNTIME_RETRY));
            }
        };
        let now = Timestamp::now();
        let pod = Arc::new(self.entry.pod());
        // Whatever is under way may have read what was before: the mark stays until the end of that.
        let marked = !self.refreshing && !self.memory.busy && self.pods.take_stale(&self.entry.uid);
        if marked {
            // What the last job lacked may be there now.
            self.memory.retry_at = None;
        }
        let stage = self.stage(&pod, &runtime, now);
        let verdicts = self.entry.probes.lock().clone();
        let input = Input { pod: &pod, stage: &stage, runtime: &runtime, memory: &self.memory, probes: &verdicts, now };
        let mut plan = podsync::plan(&input);
        let status = match &self.rejected {
            Some(why) => podsync::admit::rejected(&pod, why, now),
            None => podsync::status(&input, &plan, &self.ctx.host_ips()),
        };
        self.entry.set_view(View { runtime: runtime.clone(), status: Some(status.clone()) });
        self.publish(&status);
        self.probes.sync(&pod, &runtime, &self.memory.launching, matches!(stage, Stage::Run));
        self.act(&pod, &stage, &runtime, &mut plan).await;
        if plan.finished && self.tasks.is_empty() {
            return self.finish(&pod, &runtime, &status).await;
        }
        if matches!(stage, Stage::Run) {
            self.refresh_volumes(&pod, &runtime, marked, now);
        }
        Next::At([plan.wake_at, self.refresh_at()].into_iter().flatten().min())
    }

    fn stage(&mut self, pod: &Pod, runtime: &PodRuntime, now: Timestamp) -> Stage {
        let desired = self.entry.desired();
        if !self.admitted && self.rejected.is_none() {
            self.admit(pod, runtime);
        }
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        if let Some(reason) = &self.rejected {
            self.ending = Some(Some(reason.clone()));
        } else if self.ending.is_none() {
            if deadline(pod).is_some_and(|end| end <= now) {
                let message = "Pod was active on the node longer than the specified deadline";
                self.ctx.events.pod(pod, Type::Normal, "DeadlineExceeded", message);
                self.ending = Some(Some(Reason::new("DeadlineExceeded", message)));
            } else if pod.metadata.deletion_timestamp.is_some()
                || desired.removed
                || matches!(phase, Some("Failed" | "Succeeded"))
            {
                self.ending = Some(None);
            }
        }
        match &self.ending {
            None => Stage::Run,
            Some(failed) => {
                let grace_seconds = spec::grace_period(pod).max(1);
                Stage::Terminate { grace_seconds, failed: failed.clone() }
            }
        }
    }

    /// A pod that already has something running here was admitted by an earlier kubelet.
    fn admit(&mut self, pod: &Pod, runtime: &PodRuntime) {
        self.admitted = true;
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        let over = pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Failed" | "Succeeded"));
        if over || !runtime.sandboxes.is_empty() || spec::is_static(pod) {
            return;
        }
        let others = self.pods.active_except(&self.entry.uid);
        let node = self.ctx.node.read().clone();
        let (allocatable, sysctls) = (&self.ctx.machine.allocatable, &self.ctx.settings.config.allowed_unsafe_sysctls);
        let others = others.iter().map(AsRef::as_ref);
        if let Err(reason) = podsync::admit::admit(pod, others, allocatable, node.as_deref(), sysctls) {
            self.ctx.events.pod(pod, Type::Warning, &reason.reason, &reason.message);
            self.rejected = Some(reason);
        }
    }

    fn publish(&mut self, status: &PodStatus) {
        let target = publish::shown(&self.entry).and_then(|pod| pod.metadata.uid.clone());
        let known = self.states.borrow().as_ref() == Some(status) && self.published_to == target;
        if !known || publish::was_overwritten(&self.entry, status) {
            self.published_to = target;
            self.states.send_replace(Some(status.clone()));
        }
    }

    async fn act(&mut self, pod: &Arc<Pod>, stage: &Stage, runtime: &PodRuntime, plan: &mut Plan) {
        if let Stage::Terminate { grace_seconds, .. } = stage {
            self.hurry(*grace_seconds);
            self.cancel.cancel();
        }
        for (name, reason) in plan.held_back.drain(..) {
            self.tell_back_off(pod, &name, &reason);
        }
        self.memory.record_displaced(std::mem::take(&mut plan.displaced), runtime);
        if let Some(id) = plan.lost_sandbox.take() {
            self.tell_lost(pod, id);
        }
        let ip = pod.status.as_ref().and_then(|s| s.pod_ip.clone());
        for kill in plan.kills.drain(..) {
            self.kill(pod, kill, ip.clone());
        }
        if !plan.stop_sandboxes.is_empty() && !self.stopping {
            self.stop_sandboxes(std::mem::take(&mut plan.stop_sandboxes));
        }
        self.collect(pod, runtime, plan).await;
        if let Some(job) = plan.job.take() {
            self.start(pod, runtime, job);
        }
    }

    fn start(&mut self, pod: &Arc<Pod>, runtime: &PodRuntime, job: Job) {
        let current = runtime.current_sandbox(spec::host_network(pod));
        let ips = |s: &podsync::Sandbox| if spec::host_network(pod) { self.ctx.host_ips() } else { s.ips.clone() };
        let sandbox = current.map(|s| (s.id.clone(), ips(s), s.attempt));
        let mut instances = BTreeMap::new();
        for container in &runtime.containers {
            instances.entry(container.name.clone()).or_insert_with(|| container.id.clone());
        }
        let (ctx, notes) = (self.ctx.clone(), self.notes.0.clone());
        let (volumes, cancel) = (self.volumes.clone(), self.cancel.clone());
        let starter = Starter { ctx, pod: pod.clone(), job, sandbox, volumes, instances, notes, cancel };
        self.memory.busy = true;
        self.job = Some(self.tasks.spawn(async move {
            Box::pin(starter.run()).await;
            Done::Job
        }));
    }

    /// Once per back-off, not once per look at it.
    fn tell_back_off(&mut self, pod: &Pod, name: &str, reason: &Reason) {
        if self.told.insert(name.to_owned(), reason.clone()).as_ref() == Some(reason) {
            return;
        }
        let events = &self.ctx.events;
        if reason.reason == "CrashLoopBackOff" {
            let text = format!("Back-off restarting failed container {name} in pod {}", spec::full_name(pod));
            events.container(pod, name, Type::Warning, "BackOff", &text);
        } else {
            let image = spec::container(pod, name).and_then(|c| c.image).unwrap_or_default();
            events.container(pod, name, Type::Normal, "BackOff", &format!("Back-off pulling image {image:?}"));
            events.container(pod, name, Type::Warning, "Failed", &format!("Error: {}", reason.reason));
        }
    }

    /// A termination with less grace than the one under way replaces it.
    fn hurry(&mut self, grace_seconds: i64) {
        if self.kill_grace.is_some_and(|given| grace_seconds < given) || self.kill_grace.is_none() {
            for (id, kill) in std::mem::take(&mut self.kills) {
                kill.abort();
                self.memory.killing.remove(&id);
            }
            self.kill_grace = Some(grace_seconds);
        }
    }

    fn kill(&mut self, pod: &Arc<Pod>, kill: Kill, ip: Option<String>) {
        if !self.memory.killing.insert(kill.id.clone()) {
            return;
        }
        let (ctx, pod, id) = (self.ctx.clone(), pod.clone(), kill.id.clone());
        let handle = self.tasks.spawn(async move {
            if let Err(error) = killer::run(&ctx, &pod, &kill, ip.as_deref()).await {
                tracing::warn!(%error, container = kill.id, "cannot stop the container");
                tokio::time::sleep(RUNTIME_RETRY).await;
            }
            Done::Killed { id: kill.id }
        });
        self.kills.insert(id, handle);
    }

    /// Once per sandbox.
    fn tell_lost(&mut self, pod: &Pod, id: String) {
        if self.told_lost.as_ref() != Some(&id) {
            let text = "Pod sandbox changed, it will be killed and re-created.";
            self.ctx.events.pod(pod, Type::Normal, "SandboxChanged", text);
            self.told_lost = Some(id);
        }
    }

    fn stop_sandboxes(&mut self, ids: Vec<String>) {
        self.stopping = true;
        let ctx = self.ctx.clone();
        self.tasks.spawn(async move {
            let mut stopped = Vec::new();
            for id in ids {
                let asked = ctx.cri.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id.clone() }).await;
                match asked {
                    Err(error) if !error.is_not_found() => {
                        tracing::warn!(%error, sandbox = id, "cannot stop the sandbox");
                        tokio::time::sleep(RUNTIME_RETRY).await;
                    }
                    _ => stopped.push(id),
                }
            }
            Done::Stopped(stopped)
        });
    }

    async fn collect(&mut self, pod: &Pod, runtime: &PodRuntime, plan: &mut Plan) {
        for id in plan.remove_containers.drain(..) {
            remove_container(&self.ctx, &id).await;
            if let Some(container) = runtime.containers.iter().find(|c| c.id == id) {
                let logs = crate::container::sandbox::log_dir(&self.ctx, pod).join(&container.name);
                crate::server::logs::remove(&logs, container.restart_count);
            }
        }
        for id in plan.remove_sandboxes.drain(..) {
            remove_sandbox(&self.ctx, &id).await;
        }
    }

    /// Volumes made of API objects follow those; so they must after a restart of the kubelet.
    fn refresh_volumes(&mut self, pod: &Arc<Pod>, runtime: &PodRuntime, marked: bool, now: Timestamp) {
        // A job that was just begun sets them up by itself.
        if self.refreshing || self.memory.busy {
            return;
        }
        let due = self.refresh_at().is_some_and(|at| at <= now);
        let stale = match &self.volumes {
            Some(_) => marked || due,
            None => runtime.any_running() && (due || self.refresh_again.is_none()),
        };
        if !stale {
            return;
        }
        self.refreshing = true;
        self.refresh_again = None;
        let (ctx, pod, earlier) = (self.ctx.clone(), pod.clone(), self.volumes.clone());
        let ips = pod.status.as_ref().and_then(|s| s.pod_ips.clone()).unwrap_or_default();
        let ips: Vec<String> = ips.into_iter().map(|ip| ip.ip).collect();
        self.tasks.spawn(async move {
            let facts = config::facts(&ctx, &ips);
            Done::Refreshed(volumes::setup(&ctx, &pod, &facts, earlier.as_ref()).await)
        });
    }

    /// The end of what is under way wakes the worker by itself.
    fn refresh_at(&self) -> Option<Timestamp> {
        let next = self.refresh_again.or_else(|| self.volumes.as_ref().and_then(|v| v.refresh_at));
        next.filter(|_| !self.refreshing && !self.memory.busy)
    }

    /// Nothing runs any more. Resources go; the pod itself only when its source wants it gone.
    async fn finish(&mut self, pod: &Pod, runtime: &PodRuntime, status: &PodStatus) -> Next {
        let desired = self.entry.desired();
        if !self.released {
            self.release(pod);
        }
        let deleted = pod.metadata.deletion_timestamp.is_some() || desired.removed;
        if !deleted {
            return Next::At(None);
        }
        let again = Next::At(Some(Timestamp::now() + FINISH_RETRY));
        if !self.handed_back {
            if let Err(error) = self.hand_back(&desired, status).await {
                tracing::warn!(%error, pod = self.entry.uid, "cannot finish the pod's deletion at the API server");
                return again;
            }
            self.handed_back = true;
        }
        let mut gone = true;
        for container in &runtime.containers {
            gone &= remove_container(&self.ctx, &container.id).await;
        }
        for sandbox in &runtime.sandboxes {
            gone &= remove_sandbox(&self.ctx, &sandbox.id).await;
        }
        if !(gone && self.released && self.ctx.cgroups.remove_pod(&self.entry.uid)) {
            return again;
        }
        let logs = crate::container::sandbox::log_dir(&self.ctx, pod);
        let _ = std::fs::remove_dir_all(logs);
        self.pods.forget(&self.entry.uid);
        Next::Gone
    }

    fn release(&mut self, pod: &Pod) {
        let dir = self.ctx.settings.pod_dir(spec::uid(pod));
        match volumes::remove_pod_dir(&dir) {
            Ok(()) => self.released = true,
            Err(error) => tracing::warn!(%error, dir = %dir.display(), "cannot remove the pod's volumes yet"),
        }
        self.ctx.tokens.forget(&self.entry.uid);
        self.ctx.cgroups.remove_pod(&self.entry.uid);
        self.volumes = None;
    }

    async fn hand_back(&mut self, desired: &crate::pods::entry::Desired, status: &PodStatus) -> kube::Result<()> {
        let shown = if spec::is_static(&desired.pod) { desired.mirror.clone() } else { Some(desired.pod.clone()) };
        let Some(object) = shown.filter(|_| !desired.removed || spec::is_static(&desired.pod)) else {
            return Ok(());
        };
        publish::write(&self.ctx, &self.entry, status).await?;
        publish::delete(&self.ctx, &object).await
    }
}

enum Next {
    At(Option<Timestamp>),
    Gone,
}

/// Whether it is gone.
pub async fn remove_container(ctx: &Context, id: &str) -> bool {
    let removed = ctx.cri.remove_container(RemoveContainerRequest { container_id: id.to_owned() }).await;
    is_gone(removed, id)
}

pub async fn remove_sandbox(ctx: &Context, id: &str) -> bool {
    let removed = ctx.cri.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() }).await;
    is_gone(removed, id)
}

fn is_gone<T>(removed: cri::Result<T>, id: &str) -> bool {
    match removed {
        Err(error) if !error.is_not_found() => {
            tracing::debug!(%error, id, "cannot remove it yet");
            false
        }
        _ => true,
    }
}

/// The uid in a sandbox's or container's labels.
pub fn uid_of(labels: &std::collections::HashMap<String, String>) -> Option<String> {
    labels.get(labels::POD_UID).cloned()
}
