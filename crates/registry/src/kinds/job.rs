//! Job. Unless its author wants otherwise, it selects its pods by its own uid, which the server must have set before
//! `prepare_create`.

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus, PodFailurePolicy, SuccessPolicy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::keep_other_half;
use crate::defaults::{fill, template};
use crate::strategy::{Context, Strategy};
use crate::validation::{
    Error, ErrorList, Path, immutable, json, maybe_non_negative, maybe_one_of, non_negative, one_of, selector, spec,
    status, template as check, text,
};
use crate::warnings;

const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
const OLD_UID_LABEL: &str = "controller-uid";
const NAME_LABEL: &str = "batch.kubernetes.io/job-name";
const OLD_NAME_LABEL: &str = "job-name";
const MAX_INDEXED: i32 = 100_000;
const MAX_RULES: usize = 20;

pub struct Rules;

impl Strategy for Rules {
    type Object = Job;

    fn default(&self, object: &mut Job) {
        let spec = object.spec.get_or_insert_with(JobSpec::default);
        defaults(spec);
        labels_from_template(object);
        object.status.get_or_insert_default();
    }

    fn prepare_create(&self, object: &mut Job, _ctx: &Context) {
        generate_selector(object);
        labels_from_template(object);
        object.status = Some(JobStatus::default());
    }

    fn prepare_update(&self, new: &mut Job, old: &Job, ctx: &Context) {
        keep_other_half!(new, old, ctx);
    }

    fn validate_create(&self, object: &Job, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        let job = object.spec.clone().unwrap_or_default();
        if job.manual_selector != Some(true) {
            generated_selector(object, &job, &mut errs);
        }
        validate(&job, &mut errs);
        errs
    }

    fn validate_update(&self, new: &Job, old: &Job, ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        if ctx.status {
            validate_status(new, &mut errs);
            return errs;
        }
        let (now, was) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        validate(&now, &mut errs);
        completions(&now, &was, &mut errs);
        immutable(&now.selector, &was.selector, &spec().child("selector"), &mut errs);
        pod_template(&now, old, &mut errs);
        immutable(&now.completion_mode, &was.completion_mode, &spec().child("completionMode"), &mut errs);
        immutable(&now.pod_failure_policy, &was.pod_failure_policy, &spec().child("podFailurePolicy"), &mut errs);
        let per_index = spec().child("backoffLimitPerIndex");
        immutable(&now.backoff_limit_per_index, &was.backoff_limit_per_index, &per_index, &mut errs);
        immutable(&now.managed_by, &was.managed_by, &spec().child("managedBy"), &mut errs);
        immutable(&now.success_policy, &was.success_policy, &spec().child("successPolicy"), &mut errs);
        errs
    }

    fn warnings(&self, object: &Job) -> Vec<String> {
        object.spec.as_ref().map(|s| warnings::template(&s.template, &spec().child("template"))).unwrap_or_default()
    }

    fn orphans_by_default(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }
}

fn defaults(spec: &mut JobSpec) {
    // A work queue counts its workers only; a job of one pod counts both.
    if spec.completions.is_none() && spec.parallelism.is_none() {
        spec.completions = Some(1);
    }
    fill(&mut spec.parallelism, 1);
    let per_index = spec.backoff_limit_per_index.is_some();
    fill(&mut spec.backoff_limit, if per_index { i32::MAX } else { 6 });
    fill(&mut spec.completion_mode, "NonIndexed".to_owned());
    fill(&mut spec.suspend, false);
    let replacement = if spec.pod_failure_policy.is_some() { "Failed" } else { "TerminatingOrFailed" };
    fill(&mut spec.pod_replacement_policy, replacement.to_owned());
    for rule in spec.pod_failure_policy.iter_mut().flat_map(|p| &mut p.rules) {
        for pattern in rule.on_pod_conditions.iter_mut().flatten() {
            fill(&mut pattern.status, "True".to_owned());
        }
    }
    template::template(&mut spec.template);
}

/// A job without labels of its own wears those of its pods.
fn labels_from_template(object: &mut Job) {
    let labels = object.spec.as_ref().and_then(|s| template::labels(&s.template)).cloned();
    if object.metadata.labels.as_ref().is_none_or(|l| l.is_empty()) && labels.is_some() {
        object.metadata.labels = labels;
    }
}

