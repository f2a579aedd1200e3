//! exec, attach and port-forward: the client's WebSocket or SPDY on one side, the runtime's SPDY
//! streaming server on the other.

pub mod bridge;
pub mod dictionary;
pub mod spdy;
pub mod tunnel;
pub mod upgrade;
