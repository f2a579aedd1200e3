//! Job and CronJob.

use serde_json::{Value, json};

use crate::support::{check, check_update, defaulted, prepared, updated, with};

fn job() -> Value {
    json!({"metadata": {"name": "j", "uid": "u-1"}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "i:1"}]}}}})
}

fn cron() -> Value {
    json!({"metadata": {"name": "c"}, "spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {
        "template": job()["spec"]["template"]}}}})
}

fn fields(object: &Value, names: &[&str]) -> Value {
    names.iter().map(|name| ((*name).to_owned(), object[*name].clone())).collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn job_defaults() {
    let names = ["parallelism", "completions", "backoffLimit", "completionMode", "suspend", "podReplacementPolicy"];
    let plain = defaulted("Job", job());
    let expected = json!({"parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed",
        "suspend": false, "podReplacementPolicy": "TerminatingOrFailed"});
    assert_eq!(fields(&plain["spec"], &names), expected);
    let queue = defaulted("Job", with(job(), "/spec/parallelism", json!(3)));
    assert_eq!(queue["spec"]["completions"], Value::Null, "a work queue ends when its workers say so");
}

#[test]
fn a_job_selects_its_pods_by_its_uid() {
    let stored = prepared("Job", job());
    let labels = json!({"batch.kubernetes.io/controller-uid": "u-1", "controller-uid": "u-1",
        "batch.kubernetes.io/job-name": "j", "job-name": "j"});
    assert_eq!(stored["spec"]["template"]["metadata"]["labels"], labels);
    assert_eq!(stored["metadata"]["labels"], labels);
    let selector = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}});
    assert_eq!(stored["spec"]["selector"], selector);
    check(
        "Job",
        with(job(), "/spec/selector", json!({"matchLabels": {"app": "a"}})),
        "[spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"a\",\"batch.kubernetes.io/controller-uid\":\"u-1\"}}: \
         `selector` not auto-generated, spec.template.metadata.labels: Invalid value: \
         {\"batch.kubernetes.io/controller-uid\":\"u-1\",\"batch.kubernetes.io/job-name\":\"j\",\"controller-uid\":\"u-1\",\
         \"job-name\":\"j\"}: `selector` does not match template `labels`]",
    );
    let manual =
        with(with(job(), "/spec/manualSelector", json!(true)), "/spec/selector/matchLabels", json!({"a": "b"}));
    check("Job", with(manual, "/spec/template/metadata/labels", json!({"a": "b"})), "");
}

#[test]
fn job_mistakes() {
    let one = |field: &str, value: Value, expected: &str| {
        check("Job", with(job(), &format!("/spec/{field}"), value), expected)
    };
    one(
        "template/spec/restartPolicy",
        Value::Null,
        "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
    );
    one("parallelism", json!(-1), "spec.parallelism: Invalid value: -1: must be greater than or equal to 0");
    one("completionMode", json!("Indexed"), "");
    one(
        "completionMode",
        json!("Some"),
        "spec.completionMode: Unsupported value: \"Some\": supported values: \"Indexed\", \"NonIndexed\"",
    );
    one(
        "backoffLimitPerIndex",
        json!(1),
        "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
    );
    let queue = with(with(job(), "/spec/completionMode", json!("Indexed")), "/spec/parallelism", json!(2));
    check("Job", queue, "spec.completions: Required value: when completion mode is Indexed");
}

/// The stored job with a field changed, against the stored job.
fn change(stored: Value, field: &str, value: Value, expected_start: &str) {
    let rules = crate::support::rules("Job");
    let new = updated("Job", &stored, with(stored.clone(), field, value), false);
    let errors = rules.validate_update(&new, &stored, &crate::support::context()).expect("decodes");
    let found = if errors.is_empty() { String::new() } else { errors.to_string() };
    assert!(found.starts_with(expected_start) && found.is_empty() == expected_start.is_empty(), "{found}");
}

#[test]
fn what_a_job_does_never_changes() {
    let stored = prepared("Job", job());
    change(stored.clone(), "/spec/parallelism", json!(5), "");
    change(stored.clone(), "/spec/suspend", json!(true), "");
    change(stored.clone(), "/spec/completions", json!(5), "spec.completions: Invalid value: 5: field is immutable");
    change(stored.clone(), "/spec/template/spec/containers/0/image", json!("i:2"), "spec.template: Invalid value: {");
    change(stored.clone(), "/spec/template/spec/nodeSelector", json!({"a": "b"}), "spec.template: Invalid value: {");
    let suspended = with(stored, "/spec/suspend", json!(true));
    change(suspended.clone(), "/spec/template/spec/nodeSelector", json!({"a": "b"}), "");
    change(suspended, "/spec/template/spec/containers/0/image", json!("i:2"), "spec.template: Invalid value: {");
}

#[test]
fn cron_defaults() {
    let names = ["concurrencyPolicy", "suspend", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"];
    let expected = json!({"concurrencyPolicy": "Allow", "suspend": false, "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 1});
    assert_eq!(fields(&defaulted("CronJob", cron())["spec"], &names), expected);
}

#[test]
fn cron_mistakes() {
    let one = |field: &str, value: Value, expected: &str| {
        check("CronJob", with(cron(), &format!("/spec/{field}"), value), expected);
    };
    one("schedule", Value::Null, "spec.schedule: Required value");
    one(
        "schedule",
        json!("nope"),
        "spec.schedule: Invalid value: \"nope\": expected exactly 5 fields, found 1: [nope]",
    );
    one(
        "schedule",
        json!("TZ=UTC 0 * * * *"),
        "spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
    );
    one("timeZone", json!(""), "spec.timeZone: Invalid value: \"\": timeZone must be nil or non-empty string");
    one(
        "concurrencyPolicy",
        json!("Never"),
        "spec.concurrencyPolicy: Unsupported value: \"Never\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
    );
    one(
        "jobTemplate/spec/template/spec/restartPolicy",
        json!("Always"),
        "spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
    );
    one(
        "jobTemplate/spec/selector",
        json!({"matchLabels": {"a": "b"}}),
        "spec.jobTemplate.spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` will be auto-generated",
    );
    let name = "c".repeat(53);
    let expected = format!("metadata.name: Invalid value: \"{name}\": must be no more than 52 characters");
    check("CronJob", with(cron(), "/metadata/name", json!(name)), &expected);
    check_update("CronJob", cron(), with(cron(), "/spec/schedule", json!("@daily")), "");
}
