//! `xtask`: what hack/ runs.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use xtask::{down, images, registry, up};

#[derive(Debug, Parser)]
#[command(name = "hack")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring a cluster up, or find it running
    Up {
        /// Worker nodes, each in a network namespace of its own [default: 1, or as many as there are]
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=i64::from(xtask::cluster::MAX_NODES)))]
        nodes: Option<u8>,
        /// What keeps the state: 1, 3 or 5 members of kube-store, or etcd [default: 1, or as it was]
        #[arg(long)]
        store: Option<xtask::cluster::Store>,
        /// Where all state and logs are kept
        #[arg(long, default_value = "/var/lib/coxswain")]
        dir: PathBuf,
        /// Measure the time to the first running pod, and the daemons' memory
        #[arg(long)]
        bench: bool,
        /// Do not serve the test images to the nodes
        #[arg(long)]
        no_registry: bool,
        #[arg(long, hide = true, default_value = ".")]
        root: PathBuf,
    },
    /// Stop a cluster; its data stays
    Down {
        /// Where all state and logs are kept
        #[arg(long, default_value = "/var/lib/coxswain")]
        dir: PathBuf,
        /// Remove the data too
        #[arg(long)]
        wipe: bool,
    },
    /// Build the pause image and the test images
    Images {
        #[arg(long)]
        dir: PathBuf,
        #[arg(long, hide = true, default_value = ".")]
        root: PathBuf,
    },
    /// Serve built images, to be pulled only
    Registry {
        #[arg(long)]
        dir: PathBuf,
        #[arg(long, default_value = "127.0.0.1:5000")]
        listen: SocketAddr,
    },
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Up { nodes, store, dir, bench, no_registry, root } => {
            up::run(&up::Options { dir, nodes, store, bench, registry: !no_registry, root })
        }
        Command::Down { dir, wipe } => down::run(&dir, wipe),
        Command::Images { dir, root } => {
            let exe = std::env::current_exe()?;
            images::ensure(&root, exe.parent().unwrap_or(&root), &dir)
        }
        Command::Registry { dir, listen } => registry::serve(&dir, listen),
    }
}

fn main() -> std::process::ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
