//! What a write to an existing pod may change: images, the deadline, more tolerations, scheduling gates taken away.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Toleration};

use super::{Error, ErrorList, Path, text};

const ONLY: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
    tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub fn pod_update(new: &Pod, old: &Pod, path: &Path, errs: &mut ErrorList) {
    let empty = PodSpec::default();
    let (new, old) = (new.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
    if !same_containers(new, old, path, errs) {
        return;
    }
    deadline(new, old, &path.child("activeDeadlineSeconds"), errs);
    tolerations(new, old, &path.child("tolerations"), errs);
    gates(new, old, &path.child("schedulingGates"), errs);
    if masked(new, old) != *old {
        errs.push(Error::forbidden(path, ONLY));
    }
}

/// Containers cannot come or go; comparing their fields makes sense only when they did not.
fn same_containers(new: &PodSpec, old: &PodSpec, path: &Path, errs: &mut ErrorList) -> bool {
    let count = |list: &Option<Vec<Container>>| list.as_ref().map_or(0, Vec::len);
    let detail = "pod updates may not add or remove containers";
    if new.containers.len() != old.containers.len() {
        errs.push(Error::forbidden(&path.child("containers"), detail));
        return false;
    }
    if count(&new.init_containers) != count(&old.init_containers) {
        errs.push(Error::forbidden(&path.child("initContainers"), detail));
        return false;
    }
    true
}

fn deadline(new: &PodSpec, old: &PodSpec, path: &Path, errs: &mut ErrorList) {
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            errs.push(Error::invalid(path, new, "must be between 0 and 2147483647, inclusive"));
        }
        (Some(new), Some(old)) if new > old => {
            errs.push(Error::invalid(path, new, "must be less than or equal to previous value"));
        }
        (None, Some(_)) => {
            errs.push(Error::invalid(
                path,
                serde_json::Value::Null,
                "must not update from a positive integer to nil value",
            ));
        }
        _ => {}
    }
}

fn tolerations(new: &PodSpec, old: &PodSpec, path: &Path, errs: &mut ErrorList) {
    let kept = |t: &Toleration| {
        let again = |n: &Toleration| Toleration { toleration_seconds: None, ..n.clone() };
        new.tolerations
            .iter()
            .flatten()
            .any(|n| n == t || (t.effect.as_deref() == Some("NoExecute") && again(n) == again(t)))
    };
    if !old.tolerations.iter().flatten().all(kept) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errs.push(Error::forbidden(path, detail));
    }
}

/// A gate may be taken away, never added.
fn gates(new: &PodSpec, old: &PodSpec, path: &Path, errs: &mut ErrorList) {
    let was = |name: &str| old.scheduling_gates.iter().flatten().any(|g| g.name == name);
    for (i, gate) in new.scheduling_gates.iter().flatten().enumerate() {
        if !was(&gate.name) {
            let detail = "only deletion is allowed, but found new scheduling gate '".to_owned() + &gate.name + "'";
            errs.push(Error::forbidden(&path.index(i), &detail));
        }
    }
}

