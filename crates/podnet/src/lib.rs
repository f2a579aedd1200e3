//! CNI configuration, pod routes and masquerade.
