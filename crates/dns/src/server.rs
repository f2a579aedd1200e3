//! The sockets: every address serves UDP and TCP.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use hickory_server::Server;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

use crate::handler::Handler;

/// A TCP client that asks nothing is let go after this.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Answers waiting for a TCP client to take them.
const TCP_BUFFER: usize = 32;

/// Sockets that are bound, so that a failure to bind shows before anything else is started.
pub struct Sockets {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

impl Sockets {
    pub async fn bind(addresses: &[SocketAddr]) -> anyhow::Result<Self> {
        let mut sockets = Self { udp: Vec::new(), tcp: Vec::new() };
        for address in addresses {
            let tcp = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} (TCP)"))?;
            // Port 0 means the same port for both, which tests want.
            let bound = tcp.local_addr()?;
            let udp = UdpSocket::bind(bound).await.with_context(|| format!("cannot listen on {bound} (UDP)"))?;
            sockets.udp.push(udp);
            sockets.tcp.push(tcp);
        }
        Ok(sockets)
    }

    pub fn addresses(&self) -> std::io::Result<Vec<SocketAddr>> {
        self.tcp.iter().map(TcpListener::local_addr).collect()
    }

    /// Answers until the token is cancelled.
    pub async fn serve(self, handler: Handler, token: CancellationToken) -> anyhow::Result<()> {
        let mut server = Server::new(handler);
        self.udp.into_iter().for_each(|socket| server.register_socket(socket));
        self.tcp.into_iter().for_each(|listener| server.register_listener(listener, TCP_IDLE, TCP_BUFFER));
        tokio::select! {
            () = token.cancelled() => server.shutdown_gracefully().await.context("cannot stop the server"),
            ended = server.block_until_done() => ended.context("the server failed"),
        }
    }
}
