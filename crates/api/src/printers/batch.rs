//! Jobs and CronJobs.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    NONE, UNSET, age, age_column, column, condition_is_true, container_columns, containers, label_selector, list,
    number, printer, selector_column, since, text, text_or,
};
use crate::table::Printer;
use crate::{duration, meta};

pub fn job() -> Printer {
    let mut columns = vec![
        column("Status", "string", "Status of the job."),
        column("Completions", "string", "How many pods ran to completion, of those that should."),
        column("Duration", "string", "Time required to complete the job."),
        age_column(),
    ];
    columns.extend(container_columns());
    columns.push(selector_column());
    printer(columns, |job, now| {
        let mut cells = vec![
            meta::name(job).into(),
            job_status(job).into(),
            completions(job).into(),
            job_duration(job, now).into(),
            age(job, now),
        ];
        cells.extend(containers(job, "/spec/template/spec"));
        cells.push(label_selector(job, "/spec/selector").into());
        cells
    })
}

fn job_status(job: &Value) -> &'static str {
    let is = |kind| condition_is_true(job, kind);
    match () {
        () if is("Complete") => "Complete",
        () if is("Failed") => "Failed",
        () if meta::is_deleting(job) => "Terminating",
        () if is("Suspended") => "Suspended",
        () if is("FailureTarget") => "FailureTarget",
        () if is("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(job: &Value) -> String {
    let succeeded = number(job, "/status/succeeded");
    let parallelism = number(job, "/spec/parallelism");
    match job.pointer("/spec/completions").and_then(Value::as_i64) {
        Some(wanted) => format!("{succeeded}/{wanted}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    }
}

fn job_duration(job: &Value, now: Timestamp) -> String {
    let Some(start) = meta::time(text(job, "/status/startTime")) else { return String::new() };
    duration::since(start, meta::time(text(job, "/status/completionTime")).unwrap_or(now))
}

pub fn cron_job() -> Printer {
    let mut columns = vec![
        column("Schedule", "string", "The schedule in Cron format, see https://en.wikipedia.org/wiki/Cron."),
        column("Timezone", "string", "The time zone name for the given schedule."),
        column("Suspend", "boolean", "Whether subsequent executions are suspended."),
        column("Active", "integer", "The number of currently running jobs."),
        column("Last Schedule", "string", "When the job was last successfully scheduled."),
        age_column(),
    ];
    columns.extend(container_columns());
    columns.push(selector_column());
    printer(columns, |cron, now| {
        let last = text(cron, "/status/lastScheduleTime");
        let suspend = match cron.pointer("/spec/suspend").and_then(Value::as_bool) {
            Some(true) => "True",
            Some(false) => "False",
            None => UNSET,
        };
        let mut cells = vec![
            meta::name(cron).into(),
            text(cron, "/spec/schedule").into(),
            text_or(cron, "/spec/timeZone", NONE).into(),
            suspend.into(),
            list(cron, "/status/active").len().into(),
            if last.is_empty() { NONE.to_owned() } else { since(last, now) }.into(),
            age(cron, now),
        ];
        cells.extend(containers(cron, "/spec/jobTemplate/spec/template/spec"));
        cells.push(label_selector(cron, "/spec/jobTemplate/spec/selector").into());
        cells
    })
}
