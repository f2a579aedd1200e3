//! `batch/v1`.

use super::namespaced;
use super::workload::count;
use crate::printers::batch;
use crate::table::{Resource, Sub};

const BATCH: (&str, &str) = ("batch", "v1");

pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced(BATCH, "CronJob", "cronjobs")
            .short(&["cj"])
            .in_all()
            .subs(&[Sub::Status])
            .printed(batch::cron_job()),
        namespaced(BATCH, "Job", "jobs")
            .in_all()
            .subs(&[Sub::Status])
            .fields(&[("status.successful", |o| count(o, "/status/succeeded"))])
            .printed(batch::job()),
    ]
}
