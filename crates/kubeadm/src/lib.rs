//! init, join, reset and certs, as steps.
