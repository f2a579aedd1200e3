//! What every part of the kubelet shares.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use client::Informer;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use parking_lot::RwLock;

use crate::cgroups::Cgroups;
use crate::config::Settings;
use crate::events::Events;
use crate::images::Images;
use crate::objects::Objects;
use crate::volumes::token::Tokens;

/// Everything a pod worker needs besides its pod; built once, passed as `Arc`.
pub struct Context {
    pub settings: Settings,
    pub cri: cri::Client,
    /// Absent when the kubelet runs static pods only.
    pub api: Option<kube::Client>,
    pub events: Events,
    pub cgroups: Cgroups,
    pub images: Images,
    pub objects: Objects,
    pub tokens: Tokens,
    pub services: Option<Informer<Service>>,
    pub machine: Machine,
    /// This node as the API server has it.
    pub node: RwLock<Option<Arc<Node>>>,
}

/// Facts about the host, read once.
#[derive(Debug, Clone)]
pub struct Machine {
    pub ips: Vec<IpAddr>,
    pub capacity: BTreeMap<String, Quantity>,
    /// The capacity less what is reserved: what all pods together are held to.
    pub enforced: BTreeMap<String, Quantity>,
    /// What is left of that above the eviction thresholds.
    pub allocatable: BTreeMap<String, Quantity>,
    pub memory_bytes: i64,
}

impl Context {
    pub fn host_ips(&self) -> Vec<String> {
        self.machine.ips.iter().map(IpAddr::to_string).collect()
    }
}
