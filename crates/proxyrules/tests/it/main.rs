//! The rules as text, what packets experience under them, and that a sync writes only what changed.

mod conntrack;
mod fixture;
mod golden;
mod incremental;
mod packets;
mod trace;
