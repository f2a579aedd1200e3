//! The shells of the controllers: what wakes each of them, and what it is shown. One file per controller, one row in
//! `TABLE`.

use std::sync::Arc;

use crate::flags::Flags;
use crate::index::Indexes;
use crate::informers::{Caches, Informers};
use crate::work::{Controller, Metrics, Work};

mod cluster_role;
mod cron_job;
mod daemon_set;
mod deployment;
mod disruption;
mod endpoint_slice;
mod endpoint_slice_mirroring;
mod endpoints;
mod job;
mod node_ipam;
mod node_lifecycle;
mod pod_gc;
mod replica_set;
mod replication_controller;
mod root_ca;
mod service_account;
mod service_account_token;
mod service_cidr;
mod stateful_set;
mod taint_eviction;
mod ttl_after_finished;

/// Where a controller hangs its handlers.
pub struct Setup<'a> {
    pub informers: &'a mut Informers,
    pub caches: Caches,
    pub indexes: Indexes,
    pub flags: &'a Flags,
    pub metrics: &'a Metrics,
}

/// A controller ready to run.
pub struct Built {
    pub work: Work,
    pub workers: usize,
    pub controller: Arc<dyn Controller>,
}

type Build = fn(&mut Setup) -> Built;

pub struct Row {
    /// As in `--controllers`.
    pub name: &'static str,
    /// The short name older versions used.
    pub alias: &'static str,
    /// The source of its events.
    pub component: &'static str,
    pub build: Build,
}

const fn row(name: &'static str, alias: &'static str, component: &'static str, build: Build) -> Row {
    Row { name, alias, component, build }
}

pub const NAMESPACE: (&str, &str) = ("namespace-controller", "namespace");
pub const GARBAGE_COLLECTOR: (&str, &str) = ("garbage-collector-controller", "garbagecollector");

pub const TABLE: &[Row] = &[
    row("deployment-controller", "deployment", "deployment-controller", deployment::build),
    row("replicaset-controller", "replicaset", "replicaset-controller", replica_set::build),
    row(
        "replicationcontroller-controller",
        "replicationcontroller",
        "replication-controller",
        replication_controller::build,
    ),
    row("daemonset-controller", "daemonset", "daemonset-controller", daemon_set::build),
    row("statefulset-controller", "statefulset", "statefulset-controller", stateful_set::build),
    row("job-controller", "job", "job-controller", job::build),
    row("cronjob-controller", "cronjob", "cronjob-controller", cron_job::build),
    row("endpoints-controller", "endpoint", "endpoint-controller", endpoints::build),
    row("endpointslice-controller", "endpointslice", "endpoint-slice-controller", endpoint_slice::build),
    row(
        "endpointslice-mirroring-controller",
        "endpointslicemirroring",
        "endpoint-slice-mirroring-controller",
        endpoint_slice_mirroring::build,
    ),
    row("serviceaccount-controller", "serviceaccount", "serviceaccount-controller", service_account::build),
    row(
        "serviceaccount-token-controller",
        "serviceaccount-token",
        "serviceaccount-token-controller",
        service_account_token::build,
    ),
    row("root-ca-certificate-publisher-controller", "root-ca-cert-publisher", "root-ca-cert-publisher", root_ca::build),
    row("node-lifecycle-controller", "nodelifecycle", "node-controller", node_lifecycle::build),
    row("taint-eviction-controller", "taint-eviction", "taint-eviction-controller", taint_eviction::build),
    row("node-ipam-controller", "nodeipam", "cidrAllocator", node_ipam::build),
    row("pod-garbage-collector-controller", "podgc", "pod-garbage-collector", pod_gc::build),
    row(
        "ttl-after-finished-controller",
        "ttl-after-finished",
        "ttl-after-finished-controller",
        ttl_after_finished::build,
    ),
    row(
        "clusterrole-aggregation-controller",
        "clusterrole-aggregation",
        "clusterrole-aggregation",
        cluster_role::build,
    ),
    row("service-cidr-controller", "service-cidr-controller", "service-cidr-controller", service_cidr::build),
    row("disruption-controller", "disruption", "controllermanager", disruption::build),
];

impl Setup<'_> {
    pub fn work(&self, name: &'static str) -> Work {
        Work::new(name, self.metrics)
    }
}

pub fn built(work: Work, workers: usize, controller: impl Controller) -> Built {
    Built { work, workers, controller: Arc::new(controller) }
}
