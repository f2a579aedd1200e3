//! CronJob: starts a Job at each of its times, at most once per time.
//!
//! The Job of a time is named after the time, so a second attempt, whoever makes it, collides with the first.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::job::finished_condition;
use crate::meta::{Meta, after_seconds, controller_reference};
use crate::plan::{Op, Plan, Propagation, normal, reference, warning};
use crate::schedule::{Schedule, time_zone};

const SCHEDULED_TIMESTAMP: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// More missed starts than this are reported; only the latest is made up for in any case.
const TOO_MANY_MISSED: u32 = 100;

pub struct Observed<'a> {
    pub cron_job: &'a CronJob,
    /// Jobs it owns.
    pub jobs: &'a [Arc<Job>],
}

struct View<'a> {
    cron_job: &'a CronJob,
    spec: &'a CronJobSpec,
    jobs: &'a [Arc<Job>],
    about: ObjectReference,
    status: CronJobStatus,
    now: Timestamp,
    plan: Plan,
}

pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let mut view = View {
        cron_job: observed.cron_job,
        spec: &observed.cron_job.spec,
        jobs: observed.jobs,
        about: reference(observed.cron_job),
        status: observed.cron_job.status.clone().unwrap_or_default(),
        now,
        plan: Plan::default(),
    };
    view.note_jobs();
    view.clean_up();
    if !view.cron_job.deleting() {
        view.schedule();
    }
    view.write_status();
    view.plan
}

/// A name per time: the minute it was scheduled for.
pub fn job_name(cron_job: &CronJob, scheduled: Timestamp) -> String {
    format!("{}-{}", cron_job.name(), scheduled.as_second() / 60)
}

