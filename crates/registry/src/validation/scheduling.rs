//! What steers a pod to a node beside affinity: tolerations, taints, spread constraints, gates.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodSchedulingGate, Taint, Toleration, TopologySpreadConstraint};

use super::{Error, ErrorList, Path, each, items, json, maybe_one_of, names, selector, text};

const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "PreferNoSchedule"];

pub fn tolerations(list: &Option<Vec<Toleration>>, path: &Path, errs: &mut ErrorList) {
    for (path, t) in items(list, path) {
        toleration(t, &path, errs);
    }
}

fn toleration(t: &Toleration, path: &Path, errs: &mut ErrorList) {
    let (key, operator, effect) = (text(&t.key), text(&t.operator), text(&t.effect));
    if !key.is_empty() {
        each(names::qualified_name(key), key, &path.child("key"), errs);
    }
    if key.is_empty() && operator != "Exists" {
        let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errs.push(Error::invalid(&path.child("operator"), operator, detail));
    }
    if t.toleration_seconds.is_some() && effect != "NoExecute" {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errs.push(Error::invalid(&path.child("effect"), effect, detail));
    }
    match operator {
        "Equal" | "" => each(names::label_value(text(&t.value)), text(&t.value), &path.child("operator"), errs),
        "Exists" if !text(&t.value).is_empty() => {
            errs.push(Error::invalid(
                &path.child("operator"),
                json(t),
                "value must be empty when `operator` is 'Exists'",
            ));
        }
        "Exists" => {}
        other => errs.push(Error::not_supported(&path.child("operator"), other, &["Equal", "Exists"])),
    }
    maybe_one_of(effect, &EFFECTS, &path.child("effect"), errs);
}

pub fn taints(list: &Option<Vec<Taint>>, path: &Path, errs: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (path, t) in items(list, path) {
        each(names::qualified_name(&t.key), &t.key, &path.child("key"), errs);
        each(names::label_value(text(&t.value)), text(&t.value), &path.child("value"), errs);
        super::one_of(&t.effect, &EFFECTS, &path.child("effect"), errs);
        if !seen.insert((t.key.as_str(), t.effect.as_str())) {
            errs.push(Error::duplicate(&path, json(t)));
        }
    }
}

pub fn spread_constraints(list: &Option<Vec<TopologySpreadConstraint>>, path: &Path, errs: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (path, c) in items(list, path) {
        spread_constraint(c, &path, errs);
        if !seen.insert((c.topology_key.as_str(), c.when_unsatisfiable.as_str())) {
            let pair = format!("{{{}, {}}}", c.topology_key, c.when_unsatisfiable);
            errs.push(Error::duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), pair));
        }
    }
}

fn spread_constraint(c: &TopologySpreadConstraint, path: &Path, errs: &mut ErrorList) {
    if c.max_skew <= 0 {
        errs.push(Error::invalid(&path.child("maxSkew"), c.max_skew, "must be greater than zero"));
    }
    if c.topology_key.is_empty() {
        errs.push(Error::required(&path.child("topologyKey"), "can not be empty"));
    } else {
        each(names::qualified_name(&c.topology_key), &c.topology_key, &path.child("topologyKey"), errs);
    }
    if !matches!(c.when_unsatisfiable.as_str(), "DoNotSchedule" | "ScheduleAnyway") {
        let at = path.child("whenUnsatisfiable");
        errs.push(Error::not_supported(&at, c.when_unsatisfiable.as_str(), &["DoNotSchedule", "ScheduleAnyway"]));
    }
    if let Some(domains) = c.min_domains {
        let at = path.child("minDomains");
        if domains <= 0 {
            errs.push(Error::invalid(&at, domains, "must be greater than zero"));
        }
        if c.when_unsatisfiable != "DoNotSchedule" {
            let detail =
                "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ".to_owned() + &c.when_unsatisfiable;
            errs.push(Error::invalid(&at, domains, &detail));
        }
    }
    maybe_one_of(text(&c.node_affinity_policy), &["Honor", "Ignore"], &path.child("nodeAffinityPolicy"), errs);
    maybe_one_of(text(&c.node_taints_policy), &["Honor", "Ignore"], &path.child("nodeTaintsPolicy"), errs);
    super::affinity::label_keys(&c.match_label_keys, c.label_selector.is_some(), &path.child("matchLabelKeys"), errs);
    if let Some(s) = &c.label_selector {
        selector::label_selector(s, &path.child("labelSelector"), errs);
    }
}

pub fn gates(list: &Option<Vec<PodSchedulingGate>>, path: &Path, errs: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (path, gate) in items(list, path) {
        each(names::qualified_name(&gate.name), &gate.name, &path, errs);
        if !seen.insert(gate.name.as_str()) {
            errs.push(Error::duplicate(&path, gate.name.as_str()));
        }
    }
}
