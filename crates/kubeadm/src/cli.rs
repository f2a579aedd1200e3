//! The command line, with upstream's words and flags for the phases that exist.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use jiff::Timestamp;
use pki::layout::Cluster;

use crate::certs::{self, Dirs, Renew};

#[derive(Debug, Parser)]
#[command(name = "kubeadm", about = "Sets up what a cluster's daemons need", version = "v1.36.0+coxswain")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set up a control plane
    Init {
        #[command(subcommand)]
        what: Init,
    },
    /// Handle certificates
    Certs {
        #[command(subcommand)]
        what: Certs,
    },
    /// Print the version
    Version,
}

#[derive(Debug, Subcommand)]
enum Init {
    /// Carry out a single phase
    Phase {
        #[command(subcommand)]
        phase: Phase,
    },
}

#[derive(Debug, Subcommand)]
enum Phase {
    /// Make the certificates that are missing or due
    Certs {
        #[command(subcommand)]
        which: AllOf,
    },
    /// Make the kubeconfigs that are missing or due
    Kubeconfig {
        #[command(subcommand)]
        which: AllOf,
    },
}

#[derive(Debug, Subcommand)]
enum AllOf {
    /// All of them
    All(ClusterArgs),
}

#[derive(Debug, Subcommand)]
enum Certs {
    /// Show until when every certificate is valid
    CheckExpiration(DirArgs),
    /// Make certificates anew
    Renew {
        #[command(subcommand)]
        which: AllOf,
    },
}

#[derive(Clone, Debug, Args)]
struct DirArgs {
    /// Where certificates and keys are kept
    #[arg(long, default_value = "/etc/kubernetes/pki")]
    cert_dir: PathBuf,
    /// Where kubeconfigs are kept
    #[arg(long, default_value = "/etc/kubernetes")]
    kubeconfig_dir: PathBuf,
}

#[derive(Clone, Debug, Args)]
struct ClusterArgs {
    #[command(flatten)]
    dirs: DirArgs,
    /// The address the API server is reached at
    #[arg(long)]
    apiserver_advertise_address: IpAddr,
    /// The port the API server is reached at
    #[arg(long, default_value_t = 6443)]
    apiserver_bind_port: u16,
    /// Further names and addresses of the API server
    #[arg(long, value_delimiter = ',')]
    apiserver_cert_extra_sans: Vec<String>,
    /// The range of Service addresses
    #[arg(long, default_value = "10.96.0.0/12")]
    service_cidr: IpNet,
    /// The cluster's DNS domain
    #[arg(long, default_value = "cluster.local")]
    service_dns_domain: String,
    /// This host's name
    #[arg(long)]
    node_name: Option<String>,
}

impl DirArgs {
    fn dirs(&self) -> Dirs {
        Dirs { certs: self.cert_dir.clone(), kubeconfigs: self.kubeconfig_dir.clone() }
    }
}

impl ClusterArgs {
    fn cluster(&self) -> anyhow::Result<Cluster> {
        let host = match &self.node_name {
            Some(name) => name.clone(),
            None => hostname()?,
        };
        let Some(service_address) = self.service_cidr.hosts().next() else {
            bail!("--service-cidr {} holds no address", self.service_cidr);
        };
        let address = match self.apiserver_advertise_address {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        };
        Ok(Cluster {
            name: "kubernetes".to_owned(),
            server: format!("https://{address}:{}", self.apiserver_bind_port),
            advertise_address: self.apiserver_advertise_address,
            service_address,
            domain: self.service_dns_domain.clone(),
            extra_names: self.apiserver_cert_extra_sans.clone(),
            host,
            nodes: Vec::new(),
        })
    }
}

fn hostname() -> anyhow::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").context("cannot read the host's name")?;
    Ok(name.trim().to_lowercase())
}

pub fn run(cli: Cli) -> anyhow::Result<()> {
    let now = Timestamp::now();
    match cli.command {
        Command::Version => println!("kubeadm version: v1.36.0+coxswain"),
        Command::Init { what: Init::Phase { phase: Phase::Certs { which: AllOf::All(args) } } } => {
            report(&certs::ensure_certificates(&args.dirs.dirs(), &args.cluster()?, Renew::Due, now)?);
        }
        Command::Init { what: Init::Phase { phase: Phase::Kubeconfig { which: AllOf::All(args) } } } => {
            report(&certs::ensure_kubeconfigs(&args.dirs.dirs(), &args.cluster()?, Renew::Due, now)?);
        }
        Command::Certs { what: Certs::Renew { which: AllOf::All(args) } } => {
            report(&certs::ensure_certificates(&args.dirs.dirs(), &args.cluster()?, Renew::Always, now)?);
            report(&certs::ensure_kubeconfigs(&args.dirs.dirs(), &args.cluster()?, Renew::Always, now)?);
        }
        Command::Certs { what: Certs::CheckExpiration(args) } => print_expirations(&args.dirs(), now)?,
    }
    Ok(())
}

fn report(written: &[PathBuf]) {
    for path in written {
        println!("[certs] wrote {}", path.display());
    }
    if written.is_empty() {
        println!("[certs] everything is there and valid");
    }
}

fn print_expirations(dirs: &Dirs, now: Timestamp) -> anyhow::Result<()> {
    println!("{:<28} {:<22} RESIDUAL TIME", "CERTIFICATE", "EXPIRES");
    for expiration in certs::expirations(dirs)? {
        let left = expiration.facts.not_after.duration_since(now);
        let residual =
            if expiration.facts.expired(now) { "<invalid>".to_owned() } else { format!("{}d", left.as_hours() / 24) };
        let expires = expiration.facts.not_after.strftime("%b %d, %Y %H:%M UTC");
        println!("{:<28} {expires:<22} {residual}", expiration.name);
    }
    Ok(())
}
