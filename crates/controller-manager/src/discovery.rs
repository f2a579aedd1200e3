//! What the API server serves: the kinds, for garbage collection, namespace deletion and the informers.

use std::collections::BTreeMap;

use client::kube::{self, Client};
use controllers::Kind;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;

/// A kind in the version to use it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    pub kind: Kind,
    pub namespaced: bool,
    pub verbs: Vec<String>,
}

impl Served {
    pub fn can(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|known| known == verb))
    }
}

/// All kinds by `plural.group`, and what could not be found out.
#[derive(Clone, Debug, Default)]
pub struct Discovered {
    pub kinds: BTreeMap<String, Served>,
    pub errors: Vec<String>,
}

impl Discovered {
    pub fn serves(&self, kind: &Kind) -> bool {
        self.kinds.get(&name(kind)).is_some_and(|served| served.can(&["list", "watch"]))
    }

    /// The kind an owner reference names.
    pub fn by_kind(&self, group: &str, kind: &str) -> Option<&Served> {
        self.kinds.values().find(|served| served.kind.group == group && served.kind.kind == kind)
    }
}

/// `deployments.apps`, `pods.`: as upstream prints a group resource in messages about what remains.
pub fn name(kind: &Kind) -> String {
    format!("{}.{}", kind.plural, kind.group)
}

/// Asks group by group, the preferred version first. A group that does not answer is reported, not fatal.
pub async fn discover(client: &Client) -> Result<Discovered, kube::Error> {
    let mut found = Discovered::default();
    found.add("", "v1", client.list_core_api_resources("v1").await?);
    for group in client.list_api_groups().await?.groups {
        let preferred = group.preferred_version.map(|version| version.version);
        let mut versions: Vec<String> = group.versions.into_iter().map(|version| version.version).collect();
        versions.sort_by_key(|version| Some(version) != preferred.as_ref());
        for version in versions {
            let api_version = format!("{}/{version}", group.name);
            match client.list_api_group_resources(&api_version).await {
                Ok(list) => found.add(&group.name, &version, list),
                Err(error) => found.errors.push(format!("{api_version}: {error}")),
            }
        }
    }
    Ok(found)
}

impl Discovered {
    fn add(&mut self, group: &str, version: &str, list: APIResourceList) {
        for resource in list.resources.into_iter().filter(|resource| !resource.name.contains('/')) {
            let kind = Kind {
                group: group.to_owned().into(),
                version: version.to_owned().into(),
                kind: resource.kind.into(),
                plural: resource.name.into(),
            };
            let served = Served { namespaced: resource.namespaced, verbs: resource.verbs, kind };
            self.kinds.entry(name(&served.kind)).or_insert(served);
        }
    }
}
