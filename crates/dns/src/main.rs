use clap::Parser;
use dns::config::{Config, Flags};

fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    daemon::telemetry::init(&flags.log);
    let config = Config::load(flags)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let token = daemon::shutdown::token()?;
        dns::run::run(config, token).await
    })
}
