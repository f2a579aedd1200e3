//! `kube-store`: flags, telemetry, run until told to stop.

use clap::Parser;
use store::config::{Command, Flags, check_environment, unrecognized, with_environment};

// Requests are allocated by the runtime's threads and freed by the raft thread, at which glibc's
// allocator is slow: docs/decisions/0106.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> anyhow::Result<()> {
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    let variable = |name: &str| std::env::var_os(name);
    let (line, used) = with_environment(std::env::args_os(), variable);
    let flags = Flags::parse_from(line);
    let (command, log) = (flags.command.clone(), flags.log.clone());
    if flags.config_file.is_none() {
        check_environment(variable)?;
    }
    let config = flags.validate()?;
    daemon::telemetry::init_to(&log, &config.log_level, config.log_output);
    if !used.is_empty() {
        tracing::info!(target: "store::config", variables = used.join(" "), "flags from the environment");
    }
    let unknown = unrecognized(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()));
    if !unknown.is_empty() {
        tracing::warn!(target: "store::config", variables = unknown.join(" "), "unrecognized environment variables");
    }
    if let Some(Command::Restore { snapshot }) = command {
        return store::restore(&config, &snapshot);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = daemon::shutdown::token()?;
        store::run(config, stop).await
    })
}
