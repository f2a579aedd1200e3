//! CronJob.

use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, JobSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::defaults::{fill, fill_text, template};
use crate::strategy::{Context, Strategy};
use crate::validation::{
    Error, ErrorList, cron, maybe_non_negative, metadata, one_of, selector, spec, text,
};
use crate::warnings;

/// A job's name is its CronJob's with the scheduled minute behind it, and must still fit a label.
const MAX_NAME: usize = 52;

pub struct Rules;

impl Strategy for Rules {
    type Object = CronJob;

    fn default(&self, object: &mut CronJob) {
        let spec = &mut object.spec;
        fill_text(&mut spec.concurrency_policy, "Allow");
        fill(&mut spec.suspend, false);
        fill(&mut spec.successful_jobs_history_limit, 3);
        fill(&mut spec.failed_jobs_history_limit, 1);
        fill(&mut spec.job_template.metadata, ObjectMeta::default());
        // The job's own defaults are its own when it is made; only its pods are filled in here.
        template::template(&mut spec.job_template.spec.get_or_insert_with(JobSpec::default).template);
        object.status.get_or_insert_default();
    }

    fn prepare_create(&self, object: &mut CronJob, _ctx: &Context) {
        object.status = Some(CronJobStatus::default());
    }

    fn prepare_update(&self, new: &mut CronJob, old: &CronJob, ctx: &Context) {
        super::keep_other_half!(new, old, ctx);
    }

    fn validate_create(&self, object: &CronJob, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        let name = text(&object.metadata.name);
        if name.len() > MAX_NAME {
            let detail = format!("must be no more than {MAX_NAME} characters");
            errs.push(Error::invalid(&metadata().child("name"), name, &detail));
        }
        validate(&object.spec, &mut errs);
        errs
    }

    fn validate_update(&self, new: &CronJob, _old: &CronJob, ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        if !ctx.status {
            validate(&new.spec, &mut errs);
        }
        errs
    }

    fn warnings(&self, object: &CronJob) -> Vec<String> {
        let path = spec().child("jobTemplate").child("spec").child("template");
        object.spec.job_template.spec.as_ref().map(|j| warnings::template(&j.template, &path)).unwrap_or_default()
    }

    fn has_generation(&self) -> bool {
        true
    }
}

fn validate(s: &CronJobSpec, errs: &mut ErrorList) {
    let at = spec().child("schedule");
    if s.schedule.is_empty() {
        errs.push(Error::required(&at, ""));
    } else {
        schedule(s, errs);
    }
    time_zone(s, errs);
    maybe_non_negative(s.starting_deadline_seconds, &spec().child("startingDeadlineSeconds"), errs);
    one_of(text(&s.concurrency_policy), &["Allow", "Forbid", "Replace"], &spec().child("concurrencyPolicy"), errs);
    maybe_non_negative(s.successful_jobs_history_limit, &spec().child("successfulJobsHistoryLimit"), errs);
    maybe_non_negative(s.failed_jobs_history_limit, &spec().child("failedJobsHistoryLimit"), errs);
    let path = spec().child("jobTemplate");
    let job = s.job_template.spec.clone().unwrap_or_default();
    let meta = s.job_template.metadata.clone().unwrap_or_default();
    selector::labels(&meta.labels, &path.child("metadata").child("labels"), errs);
    selector::annotations(&meta.annotations, &path.child("metadata").child("annotations"), errs);
    let path = path.child("spec");
    if let Some(s) = &job.selector {
        errs.push(Error::invalid(&path.child("selector"), crate::validation::json(s), "`selector` will be auto-generated"));
    }
    if job.manual_selector == Some(true) {
        let supported = ["nil", "false"];
        errs.push(Error::not_supported(&path.child("manualSelector"), true, &supported));
    }
    super::job::job_spec(&job, &path, errs);
}

fn schedule(s: &CronJobSpec, errs: &mut ErrorList) {
    let at = spec().child("schedule");
    if let Err(why) = cron::parse(without_zone(&s.schedule)) {
        errs.push(Error::invalid(&at, s.schedule.as_str(), &why));
    }
    if s.schedule.contains("TZ") {
        let detail = match s.time_zone {
            Some(_) => "cannot use both timeZone field and TZ or CRON_TZ in schedule",
            None => "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        };
        errs.push(Error::invalid(&at, s.schedule.as_str(), detail));
    }
}

fn without_zone(schedule: &str) -> &str {
    let zoned = schedule.starts_with("TZ=") || schedule.starts_with("CRON_TZ=");
    if zoned { schedule.split_once(' ').map_or("", |(_, rest)| rest.trim()) } else { schedule }
}

fn time_zone(s: &CronJobSpec, errs: &mut ErrorList) {
    let at = spec().child("timeZone");
    match s.time_zone.as_deref() {
        Some("") => errs.push(Error::invalid(&at, "", "timeZone must be nil or non-empty string")),
        Some(zone) if zone.eq_ignore_ascii_case("local") => {
            let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
            errs.push(Error::invalid(&at, zone, detail));
        }
        // The bundled database, which the controller uses too: no file of this machine decides.
        Some(zone) if jiff::tz::TimeZoneDatabase::bundled().get(zone).is_err() => {
            errs.push(Error::invalid(&at, zone, &format!("unknown time zone {zone}")));
        }
        _ => {}
    }
}
