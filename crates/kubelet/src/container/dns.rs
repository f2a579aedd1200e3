//! A pod's resolver configuration by its dnsPolicy.

use cri::v1::DnsConfig;
use k8s_openapi::api::core::v1::Pod;

use crate::config::KubeletConfiguration;

/// The kernel's and glibc's limits, beyond which entries are dropped.
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;

fn parse(resolv_conf: &str) -> DnsConfig {
    let mut dns = DnsConfig::default();
    for line in resolv_conf.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => dns.servers.extend(words.next().map(ToOwned::to_owned)),
            Some("search") => {
                dns.searches = words.map(|w| w.trim_end_matches('.').to_owned()).filter(|w| !w.is_empty()).collect();
            }
            Some("options") => dns.options = words.map(ToOwned::to_owned).collect(),
            _ => {}
        }
    }
    dns
}

fn cluster(config: &KubeletConfiguration, namespace: &str, host: DnsConfig) -> DnsConfig {
    let domain = &config.cluster_domain;
    let mut searches = Vec::new();
    if !domain.is_empty() {
        searches.extend([format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()]);
    }
    searches.extend(host.searches);
    DnsConfig { servers: config.cluster_dns.clone(), searches, options: vec!["ndots:5".into()] }
}

fn by_policy(pod: &Pod, config: &KubeletConfiguration, host: DnsConfig) -> DnsConfig {
    let policy = pod.spec.as_ref().and_then(|s| s.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let clusterwide = match policy {
        "None" => return DnsConfig::default(),
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !podsync::pod::host_network(pod),
        _ => false,
    };
    if clusterwide && !config.cluster_dns.is_empty() {
        cluster(config, podsync::pod::namespace(pod), host)
    } else {
        host
    }
}

fn add_unique(list: &mut Vec<String>, extra: impl IntoIterator<Item = String>) {
    for item in extra {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}

/// `host` is the text of the host's resolv.conf.
pub fn config(pod: &Pod, config: &KubeletConfiguration, host: &str) -> DnsConfig {
    let mut dns = by_policy(pod, config, parse(host));
    if let Some(extra) = pod.spec.as_ref().and_then(|s| s.dns_config.clone()) {
        add_unique(&mut dns.servers, extra.nameservers.unwrap_or_default());
        add_unique(&mut dns.searches, extra.searches.unwrap_or_default());
        for option in extra.options.unwrap_or_default() {
            let Some(name) = option.name else { continue };
            dns.options.retain(|old| old.split(':').next() != Some(name.as_str()));
            dns.options.push(option.value.map_or(name.clone(), |value| format!("{name}:{value}")));
        }
    }
    dns.servers.truncate(MAX_NAMESERVERS);
    dns.searches.truncate(MAX_SEARCHES);
    dns
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn policies() {
        let settings = KubeletConfiguration {
            cluster_dns: vec!["10.96.0.10".into()],
            cluster_domain: "cluster.local".into(),
            ..KubeletConfiguration::default()
        };
        let host = "nameserver 1.1.1.1\nsearch lan\noptions edns0\n";
        let check = |mut spec: Value, servers: &[&str], searches: &[&str], options: &[&str]| {
            spec["containers"] = json!([]);
            let meta = json!({"namespace": "ns"});
            let pod: Pod = serde_json::from_value(json!({"metadata": meta, "spec": spec})).expect("a pod");
            let dns = config(&pod, &settings, host);
            assert_eq!((dns.servers, dns.searches, dns.options), (owned(servers), owned(searches), owned(options)));
        };
        let clustered = ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "lan"];
        check(json!({}), &["10.96.0.10"], &clustered, &["ndots:5"]);
        check(json!({"dnsPolicy": "Default"}), &["1.1.1.1"], &["lan"], &["edns0"]);
        check(json!({"hostNetwork": true}), &["1.1.1.1"], &["lan"], &["edns0"]);
        let host_net = json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"});
        check(host_net, &["10.96.0.10"], &clustered, &["ndots:5"]);
        let none = json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["9.9.9.9"],
            "options": [{"name": "ndots", "value": "2"}]}});
        check(none, &["9.9.9.9"], &[], &["ndots:2"]);
    }

    fn owned(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }
}
