//! RBAC objects turned round: from a user or group to the rules it has. Rebuilt when an RBAC object changes; objects
//! that did not change are not decoded again.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use serde::de::DeserializeOwned;

use crate::authn::User;
use crate::cache::{Cache, Entry};

pub struct Sources {
    pub roles: Arc<Cache>,
    pub cluster_roles: Arc<Cache>,
    pub role_bindings: Arc<Cache>,
    pub cluster_role_bindings: Arc<Cache>,
}

impl Sources {
    pub fn versions(&self) -> [u64; 4] {
        [&self.roles, &self.cluster_roles, &self.role_bindings, &self.cluster_role_bindings].map(|c| c.revision())
    }
}

/// A decoded object and the revision it was decoded at.
type Decoded<T> = HashMap<Box<str>, (u64, Arc<T>)>;

#[derive(Debug)]
struct Binding {
    subjects: Vec<Subject>,
    role: RoleRef,
}

/// What a binding gives to its subjects.
#[derive(Debug)]
pub struct Grant {
    /// `None`: the role that the binding names does not exist.
    pub rules: Option<Arc<Vec<PolicyRule>>>,
    binding: Box<str>,
    namespace: Box<str>,
    role_kind: Box<str>,
    role_name: Box<str>,
}

impl Grant {
    /// `ClusterRoleBinding "x" of ClusterRole "y" to User "z"`
    pub fn reason(&self, user: &User) -> String {
        let (kind, name) = match &*self.namespace {
            "" => ("ClusterRoleBinding", self.binding.to_string()),
            namespace => ("RoleBinding", format!("{}/{namespace}", self.binding)),
        };
        format!("{kind} {name:?} of {} {:?} to User {:?}", self.role_kind, self.role_name, user.name)
    }

    pub fn missing(&self) -> String {
        let resource = if &*self.role_kind == "ClusterRole" { "clusterrole" } else { "role" };
        format!("{resource}.rbac.authorization.k8s.io {:?} not found", self.role_name)
    }
}

#[derive(Debug, Default)]
struct Grants {
    users: HashMap<String, Vec<Arc<Grant>>>,
    groups: HashMap<String, Vec<Arc<Grant>>>,
}

#[derive(Debug, Default)]
pub struct Index {
    pub versions: [u64; 4],
    roles: Decoded<Vec<PolicyRule>>,
    cluster_roles: Decoded<Vec<PolicyRule>>,
    role_bindings: Decoded<Binding>,
    cluster_role_bindings: Decoded<Binding>,
    cluster: Grants,
    namespaced: HashMap<Box<str>, Grants>,
}

impl Index {
    pub fn rebuild(&self, sources: &Sources, versions: [u64; 4]) -> Self {
        let mut next = Self {
            versions,
            roles: decode(&sources.roles, &self.roles, |role: Role| role.rules.unwrap_or_default()),
            cluster_roles: decode(&sources.cluster_roles, &self.cluster_roles, |role: ClusterRole| {
                role.rules.unwrap_or_default()
            }),
            role_bindings: decode(&sources.role_bindings, &self.role_bindings, |b: RoleBinding| Binding {
                subjects: b.subjects.unwrap_or_default(),
                role: b.role_ref,
            }),
            cluster_role_bindings: decode(
                &sources.cluster_role_bindings,
                &self.cluster_role_bindings,
                |b: ClusterRoleBinding| Binding { subjects: b.subjects.unwrap_or_default(), role: b.role_ref },
            ),
            ..Self::default()
        };
        next.turn_round();
        next
    }

    fn turn_round(&mut self) {
        let mut cluster = Grants::default();
        for (key, (_, binding)) in &self.cluster_role_bindings {
            cluster.add(&binding.subjects, "", &Arc::new(self.grant(key, "", binding)));
        }
        let mut namespaced: HashMap<Box<str>, Grants> = HashMap::new();
        for (key, (_, binding)) in &self.role_bindings {
            let Some((namespace, name)) = key.split_once('/') else { continue };
            let grant = Arc::new(self.grant(name, namespace, binding));
            namespaced.entry(namespace.into()).or_default().add(&binding.subjects, namespace, &grant);
        }
        self.cluster = cluster;
        self.namespaced = namespaced;
    }

    fn grant(&self, name: &str, namespace: &str, binding: &Binding) -> Grant {
        Grant {
            rules: self.role(&binding.role.kind, namespace, &binding.role.name),
            binding: name.into(),
            namespace: namespace.into(),
            role_kind: binding.role.kind.as_str().into(),
            role_name: binding.role.name.as_str().into(),
        }
    }

    pub fn role(&self, kind: &str, namespace: &str, name: &str) -> Option<Arc<Vec<PolicyRule>>> {
        let found = match kind {
            "ClusterRole" => self.cluster_roles.get(name),
            _ => self.roles.get(format!("{namespace}/{name}").as_str()),
        };
        found.map(|(_, rules)| rules.clone())
    }

    /// What a user has cluster-wide and in a namespace.
    pub fn grants<'a>(&'a self, user: &'a User, namespace: &str) -> impl Iterator<Item = &'a Arc<Grant>> {
        let within = self.namespaced.get(namespace);
        std::iter::once(&self.cluster).chain(within).flat_map(move |grants| grants.of(user))
    }
}

impl Grants {
    fn add(&mut self, subjects: &[Subject], namespace: &str, grant: &Arc<Grant>) {
        for subject in subjects {
            let (map, name) = match subject.kind.as_str() {
                "User" => (&mut self.users, subject.name.clone()),
                "Group" => (&mut self.groups, subject.name.clone()),
                "ServiceAccount" => {
                    let namespace = subject.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or(namespace);
                    (&mut self.users, format!("system:serviceaccount:{namespace}:{}", subject.name))
                }
                _ => continue,
            };
            map.entry(name).or_default().push(grant.clone());
        }
    }

    fn of<'a>(&'a self, user: &'a User) -> impl Iterator<Item = &'a Arc<Grant>> {
        let own = self.users.get(&user.name).into_iter().flatten();
        own.chain(user.groups.iter().filter_map(|g| self.groups.get(g)).flatten())
    }
}

fn decode<T: DeserializeOwned, U>(cache: &Cache, known: &Decoded<U>, convert: impl Fn(T) -> U) -> Decoded<U> {
    let one = |entry: Arc<Entry>| {
        if let Some((revision, decoded)) = known.get(&entry.key).filter(|(r, _)| *r == entry.revision) {
            return Some((entry.key.clone(), (*revision, decoded.clone())));
        }
        match entry.typed::<T>() {
            Ok(typed) => Some((entry.key.clone(), (entry.revision, Arc::new(convert(typed))))),
            Err(error) => {
                tracing::error!(key = %entry.key, %error, "an RBAC object does not decode and grants nothing");
                None
            }
        }
    };
    cache.all().into_iter().filter_map(one).collect()
}
