//! Woken by CronJobs, their Jobs, and the clock.

use client::Key;
use controllers::cron_job::{self, Observed};
use controllers::meta::Meta;
use controllers::{Failure, Plan};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, Job};

use super::{Built, Setup, built};
use crate::index::Indexes;
use crate::informers::Cache;
use crate::work::Controller;

struct Shell {
    cron_jobs: Cache<CronJob>,
    indexes: Indexes,
}

pub fn build(setup: &mut Setup) -> Built {
    let work = setup.work("cronjob");
    work.on_self(&mut setup.informers.cron_jobs);
    work.on_owned::<CronJob, Job>(&mut setup.informers.jobs);
    let shell = Shell { cron_jobs: setup.caches.cron_jobs.clone(), indexes: setup.indexes.clone() };
    built(work, setup.flags.concurrent_cron_job_syncs, shell)
}

impl Controller for Shell {
    fn plan(&self, key: &Key, _failure: Option<&Failure>, now: Timestamp) -> Plan {
        let Some(cron_job) = self.cron_jobs.get(key) else { return Plan::default() };
        let jobs = self.indexes.jobs.of(cron_job.uid());
        cron_job::plan(&Observed { cron_job: &cron_job, jobs: &jobs }, now)
    }
}
