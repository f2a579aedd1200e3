//! The next actions for one pod.
//!
//! The plan is recomputed from state after every change, so it holds only what can be done now:
//! kills first; when nothing of an unusable sandbox runs any more, its removal; then a sandbox and
//! the containers whose turn it is. The caller never runs two jobs of one pod at once.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container as Spec, Pod};

use crate::duration;
use crate::memory::Memory;
use crate::pod::{self, RestartPolicy};
use crate::probe::{Outcome, Probed};
use crate::runtime::{Container, PodRuntime, Sandbox, State};

/// Why a container waits or a pod failed, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    pub reason: String,
    pub message: String,
}

impl Reason {
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Reason {
        Reason { reason: reason.into(), message: message.into() }
    }
}

/// How far along its life the pod is asked to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    Run,
    /// Everything stops, within the grace period; `failed` when the kubelet itself ends the pod.
    Terminate {
        grace_seconds: i64,
        failed: Option<Reason>,
    },
}

pub struct Input<'a> {
    pub pod: &'a Pod,
    pub stage: &'a Stage,
    pub runtime: &'a PodRuntime,
    pub memory: &'a Memory,
    /// By container id.
    pub probes: &'a BTreeMap<String, Probed>,
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    pub name: String,
    pub restart_count: u32,
    /// When the instance before ended: what its back-off is counted from.
    pub crashed_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The attempt number of a sandbox to make first.
    pub create_sandbox: Option<u32>,
    pub start: Vec<Start>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    pub id: String,
    pub name: String,
    pub message: String,
    pub grace_seconds: i64,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub kills: Vec<Kill>,
    pub stop_sandboxes: Vec<String>,
    /// The newest sandbox when it cannot be used any more and another is to take its place.
    pub lost_sandbox: Option<String>,
    /// What runs in lost sandboxes, for [`Memory::displaced`].
    pub displaced: BTreeMap<String, Option<Timestamp>>,
    pub job: Option<Job>,
    pub remove_containers: Vec<String>,
    pub remove_sandboxes: Vec<String>,
    /// Containers that wait, beyond what [`Memory::failures`] tells.
    pub waiting: BTreeMap<String, Reason>,
    /// Back-offs that hold something up right now, for events: container and reason.
    pub held_back: Vec<(String, Reason)>,
    pub wake_at: Option<Timestamp>,
    /// Nothing runs and nothing ever will again: its volumes may go.
    pub finished: bool,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

pub fn plan(input: &Input) -> Plan {
    let mut plan = Plan::default();
    match input.stage {
        Stage::Terminate { grace_seconds, .. } => tear_down(input, &mut plan, *grace_seconds, ""),
        Stage::Run => run(input, &mut plan),
    }
    collect_garbage(input, &mut plan);
    plan
}

/// When `activeDeadlineSeconds` ends the pod.
pub fn deadline(pod: &Pod) -> Option<Timestamp> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    let start = pod.status.as_ref()?.start_time.as_ref()?.0;
    Some(start + SignedDuration::from_secs(seconds))
}

fn run(input: &Input, plan: &mut Plan) {
    if let Some(end) = deadline(input.pod).filter(|end| *end > input.now) {
        plan.wake(end);
    }
    match input.runtime.current_sandbox(pod::host_network(input.pod)) {
        Some(sandbox) => run_in(input, plan, sandbox),
        None => renew_sandbox(input, plan),
    }
}

/// No usable sandbox: what is left of the old one goes first.
fn renew_sandbox(input: &Input, plan: &mut Plan) {
    let first = first_starts(input);
    let ended = first.is_empty();
    if !ended {
        plan.lost_sandbox = input.runtime.sandboxes.first().map(|s| s.id.clone());
        plan.displaced = displaced(input);
    }
    if ended || input.runtime.any_running() || unstopped(input).next().is_some() {
        tear_down(input, plan, pod::grace_period(input.pod), "");
        plan.finished &= ended;
        return;
    }
    let attempt = input.runtime.sandboxes.first().map_or(0, |s| s.attempt + 1);
    propose(input, plan, Job { create_sandbox: Some(attempt), start: first });
}