/// The new spec with everything that may change put back to what it was; what still differs may not.
fn masked(new: &PodSpec, old: &PodSpec) -> PodSpec {
    let mut spec = new.clone();
    let images = |new: &mut [Container], old: &[Container]| {
        for (new, old) in new.iter_mut().zip(old) {
            new.image.clone_from(&old.image);
        }
    };
    images(&mut spec.containers, &old.containers);
    images(spec.init_containers.as_deref_mut().unwrap_or_default(), old.init_containers.as_deref().unwrap_or_default());
    spec.active_deadline_seconds = old.active_deadline_seconds;
    spec.tolerations.clone_from(&old.tolerations);
    if old.scheduling_gates.as_ref().is_some_and(|g| !g.is_empty()) {
        gated(&mut spec, old);
    }
    spec.scheduling_gates.clone_from(&old.scheduling_gates);
    // The binding and the priority admission plugins write through their own paths.
    if old.termination_grace_period_seconds.is_some_and(|s| s < 0) && spec.termination_grace_period_seconds == Some(1) {
        spec.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    spec
}

/// While gates hold a pod back, where it may go can still be narrowed.
fn gated(spec: &mut PodSpec, old: &PodSpec) {
    let selector = old.node_selector.clone().unwrap_or_default();
    let now = spec.node_selector.clone().unwrap_or_default();
    if selector.iter().all(|(key, value)| now.get(key) == Some(value)) {
        spec.node_selector.clone_from(&old.node_selector);
    }
    let required = |s: &PodSpec| {
        let node = s.affinity.as_ref()?.node_affinity.as_ref()?;
        node.required_during_scheduling_ignored_during_execution.clone()
    };
    if required(old).is_none() {
        spec.affinity.clone_from(&old.affinity);
    }
}

/// The node of a pod, and everything else that a status write must leave alone, is kept by `prepare_update`; what is
/// left to check is the status itself.
pub fn status_update(new: &Pod, old: &Pod, errs: &mut ErrorList) {
    let path = Path::new("status");
    let (Some(now), before) = (&new.status, old.status.clone().unwrap_or_default()) else { return };
    if text(&now.nominated_node_name) != text(&before.nominated_node_name) && !text(&now.nominated_node_name).is_empty()
    {
        let name = text(&now.nominated_node_name);
        super::each(super::names::dns_subdomain(name), name, &path.child("nominatedNodeName"), errs);
    }
    if let (Some(class), Some(was)) = (&now.qos_class, &before.qos_class)
        && class != was
    {
        errs.push(Error::invalid(&path.child("qosClass"), class.as_str(), super::IMMUTABLE));
    }
    restarts(new, old, &path, errs);
    for (i, ip) in now.pod_ips.iter().flatten().enumerate() {
        super::each(super::names::ip(&ip.ip), &ip.ip, &path.child("podIPs").index(i), errs);
    }
}

/// A container that terminated for good cannot be reported as living again.
fn restarts(new: &Pod, old: &Pod, path: &Path, errs: &mut ErrorList) {
    let policy = old.spec.as_ref().map_or("", |s| text(&s.restart_policy));
    let ruled = old.spec.iter().flat_map(|s| &s.containers).any(|c| c.restart_policy.is_some());
    if !matches!(policy, "Never" | "OnFailure") || ruled {
        return;
    }
    let statuses = |pod: &Pod| pod.status.as_ref().and_then(|s| s.container_statuses.clone()).unwrap_or_default();
    let now = statuses(new);
    for before in statuses(old) {
        let Some(ended) = before.state.as_ref().and_then(|s| s.terminated.as_ref()) else { continue };
        if policy == "OnFailure" && ended.exit_code != 0 {
            continue;
        }
        let index = now.iter().position(|c| c.name == before.name);
        if let Some(index) = index
            && now[index].state.as_ref().is_none_or(|s| s.terminated.is_none())
        {
            let at = path.child("containerStatuses").index(index).child("state");
            errs.push(Error::forbidden(&at, "may not be transitioned to non-terminated state"));
        }
    }
}

/// Ephemeral containers are added through their own subresource and stay as they are.
pub fn ephemeral_update(new: &PodSpec, old: &PodSpec, path: &Path, errs: &mut ErrorList) {
    for before in old.ephemeral_containers.iter().flatten() {
        match new.ephemeral_containers.iter().flatten().find(|e| e.name == before.name) {
            None => {
                let detail = format!("existing ephemeral containers \"{}\" may not be removed\n", before.name);
                errs.push(Error::forbidden(path, &detail));
            }
            Some(now) if now != before => {
                let detail = format!("existing ephemeral containers \"{}\" may not be changed\n", before.name);
                errs.push(Error::forbidden(path, &detail));
            }
            Some(_) => {}
        }
    }
}
