//! This node at the API server: its object, its status, its heartbeat.

pub mod capacity;
pub mod lease;
pub mod pressure;
pub mod register;
pub mod status;
