//! `kube-apiserver`: flags, telemetry, build, run, drain.

use anyhow::Context as _;
use apiserver::config::Flags;
use apiserver::server::Server;
use clap::Parser as _;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    daemon::telemetry::init(&flags.log);
    let config = flags.validate()?;
    let stop = daemon::shutdown::token()?;
    let address = config.bind;
    let server = Server::build(config, stop).await?;
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    server.run(listener).await;
    Ok(())
}
