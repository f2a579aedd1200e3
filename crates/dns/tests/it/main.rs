//! The DNS server over real sockets on loopback, with objects set by hand.

mod forwarding;
mod names;
mod server;
mod updates;
