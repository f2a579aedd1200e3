//! One strategy per kind: prepare, default, validate, warn.
