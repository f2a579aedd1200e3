//! What every daemon shares: flags, tracing, health and metrics endpoints, signals, certificate reload.
