//! May this user do this? Role-based access control, evaluated from the watch cache; there is no other mode and no
//! way to switch it off.

pub mod bootstrap;
pub mod escalation;
pub mod index;
pub mod reconcile;
pub mod review;
pub mod rules;

use std::sync::Arc;

use api::ApiError;
use api::status::GroupResource;
use arc_swap::ArcSwap;
use k8s_openapi::api::rbac::v1::PolicyRule;
use parking_lot::Mutex;

use crate::authn::{MASTERS, User};
use crate::cache::{Cache, Caches};
use crate::http::info::RequestInfo;
use index::{Index, Sources};

/// What is asked of the authorizer.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    pub verb: String,
    pub is_resource: bool,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub path: String,
}

impl From<&RequestInfo> for Attributes {
    fn from(info: &RequestInfo) -> Self {
        Self {
            verb: info.verb.clone(),
            is_resource: info.is_resource,
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            path: info.path.clone(),
        }
    }
}

impl Attributes {
    /// A verb on a resource.
    pub fn resource(verb: &str, group: &str, resource: &str, namespace: &str, name: &str) -> Self {
        Self {
            verb: verb.to_owned(),
            is_resource: true,
            group: group.to_owned(),
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Upstream's words for a refusal.
    pub fn refusal(&self, user: &User) -> String {
        let user = &user.name;
        if !self.is_resource {
            return format!("User {user:?} cannot {} path {:?}", self.verb, self.path);
        }
        let slash = if self.subresource.is_empty() { "" } else { "/" };
        let resource = format!("{}{slash}{}", self.resource, self.subresource);
        let what = format!("User {user:?} cannot {} resource {resource:?} in API group {:?}", self.verb, self.group);
        if self.namespace.is_empty() {
            format!("{what} at the cluster scope")
        } else {
            format!("{what} in the namespace {:?}", self.namespace)
        }
    }
}

/// The answer, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
}

pub struct Rbac {
    sources: Sources,
    index: ArcSwap<Index>,
    rebuilding: Mutex<()>,
}

impl Rbac {
    /// `None` when the table has no RBAC kinds.
    pub fn new(caches: &Arc<Caches>) -> Option<Self> {
        let cache = |path: &str| -> Option<Arc<Cache>> { caches.get(path).cloned() };
        let sources = Sources {
            roles: cache("roles")?,
            cluster_roles: cache("clusterroles")?,
            role_bindings: cache("rolebindings")?,
            cluster_role_bindings: cache("clusterrolebindings")?,
        };
        Some(Self { sources, index: ArcSwap::default(), rebuilding: Mutex::new(()) })
    }

    /// The index of what the caches hold now; a change of any RBAC object makes the next question rebuild it.
    fn current(&self) -> Arc<Index> {
        let versions = self.sources.versions();
        let index = self.index.load_full();
        if index.versions == versions {
            return index;
        }
        let _one = self.rebuilding.lock();
        let index = self.index.load_full();
        let versions = self.sources.versions();
        if index.versions == versions {
            return index;
        }
        let rebuilt = Arc::new(index.rebuild(&self.sources, versions));
        self.index.store(rebuilt.clone());
        rebuilt
    }

    pub fn decide(&self, user: &User, asked: &Attributes) -> Decision {
        if user.in_group(MASTERS) {
            return Decision { allowed: true, reason: String::new() };
        }
        let index = self.current();
        let mut missing = Vec::new();
        for grant in index.grants(user, &asked.namespace) {
            match &grant.rules {
                Some(rules) if rules.iter().any(|rule| rules::allows(rule, asked)) => {
                    return Decision { allowed: true, reason: format!("RBAC: allowed by {}", grant.reason(user)) };
                }
                Some(_) => {}
                None => missing.push(grant.missing()),
            }
        }
        missing.dedup();
        let reason = match missing.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        };
        Decision { allowed: false, reason }
    }

    pub fn authorize(&self, user: &User, asked: &Attributes) -> Result<(), ApiError> {
        let decision = self.decide(user, asked);
        if decision.allowed {
            return Ok(());
        }
        let mut words = asked.refusal(user);
        if !decision.reason.is_empty() {
            words = format!("{words}: {}", decision.reason);
        }
        let gr = GroupResource { group: &asked.group, resource: &asked.resource };
        Err(ApiError::forbidden(gr, &asked.name, &words))
    }

    /// Every rule that holds for a user in a namespace (and cluster-wide).
    pub fn rules_for(&self, user: &User, namespace: &str) -> Vec<PolicyRule> {
        let index = self.current();
        index.grants(user, namespace).filter_map(|g| g.rules.clone()).flat_map(|r| r.to_vec()).collect()
    }

    /// The rules of a role, as a binding would grant them.
    pub fn role(&self, kind: &str, namespace: &str, name: &str) -> Option<Arc<Vec<PolicyRule>>> {
        self.current().role(kind, namespace, name)
    }
}
