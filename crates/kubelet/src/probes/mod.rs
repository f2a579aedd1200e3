//! Probes: one task per probe of a running container, its verdicts kept in the pod's entry.

pub mod grpc;
pub mod http;
pub mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use client::recorder::Type;
use cri::v1::ExecSyncResponse;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use podsync::probe::{Kind, Machine, Timing};
use podsync::{Outcome, PodRuntime, State, pod as spec};
use tokio::task::AbortHandle;

use crate::context::Context;
use crate::pods::Entry;

/// A probe that cannot be carried out is tried again at once, this often in all.
const ATTEMPTS: usize = 3;

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
        let mut report = self.probe(timeout).await;
        for _ in 1..ATTEMPTS {
            if report.is_ok() {
                break;
            }
            report = self.probe(timeout).await;
        }
        let (outcome, event) = judge(self.kind, report);
        if let Some((reason, text)) = event {
            let pod = self.entry.desired().pod;
            self.ctx.events.container(&pod, &self.container.name, Type::Warning, reason, &text);
        }
        if let Some(verdict) = outcome.and_then(|outcome| machine.step(outcome)) {
            self.entry.probes.lock().entry(self.id.clone()).or_default().set(self.kind, verdict);
            self.entry.wake();
        }
    }

    async fn probe(&self, timeout: Duration) -> Result<Report, String> {
        if let Some(exec) = &self.probe.exec {
            let command = exec.command.clone().unwrap_or_default();
            let answer = self.ctx.cri.exec_sync(&self.id, command.clone(), timeout).await;
            return judge_exec(answer, &command, timeout);
        }
        let ips = self.entry.view().status.and_then(|s| s.pod_ip);
        let ip = ips.unwrap_or_default();
        if let Some(action) = &self.probe.http_get {
            let target = http::Target::of(&self.container, action, &ip)?;
            let asking = http::Asking { action, user_agent: http::PROBE_AGENT, timeout };
            return Ok(judge_http(http::get(&target, &asking).await));
        }
        let failed = |result: Result<(), String>| result.map_or_else(Report::Failure, |()| Report::Success);
        if let Some(tcp) = &self.probe.tcp_socket {
            let host = tcp.host.clone().filter(|h| !h.is_empty()).unwrap_or(ip);
            let port = http::port(&self.container, &tcp.port)?;
            return Ok(failed(http::connect(&host, port, timeout).await.map(drop)));
        }
        let grpc = self.probe.grpc.as_ref().ok_or("missing probe handler")?;
        let service = grpc.service.as_deref().unwrap_or_default();
        Ok(failed(grpc::check(&ip, grpc.port, service, timeout).await))
    }
}

/// What a probe that was carried out has found. One that could not be is an `Err`: it says nothing about the container.
#[derive(Debug, PartialEq, Eq)]
enum Report {
    Success,
    /// As good as success, but not what the user meant.
    Warning(String),
    Failure(String),
}

/// What counts for the thresholds, and the event to send. A probe that could not be carried out counts for nothing: a
/// runtime that is down is no reason to kill what runs.
fn judge(kind: Kind, report: Result<Report, String>) -> (Option<Outcome>, Option<(&'static str, String)>) {
    let kind = kind.name();
    match report {
        Ok(Report::Success) => (Some(Outcome::Success), None),
        Ok(Report::Warning(text)) => {
            (Some(Outcome::Success), Some(("ProbeWarning", format!("{kind} probe warning: {text}"))))
        }
        Ok(Report::Failure(text)) => {
            (Some(Outcome::Failure), Some(("Unhealthy", format!("{kind} probe failed: {text}"))))
        }
        Err(error) => {
            let text = format!("{kind} probe errored and resulted in unknown state: {error}");
            (None, Some(("Unhealthy", text)))
        }
    }
}

fn judge_exec(answer: cri::Result<ExecSyncResponse>, command: &[String], timeout: Duration) -> Result<Report, String> {
    match answer {
        Ok(result) if result.exit_code == 0 => Ok(Report::Success),
        Ok(result) => {
            let mut text = String::from_utf8_lossy(&result.stdout).into_owned();
            text.push_str(&String::from_utf8_lossy(&result.stderr));
            Ok(Report::Failure(text))
        }
        Err(error) if error.is_timeout() => {
            let (command, timeout) = (command.join(" "), podsync::duration::go(timeout));
            Ok(Report::Failure(format!("command timed out: {command:?} timed out after {timeout}")))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn judge_http(answer: Result<http::Answer, String>) -> Report {
    match answer {
        Ok(http::Answer { status: 200..300, .. }) => Report::Success,
        Ok(http::Answer { status: 300..400, body }) => {
            Report::Warning(format!("Probe terminated redirects, Response body: {body}"))
        }
        Ok(http::Answer { status, .. }) => Report::Failure(format!("HTTP probe failed with statuscode: {status}")),
        Err(error) => Report::Failure(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which event is sent and what counts, in short.
    fn told(report: Result<Report, String>) -> (Option<Outcome>, String) {
        let (outcome, event) = judge(Kind::Liveness, report);
        (outcome, event.map(|(reason, text)| format!("{reason}: {text}")).unwrap_or_default())
    }

    #[test]
    fn commands() {
        let exit =
            |exit_code: i32| Ok(ExecSyncResponse { exit_code, stdout: b"out ".to_vec(), stderr: b"err".to_vec() });
        let error = |code: &'static str| {
            let message = "no such thing".to_owned();
            Err(cri::Error::Rpc { call: "exec_sync", code, not_found: false, unimplemented: false, message })
        };
        let check = |answer: cri::Result<ExecSyncResponse>, outcome: Option<Outcome>, event: &str| {
            let command = ["sleep".to_owned(), "9".to_owned()];
            assert_eq!(told(judge_exec(answer, &command, Duration::from_secs(1))), (outcome, event.to_owned()));
        };
        check(exit(0), Some(Outcome::Success), "");
        check(exit(1), Some(Outcome::Failure), "Unhealthy: Liveness probe failed: out err");
        let timeout = "Unhealthy: Liveness probe failed: command timed out: \"sleep 9\" timed out after 1s";
        check(error("DeadlineExceeded"), Some(Outcome::Failure), timeout);
        let unknown = "Unhealthy: Liveness probe errored and resulted in unknown state: \
            rpc error: code = Unavailable desc = no such thing";
        check(error("Unavailable"), None, unknown);
    }

    #[test]
    fn answers() {
        let check = |answer: Result<u16, &str>, outcome: Outcome, event: &str| {
            let answer = answer.map(|status| http::Answer { status, body: "text".into() }).map_err(ToOwned::to_owned);
            assert_eq!(told(Ok(judge_http(answer))), (Some(outcome), event.to_owned()));
        };
        check(Ok(200), Outcome::Success, "");
        let away = "ProbeWarning: Liveness probe warning: Probe terminated redirects, Response body: text";
        check(Ok(302), Outcome::Success, away);
        let failed = "Unhealthy: Liveness probe failed: HTTP probe failed with statuscode: 404";
        check(Ok(404), Outcome::Failure, failed);
        check(Err("refused"), Outcome::Failure, "Unhealthy: Liveness probe failed: refused");
    }
}
