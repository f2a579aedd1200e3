//! Woken by Jobs and their pods.

use std::sync::Arc;

use client::Key;
use controllers::job::{self, Observed, TRACKING_FINALIZER};
use controllers::meta::Meta;
use controllers::{Failure, Plan, selector};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use super::{Built, Setup, built};
use crate::index::Indexes;
use crate::informers::Caches;
use crate::work::{Controller, owner_key};

const JOB_NAME: &str = "batch.kubernetes.io/job-name";

struct Shell {
    caches: Caches,
    indexes: Indexes,
}

pub fn build(setup: &mut Setup) -> Built {
    let work = setup.work("job");
    work.on_self(&mut setup.informers.jobs);
    work.on_owned::<Job, Pod>(&mut setup.informers.pods);
    let jobs = setup.caches.jobs.clone();
    work.on_orphan(&mut setup.informers.pods, move |pod| {
        let selects = |job: &&Arc<Job>| {
            let wanted = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            wanted.is_some_and(|wanted| selector::matches(wanted, pod.meta().labels.as_ref()))
        };
        let mut adopters: Vec<Key> =
            jobs.list_in(pod.namespace()).iter().filter(selects).map(|job| Key::of(job.as_ref())).collect();
        // The Job may be gone, and have left its pods: the finalizer must not stay on them.
        if let Some(name) = pod.label(JOB_NAME).filter(|_| pod.has_finalizer(TRACKING_FINALIZER)) {
            adopters.push(Key::new(pod.namespace(), name));
        }
        adopters
    });
    let shell = Shell { caches: setup.caches.clone(), indexes: setup.indexes.clone() };
    built(work, setup.flags.concurrent_job_syncs, shell)
}

impl Controller for Shell {
    fn plan(&self, key: &Key, _failure: Option<&Failure>, now: Timestamp) -> Plan {
        let Some(job) = self.caches.jobs.get(key) else { return self.plan_orphans(key) };
        let pods = self.indexes.pods.candidates(job.uid(), &key.namespace);
        job::plan(&Observed { job: &job, pods: &pods }, now)
    }
}

impl Shell {
    /// Pods of a Job that is gone, whether they still name it as their owner or were left behind.
    fn plan_orphans(&self, key: &Key) -> Plan {
        let left = |pod: &Pod| pod.controller().is_none() && pod.label(JOB_NAME) == Some(&key.name);
        let held = |pod: &&Arc<Pod>| {
            pod.has_finalizer(TRACKING_FINALIZER) && (owner_key::<Job, Pod>(pod).as_ref() == Some(key) || left(pod))
        };
        let pods: Vec<Arc<Pod>> = self.caches.pods.list_in(&key.namespace).iter().filter(held).cloned().collect();
        job::plan_orphans(&pods, |_| true)
    }
}
