//! `robustness`: flags, a network of its own, run until done or told to stop, everything removed.

use clap::Parser;
use robustness::flags::Flags;
use robustness::host::Host;

/// As many as the machines this is meant for have cores.
const WORKER_THREADS: usize = 2;

fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    // Before there are threads: they are in the namespace that this one is in when it starts them.
    let host = Host::enter(&flags)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKER_THREADS).enable_all().build()?;
    runtime.block_on(robustness::run(&flags, &host))
}