/// What an empty sandbox would start with. A pod that has run its course starts nothing.
fn first_starts(input: &Input) -> Vec<Start> {
    let policy = pod::restart_policy(input.pod);
    let had_sandbox = !input.runtime.sandboxes.is_empty();
    if policy == RestartPolicy::Never && had_sandbox && !input.runtime.containers.is_empty() {
        return Vec::new();
    }
    let succeeded = |c: &Container| !is_displaced(input, c) && c.exit().is_some_and(|exit| exit.code == 0);
    let wanted =
        |c: &&Spec| policy != RestartPolicy::OnFailure || !input.runtime.latest(&c.name).is_some_and(succeeded);
    let main: Vec<Start> = pod::containers(input.pod).iter().filter(wanted).map(|c| start(input, c)).collect();
    match pod::init_containers(input.pod).first() {
        Some(init) if !main.is_empty() => vec![start(input, init)],
        _ => main,
    }
}

/// Sandboxes that still may hold an address, rules or a process.
fn unstopped<'a>(input: &Input<'a>) -> impl Iterator<Item = &'a Sandbox> + use<'a> {
    let memory = input.memory;
    input.runtime.sandboxes.iter().filter(|s| s.ready || !memory.stopped.contains(&s.id))
}

/// Whatever runs while its sandbox is lost. Its back-off is counted from the crash before, if there was one.
fn displaced(input: &Input) -> BTreeMap<String, Option<Timestamp>> {
    let running = input.runtime.containers.iter().filter(|c| c.may_run() && !is_displaced(input, c));
    running.map(|c| (c.id.clone(), last_exit(input, &c.name))).collect()
}

fn is_displaced(input: &Input, container: &Container) -> bool {
    input.memory.displaced.contains_key(&container.id)
}

/// When the newest dead instance ended.
fn last_exit(input: &Input, name: &str) -> Option<Timestamp> {
    let dead = input.runtime.containers.iter().filter(|c| c.name == name).find_map(Container::exit);
    dead.and_then(|exit| exit.finished_at)
}

fn start(input: &Input, spec: &Spec) -> Start {
    let latest = input.runtime.latest(&spec.name);
    let displaced = latest.and_then(|c| input.memory.displaced.get(&c.id).copied());
    Start {
        name: spec.name.clone(),
        restart_count: latest.map_or(0, |c| c.restart_count + 1),
        crashed_at: displaced.unwrap_or_else(|| last_exit(input, &spec.name)),
    }
}

fn propose(input: &Input, plan: &mut Plan, mut job: Job) {
    job.start.retain(|start| !is_held_back(input, plan, start));
    if input.memory.busy || (job.create_sandbox.is_none() && job.start.is_empty()) {
        return;
    }
    match input.memory.retry_at.filter(|at| *at > input.now) {
        Some(at) => plan.wake(at),
        None => plan.job = Some(job),
    }
}

/// Crash-loop and image-pull back-off of one container.
fn is_held_back(input: &Input, plan: &mut Plan, start: &Start) -> bool {
    let (name, memory) = (&start.name, input.memory);
    if memory.launching.contains(name) {
        return false;
    }
    let crash = start.crashed_at.and_then(|at| memory.crashes.until(name, at, input.now));
    if let Some(until) = crash {
        let (delay, full) = (duration::go(memory.crashes.delay(name)), pod::full_name(input.pod));
        let message = format!("back-off {delay} restarting failed container={name} pod={full}");
        hold(plan, name, Reason::new("CrashLoopBackOff", message), until);
        return true;
    }
    let Some(until) = memory.pulls.until_since_update(name, input.now) else { return false };
    let image = pod::container(input.pod, name).and_then(|c| c.image).unwrap_or_default();
    let cause = memory.failures.get(name).map_or_else(String::new, |f| format!(": {}: {}", f.reason, f.message));
    hold(plan, name, Reason::new("ImagePullBackOff", format!("Back-off pulling image {image:?}{cause}")), until);
    true
}

