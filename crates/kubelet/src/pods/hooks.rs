//! postStart and preStop handlers.

use std::time::Duration;

use client::recorder::Type;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};

use crate::context::Context;
use crate::probes::{http, tls};

/// A request without a limit of its own; this one only catches a server that never answers.
const LONGEST_REQUEST: Duration = Duration::from_secs(3600);

/// Errors are the text after upstream's "... hook failed: ". A zero `limit` means none.
pub async fn run(
    ctx: &Context,
    pod: &Pod,
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
    if let Some(action) = &handler.http_get {
        let target = http::Target::of(container, action, pod_ip.unwrap_or_default())?;
        let timeout = if limit.is_zero() { LONGEST_REQUEST } else { limit };
        let asking = http::Asking { action, user_agent: http::HOOK_AGENT, timeout };
        if http_get(&target, &asking).await? == Way::WithoutTls {
            let host = target.authority();
            let text = format!("request to HTTPS lifecycle hook {host} got HTTP response, retry with HTTP succeeded");
            ctx.events.pod(pod, Type::Warning, "LifecycleHTTPFallback", &text);
        }
        return Ok(());
    }
    if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds.max(0).unsigned_abs())).await;
        return Ok(());
    }
    Err("invalid handler".into())
}

#[derive(Debug, PartialEq, Eq)]
enum Way {
    AsAsked,
    WithoutTls,
}

/// A hook tells something to the container, whose answer is its own affair: it is enough that there is one. Handlers
/// that ask for TLS from a server without have been served in plain text since before `scheme` was heeded.
async fn http_get(target: &http::Target, asking: &http::Asking<'_>) -> Result<Way, String> {
    match http::get(target, asking).await {
        Ok(_) => Ok(Way::AsAsked),
        Err(error) if error.contains(tls::PLAIN_HTTP) => {
            // The first error tells more than that of a second attempt.
            http::get(&target.without_tls(), asking).await.map(|_| Way::WithoutTls).map_err(|_| error)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::HTTPGetAction;
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

    #[tokio::test]
    async fn any_answer_will_do() {
        let check = async |scheme: &str, answer: &str, expected: Option<Way>| {
            let port = http::tests::serve(&[answer]).await;
            let action = HTTPGetAction {
                port: IntOrString::Int(port.into()),
                scheme: Some(scheme.into()),
                ..HTTPGetAction::default()
            };
            let target = http::Target::of(&Container::default(), &action, "127.0.0.1").expect("a target");
            let asking =
                http::Asking { action: &action, user_agent: http::HOOK_AGENT, timeout: Duration::from_secs(30) };
            assert_eq!(http_get(&target, &asking).await.ok(), expected, "{scheme} {answer:?}");
        };
        check("HTTP", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Some(Way::AsAsked)).await;
        check("HTTP", "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", Some(Way::AsAsked)).await;
        check("HTTPS", "HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n", Some(Way::WithoutTls)).await;
        check("HTTP", "", None).await;
        check("HTTPS", "rubbish", None).await;
    }
}
