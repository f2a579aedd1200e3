//! Stops one container: preStop hook, stop signal, and the kill when its grace period is over.

use std::time::{Duration, Instant};

use client::recorder::Type;
use k8s_openapi::api::core::v1::Pod;
use podsync::Kill;

use crate::context::Context;
use crate::pods::hooks;

/// Every container gets this long between its stop signal and the kill, whatever a hook used up.
const MINIMUM_GRACE_SECONDS: i64 = 2;

pub async fn run(ctx: &Context, pod: &Pod, kill: &Kill, pod_ip: Option<&str>) -> cri::Result<()> {
    ctx.events.container(pod, &kill.name, Type::Normal, "Killing", &kill.message);
    let began = Instant::now();
    if kill.grace_seconds > 0 {
        pre_stop(ctx, pod, kill, pod_ip).await;
    }
    let used = i64::try_from(began.elapsed().as_secs()).unwrap_or(i64::MAX);
    let left = kill.grace_seconds.saturating_sub(used).max(MINIMUM_GRACE_SECONDS);
    match ctx.cri.stop_container(&kill.id, left).await {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

async fn pre_stop(ctx: &Context, pod: &Pod, kill: &Kill, pod_ip: Option<&str>) {
    let Some(container) = podsync::pod::container(pod, &kill.name) else { return };
    let Some(handler) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()) else { return };
    let limit = Duration::from_secs(kill.grace_seconds.unsigned_abs());
    let hook = hooks::run(ctx, pod, &container, &kill.id, pod_ip, handler, limit);
    let failure = match tokio::time::timeout(limit, hook).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error,
        Err(_) => "context deadline exceeded".into(),
    };
    tracing::error!(pod = podsync::pod::full_name(pod), container = kill.name, failure, "PreStopHook failed");
    // Who may read events need not know what a hook says: there may be secrets in it.
    ctx.events.container(pod, &kill.name, Type::Warning, "FailedPreStopHook", "PreStopHook failed");
}
