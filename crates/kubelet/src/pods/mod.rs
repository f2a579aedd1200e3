//! The pods of this node: where they come from, one worker for each, and what they leave behind.

pub mod entry;
pub mod hooks;
pub mod housekeeping;
pub mod killer;
pub mod lifecycle;
pub mod manager;
pub mod mirror;
pub mod observe;
pub mod publish;
pub mod starter;
pub mod static_pods;
pub mod worker;

pub use entry::Entry;
pub use manager::Pods;
