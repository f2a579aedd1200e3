//! Key index, revisions, compaction, watch history and leases as pure state.
