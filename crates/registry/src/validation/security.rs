//! Security contexts of pods and containers.

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Capabilities, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext, Sysctl,
};

use super::{Error, ErrorList, Path, items, maybe_one_of, one_of, text};

const ID_RANGE: &str = "must be between 0 and 2147483647, inclusive";
const PROFILE_TYPES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

pub fn container(c: &SecurityContext, host_users: bool, path: &Path, errs: &mut ErrorList) {
    id(c.run_as_user, &path.child("runAsUser"), errs);
    id(c.run_as_group, &path.child("runAsGroup"), errs);
    proc_mount(c, host_users, &path.child("procMount"), errs);
    seccomp(&c.seccomp_profile, &path.child("seccompProfile"), errs);
    app_armor(&c.app_armor_profile, &path.child("appArmorProfile"), errs);
    if c.allow_privilege_escalation == Some(false) {
        if c.privileged == Some(true) {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errs.push(Error::invalid(path, super::json(c), detail));
        }
        if adds(&c.capabilities, "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errs.push(Error::invalid(path, super::json(c), detail));
        }
    }
}

fn adds(capabilities: &Option<Capabilities>, name: &str) -> bool {
    capabilities.iter().flat_map(|c| c.add.iter().flatten()).any(|c| c == name)
}

fn proc_mount(c: &SecurityContext, host_users: bool, path: &Path, errs: &mut ErrorList) {
    let mount = text(&c.proc_mount);
    maybe_one_of(mount, &["Default", "Unmasked"], path, errs);
    if mount == "Unmasked" && host_users {
        errs.push(Error::invalid(path, mount, "`hostUsers` must be false to use `Unmasked`"));
    }
}

fn id(id: Option<i64>, path: &Path, errs: &mut ErrorList) {
    if let Some(id) = id
        && !(0..=i64::from(i32::MAX)).contains(&id)
    {
        errs.push(Error::invalid(path, id, ID_RANGE));
    }
}

fn seccomp(profile: &Option<SeccompProfile>, path: &Path, errs: &mut ErrorList) {
    let Some(profile) = profile else { return };
    profile_of("seccomp", &profile.type_, &profile.localhost_profile, path, errs);
}

fn app_armor(profile: &Option<AppArmorProfile>, path: &Path, errs: &mut ErrorList) {
    let Some(profile) = profile else { return };
    profile_of("AppArmor", &profile.type_, &profile.localhost_profile, path, errs);
}

/// `localhostProfile` goes with `Localhost` and with nothing else.
fn profile_of(what: &str, kind: &str, localhost: &Option<String>, path: &Path, errs: &mut ErrorList) {
    one_of(kind, &PROFILE_TYPES, &path.child("type"), errs);
    let at = path.child("localhostProfile");
    match (kind, localhost) {
        ("Localhost", None) => {
            errs.push(Error::required(&at, &format!("must be set when {what} type is Localhost")));
        }
        ("Localhost", Some(profile)) => super::volume_mount::descending(profile, &at, errs),
        (kind, Some(profile)) if what == "seccomp" => {
            errs.push(Error::invalid(
                &at,
                profile.as_str(),
                &format!("can only be set when seccomp type is Localhost: {kind}"),
            ));
        }
        (_, Some(profile)) => {
            errs.push(Error::invalid(&at, profile.as_str(), "can only be set when AppArmor type is Localhost"));
        }
        (_, None) => {}
    }
}

/// The pod's own context, and what of it goes with the host's namespaces.
pub fn pod(c: &PodSecurityContext, spec: &PodSpec, path: &Path, errs: &mut ErrorList) {
    id(c.fs_group, &path.child("fsGroup"), errs);
    id(c.run_as_user, &path.child("runAsUser"), errs);
    id(c.run_as_group, &path.child("runAsGroup"), errs);
    for (path, group) in items(&c.supplemental_groups, &path.child("supplementalGroups")) {
        id(Some(*group), &path, errs);
    }
    maybe_one_of(
        text(&c.fs_group_change_policy),
        &["Always", "OnRootMismatch"],
        &path.child("fsGroupChangePolicy"),
        errs,
    );
    let policy = path.child("supplementalGroupsPolicy");
    maybe_one_of(text(&c.supplemental_groups_policy), &["Merge", "Strict"], &policy, errs);
    maybe_one_of(
        text(&c.se_linux_change_policy),
        &["MountOption", "Recursive"],
        &path.child("seLinuxChangePolicy"),
        errs,
    );
    seccomp(&c.seccomp_profile, &path.child("seccompProfile"), errs);
    app_armor(&c.app_armor_profile, &path.child("appArmorProfile"), errs);
    sysctls(&c.sysctls, spec, &path.child("sysctls"), errs);
}

fn sysctls(list: &Option<Vec<Sysctl>>, spec: &PodSpec, path: &Path, errs: &mut ErrorList) {
    let mut seen = std::collections::BTreeSet::new();
    for (path, sysctl) in items(list, path) {
        let (name, at) = (sysctl.name.as_str(), path.child("name"));
        if name.is_empty() {
            errs.push(Error::required(&at, ""));
        } else if !is_sysctl(name) {
            let detail = format!("must have at most 253 characters and match regex {SYSCTL_PATTERN}");
            errs.push(Error::invalid(&at, name, &detail));
        } else if !seen.insert(name) {
            errs.push(Error::duplicate(&at, name));
        }
        if spec.host_network == Some(true) && name.starts_with("net.") {
            errs.push(Error::invalid(&at, name, "may not be specified when 'hostNetwork' is true"));
        }
        if spec.host_ipc == Some(true) && (name.starts_with("kernel.shm") || name.starts_with("fs.mqueue.")) {
            errs.push(Error::invalid(&at, name, "may not be specified when 'hostIPC' is true"));
        }
    }
}

const SYSCTL_PATTERN: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

fn is_sysctl(name: &str) -> bool {
    let part = |part: &str| {
        let end = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = part.as_bytes();
        bytes.first().copied().is_some_and(end)
            && bytes.last().copied().is_some_and(end)
            && bytes.iter().all(|b| end(*b) || b"-_".contains(b))
    };
    name.len() <= 253 && name.split(['.', '/']).all(part)
}
