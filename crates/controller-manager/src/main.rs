//! `kube-controller-manager`: informers in, one executor out.

use clap::Parser;
use controller_manager::flags::Args;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    daemon::telemetry::init(&args.log);
    let token = daemon::shutdown::token()?;
    controller_manager::run(args, token).await
}
