//! Affinity to nodes and pods.

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, PodAffinityTerm, PreferredSchedulingTerm, WeightedPodAffinityTerm,
};

use super::{Error, ErrorList, Path, each, items, names, selector};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const WEIGHT_RANGE: &str = "must be in the range 1-100";

pub fn affinity(a: &Affinity, path: &Path, errs: &mut ErrorList) {
    if let Some(node) = &a.node_affinity {
        node_affinity(node, &path.child("nodeAffinity"), errs);
    }
    if let Some(pod) = &a.pod_affinity {
        let path = path.child("podAffinity");
        required(&pod.required_during_scheduling_ignored_during_execution, &path, errs);
        preferred(&pod.preferred_during_scheduling_ignored_during_execution, &path, errs);
    }
    if let Some(pod) = &a.pod_anti_affinity {
        let path = path.child("podAntiAffinity");
        required(&pod.required_during_scheduling_ignored_during_execution, &path, errs);
        preferred(&pod.preferred_during_scheduling_ignored_during_execution, &path, errs);
    }
}

fn node_affinity(a: &NodeAffinity, path: &Path, errs: &mut ErrorList) {
    if let Some(selector) = &a.required_during_scheduling_ignored_during_execution {
        selector::node_selector(selector, &path.child(REQUIRED), errs);
    }
    let terms: &Option<Vec<PreferredSchedulingTerm>> = &a.preferred_during_scheduling_ignored_during_execution;
    for (path, term) in items(terms, &path.child(PREFERRED)) {
        weight(term.weight, &path.child("weight"), errs);
        selector::node_selector_term(&term.preference, &path.child("preference"), errs);
    }
}

fn weight(weight: i32, path: &Path, errs: &mut ErrorList) {
    if !(1..=100).contains(&weight) {
        errs.push(Error::invalid(path, weight, WEIGHT_RANGE));
    }
}

fn required(terms: &Option<Vec<PodAffinityTerm>>, path: &Path, errs: &mut ErrorList) {
    for (path, t) in items(terms, &path.child(REQUIRED)) {
        term(t, &path, errs);
    }
}

fn preferred(terms: &Option<Vec<WeightedPodAffinityTerm>>, path: &Path, errs: &mut ErrorList) {
    for (path, t) in items(terms, &path.child(PREFERRED)) {
        weight(t.weight, &path.child("weight"), errs);
        term(&t.pod_affinity_term, &path.child("podAffinityTerm"), errs);
    }
}

fn term(t: &PodAffinityTerm, path: &Path, errs: &mut ErrorList) {
    if let Some(selector) = &t.label_selector {
        selector::label_selector(selector, &path.child("labelSelector"), errs);
    }
    if let Some(selector) = &t.namespace_selector {
        selector::label_selector(selector, &path.child("namespaceSelector"), errs);
    }
    for namespace in t.namespaces.iter().flatten() {
        each(names::dns_label(namespace), namespace, &path.child("namespace"), errs);
    }
    label_keys(&t.match_label_keys, t.label_selector.is_some(), &path.child("matchLabelKeys"), errs);
    label_keys(&t.mismatch_label_keys, t.label_selector.is_some(), &path.child("mismatchLabelKeys"), errs);
    if t.topology_key.is_empty() {
        errs.push(Error::required(&path.child("topologyKey"), "can not be empty"));
    }
    each(names::qualified_name(&t.topology_key), &t.topology_key, &path.child("topologyKey"), errs);
}

pub(super) fn label_keys(keys: &Option<Vec<String>>, has_selector: bool, path: &Path, errs: &mut ErrorList) {
    let Some(keys) = keys else { return };
    if !keys.is_empty() && !has_selector {
        errs.push(Error::forbidden(path, "must not be specified when labelSelector is not set"));
    }
    for (i, key) in keys.iter().enumerate() {
        each(names::qualified_name(key), key, &path.index(i), errs);
    }
}
