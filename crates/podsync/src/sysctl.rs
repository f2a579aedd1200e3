//! Which kernel parameters a pod may set on this node.
//!
//! Safe ones concern nobody but the pod; the others a node's owner has to allow, and only what the kernel keeps apart
//! for each pod can be allowed at all.

use k8s_openapi::api::core::v1::Pod;

use crate::plan::Reason;

/// Upstream's list: namespaced, isolated, and no harm to the node.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
}

impl Namespace {
    /// Of a name, or of what stands before a pattern's `*`.
    fn of(name: &str) -> Option<Namespace> {
        let ipc =
            name == "kernel.sem" || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|p| name.starts_with(p));
        if ipc { Some(Namespace::Ipc) } else { name.starts_with("net.").then_some(Namespace::Net) }
    }

    fn name(self) -> &'static str {
        match self {
            Namespace::Ipc => "IPC",
            Namespace::Net => "Net",
        }
    }
}

/// `net/ipv4/conf/eth0.1/x` is `net.ipv4.conf.eth0/1.x`: whichever of the two comes first separates.
pub fn dotted(name: &str) -> String {
    let swap = |c: char| match c {
        '/' => '.',
        '.' => '/',
        c => c,
    };
    if name.find(['.', '/']).is_some_and(|at| name[at..].starts_with('/')) {
        name.chars().map(swap).collect()
    } else {
        name.to_owned()
    }
}

/// Checks a name or a pattern with `*` at its end that the node's owner allows.
pub fn validate_pattern(pattern: &str) -> Result<(), String> {
    let name = dotted(pattern);
    let prefix = name.strip_suffix('*').unwrap_or(&name);
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ['.', '-', '_', '/'].contains(&c);
    if prefix.is_empty() || !prefix.chars().all(known) {
        return Err(format!("{pattern:?} is no sysctl"));
    }
    Namespace::of(prefix).map(drop).ok_or_else(|| format!("the sysctls {pattern:?} are not known to be namespaced"))
}

fn allows(pattern: &str, name: &str) -> bool {
    let pattern = dotted(pattern);
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
}

/// `allowed` are patterns besides the safe ones.
pub fn admit(pod: &Pod, allowed: &[String]) -> Result<(), Reason> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let sysctls = spec.security_context.as_ref().and_then(|c| c.sysctls.as_deref()).unwrap_or_default();
    let forbidden = |why: String| Err(Reason::new("SysctlForbidden", format!("forbidden sysctl: {why}")));
    for sysctl in sysctls {
        let name = dotted(&sysctl.name);
        if !SAFE.contains(&name.as_str()) && !allowed.iter().any(|pattern| allows(pattern, &name)) {
            return forbidden(format!("{name:?} not allowlisted"));
        }
        // In the host's namespace it would be the host's.
        let namespace = Namespace::of(&name);
        let host = match namespace {
            Some(Namespace::Ipc) => spec.host_ipc == Some(true),
            Some(Namespace::Net) => spec.host_network == Some(true),
            None => false,
        };
        if let Some(namespace) = namespace.filter(|_| host) {
            return forbidden(format!("{name:?} not allowed with host {} enabled", namespace.name()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod_of;
    use serde_json::json;

    #[test]
    fn safe_allowed_or_forbidden() {
        let check = |name: &str, allowed: &[&str], host: &str, expected: Result<(), &str>| {
            let mut spec = json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]},
                "containers": [{"name": "c", "image": "i"}]});
            if !host.is_empty() {
                spec[host] = json!(true);
            }
            let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
            let expected = expected.map_err(|message| Reason::new("SysctlForbidden", message));
            assert_eq!(admit(&pod_of(spec), &allowed), expected, "{name} {allowed:?} {host}");
        };
        check("net.ipv4.tcp_syncookies", &[], "", Ok(()));
        check("net/ipv4/tcp_syncookies", &[], "", Ok(()));
        check("kernel.shm_rmid_forced", &[], "hostNetwork", Ok(()));
        check("kernel.msgmax", &[], "", Err("forbidden sysctl: \"kernel.msgmax\" not allowlisted"));
        check("kernel.msgmax", &["kernel.msg*"], "", Ok(()));
        check("kernel.msgmax", &["kernel.msgmax"], "hostNetwork", Ok(()));
        check("kernel.msgmaxx", &["kernel.msgmax"], "", Err("forbidden sysctl: \"kernel.msgmaxx\" not allowlisted"));
        let shared = "forbidden sysctl: \"kernel.msgmax\" not allowed with host IPC enabled";
        check("kernel.msgmax", &["kernel.msg*"], "hostIPC", Err(shared));
        let shared = "forbidden sysctl: \"net.ipv4.tcp_rmem\" not allowed with host Net enabled";
        check("net.ipv4.tcp_rmem", &[], "hostNetwork", Err(shared));
        check("net.core.somaxconn", &["net.*"], "hostIPC", Ok(()));
    }

    #[test]
    fn only_namespaced_ones_can_be_allowed() {
        let check =
            |pattern: &str, expected: bool| assert_eq!(validate_pattern(pattern).is_ok(), expected, "{pattern}");
        check("net.core.somaxconn", true);
        check("net.*", true);
        check("net/ipv4/*", true);
        check("kernel.shm*", true);
        check("kernel.sem", true);
        check("kernel.*", false);
        check("vm.swappiness", false);
        check("*", false);
        check("net.*.x", false);
    }
}
