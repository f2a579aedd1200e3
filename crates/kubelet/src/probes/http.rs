//! HTTP and TCP checks from the node, as probes and hooks make them.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use url::Url;

use crate::probes::tls;

/// Upstream reads no more of a probe's answer.
const MAX_BODY: usize = 10 * 1024;

/// The first one and those that follow a redirection.
const MAX_REQUESTS: usize = 10;
pub const PROBE_AGENT: &str = "kube-probe/1.36";
pub const HOOK_AGENT: &str = "kube-lifecycle/1.36";

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// A number, or the name of one of the container's ports.
pub fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
            named.map(|p| p.container_port).or_else(|| name.parse().ok())
        }
    };
    let valid = number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0);
    valid.ok_or_else(|| format!("couldn't find port: {port:?} in container {}", container.name))
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

pub async fn connect(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, String> {
    let address = authority(host, port);
    match tokio::time::timeout(timeout, TcpStream::connect(&address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("dial tcp {address}: connect: {}", lower(&error))),
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
    }
}

/// The kernel's words, as Go prints them.
fn lower(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "no route to host".into(),
        _ => error.to_string(),
    }
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    https: bool,
    host: String,
    port: u16,
    path: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl Target {
    pub fn of(container: &Container, action: &HTTPGetAction, pod_ip: &str) -> Result<Target, String> {
        let host = action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(pod_ip);
        let path = action.path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/");
        Ok(Target {
            https: action.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("https")),
            host: host.to_owned(),
            port: port(container, &action.port)?,
            path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
        })
    }

    pub fn authority(&self) -> String {
        authority(&self.host, self.port)
    }

    #[must_use]
    pub fn without_tls(&self) -> Target {
        Target { https: false, ..self.clone() }
    }

    /// Where `location`, sent as the answer of this one, leads.
    fn follow(&self, location: &str) -> Result<Target, String> {
        let failed = |why: &dyn fmt::Display| format!("failed to parse Location header {location:?}: {why}");
        let base = Url::parse(&self.to_string()).map_err(|e| failed(&e))?;
        let url = base.join(location).map_err(|e| failed(&e))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("unsupported protocol scheme {:?}", url.scheme()));
        }
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(Target {
            https: url.scheme() == "https",
            host: host.to_owned(),
            port: url.port_or_known_default().unwrap_or(80),
            path: format!("{}{query}", url.path()),
        })
    }
}

/// An answer that sends the client on is followed as long as it stays on the host that was asked first: who else
/// answers says nothing about this pod.
fn redirect(first: &Target, at: &Target, status: u16, location: Option<&str>) -> Result<Option<Target>, String> {
    let Some(location) = location.filter(|l| !l.is_empty() && matches!(status, 301 | 302 | 303 | 307 | 308)) else {
        return Ok(None);
    };
    Ok(Some(at.follow(location)?).filter(|next| next.host.eq_ignore_ascii_case(&first.host)))
}

/// What is sent besides the target.
pub struct Asking<'a> {
    pub action: &'a HTTPGetAction,
    pub user_agent: &'a str,
    pub timeout: Duration,
}

pub async fn get(first: &Target, asking: &Asking<'_>) -> Result<Answer, String> {
    let mut target = first.clone();
    let exchange = async {
        // A host name of the user's own goes on to other paths, but not to another address.
        let mut own_host = true;
        for _ in 0..MAX_REQUESTS {
            let (answer, location) = once(&target, asking, own_host).await?;
            let Some(next) = redirect(first, &target, answer.status, location.as_deref())? else { return Ok(answer) };
            own_host &= location.is_some_and(|l| Url::parse(&l) == Err(url::ParseError::RelativeUrlWithoutBase));
            target = next;
        }
        Err(format!("stopped after {MAX_REQUESTS} redirects"))
    };
    let outcome = tokio::time::timeout(asking.timeout, exchange).await;
    let late = || Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".into());
    outcome.unwrap_or_else(|_| late()).map_err(|error| format!("Get {:?}: {error}", first.to_string()))
}

async fn once(target: &Target, asking: &Asking<'_>, own_host: bool) -> Result<(Answer, Option<String>), String> {
    let stream = connect(&target.host, target.port, asking.timeout).await?;
    let request = request(target, asking, own_host)?;
    if target.https {
        send(tls::connect(stream, &target.host).await?, request).await
    } else {
        send(stream, request).await
    }
}

