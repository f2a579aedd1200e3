use clap::Parser;
use podnet::config::{Config, Flags};

fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    daemon::telemetry::init(&flags.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        if flags.cleanup {
            return podnet::cleanup::run(&flags).await;
        }
        let config = Config::load(flags)?;
        let token = daemon::shutdown::token()?;
        podnet::run::run(config, token).await
    })
}
