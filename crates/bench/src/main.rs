//! `store-bench`: flags, a runtime, run until done or told to stop.

use bench::flags::Flags;
use clap::Parser;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// As many as the machines this is meant for have cores; more would only take from the servers.
const WORKER_THREADS: usize = 2;

fn main() -> anyhow::Result<()> {
    let plan = Flags::parse().validate()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKER_THREADS).enable_all().build()?;
    runtime.block_on(bench::run(plan))
}
