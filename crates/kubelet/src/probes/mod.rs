//! Probes: one task per probe of a running container, its verdicts kept in the pod's entry.

pub mod grpc;
pub mod http;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use client::recorder::Type;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use podsync::probe::{Kind, Machine, Timing};
use podsync::{Outcome, PodRuntime, State, pod as spec};
use tokio::task::AbortHandle;

use crate::context::Context;
use crate::pods::Entry;

pub struct Manager {
    ctx: Arc<Context>,
    entry: Arc<Entry>,
    running: BTreeMap<(String, Kind), AbortHandle>,
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.running.values().for_each(AbortHandle::abort);
    }
}

fn probe_of(container: &Container, kind: Kind) -> Option<&Probe> {
    match kind {
        Kind::Startup => container.startup_probe.as_ref(),
        Kind::Readiness => container.readiness_probe.as_ref(),
        Kind::Liveness => container.liveness_probe.as_ref(),
    }
}

impl Manager {
    pub fn new(ctx: Arc<Context>, entry: Arc<Entry>) -> Manager {
        Manager { ctx, entry, running: BTreeMap::new() }
    }

    /// Probes exactly what runs. A pod that is ending is only asked whether it is still ready.
    /// What is in its postStart hook is not asked anything yet.
    pub fn sync(&mut self, pod: &Arc<Pod>, runtime: &PodRuntime, launching: &BTreeSet<String>, alive: bool) {
        let ids: Vec<&String> = runtime.containers.iter().filter(|c| c.is_running()).map(|c| &c.id).collect();
        self.running.retain(|(id, kind), task| {
            let keep = ids.contains(&id) && (alive || *kind == Kind::Readiness) && !task.is_finished();
            if !keep {
                task.abort();
            }
            keep || task.is_finished() && ids.contains(&id)
        });
        self.entry.probes.lock().retain(|id, _| runtime.containers.iter().any(|c| &c.id == id) || ids.is_empty());
        if !alive {
            return;
        }
        for instance in runtime.containers.iter().filter(|c| !launching.contains(&c.name)) {
            let State::Running { started_at } = instance.state else { continue };
            let Some(container) = spec::container(pod, &instance.name) else { continue };
            for kind in [Kind::Startup, Kind::Readiness, Kind::Liveness] {
                let key = (instance.id.clone(), kind);
                let Some(probe) = probe_of(&container, kind).filter(|_| !self.running.contains_key(&key)) else {
                    continue;
                };
                let task = Task {
                    ctx: self.ctx.clone(),
                    entry: self.entry.clone(),
                    container: container.clone(),
                    probe: probe.clone(),
                    id: instance.id.clone(),
                    kind,
                    started_at,
                };
                self.running.insert(key, tokio::spawn(task.run()).abort_handle());
            }
        }
    }
}

struct Task {
    ctx: Arc<Context>,
    entry: Arc<Entry>,
    container: Container,
    probe: Probe,
    id: String,
    kind: Kind,
    started_at: Timestamp,
}

impl Task {
    async fn run(self) {
        let timing = Timing::of(&self.probe);
        let mut machine = Machine::new(self.kind, timing);
        self.first_pause(timing).await;
        let mut ticks = tokio::time::interval(timing.period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let started = self.is_started();
            if machine.is_over(started) {
                return;
            }
            if machine.due(started, self.started_at, Timestamp::now()) {
                self.once(&mut machine, timing.timeout).await;
            } else if !started && self.kind != Kind::Startup {
                // Look again soon after the startup probe's verdict rather than a period later.
                ticks.reset_after(timing.period.min(Duration::from_secs(1)));
            }
        }
    }

    /// A container that has just started is probed after its delay; after a kubelet restart the
    /// probes of a full node are spread over their period.
    async fn first_pause(&self, timing: Timing) {
        let age = Timestamp::now().duration_since(self.started_at);
        let age = Duration::try_from(age).unwrap_or_default();
        let pause = match timing.initial_delay.checked_sub(age) {
            Some(rest) => rest,
            None if age > timing.period => timing.period.mul_f64(rand::random::<f64>()),
            None => Duration::ZERO,
        };
        tokio::time::sleep(pause).await;
    }

    fn is_started(&self) -> bool {
        self.container.startup_probe.is_none()
            || self.entry.probes.lock().get(&self.id).is_some_and(|p| p.startup == Some(Outcome::Success))
    }

    async fn once(&self, machine: &mut Machine, timeout: Duration) {
        let outcome = match self.probe(timeout).await {
            Ok(()) => Outcome::Success,
            Err(message) => {
                let pod = self.entry.desired().pod;
                let text = format!("{} probe failed: {message}", self.kind.name());
                self.ctx.events.container(&pod, &self.container.name, Type::Warning, "Unhealthy", &text);
                Outcome::Failure
            }
        };
        if let Some(verdict) = machine.step(outcome) {
            self.entry.probes.lock().entry(self.id.clone()).or_default().set(self.kind, verdict);
            self.entry.wake();
        }
    }

    async fn probe(&self, timeout: Duration) -> Result<(), String> {
        if let Some(exec) = &self.probe.exec {
            return self.exec(exec.command.clone().unwrap_or_default(), timeout).await;
        }
        let ips = self.entry.view().status.and_then(|s| s.pod_ip);
        let ip = ips.unwrap_or_default();
        if let Some(get) = &self.probe.http_get {
            let answer = http::get(&self.container, get, &ip, timeout).await?;
            return if (200..400).contains(&answer.status) {
                Ok(())
            } else {
                Err(format!("HTTP probe failed with statuscode: {}", answer.status))
            };
        }
        if let Some(tcp) = &self.probe.tcp_socket {
            let host = tcp.host.clone().filter(|h| !h.is_empty()).unwrap_or(ip);
            let port = http::port(&self.container, &tcp.port)?;
            return http::connect(&host, port, timeout).await.map(drop);
        }
        match &self.probe.grpc {
            Some(grpc) => grpc::check(&ip, grpc.port, grpc.service.as_deref().unwrap_or_default(), timeout).await,
            None => Err("missing probe handler".into()),
        }
    }

    async fn exec(&self, command: Vec<String>, timeout: Duration) -> Result<(), String> {
        let expanded = command.clone();
        match self.ctx.cri.exec_sync(&self.id, expanded, timeout).await {
            Ok(result) if result.exit_code == 0 => Ok(()),
            Ok(result) => {
                let mut text = String::from_utf8_lossy(&result.stdout).into_owned();
                text.push_str(&String::from_utf8_lossy(&result.stderr));
                Err(text)
            }
            Err(error) if error.to_string().contains("DeadlineExceeded") => Err(format!(
                "command timed out: {:?} timed out after {}",
                command.join(" "),
                podsync::duration::go(timeout)
            )),
            Err(error) => Err(error.to_string()),
        }
    }
}
