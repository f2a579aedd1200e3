//! Woken by Jobs, and the clock when one's time is up.

use client::Key;
use controllers::{Failure, Plan, ttl_after_finished};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;

use super::{Built, Setup, built};
use crate::informers::Cache;
use crate::work::Controller;

struct Shell {
    jobs: Cache<Job>,
}

pub fn build(setup: &mut Setup) -> Built {
    let work = setup.work("ttl_jobs_to_delete");
    let waker = work.clone();
    setup.informers.jobs.on_change(move |change| {
        let job = change.object();
        if job.spec.as_ref().is_some_and(|spec| spec.ttl_seconds_after_finished.is_some()) {
            waker.add(Key::of(job.as_ref()));
        }
    });
    built(work, setup.flags.concurrent_ttl_after_finished_syncs, Shell { jobs: setup.caches.jobs.clone() })
}

impl Controller for Shell {
    fn plan(&self, key: &Key, _failure: Option<&Failure>, now: Timestamp) -> Plan {
        self.jobs.get(key).map(|job| ttl_after_finished::plan(&job, now)).unwrap_or_default()
    }
}
