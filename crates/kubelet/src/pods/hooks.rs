//! postStart and preStop handlers.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use crate::context::Context;
use crate::probes::http;

/// Errors are the text after upstream's "... hook failed: ".
pub async fn run(
    ctx: &Context,
    container: &Container,
    id: &str,
    pod_ip: Option<&str>,
    handler: &LifecycleHandler,
    limit: Duration,
) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        let result = ctx.cri.exec_sync(id, command.clone(), limit).await.map_err(|e| e.to_string())?;
        return match result.exit_code {
            0 => Ok(()),
            code => Err(format!(
                "command '{}' exited with {code}: {}",
                command.join(" "),
                String::from_utf8_lossy(&result.stderr)
            )),
        };
    }
    if let Some(get) = &handler.http_get {
        let answer = http::get(container, get, pod_ip.unwrap_or_default(), limit.max(Duration::from_secs(1))).await?;
        return if answer.status < 400 { Ok(()) } else { Err(format!("HTTP status {}", answer.status)) };
    }
    if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds.max(0).unsigned_abs())).await;
        return Ok(());
    }
    Err("invalid handler".into())
}
