//! Host ports in use on a node.

use k8s_openapi::api::core::v1 as core;

const ANY_ADDRESS: &str = "0.0.0.0";

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    pub port: i32,
    pub protocol: Box<str>,
    pub address: Box<str>,
}

impl HostPort {
    /// The ports a pod holds on its node: its containers' and its sidecars'.
    pub fn of(spec: &core::PodSpec) -> Box<[HostPort]> {
        let sidecars = spec.init_containers.iter().flatten();
        let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let containers = spec.containers.iter().chain(sidecars);
        let ports = containers.flat_map(|c| c.ports.iter().flatten());
        ports.filter_map(|p| p.host_port.filter(|port| *port > 0).map(|port| HostPort::new(port, p))).collect()
    }

    fn new(port: i32, declared: &core::ContainerPort) -> Self {
        let or = |text: &Option<String>, default: &str| -> Box<str> {
            text.as_deref().filter(|t| !t.is_empty()).unwrap_or(default).into()
        };
        HostPort { port, protocol: or(&declared.protocol, "TCP"), address: or(&declared.host_ip, ANY_ADDRESS) }
    }

    /// Two listeners clash when one of them listens on every address, or both on the same.
    pub fn clashes(&self, other: &HostPort) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address || &*self.address == ANY_ADDRESS || &*other.address == ANY_ADDRESS)
    }
}
