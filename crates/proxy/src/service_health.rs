//! The `healthCheckNodePort` servers: tell a load balancer whether this node has endpoints of a Service of
//! `externalTrafficPolicy: Local`.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use jiff::Timestamp;
use proxyrules::{HealthCheckPort, ServiceKey};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::health::ProxyHealth;
use crate::http::{Handler, Page, serve};

/// One server per Service; owned by the sync loop.
pub struct ServiceHealth {
    proxy: Arc<ProxyHealth>,
    servers: HashMap<ServiceKey, Server>,
}

struct Server {
    port: u16,
    local_endpoints: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl ServiceHealth {
    pub fn new(proxy: Arc<ProxyHealth>) -> Self {
        Self { proxy, servers: HashMap::new() }
    }

    /// Starts, stops and updates servers until they are as wanted.
    pub async fn sync(&mut self, wanted: Vec<(ServiceKey, HealthCheckPort)>) {
        let ports: HashMap<_, _> = wanted.iter().map(|(key, check)| (key, check.port)).collect();
        self.servers.retain(|key, server| ports.get(key) == Some(&server.port));
        for (key, check) in wanted {
            if let Some(server) = self.servers.get(&key) {
                server.local_endpoints.store(check.local_endpoints, Ordering::Relaxed);
                continue;
            }
            match self.start(&key, &check).await {
                Ok(server) => drop(self.servers.insert(key, server)),
                Err(error) => tracing::error!(%error, service = %key, port = check.port, "cannot serve health checks"),
            }
        }
    }

    async fn start(&self, key: &ServiceKey, check: &HealthCheckPort) -> std::io::Result<Server> {
        let dual = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, check.port))).await;
        // A host may have no IPv6 at all.
        let listener = match dual {
            Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
                TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, check.port))).await?
            }
            listener => listener?,
        };
        let local_endpoints = Arc::new(AtomicUsize::new(check.local_endpoints));
        let stop = CancellationToken::new();
        let handler = handler(self.proxy.clone(), key.clone(), local_endpoints.clone());
        tokio::spawn(serve(listener, handler, stop.clone()));
        Ok(Server { port: check.port, local_endpoints, stop })
    }
}

fn handler(proxy: Arc<ProxyHealth>, key: ServiceKey, local_endpoints: Arc<AtomicUsize>) -> Handler {
    Arc::new(move |_path| {
        let healthy = proxy.is_healthy(Timestamp::now());
        Some(page(&key, local_endpoints.load(Ordering::Relaxed), healthy))
    })
}

fn page(key: &ServiceKey, local_endpoints: usize, healthy: bool) -> Page {
    let ok = local_endpoints > 0 && healthy;
    let body = serde_json::json!({
        "service": {"namespace": key.namespace, "name": key.name},
        "localEndpoints": local_endpoints,
        "serviceProxyHealthy": healthy,
    });
    Page {
        status: if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE },
        headers: vec![("X-Load-Balancing-Endpoint-Weight", local_endpoints.to_string())],
        body: body.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_healthy_node_with_endpoints_takes_traffic() {
        let check = |endpoints, healthy, expected: u16| {
            let page = page(&ServiceKey::new("ns", "svc"), endpoints, healthy);
            assert_eq!(page.status.as_u16(), expected, "{}", page.body);
        };
        check(2, true, 200);
        check(0, true, 503);
        check(2, false, 503);
    }
}
