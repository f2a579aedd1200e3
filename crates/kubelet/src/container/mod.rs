//! From a pod's spec to what the runtime is asked to create.

pub mod config;
pub mod dns;
pub mod downward;
pub mod env;
pub mod hosts;
pub mod sandbox;
pub mod security;
pub mod services;