fn hold(plan: &mut Plan, name: &str, reason: Reason, until: Timestamp) {
    plan.held_back.push((name.to_owned(), reason.clone()));
    plan.waiting.insert(name.to_owned(), reason);
    plan.wake(until);
}

fn run_in(input: &Input, plan: &mut Plan, sandbox: &Sandbox) {
    let Initialized { starts, done, failed } = init_containers(input, plan, sandbox);
    if failed {
        return finish(input, plan);
    }
    let mut job = Job { create_sandbox: None, start: starts };
    for spec in pod::ephemeral_containers(input.pod) {
        if input.runtime.latest(&spec.name).is_none() {
            job.start.push(start(input, &spec));
        }
    }
    if !done {
        return propose(input, plan, job);
    }
    let kept = main_containers(input, plan, sandbox, &mut job);
    if kept == 0 { finish(input, plan) } else { propose(input, plan, job) }
}

/// All work is done: sidecars stop, then the sandbox.
fn finish(input: &Input, plan: &mut Plan) {
    plan.waiting.clear();
    plan.held_back.clear();
    tear_down(input, plan, pod::grace_period(input.pod), "");
}

/// How many main containers run, are to start, or wait for their restart.
fn main_containers(input: &Input, plan: &mut Plan, sandbox: &Sandbox, job: &mut Job) -> usize {
    let policy = pod::restart_policy(input.pod);
    let mut kept = 0;
    for spec in pod::containers(input.pod) {
        let ended = || input.runtime.latest(&spec.name).filter(|c| c.exit().is_some() && !is_displaced(input, c));
        let instance = input.runtime.latest_in(&sandbox.id, &spec.name).or_else(ended);
        match instance.map(|c| (c, &c.state)) {
            Some((c, State::Running { .. })) => {
                kept += 1;
                kill_if_bad(input, plan, spec, c);
            }
            Some((_, State::Exited(exit))) if !policy.restarts(exit.code) => {}
            Some((c, State::Unknown)) => {
                kept += 1;
                kill(
                    input,
                    plan,
                    c,
                    pod::grace_period(input.pod),
                    "Container is in unknown state, try killing it before restart",
                );
            }
            _ => {
                kept += 1;
                job.start.push(start(input, spec));
            }
        }
    }
    kept
}

struct Initialized {
    starts: Vec<Start>,
    /// The main containers may start.
    done: bool,
    /// An init container failed for good.
    failed: bool,
}

/// Walks the init containers in order up to the first that is not through.
fn init_containers(input: &Input, plan: &mut Plan, sandbox: &Sandbox) -> Initialized {
    let specs = pod::init_containers(input.pod);
    let here = |name: &str| input.runtime.latest_in(&sandbox.id, name);
    let main_began = pod::containers(input.pod).iter().any(|c| here(&c.name).is_some());
    // Whatever comes before an init container that exists had its turn, even if it was collected.
    let reached = specs.iter().rposition(|c| here(&c.name).is_some()).unwrap_or(0);
    let mut starts = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let through = main_began || index < reached;
        let instance = here(&spec.name);
        if pod::is_sidecar(spec) {
            match instance.map(|c| (c, &c.state)) {
                Some((c, State::Running { .. })) => {
                    kill_if_bad(input, plan, spec, c);
                    if !through && !is_started(input, spec, c) {
                        return Initialized { starts, done: false, failed: false };
                    }
                }
                _ => {
                    starts.push(start(input, spec));
                    if !through {
                        return Initialized { starts, done: false, failed: false };
                    }
                }
            }
            continue;
        }
        if through {
            continue;
        }
        match instance.map(|c| &c.state) {
            Some(State::Exited(exit)) if exit.code == 0 => {}
            Some(State::Exited(exit)) if !pod::init_restart_policy(input.pod, spec).restarts(exit.code) => {
                return Initialized { starts, done: false, failed: true };
            }
            Some(State::Running { .. }) => return Initialized { starts, done: false, failed: false },
            _ => {
                starts.push(start(input, spec));
                return Initialized { starts, done: false, failed: false };
            }
        }
    }
    Initialized { starts, done: true, failed: false }
}

