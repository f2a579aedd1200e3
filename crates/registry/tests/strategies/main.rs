//! The strategies seen as the API server sees them: JSON in, JSON and findings out.

mod all_kinds;
mod apps;
mod batch;
mod certificates;
mod cluster;
mod config;
mod container;
mod endpoints;
mod event;
mod namespace;
mod networking;
mod node;
mod pod;
mod pod_update;
mod rbac;
mod service;
mod storage;
mod support;
