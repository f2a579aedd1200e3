use anyhow::Context;
use clap::Parser;
use proxy::config::{Config, Flags};

fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    daemon::telemetry::init(&flags.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        if flags.cleanup {
            return proxy::cleanup::run().await;
        }
        let config = Config::load(&flags).context("invalid configuration")?;
        let token = daemon::shutdown::token()?;
        proxy::run::run(config, token).await
    })
}
