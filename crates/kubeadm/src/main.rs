//! `kubeadm`: sets up what a cluster's daemons need.

use clap::Parser;

fn main() -> std::process::ExitCode {
    match kubeadm::cli::run(kubeadm::cli::Cli::parse()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
