//! `kube-scheduler`: queues, cache and binding around the pure scheduling core.

use std::process::ExitCode;

use clap::Parser;
use scheduler::config::Config;
use scheduler::flags::Flags;

fn main() -> ExitCode {
    let flags = Flags::parse();
    daemon::telemetry::init(&flags.log);
    match start(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(flags: Flags) -> anyhow::Result<()> {
    let config = Config::load(flags.config.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { scheduler::run(flags, config, daemon::shutdown::token()?).await })
}