fn request(target: &Target, asking: &Asking<'_>, own_host: bool) -> Result<http::Request<Empty<Bytes>>, String> {
    let mut builder = http::Request::get(&target.path);
    let headers = asking.action.http_headers.as_deref().unwrap_or_default();
    let headers = || headers.iter().filter(|h| own_host || !h.name.eq_ignore_ascii_case("host"));
    let has = |name: &str| headers().any(|h| h.name.eq_ignore_ascii_case(name));
    let authority = target.authority();
    for (name, value) in [("host", authority.as_str()), ("user-agent", asking.user_agent), ("accept", "*/*")] {
        if !has(name) {
            builder = builder.header(name, value);
        }
    }
    for header in headers().filter(|h| !h.value.is_empty()) {
        builder = builder.header(&header.name, &header.value);
    }
    builder.header("connection", "close").body(Empty::new()).map_err(|e| e.to_string())
}

/// The answer, and where it sends the client.
async fn send<S>(stream: S, request: http::Request<Empty<Bytes>>) -> Result<(Answer, Option<String>), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let answer = async {
        let response = sender.send_request(request).await.map_err(|e| failure(&e))?;
        let status = response.status().as_u16();
        let location = response.headers().get(http::header::LOCATION).and_then(|l| l.to_str().ok());
        let location = location.map(ToOwned::to_owned);
        Ok((Answer { status, body: text(response.into_body()).await }, location))
    };
    let answer = answer.await;
    driver.abort();
    answer
}

/// In the words that clients of Go's have for it.
fn failure(error: &hyper::Error) -> String {
    if error.is_canceled() || error.is_incomplete_message() {
        return "EOF".into();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Read to the end where that is near, so the server sees no reset.
async fn text(mut body: Incoming) -> String {
    let mut read = Vec::new();
    while read.len() < MAX_BODY
        && let Some(Ok(frame)) = body.frame().await
    {
        read.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
    }
    read.truncate(MAX_BODY);
    String::from_utf8_lossy(&read).into_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn target(https: bool, host: &str, port: u16, path: &str) -> Target {
        Target { https, host: host.into(), port, path: path.into() }
    }

    #[test]
    fn redirects_stay_on_the_host() {
        let first = target(false, "10.0.0.1", 8080, "/a/b?c");
        let check = |status: u16, location: &str, expected: Result<Option<&str>, &str>| {
            let next = redirect(&first, &first, status, Some(location));
            match expected {
                Ok(url) => assert_eq!(next.map(|t| t.map(|t| t.to_string())).as_ref().map(Option::as_deref), Ok(url)),
                Err(word) => assert!(next.as_ref().is_err_and(|e| e.contains(word)), "{location}: {next:?}"),
            }
        };
        check(302, "/ready", Ok(Some("http://10.0.0.1:8080/ready")));
        check(307, "d?e=f", Ok(Some("http://10.0.0.1:8080/a/d?e=f")));
        check(301, "https://10.0.0.1/x", Ok(Some("https://10.0.0.1:443/x")));
        check(308, "//10.0.0.1:9090/", Ok(Some("http://10.0.0.1:9090/")));
        check(302, "http://example.com/", Ok(None));
        check(302, "", Ok(None));
        check(304, "/ready", Ok(None));
        check(200, "/ready", Ok(None));
        check(302, "ftp://10.0.0.1/", Err("unsupported protocol scheme"));
        check(302, "http://[", Err("failed to parse Location"));
    }

    /// Answers every connection with the next of `answers`; the last one for ever. Returns its port.
    pub(crate) async fn serve(answers: &[&str]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
        tokio::spawn(async move {
            for index in 0.. {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let answer = &answers[index.min(answers.len() - 1)];
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    async fn ask(https: bool, answers: &[&str]) -> Result<(u16, String), String> {
        let target = target(https, "127.0.0.1", serve(answers).await, "/");
        let action = HTTPGetAction::default();
        let asking = Asking { action: &action, user_agent: PROBE_AGENT, timeout: Duration::from_secs(30) };
        get(&target, &asking).await.map(|answer| (answer.status, answer.body))
    }

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    const ON: &str = "HTTP/1.1 302 Found\r\nlocation: /on\r\ncontent-length: 0\r\n\r\n";
    const AWAY: &str = "HTTP/1.1 302 Found\r\nlocation: http://example.com/\r\ncontent-length: 4\r\n\r\ngone";

    #[tokio::test]
    async fn follows_and_gives_up() {
        assert_eq!(ask(false, &[ON, ON, OK]).await, Ok((200, "ok".into())));
        assert_eq!(ask(false, &[ON, AWAY]).await, Ok((302, "gone".into())));
        assert!(ask(false, &[""]).await.expect_err("no answer").ends_with(": EOF"));
        let endless = ask(false, &[ON]).await.expect_err("no end");
        assert!(endless.contains("stopped after 10 redirects"), "{endless}");
        let plain = ask(true, &[OK]).await.expect_err("not encrypted");
        assert!(plain.contains(tls::PLAIN_HTTP), "{plain}");
    }
}
