//! All pods of this node, and the one place where sources meet workers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use client::Change;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use podsync::pod as spec;

use crate::context::Context;
use crate::objects::Reference;
use crate::pods::worker::Worker;
use crate::pods::{Entry, housekeeping, mirror};
use crate::volumes;

#[derive(Default)]
struct Table {
    entries: BTreeMap<String, Arc<Entry>>,
    /// Mirror pods by namespace and name.
    mirrors: BTreeMap<(String, String), Arc<Pod>>,
    /// Pods whose volumes are made of something that changed.
    stale: BTreeSet<String>,
}

#[derive(Default)]
pub struct Pods {
    table: Mutex<Table>,
    /// Every source has said once which pods there are.
    sources_ready: AtomicBool,
}

fn key(pod: &Pod) -> (String, String) {
    (spec::namespace(pod).to_owned(), spec::name(pod).to_owned())
}

impl Pods {
    /// A change at the API server.
    pub fn apply(self: &Arc<Self>, ctx: &Arc<Context>, change: &Change<Pod>) {
        let pod = change.object();
        let deleted = matches!(change, Change::Deleted(_));
        if spec::is_mirror(pod) {
            return self.apply_mirror(ctx, pod, deleted);
        }
        match self.get(spec::uid(pod)) {
            Some(entry) => {
                let old = entry.desired().pod;
                entry.update(|desired| {
                    desired.pod = pod.clone();
                    desired.removed |= deleted;
                });
                if volumes::follow(&old, pod) {
                    self.mark(&entry);
                }
            }
            None if deleted => {}
            None => self.start(ctx, pod.clone()),
        }
    }

    /// The static pods now in the directory. What is not among them any more ends.
    pub fn apply_static(self: &Arc<Self>, ctx: &Arc<Context>, pods: Vec<Pod>) {
        let wanted: BTreeSet<String> = pods.iter().map(|p| spec::uid(p).to_owned()).collect();
        for entry in self.all() {
            let desired = entry.desired();
            if spec::is_static(&desired.pod) && !desired.removed && !wanted.contains(&entry.uid) {
                entry.update(|desired| desired.removed = true);
            }
        }
        for pod in pods {
            if self.get(spec::uid(&pod)).is_none() {
                self.start(ctx, Arc::new(pod));
            }
        }
    }

    fn start(self: &Arc<Self>, ctx: &Arc<Context>, pod: Arc<Pod>) {
        let entry = Arc::new(Entry::new(pod.clone()));
        if spec::is_static(&pod) {
            let mirror = self.table.lock().mirrors.get(&key(&pod)).cloned();
            entry.update(|desired| desired.mirror = mirror);
            mirror::ensure(ctx, &entry);
        }
        self.table.lock().entries.insert(entry.uid.clone(), entry.clone());
        tokio::spawn(Worker::new(ctx.clone(), self.clone(), entry).run());
    }

    fn apply_mirror(&self, ctx: &Arc<Context>, pod: &Arc<Pod>, deleted: bool) {
        let mirror = (!deleted).then(|| pod.clone());
        {
            let mut table = self.table.lock();
            match &mirror {
                Some(mirror) => drop(table.mirrors.insert(key(pod), mirror.clone())),
                None => drop(table.mirrors.remove(&key(pod))),
            }
        }
        let owner = self.all().into_iter().find(|entry| {
            let desired = entry.desired();
            spec::is_static(&desired.pod) && !desired.removed && key(&desired.pod) == key(pod)
        });
        match owner {
            Some(entry) => {
                entry.update(|desired| desired.mirror = mirror);
                mirror::ensure(ctx, &entry);
            }
            None if !deleted => mirror::remove(ctx, pod),
            None => {}
        }
    }

    pub fn sources_are_ready(&self) -> bool {
        self.sources_ready.load(Ordering::Acquire)
    }

    pub fn set_sources_ready(&self) {
        self.sources_ready.store(true, Ordering::Release);
    }

    pub fn get(&self, uid: &str) -> Option<Arc<Entry>> {
        self.table.lock().entries.get(uid).cloned()
    }

    /// By the name clients use; of two by that name, the one that is to stay.
    pub fn find(&self, namespace: &str, name: &str, uid: Option<&str>) -> Option<Arc<Entry>> {
        let mut found: Vec<Arc<Entry>> = self.all();
        found.retain(|entry| {
            let desired = entry.desired();
            // A client knows a static pod by its mirror's uid.
            let known =
                |wanted: &str| entry.uid == wanted || desired.mirror.as_ref().is_some_and(|m| spec::uid(m) == wanted);
            key(&desired.pod) == (namespace.to_owned(), name.to_owned()) && uid.is_none_or(known)
        });
        found.sort_by_key(|entry| entry.desired().removed);
        found.into_iter().next()
    }

    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.table.lock().entries.values().cloned().collect()
    }

    /// Pods that take up room on the node, but for one.
    pub fn active_except(&self, uid: &str) -> Vec<Arc<Pod>> {
        let others = self.all().into_iter().filter(|entry| entry.uid != uid);
        let ended = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        };
        others.map(|entry| Arc::new(entry.pod())).filter(|pod| !ended(pod)).collect()
    }

    pub fn wake(&self, uid: &str) {
        if let Some(entry) = self.get(uid) {
            entry.wake();
        }
    }

    pub fn wake_all(&self) {
        self.all().iter().for_each(|entry| entry.wake());
    }

    /// Called by the worker when nothing of the pod is left.
    pub fn forget(&self, uid: &str) {
        let mut table = self.table.lock();
        table.entries.remove(uid);
        table.stale.remove(uid);
    }

    /// An API object changed: the pods made of it bring their volumes up to date, and what failed for its lack is tried
    /// again.
    pub fn mark_stale(&self, changed: &Reference) {
        for entry in self.all() {
            if housekeeping::references(&entry.desired().pod).contains(changed) {
                self.mark(&entry);
            }
        }
    }

    fn mark(&self, entry: &Entry) {
        self.table.lock().stale.insert(entry.uid.clone());
        entry.wake();
    }

    /// Changes were missed: every pod looks.
    pub fn mark_all_stale(&self) {
        let all = self.all();
        self.table.lock().stale.extend(all.iter().map(|entry| entry.uid.clone()));
        all.iter().for_each(|entry| entry.wake());
    }

    pub fn take_stale(&self, uid: &str) -> bool {
        self.table.lock().stale.remove(uid)
    }
}
