//! Probes and lifecycle hooks.

use k8s_openapi::api::core::v1::{ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction};

use super::{Error, ErrorList, Path, each, maybe_non_negative, names, one_of, port, port_or_name, required, text};

/// The longest a `sleep` hook may take is the pod's grace period.
pub struct Handler<'a> {
    pub exec: Option<&'a ExecAction>,
    pub http_get: Option<&'a HTTPGetAction>,
    pub tcp_socket: Option<&'a TCPSocketAction>,
    pub grpc: Option<&'a GRPCAction>,
    pub sleep_seconds: Option<i64>,
}

impl<'a> Handler<'a> {
    fn of_probe(p: &'a Probe) -> Self {
        Self {
            exec: p.exec.as_ref(),
            http_get: p.http_get.as_ref(),
            tcp_socket: p.tcp_socket.as_ref(),
            grpc: p.grpc.as_ref(),
            sleep_seconds: None,
        }
    }

    fn of_hook(h: &'a LifecycleHandler) -> Self {
        Self {
            exec: h.exec.as_ref(),
            http_get: h.http_get.as_ref(),
            tcp_socket: h.tcp_socket.as_ref(),
            grpc: None,
            sleep_seconds: h.sleep.as_ref().map(|s| s.seconds),
        }
    }
}

/// Which of a container's probes it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Liveness,
    Readiness,
    Startup,
}

pub fn probe(p: &Probe, role: Role, grace_seconds: i64, path: &Path, errs: &mut ErrorList) {
    handler(&Handler::of_probe(p), grace_seconds, path, errs);
    maybe_non_negative(p.initial_delay_seconds, &path.child("initialDelaySeconds"), errs);
    maybe_non_negative(p.timeout_seconds, &path.child("timeoutSeconds"), errs);
    maybe_non_negative(p.period_seconds, &path.child("periodSeconds"), errs);
    maybe_non_negative(p.success_threshold, &path.child("successThreshold"), errs);
    maybe_non_negative(p.failure_threshold, &path.child("failureThreshold"), errs);
    if let Some(seconds) = p.termination_grace_period_seconds {
        let path = path.child("terminationGracePeriodSeconds");
        if seconds <= 0 {
            errs.push(Error::invalid(&path, seconds, "must be greater than 0"));
        }
        if role == Role::Readiness {
            errs.push(Error::invalid(&path, seconds, "must not be set for readinessProbes"));
        }
    }
    let successes = p.success_threshold.unwrap_or(1);
    if role != Role::Readiness && successes != 1 {
        errs.push(Error::invalid(&path.child("successThreshold"), successes, "must be 1"));
    }
}

pub fn hook(h: &LifecycleHandler, grace_seconds: i64, path: &Path, errs: &mut ErrorList) {
    handler(&Handler::of_hook(h), grace_seconds, path, errs);
}

fn handler(h: &Handler<'_>, grace_seconds: i64, path: &Path, errs: &mut ErrorList) {
    let mut found = 0;
    let mut first = |name: &str, errs: &mut ErrorList| {
        found += 1;
        if found > 1 {
            errs.push(Error::forbidden(&path.child(name), "may not specify more than 1 handler type"));
        }
        found == 1
    };
    if let Some(action) = h.exec
        && first("exec", errs)
        && action.command.as_ref().is_none_or(Vec::is_empty)
    {
        errs.push(Error::required(&path.child("exec").child("command"), ""));
    }
    if let Some(action) = h.http_get
        && first("httpGet", errs)
    {
        http_get(action, &path.child("httpGet"), errs);
    }
    if let Some(action) = h.tcp_socket
        && first("tcpSocket", errs)
    {
        port_or_name(&action.port, &path.child("tcpSocket").child("port"), errs);
    }
    if let Some(action) = h.grpc
        && first("grpc", errs)
    {
        port(action.port, &path.child("grpc").child("port"), errs);
    }
    if let Some(seconds) = h.sleep_seconds
        && first("sleep", errs)
    {
        sleep(seconds, grace_seconds, &path.child("sleep"), errs);
    }
    if found == 0 {
        errs.push(Error::required(path, "must specify a handler type"));
    }
}

fn http_get(action: &HTTPGetAction, path: &Path, errs: &mut ErrorList) {
    required(text(&action.path), &path.child("path"), errs);
    port_or_name(&action.port, &path.child("port"), errs);
    one_of(text(&action.scheme), &["HTTP", "HTTPS"], &path.child("scheme"), errs);
    for header in action.http_headers.iter().flatten() {
        each(names::http_header(&header.name), &header.name, &path.child("httpHeaders"), errs);
    }
}

fn sleep(seconds: i64, grace_seconds: i64, path: &Path, errs: &mut ErrorList) {
    if seconds < 0 || seconds > grace_seconds {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace_seconds})");
        errs.push(Error::invalid(path, seconds, &detail));
    }
}
