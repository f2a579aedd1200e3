//! Indexes beside the caches: objects by the controller that owns them, orphans by namespace, pods by node.
//!
//! Each is kept by a handler that runs before the controllers' own, so whoever is woken by a change finds it here.

use std::collections::HashMap;
use std::sync::Arc;

use client::{Change, Key};
use controllers::meta::Meta;
use controllers::pods;
use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::RwLock;

use crate::informers::{Feed, Informers, Object};

type Bucket<K> = HashMap<Key, Arc<K>>;

/// Objects in buckets by a name derived from each; an object is in one bucket at most.
pub struct Index<K> {
    buckets: Arc<RwLock<HashMap<String, Bucket<K>>>>,
}

impl<K> Clone for Index<K> {
    fn clone(&self) -> Self {
        Self { buckets: self.buckets.clone() }
    }
}

impl<K: Object> Index<K> {
    fn follow(feed: &mut Feed<K>, bucket: impl Fn(&K) -> Option<String> + Send + Sync + 'static) -> Self {
        let index = Self { buckets: Arc::default() };
        let kept = index.clone();
        feed.on_change(move |change| kept.apply(change, &bucket));
        index
    }

    fn apply(&self, change: &Change<K>, bucket: &dyn Fn(&K) -> Option<String>) {
        let mut buckets = self.buckets.write();
        let (old, new) = match change {
            Change::Added(new) => (None, Some(new)),
            Change::Updated { old, new } => (Some(old), Some(new)),
            Change::Deleted(old) => (Some(old), None),
        };
        let (from, to) = (old.and_then(|old| bucket(old)), new.and_then(|new| bucket(new)));
        if let (Some(old), Some(from)) = (old, from)
            && Some(&from) != to.as_ref()
            && let Some(objects) = buckets.get_mut(&from)
        {
            objects.remove(&Key::of(old.as_ref()));
            if objects.is_empty() {
                buckets.remove(&from);
            }
        }
        if let (Some(new), Some(to)) = (new, to) {
            buckets.entry(to).or_default().insert(Key::of(new.as_ref()), new.clone());
        }
    }

    pub fn get(&self, bucket: &str) -> Vec<Arc<K>> {
        self.buckets.read().get(bucket).map(|objects| objects.values().cloned().collect()).unwrap_or_default()
    }
}

/// What a controller may claim: its own and nobody's.
pub struct Owned<K> {
    by_owner: Index<K>,
    orphans: Index<K>,
}

impl<K> Clone for Owned<K> {
    fn clone(&self) -> Self {
        Self { by_owner: self.by_owner.clone(), orphans: self.orphans.clone() }
    }
}

impl<K: Object> Owned<K> {
    fn follow(feed: &mut Feed<K>) -> Self {
        Self {
            by_owner: Index::follow(feed, |object| object.controller().map(|owner| owner.uid.clone())),
            orphans: Index::follow(feed, |object| object.controller().is_none().then(|| object.namespace().to_owned())),
        }
    }

    pub fn of(&self, uid: &str) -> Vec<Arc<K>> {
        self.by_owner.get(uid)
    }

    pub fn candidates(&self, uid: &str, namespace: &str) -> Vec<Arc<K>> {
        let mut all = self.of(uid);
        all.extend(self.orphans.get(namespace));
        all
    }
}

#[derive(Clone)]
pub struct Indexes {
    pub pods: Owned<Pod>,
    pub pods_by_node: Index<Pod>,
    pub replica_sets: Owned<ReplicaSet>,
    pub revisions: Owned<ControllerRevision>,
    pub jobs: Owned<Job>,
}

impl Indexes {
    pub fn follow(informers: &mut Informers) -> Self {
        let node = |pod: &Pod| Some(pods::node_name(pod).to_owned()).filter(|name| !name.is_empty());
        Self {
            pods: Owned::follow(&mut informers.pods),
            pods_by_node: Index::follow(&mut informers.pods, node),
            replica_sets: Owned::follow(&mut informers.replica_sets),
            revisions: Owned::follow(&mut informers.controller_revisions),
            jobs: Owned::follow(&mut informers.jobs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(node: Option<&str>) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.name = Some("p".into());
        pod.metadata.namespace = Some("ns".into());
        pod.spec.get_or_insert_default().node_name = node.map(str::to_owned);
        Arc::new(pod)
    }

    #[test]
    fn an_object_moves_between_buckets() {
        let index = Index::<Pod> { buckets: Arc::default() };
        let bucket = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let check = |a: usize, b: usize| assert_eq!((index.get("a").len(), index.get("b").len()), (a, b));
        index.apply(&Change::Added(pod(None)), &bucket);
        check(0, 0);
        index.apply(&Change::Updated { old: pod(None), new: pod(Some("a")) }, &bucket);
        check(1, 0);
        index.apply(&Change::Updated { old: pod(Some("a")), new: pod(Some("b")) }, &bucket);
        check(0, 1);
        index.apply(&Change::Deleted(pod(Some("b"))), &bucket);
        check(0, 0);
    }
}
