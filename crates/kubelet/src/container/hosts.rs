//! The pod's own /etc/hosts.

use k8s_openapi::api::core::v1::Pod;

const LOOPBACK: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";

/// Longest label a host name may have.
const MAX_HOSTNAME: usize = 63;

/// The pod's host name and, with a subdomain, its domain.
pub fn hostname(pod: &Pod, cluster_domain: &str) -> (String, Option<String>) {
    let spec = pod.spec.as_ref();
    let name = spec.and_then(|s| s.hostname.as_deref()).filter(|h| !h.is_empty());
    let mut name = name.unwrap_or_else(|| podsync::pod::name(pod)).to_owned();
    if name.len() > MAX_HOSTNAME {
        name.truncate(MAX_HOSTNAME);
        name.truncate(name.trim_end_matches(['-', '.']).len());
    }
    let subdomain = spec.and_then(|s| s.subdomain.as_deref()).filter(|s| !s.is_empty());
    let domain = subdomain.map(|sub| format!("{sub}.{}.svc.{cluster_domain}", podsync::pod::namespace(pod)));
    (name, domain)
}

/// `host` is the node's own file, the base for pods on its network.
pub fn render(pod: &Pod, ips: &[String], cluster_domain: &str, host: &str) -> String {
    let mut text = if podsync::pod::host_network(pod) {
        format!("# Kubernetes-managed hosts file (host network).\n{host}")
    } else {
        let (name, domain) = hostname(pod, cluster_domain);
        let names = domain.map_or(name.clone(), |domain| format!("{name}.{domain}\t{name}"));
        let own: String = ips.iter().map(|ip| format!("{ip}\t{names}\n")).collect();
        format!("# Kubernetes-managed hosts file.\n{LOOPBACK}{own}")
    };
    let aliases = pod.spec.as_ref().and_then(|s| s.host_aliases.as_deref()).unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn managed_files() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "ns"},
            "spec": {"containers": [], "hostname": "web-0", "subdomain": "web",
                "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}}))
        .expect("a pod");
        let text = render(&pod, &["10.0.0.5".into()], "cluster.local", "");
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(text.contains("\n10.0.0.5\tweb-0.web.ns.svc.cluster.local\tweb-0\n"));
        assert!(text.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"));
    }
}