impl View<'_> {
    /// The list of active jobs follows the jobs; jobs that ended are announced once, when they leave it.
    fn note_jobs(&mut self) {
        for entry in self.status.active.take().unwrap_or_default() {
            let job = self.jobs.iter().find(|job| Some(job.uid()) == entry.uid.as_deref());
            let name = entry.name.as_deref().unwrap_or_default();
            match job.map(|job| (job, finished_condition(job))) {
                None => {
                    let message = format!("Active job went missing: {name}");
                    self.plan.events.push(normal(&self.about, "MissingJob", message));
                }
                Some((_, Some(condition))) => {
                    let message = format!("Saw completed job: {name}, condition: {}", condition.type_);
                    self.plan.events.push(normal(&self.about, "SawCompletedJob", message));
                }
                Some((_, None)) => {}
            }
        }
        let mut active: Vec<&Arc<Job>> = self.jobs.iter().filter(|job| finished_condition(job).is_none()).collect();
        active.sort_by_key(|job| (job.created(), job.name().to_owned()));
        let active: Vec<ObjectReference> = active
            .into_iter()
            .map(|job| reference(job.as_ref()))
            .map(|entry| ObjectReference { resource_version: None, ..entry })
            .collect();
        self.status.active = (!active.is_empty()).then_some(active);
        let complete = self.jobs.iter().filter(|job| finished_condition(job).is_some_and(|c| c.type_ == "Complete"));
        let finished = complete.filter_map(|job| job.status.as_ref()?.completion_time.clone()).max();
        if finished > self.status.last_successful_time {
            self.status.last_successful_time = finished;
        }
    }

    /// Deletes the oldest finished jobs beyond the history limits.
    fn clean_up(&mut self) {
        let limits = [
            ("Complete", self.spec.successful_jobs_history_limit.unwrap_or(3)),
            ("Failed", self.spec.failed_jobs_history_limit.unwrap_or(1)),
        ];
        for (kind, limit) in limits {
            let mut finished: Vec<&Arc<Job>> = self
                .jobs
                .iter()
                .filter(|job| !job.deleting())
                .filter(|job| finished_condition(job).is_some_and(|condition| condition.type_ == kind))
                .collect();
            finished.sort_by_key(|job| {
                (job.status.as_ref().and_then(|status| status.start_time.clone()), job.name().to_owned())
            });
            let surplus = finished.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
            for job in finished.into_iter().take(surplus) {
                self.delete(job);
            }
        }
    }

    fn delete(&mut self, job: &Job) {
        let message = format!("Deleted job {}", job.name());
        self.plan.push(
            Op::delete(job)
                .propagation(Propagation::Background)
                .on_success(normal(&self.about, "SuccessfulDelete", message))
                .on_failure(warning(&self.about, "FailedDelete", "Deleted job: {error}")),
        );
    }

    fn schedule(&mut self) {
        if self.spec.suspend == Some(true) {
            return;
        }
        let zone = match self.spec.time_zone.as_deref().map(time_zone).transpose() {
            Ok(zone) => zone.unwrap_or(TimeZone::UTC),
            Err(error) => {
                let name = self.spec.time_zone.clone().unwrap_or_default();
                let message = format!("invalid timeZone: \"{name}\": {error}");
                self.plan.events.push(warning(&self.about, "UnknownTimeZone", message));
                return;
            }
        };
        match Schedule::parse(&self.spec.schedule) {
            Err(error) => {
                let message = format!("unparseable schedule: \"{}\" : {error}", self.spec.schedule);
                self.plan.events.push(warning(&self.about, "UnparseableSchedule", message));
            }
            Ok(schedule) => {
                if let Some(due) = self.latest_due(&schedule, &zone) {
                    self.start(due);
                }
                if let Some(next) = schedule.next(self.now, &zone) {
                    self.plan.requeue_at(next, self.now);
                }
            }
        }
    }

    /// The latest time that passed since the last start. A far past is skipped in one step: only the last matters.
    fn latest_due(&mut self, schedule: &Schedule, zone: &TimeZone) -> Option<Timestamp> {
        let mut earliest = self.status.last_schedule_time.as_ref().map_or(self.cron_job.created(), |time| time.0);
        if let Some(deadline) = self.spec.starting_deadline_seconds {
            earliest = earliest.max(after_seconds(self.now, -deadline));
        }
        let (mut latest, mut missed) = (None, 0);
        let mut at = earliest;
        while let Some(next) = schedule.next(at, zone).filter(|next| *next <= self.now) {
            (latest, at, missed) = (Some(next), next, missed + 1);
            if missed == TOO_MANY_MISSED {
                let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check \
                               clock skew";
                self.plan.events.push(warning(&self.about, "TooManyMissedTimes", message));
                at = self.skip_ahead(schedule, zone, at);
            }
        }
        latest
    }

    /// Doubles the distance from now until a time falls inside it, so that a long outage costs few steps.
    fn skip_ahead(&self, schedule: &Schedule, zone: &TimeZone, from: Timestamp) -> Timestamp {
        let mut back = 60;
        loop {
            let start = after_seconds(self.now, -back);
            if start <= from {
                return from;
            }
            if schedule.next(start, zone).is_some_and(|next| next <= self.now) {
                return start;
            }
            back *= 2;
        }
    }

    fn start(&mut self, due: Timestamp) {
        let too_late =
            self.spec.starting_deadline_seconds.is_some_and(|deadline| after_seconds(due, deadline) < self.now);
        if too_late {
            let message = format!("Missed scheduled time to start a job: {due}");
            self.plan.events.push(warning(&self.about, "MissSchedule", message));
            return;
        }
        let name = job_name(self.cron_job, due);
        if self.jobs.iter().any(|job| job.name() == name) {
            self.status.last_schedule_time = Some(Time(due));
            return;
        }
        let policy = self.spec.concurrency_policy.as_deref().unwrap_or("Allow");
        let running: Vec<Arc<Job>> =
            self.jobs.iter().filter(|job| finished_condition(job).is_none()).cloned().collect();
        if policy == "Forbid" && !running.is_empty() {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            self.plan.events.push(normal(&self.about, "JobAlreadyActive", message));
            return;
        }
        if policy == "Replace" {
            running.iter().filter(|job| !job.deleting()).for_each(|job| self.delete(job));
            // They do not go missing: they are sent away.
            self.status.active = None;
        }
        let job = self.job_for(due, name);
        let message = format!("Created job {}", job.name());
        self.plan.push(
            Op::create(&job)
                .or_exists()
                .on_success(normal(&self.about, "SuccessfulCreate", message))
                .on_failure(warning(&self.about, "FailedCreate", "Error creating job: {error}")),
        );
        self.status.last_schedule_time = Some(Time(due));
    }

    fn job_for(&self, due: Timestamp, name: String) -> Job {
        let template = self.spec.job_template.clone();
        let meta = template.metadata.unwrap_or_default();
        let mut annotations = meta.annotations.unwrap_or_default();
        annotations.insert(SCHEDULED_TIMESTAMP.into(), self.in_zone(due));
        Job {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: self.cron_job.meta().namespace.clone(),
                labels: meta.labels,
                annotations: Some(annotations),
                owner_references: Some(vec![controller_reference(self.cron_job)]),
                ..ObjectMeta::default()
            },
            spec: template.spec,
            status: None,
        }
    }

    fn in_zone(&self, due: Timestamp) -> String {
        let zone = self.spec.time_zone.as_deref().and_then(|name| time_zone(name).ok());
        match zone {
            Some(zone) => due.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
            None => due.to_string(),
        }
    }

    fn write_status(&mut self) {
        if self.cron_job.status.clone().unwrap_or_default() != self.status {
            let copy = CronJob { status: Some(self.status.clone()), ..self.cron_job.clone() };
            self.plan.push(Op::update_status(&copy));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{object, said, status, writes};
    use serde_json::{Value, json};

    fn cron_job(spec: Value) -> CronJob {
        let mut full = json!({
            "schedule": "*/10 * * * *",
            "jobTemplate": {"spec": {"template": {"spec": {"containers": []}}}},
        });
        full.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
        object(json!({
            "metadata": {"name": "c", "namespace": "ns", "uid": "u", "creationTimestamp": "2026-01-01T00:05:00Z"},
            "spec": full,
        }))
    }

    fn job(name: &str, finished: Option<&str>) -> Arc<Job> {
        let conditions: Vec<Value> = finished.iter().map(|kind| json!({"type": kind, "status": "True"})).collect();
        Arc::new(object(json!({
            "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}")},
            "spec": {"template": {}}, "status": {"conditions": conditions},
        })))
    }

    fn run(spec: Value, jobs: &[Arc<Job>], now: &str) -> Plan {
        plan(&Observed { cron_job: &cron_job(spec), jobs }, now.parse().expect("a timestamp"))
    }

    fn check(spec: Value, jobs: &[Arc<Job>], now: &str, expected: &[&str]) {
        assert_eq!(writes(&run(spec, jobs, now)), expected, "at {now}");
    }

    #[test]
    fn times_come_due_once() {
        check(json!({}), &[], "2026-01-01T00:09:59Z", &[]);
        // 2026-01-01T00:10 is minute 29453770 of the epoch.
        check(json!({}), &[], "2026-01-01T00:10:00Z", &["create jobs/c-29453770"]);
        check(json!({}), &[job("c-29453770", Some("Complete"))], "2026-01-01T00:10:01Z", &[]);
        check(json!({"suspend": true}), &[], "2026-01-01T00:10:00Z", &[]);
        // After an outage only the latest time is made up for.
        check(json!({}), &[], "2026-01-01T00:35:00Z", &["create jobs/c-29453790"]);
        check(json!({"startingDeadlineSeconds": 60}), &[], "2026-01-01T00:35:00Z", &[]);
        let plan = run(json!({}), &[], "2026-01-01T00:12:00Z");
        assert_eq!(plan.requeue_after.map(|after| after.as_secs()), Some(480));
        assert_eq!(status(&plan).expect("written")["lastScheduleTime"], "2026-01-01T00:10:00Z");
    }

    #[test]
    fn concurrency_policies() {
        let running = [job("old", None)];
        let now = "2026-01-01T00:10:00Z";
        check(json!({"concurrencyPolicy": "Forbid"}), &running, now, &[]);
        check(json!({"concurrencyPolicy": "Allow"}), &running, now, &["create jobs/c-29453770"]);
        let expected = ["delete jobs/old", "create jobs/c-29453770"];
        check(json!({"concurrencyPolicy": "Replace"}), &running, now, &expected);
    }

    #[test]
    fn history_is_limited() {
        let jobs: Vec<Arc<Job>> = ["a", "b", "d"].iter().map(|name| job(name, Some("Failed"))).collect();
        check(json!({}), &jobs, "2026-01-01T00:06:00Z", &["delete jobs/a", "delete jobs/b"]);
    }

    #[test]
    fn nonsense_is_said() {
        let plan = run(json!({"schedule": "x"}), &[], "2026-01-01T00:10:00Z");
        assert!(said(&plan)[0].starts_with("UnparseableSchedule: unparseable schedule: \"x\" : "));
        let plan = run(json!({"timeZone": "Mars"}), &[], "2026-01-01T00:10:00Z");
        assert!(said(&plan)[0].starts_with("UnknownTimeZone"));
    }

    #[test]
    fn a_long_outage_costs_few_steps() {
        let plan = run(json!({"schedule": "* * * * *"}), &[], "2027-06-01T00:00:00Z");
        assert_eq!(writes(&plan).len(), 1);
        assert!(said(&plan).iter().any(|line| line.starts_with("TooManyMissedTimes")));
    }
}
