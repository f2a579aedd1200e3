//! Event of `events.k8s.io/v1`: the core group's under other names.

use serde_json::Value;

use super::{Conversion, Renames, renamed};

pub const EVENTS: Conversion = Conversion { kept: ("", "v1", "events"), from_kept, to_kept };

/// As the core group has it, and as `events.k8s.io` does.
const NAMES: Renames = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

fn from_kept(event: Value) -> Value {
    renamed(event, "events.k8s.io/v1", NAMES.iter().copied())
}

pub(crate) fn to_kept(event: Value) -> Value {
    renamed(event, "v1", NAMES.iter().map(|&(core, events)| (events, core)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn there_and_back() {
        let kept = json!({
            "kind": "Event", "apiVersion": "v1", "metadata": {"name": "a"}, "reason": "Started",
            "involvedObject": {"kind": "Pod", "name": "p"}, "message": "m", "reportingComponent": "kubelet",
            "source": {"component": "kubelet"}, "firstTimestamp": null, "lastTimestamp": "2026-01-01T00:00:00Z", "count": 2,
        });
        let served = from_kept(kept.clone());
        let expected = json!({
            "kind": "Event", "apiVersion": "events.k8s.io/v1", "metadata": {"name": "a"}, "reason": "Started",
            "regarding": {"kind": "Pod", "name": "p"}, "note": "m", "reportingController": "kubelet",
            "deprecatedSource": {"component": "kubelet"}, "deprecatedFirstTimestamp": null,
            "deprecatedLastTimestamp": "2026-01-01T00:00:00Z", "deprecatedCount": 2,
        });
        assert_eq!(served, expected);
        assert_eq!(to_kept(served), kept);
    }
}
