//! The scheduler's decisions: snapshot, plugins, selection.