/// Labels and selector that no other job can share; a label the author set is left for validation to refuse.
fn generate_selector(object: &mut Job) {
    let (name, uid) = (text(&object.metadata.name).to_owned(), text(&object.metadata.uid).to_owned());
    let Some(spec) = &mut object.spec else { return };
    if spec.manual_selector == Some(true) {
        return;
    }
    let labels = spec.template.metadata.get_or_insert_default().labels.get_or_insert_default();
    let own = [(OLD_NAME_LABEL, &name), (NAME_LABEL, &name), (OLD_UID_LABEL, &uid), (UID_LABEL, &uid)];
    for (label, value) in own {
        labels.entry(label.to_owned()).or_insert_with(|| value.clone());
    }
    let selector = spec.selector.get_or_insert_default();
    selector.match_labels.get_or_insert_default().entry(UID_LABEL.to_owned()).or_insert(uid);
}

fn generated_selector(object: &Job, job: &JobSpec, errs: &mut ErrorList) {
    let (name, uid) = (text(&object.metadata.name), text(&object.metadata.uid));
    if uid.is_empty() {
        return;
    }
    let labels = job.template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
    let at = spec().child("template").child("metadata").child("labels");
    for (label, value) in [(OLD_UID_LABEL, uid), (UID_LABEL, uid), (OLD_NAME_LABEL, name), (NAME_LABEL, name)] {
        if labels.get(label).is_none_or(|v| v != value) {
            errs.push(Error::invalid(&at, json(&labels), &format!("must be '{value}'")));
        }
    }
    let own = |label: &str| LabelSelector {
        match_labels: Some([(label.to_owned(), uid.to_owned())].into()),
        match_expressions: None,
    };
    if let Some(s) = &job.selector
        && *s != own(UID_LABEL)
        && *s != own(OLD_UID_LABEL)
    {
        errs.push(Error::invalid(&spec().child("selector"), json(s), "`selector` not auto-generated"));
    }
}

fn validate(job: &JobSpec, errs: &mut ErrorList) {
    let path = spec();
    job_spec(job, &path, errs);
    match &job.selector {
        None => errs.push(Error::required(&path.child("selector"), "")),
        Some(s) => {
            selector::label_selector(s, &path.child("selector"), errs);
            if !selector::is_empty(s) {
                check::selected(&job.template, s, &path.child("template"), errs);
            }
        }
    }
}

/// What a Job's spec and a CronJob's template of one share.
pub(super) fn job_spec(job: &JobSpec, path: &Path, errs: &mut ErrorList) {
    let numbers = [
        (job.parallelism.map(i64::from), "parallelism"),
        (job.completions.map(i64::from), "completions"),
        (job.active_deadline_seconds, "activeDeadlineSeconds"),
        (job.backoff_limit.map(i64::from), "backoffLimit"),
        (job.ttl_seconds_after_finished.map(i64::from), "ttlSecondsAfterFinished"),
        (job.backoff_limit_per_index.map(i64::from), "backoffLimitPerIndex"),
        (job.max_failed_indexes.map(i64::from), "maxFailedIndexes"),
    ];
    for (number, name) in numbers {
        maybe_non_negative(number, &path.child(name), errs);
    }
    indexes(job, path, errs);
    maybe_one_of(text(&job.pod_replacement_policy), &["Failed", "TerminatingOrFailed"], &path.child("podReplacementPolicy"), errs);
    let template = path.child("template");
    check::template(&job.template, &template, errs);
    let policy = job.template.spec.as_ref().map_or("", |s| text(&s.restart_policy));
    let at = template.child("spec").child("restartPolicy");
    if !matches!(policy, "OnFailure" | "Never") {
        errs.push(Error::required(&at, "valid values: \"OnFailure\", \"Never\""));
    }
    if let Some(failure) = &job.pod_failure_policy {
        if policy != "Never" {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errs.push(Error::invalid(&at, policy, detail));
        }
        failure_policy(failure, &path.child("podFailurePolicy"), errs);
    }
    if let Some(success) = &job.success_policy {
        success_policy(success, job, &path.child("successPolicy"), errs);
    }
}

fn indexes(job: &JobSpec, path: &Path, errs: &mut ErrorList) {
    let mode = text(&job.completion_mode);
    maybe_one_of(mode, &["Indexed", "NonIndexed"], &path.child("completionMode"), errs);
    if mode == "Indexed" {
        if job.completions.is_none() {
            errs.push(Error::required(&path.child("completions"), "when completion mode is Indexed"));
        }
        if let Some(n) = job.parallelism.filter(|n| *n > MAX_INDEXED) {
            let detail = format!("must be less than or equal to {MAX_INDEXED} when completion mode is Indexed");
            errs.push(Error::invalid(&path.child("parallelism"), n, &detail));
        }
        return;
    }
    if let Some(limit) = job.backoff_limit_per_index {
        let detail = "requires indexed completion mode";
        errs.push(Error::invalid(&path.child("backoffLimitPerIndex"), limit, detail));
    }
    if let Some(limit) = job.max_failed_indexes {
        errs.push(Error::invalid(&path.child("maxFailedIndexes"), limit, "requires indexed completion mode"));
    }
}