/// Running, past its postStart hook, and past its startup probe if it has one.
pub(crate) fn is_started(input: &Input, spec: &Spec, container: &Container) -> bool {
    container.is_running()
        && !input.memory.launching.contains(&spec.name)
        && (spec.startup_probe.is_none()
            || input.probes.get(&container.id).is_some_and(|p| p.startup == Some(Outcome::Success)))
}

fn kill_if_bad(input: &Input, plan: &mut Plan, spec: &Spec, container: &Container) {
    let name = &spec.name;
    let probed = input.probes.get(&container.id).copied().unwrap_or_default();
    let (probe, message) = if container.hash != pod::container_hash(spec) {
        (None, format!("Container {name} definition changed"))
    } else if probed.startup == Some(Outcome::Failure) {
        (spec.startup_probe.as_ref(), format!("Container {name} failed startup probe"))
    } else if probed.liveness == Some(Outcome::Failure) {
        (spec.liveness_probe.as_ref(), format!("Container {name} failed liveness probe"))
    } else {
        return;
    };
    let restarted = pod::is_sidecar(spec) || pod::restart_policy(input.pod) != RestartPolicy::Never;
    let message = if restarted { format!("{message}, will be restarted") } else { message };
    let own = probe.and_then(|p| p.termination_grace_period_seconds);
    kill(input, plan, container, own.unwrap_or_else(|| pod::grace_period(input.pod)), &message);
}

fn kill(input: &Input, plan: &mut Plan, container: &Container, grace_seconds: i64, message: &str) {
    if input.memory.killing.contains(&container.id) {
        return;
    }
    let message =
        if message.is_empty() { format!("Stopping container {}", container.name) } else { message.to_owned() };
    plan.kills.push(Kill { id: container.id.clone(), name: container.name.clone(), message, grace_seconds });
}

/// Main containers stop first, then sidecars from the last to the first, then the sandboxes.
fn tear_down(input: &Input, plan: &mut Plan, grace_seconds: i64, message: &str) {
    let sidecars: Vec<&str> =
        pod::init_containers(input.pod).iter().filter(|c| pod::is_sidecar(c)).map(|c| c.name.as_str()).collect();
    let running = || input.runtime.containers.iter().filter(|c| c.may_run());
    let main: Vec<&Container> = running().filter(|c| !sidecars.contains(&c.name.as_str())).collect();
    if !main.is_empty() {
        main.into_iter().for_each(|c| kill(input, plan, c, grace_seconds, message));
        return;
    }
    if let Some(last) = sidecars.iter().rev().find(|name| running().any(|c| c.name == **name)) {
        running().filter(|c| c.name == *last).for_each(|c| kill(input, plan, c, grace_seconds, message));
        return;
    }
    if input.memory.busy {
        return;
    }
    plan.stop_sandboxes = unstopped(input).map(|s| s.id.clone()).collect();
    plan.finished = plan.stop_sandboxes.is_empty();
}

/// One dead instance per container is kept, for its logs and exit code; of sandboxes the newest.
fn collect_garbage(input: &Input, plan: &mut Plan) {
    if input.memory.busy {
        return;
    }
    let mut kept = BTreeSet::new();
    let mut used = BTreeSet::new();
    for container in &input.runtime.containers {
        let dead = !container.may_run();
        if dead && !kept.insert(&container.name) && !input.memory.killing.contains(&container.id) {
            plan.remove_containers.push(container.id.clone());
        } else {
            used.insert(&container.sandbox_id);
        }
    }
    let old = input.runtime.sandboxes.iter().skip(1).filter(|s| !s.ready && !used.contains(&s.id));
    plan.remove_sandboxes = old.map(|s| s.id.clone()).collect();
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
