//! `kubelet`: runs the pods bound to this node.

use std::process::ExitCode;

use clap::Parser;
use kubelet::config::Settings;
use kubelet::flags::Flags;

/// Enough to keep two cores busy; more would only cost memory.
const WORKER_THREADS: usize = 2;

fn main() -> ExitCode {
    let flags = Flags::parse();
    daemon::telemetry::init(&flags.log);
    match run(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> anyhow::Result<()> {
    let settings = Settings::load(flags)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKER_THREADS).enable_all().build()?;
    runtime.block_on(async {
        let token = daemon::shutdown::token()?;
        kubelet::app::build(settings, &token).await?.run(token).await;
        Ok(())
    })
}
