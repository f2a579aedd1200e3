//! The CNI configuration: one bridge per node, addresses from the node's pod network, host ports.
//!
//! The plugin masquerades nothing, as that would hide the source of traffic between pods of different nodes: see
//! [`crate::rules`].

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::config::Config;

/// Sorts before what other software installs, and the runtime takes the first.
pub const FILE_NAME: &str = "10-coxswain.conflist";
const CNI_VERSION: &str = "1.0.0";

/// The configuration list, as the file's text.
pub fn render(config: &Config, pod_cidrs: &[IpNet]) -> String {
    let ranges: Vec<Value> = pod_cidrs.iter().map(|cidr| json!([{ "subnet": cidr.to_string() }])).collect();
    let default = |cidr: &IpNet| json!({"dst": if cidr.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" }});
    let mut bridge = json!({
        "type": "bridge",
        "bridge": config.bridge_name,
        "isGateway": true,
        "ipMasq": false,
        "hairpinMode": true,
        "ipam": {
            "type": "host-local",
            "dataDir": config.cni_state_dir,
            "ranges": ranges,
            "routes": pod_cidrs.iter().map(default).collect::<Vec<_>>(),
        },
    });
    if config.mtu > 0 {
        bridge["mtu"] = config.mtu.into();
    }
    let host_ports = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    let list = json!({"cniVersion": CNI_VERSION, "name": "coxswain", "plugins": [bridge, host_ports]});
    format!("{list:#}\n")
}

/// Writes the file unless it is as wanted already; a reader never sees a part of it.
pub fn write(dir: &Path, text: &str) -> anyhow::Result<()> {
    let path = dir.join(FILE_NAME);
    if std::fs::read_to_string(&path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    let written = || -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        // Runtimes read *.conf, *.conflist and *.json only.
        let temporary = dir.join(format!(".{FILE_NAME}.tmp"));
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        std::fs::File::open(dir)?.sync_all()
    };
    written().with_context(|| format!("cannot write the CNI configuration {}", path.display()))?;
    tracing::info!(path = %path.display(), "wrote the CNI configuration");
    Ok(())
}

pub fn remove(dir: &Path) -> anyhow::Result<()> {
    let path = dir.join(FILE_NAME);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;
    use clap::Parser;

    #[test]
    fn the_configuration_list() {
        let flags = ["kube-podnet", "--kubeconfig=/k", "--node-name=n", "--cni-state-dir=/run/n/cni", "--mtu=1400"];
        let config = Config::load(Flags::try_parse_from(flags).expect("valid flags")).expect("a valid configuration");
        insta::assert_snapshot!(render(&config, &["10.244.1.0/24".parse().expect("a network")]));
    }

    #[test]
    fn writing_replaces_the_whole_file_or_leaves_it_alone() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("net.d").join(FILE_NAME);
        let dir = path.parent().expect("a directory");
        write(dir, "one").expect("written");
        let modified = |path: &Path| path.metadata().and_then(|m| m.modified()).expect("a time");
        let first = modified(&path);
        write(dir, "one").expect("nothing to do");
        assert_eq!(modified(&path), first);
        write(dir, "two").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("readable"), "two");
        assert_eq!(std::fs::read_dir(dir).expect("a directory").count(), 1, "no temporary file stays");
        remove(dir).expect("removed");
        remove(dir).expect("nothing to do");
        assert!(!path.exists());
    }
}
