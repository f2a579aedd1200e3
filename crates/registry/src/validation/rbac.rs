//! What the four RBAC kinds share: rules, subjects, references to roles.

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};

use super::{Error, ErrorList, Path, each, items, json, names, required, text};

const GROUP: &str = "rbac.authorization.k8s.io";

pub fn default_ref(role: &mut RoleRef) {
    crate::defaults::fill_text(&mut role.api_group, GROUP);
}

/// Users and groups are RBAC's own; service accounts are of the core group.
pub fn default_subjects(subjects: &mut Option<Vec<Subject>>) {
    for subject in subjects.iter_mut().flatten() {
        if matches!(subject.kind.as_str(), "User" | "Group") {
            crate::defaults::fill_text(&mut subject.api_group, GROUP);
        }
    }
}

/// Names in RBAC are path segments: they may have colons and capitals.
pub fn name(value: &str) -> Vec<String> {
    api::names::path_segment(value, false)
}

pub fn rules(list: &Option<Vec<PolicyRule>>, namespaced: bool, errs: &mut ErrorList) {
    for (path, r) in items(list, &Path::new("rules")) {
        rule(r, namespaced, &path, errs);
    }
}

fn rule(r: &PolicyRule, namespaced: bool, path: &Path, errs: &mut ErrorList) {
    let any = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    if r.verbs.is_empty() {
        errs.push(Error::required(&path.child("verbs"), "verbs must contain at least one value"));
    }
    if any(&r.non_resource_urls) {
        let at = path.child("nonResourceURLs");
        if namespaced {
            let detail = "namespaced rules cannot apply to non-resource URLs";
            errs.push(Error::invalid(&at, json(&r.non_resource_urls), detail));
        }
        if any(&r.api_groups) || any(&r.resources) || any(&r.resource_names) {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errs.push(Error::invalid(&at, json(&r.non_resource_urls), detail));
        }
        return;
    }
    if !any(&r.api_groups) {
        errs.push(Error::required(&path.child("apiGroups"), "resource rules must supply at least one api group"));
    }
    if !any(&r.resources) {
        errs.push(Error::required(&path.child("resources"), "resource rules must supply at least one resource"));
    }
}

pub fn role_ref(role: &RoleRef, kinds: &[&str], errs: &mut ErrorList) {
    let path = Path::new("roleRef");
    if text(&role.api_group) != GROUP {
        errs.push(Error::not_supported(&path.child("apiGroup"), text(&role.api_group), &[GROUP]));
    }
    if !kinds.contains(&role.kind.as_str()) {
        errs.push(Error::not_supported(&path.child("kind"), role.kind.as_str(), kinds));
    }
    if role.name.is_empty() {
        errs.push(Error::required(&path.child("name"), ""));
    } else {
        each(name(&role.name), &role.name, &path.child("name"), errs);
    }
}

pub fn subjects(list: &Option<Vec<Subject>>, namespaced: bool, errs: &mut ErrorList) {
    for (path, s) in items(list, &Path::new("subjects")) {
        subject(s, namespaced, &path, errs);
    }
}

fn subject(s: &Subject, namespaced: bool, path: &Path, errs: &mut ErrorList) {
    required(&s.name, &path.child("name"), errs);
    let group = text(&s.api_group);
    match s.kind.as_str() {
        "ServiceAccount" => {
            if !s.name.is_empty() {
                each(names::dns_subdomain(&s.name), &s.name, &path.child("name"), errs);
            }
            if !group.is_empty() {
                errs.push(Error::not_supported(&path.child("apiGroup"), group, &[""]));
            }
            if !namespaced && text(&s.namespace).is_empty() {
                errs.push(Error::required(&path.child("namespace"), ""));
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errs.push(Error::not_supported(&path.child("apiGroup"), group, &[GROUP]));
            }
        }
        other => {
            errs.push(Error::not_supported(&path.child("kind"), other, &["Group", "ServiceAccount", "User"]));
        }
    }
}

pub fn same_ref(new: &RoleRef, old: &RoleRef, errs: &mut ErrorList) {
    if new != old {
        errs.push(Error::invalid(&Path::new("roleRef"), json(new), "cannot change roleRef"));
    }
}