fn failure_policy(policy: &PodFailurePolicy, path: &Path, errs: &mut ErrorList) {
    let path = path.child("rules");
    if policy.rules.len() > MAX_RULES {
        errs.push(Error::too_many(&path, policy.rules.len(), MAX_RULES));
    }
    for (i, rule) in policy.rules.iter().enumerate() {
        let path = path.index(i);
        one_of(&rule.action, &["Count", "FailIndex", "FailJob", "Ignore"], &path.child("action"), errs);
        let conditions = rule.on_pod_conditions.as_ref().is_some_and(|c| !c.is_empty());
        match (&rule.on_exit_codes, conditions) {
            (Some(_), true) => {
                let detail = "specifying both OnExitCodes and OnPodConditions is not supported";
                errs.push(Error::invalid(&path, json(rule), detail));
            }
            (None, false) => {
                let detail = "specifying one of OnExitCodes and OnPodConditions is required";
                errs.push(Error::invalid(&path, json(rule), detail));
            }
            (Some(codes), false) => {
                let path = path.child("onExitCodes");
                one_of(&codes.operator, &["In", "NotIn"], &path.child("operator"), errs);
                if codes.values.is_empty() {
                    errs.push(Error::invalid(&path.child("values"), json(&codes.values), "at least one value is required"));
                }
            }
            (None, true) => {}
        }
    }
}

fn success_policy(policy: &SuccessPolicy, job: &JobSpec, path: &Path, errs: &mut ErrorList) {
    if text(&job.completion_mode) != "Indexed" {
        errs.push(Error::invalid(path, json(policy), "requires indexed completion mode"));
        return;
    }
    let path = path.child("rules");
    if policy.rules.is_empty() {
        errs.push(Error::required(&path, "at least one rules must be specified when the successPolicy is specified"));
    }
    for (i, rule) in policy.rules.iter().enumerate() {
        if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
            let detail = "at least one of succeededCount or succeededIndexes must be specified";
            errs.push(Error::required(&path.index(i), detail));
        }
    }
}

/// An indexed job can grow and shrink, as long as every index keeps its worker.
fn completions(now: &JobSpec, was: &JobSpec, errs: &mut ErrorList) {
    let path = spec().child("completions");
    let indexed = text(&was.completion_mode) == "Indexed";
    if now.completions == was.completions {
        return;
    }
    if !indexed || now.completions.is_none() || was.completions.is_none() {
        immutable(&now.completions, &was.completions, &path, errs);
    } else if now.completions != now.parallelism {
        let detail = "can only be modified in tandem with spec.parallelism";
        errs.push(Error::invalid(&path, json(&now.completions), detail));
    }
}

/// While a job is suspended and never started, where its pods may go can still be set.
fn pod_template(now: &JobSpec, old: &Job, errs: &mut ErrorList) {
    let was = old.spec.clone().unwrap_or_default();
    let started = old.status.as_ref().is_some_and(|s| s.start_time.is_some());
    let mut template = now.template.clone();
    if was.suspend == Some(true) && !started
        && let (Some(new), Some(old)) = (&mut template.spec, &was.template.spec)
    {
        new.affinity.clone_from(&old.affinity);
        new.node_selector.clone_from(&old.node_selector);
        new.tolerations.clone_from(&old.tolerations);
        new.scheduling_gates.clone_from(&old.scheduling_gates);
        template.metadata.clone_from(&was.template.metadata);
    }
    if template != was.template {
        immutable(&now.template, &was.template, &spec().child("template"), errs);
    }
}

fn validate_status(new: &Job, errs: &mut ErrorList) {
    let s = new.status.clone().unwrap_or_default();
    let counts = [(s.active, "active"), (s.succeeded, "succeeded"), (s.failed, "failed"), (s.ready, "ready")];
    for (count, name) in counts {
        non_negative(count.unwrap_or(0), &status().child(name), errs);
    }
    let holds = |kind: &str| s.conditions.iter().flatten().any(|c| c.type_ == kind && c.status == "True");
    if holds("Complete") && holds("Failed") {
        let detail = "cannot set Complete=True and Failed=true conditions";
        errs.push(Error::invalid(&status().child("conditions"), json(&s.conditions), detail));
    }
}
