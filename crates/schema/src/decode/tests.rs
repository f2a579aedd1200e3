use serde_json::json;

use super::*;

fn decode(gvk: (&str, &str, &str), body: &str, validation: FieldValidation) -> Result<(Value, Vec<String>), String> {
    let schemas = Schemas::builtin();
    let node = schemas.kind(gvk.0, gvk.1, gvk.2).expect("a known kind");
    let expected = Gvk::new(gvk.0, gvk.1, gvk.2);
    decode_json(body.as_bytes(), &expected, node, validation).map_err(|e| e.to_string())
}

const DEPLOYMENT: (&str, &str, &str) = ("apps", "v1", "Deployment");
const POD: (&str, &str, &str) = ("", "v1", "Pod");

#[test]
fn objects_come_out_pruned_typed_and_canonical() {
    let check = |gvk, body: Value, expected: Value| {
        let (mut value, _) = decode(gvk, &body.to_string(), FieldValidation::Ignore).expect("decodes");
        let object = value.as_object_mut().expect("an object");
        assert!(object.remove("apiVersion").is_some() && object.remove("kind").is_some());
        assert_eq!(value, expected);
    };
    check(
        DEPLOYMENT,
        json!({"spec": {"replicas": null, "foo": {"a": 1}, "paused": true}}),
        json!({"spec": {"paused": true}}),
    );
    check(POD, json!({"metadata": {"labels": {"a": null}}}), json!({"metadata": {"labels": {"a": ""}}}));
    check(
        POD,
        json!({"spec": {"containers": [null, {"name": "a", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}]}}),
        json!({"spec": {"containers": [{}, {"name": "a", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}]}}),
    );
    check(
        POD,
        json!({"metadata": {"creationTimestamp": "2026-01-02T03:04:05.9+01:00", "deletionTimestamp": null}}),
        json!({"metadata": {"creationTimestamp": "2026-01-02T02:04:05Z"}}),
    );
    check(("", "v1", "Secret"), json!({"data": {"a": "YQ==\n"}}), json!({"data": {"a": "YQ=="}}));
    check(
        ("", "v1", "Service"),
        json!({"spec": {"ports": [{"targetPort": "http"}, {"targetPort": 8}]}}),
        json!({"spec": {"ports": [{"targetPort": "http"}, {"targetPort": 8}]}}),
    );
    check(
        ("apps", "v1", "ControllerRevision"),
        json!({"revision": 1, "data": {"spec": {"x": null}}}),
        json!({"revision": 1, "data": {"spec": {"x": null}}}),
    );
}

#[test]
fn unknown_and_duplicate_fields() {
    let body = r#"{"apiVersion":"apps/v1","kind":"Deployment","spec":{"foo":1,"replicas":1,"replicas":2,
        "template":{"metadata":{"labels":{"a":"b","a":"c"}},"spec":{"containers":[{"name":"a","imag":"b"}]}}},"Spec":{}}"#;
    let found = [
        r#"unknown field "spec.foo""#,
        r#"duplicate field "spec.replicas""#,
        r#"duplicate field "spec.template.metadata.labels.a""#,
        r#"unknown field "spec.template.spec.containers[0].imag""#,
        r#"unknown field "Spec""#,
    ];
    let (value, warnings) = decode(DEPLOYMENT, body, FieldValidation::Warn).expect("only warns");
    assert_eq!(warnings, found);
    assert_eq!(value["spec"]["replicas"], 2);
    assert_eq!(value["spec"].get("foo"), None);
    assert!(decode(DEPLOYMENT, body, FieldValidation::Ignore).expect("ignores").1.is_empty());
    let prefix = r#"Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: "#;
    let error = decode(DEPLOYMENT, body, FieldValidation::Strict).expect_err("refused");
    assert_eq!(error, format!("{prefix}{}", found.join(", ")));
}

#[test]
fn what_does_not_fit() {
    let check = |gvk: (&str, &str, &str), body: &str, cause: &str| {
        let error = decode(gvk, body, FieldValidation::Strict).expect_err(body);
        assert_eq!(error, format!("{} in version \"v1\" cannot be handled as a {}: {cause}", gvk.2, gvk.2));
    };
    check(
        DEPLOYMENT,
        r#"{"spec":{"replicas":"3"}}"#,
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
    );
    check(
        DEPLOYMENT,
        r#"{"spec":{"replicas":1.5}}"#,
        "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
    );
    check(
        POD,
        r#"{"spec":{"containers":[{"env":[{"name":"a","value":1}]}]}}"#,
        "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string",
    );
    check(
        POD,
        r#"{"spec":{"containers":{}}}"#,
        "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
    );
    check(POD, r#"{"spec":[]}"#, "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec");
    check(
        POD,
        r#"{"metadata":{"labels":{"a":1}}}"#,
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
    );
    check(
        POD,
        r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}"#,
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    );
    check(("", "v1", "Secret"), r#"{"data":{"a":"YQ=x"}}"#, "illegal base64 data at input byte 3");
    check(("", "v1", "Secret"), r#"{"data":{"a":"a b"}}"#, "illegal base64 data at input byte 1");
    check(
        POD,
        r#"{"metadata":{"creationTimestamp":"x"}}"#,
        r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#,
    );
    check(
        POD,
        r#"{"metadata":{"creationTimestamp":"2026-13-01T00:00:00Z"}}"#,
        r#"parsing time "2026-13-01T00:00:00Z": month out of range"#,
    );
    check(
        ("", "v1", "Service"),
        r#"{"spec":{"ports":[{"targetPort":true}]}}"#,
        "json: cannot unmarshal bool into Go value of type int32",
    );
}

#[test]
fn bodies_of_another_kind_or_of_none() {
    let check = |body: &str, expected: &str| {
        assert_eq!(decode(DEPLOYMENT, body, FieldValidation::Warn).expect_err(body), expected);
    };
    check(
        r#"{"apiVersion":"v1","kind":"Pod"}"#,
        "Pod in version \"v1\" cannot be handled as a Deployment: converting (v1.Pod) to (apps.Deployment): unknown \
         conversion",
    );
    check(
        r#"{"apiVersion":"apps/v1","kind":"Foo"}"#,
        "Foo in version \"v1\" cannot be handled as a Deployment: no kind \"Foo\" is registered for version \"apps/v1\" \
         in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
    );
    let unrecognized = "the object provided is unrecognized (must be of type Deployment): couldn't get version/kind; \
                        json parse error: ";
    let check = |body: &str, cause: &str| {
        let error = decode(DEPLOYMENT, body, FieldValidation::Warn).expect_err(body);
        assert_eq!(error, format!("{unrecognized}{cause}"));
    };
    check("", "unexpected end of JSON input (<empty>)");
    check("{\"a\":", "unexpected end of JSON input ({\"a\":)");
    check("abc", "invalid character 'a' looking for beginning of value (616263)");
    check("{\"a\" 1}", "invalid character '1' after object key ({\"a\" 1})");
    check("{} x", "invalid character 'x' after top-level value ({} x)");
    check("{\"kind\":1}", "json: cannot unmarshal number into Go struct field .kind of type string ({\"kind\":1})");
}

#[test]
fn delete_options_come_in_the_version_of_what_is_deleted() {
    let body = r#"{"apiVersion":"apps/v1","kind":"DeleteOptions","gracePeriodSeconds":0}"#;
    let (options, _) = decode(("", "v1", "DeleteOptions"), body, FieldValidation::Strict).expect("decodes");
    assert_eq!(options["gracePeriodSeconds"], 0);
}

#[test]
fn values_in_hand_are_checked_the_same_way() {
    let schemas = Schemas::builtin();
    let node = schemas.kind("apps", "v1", "Deployment").expect("a known kind");
    let gvk = Gvk::new("apps", "v1", "Deployment");
    let value = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"foo": 1, "replicas": 2}});
    let error = decode_value(&value, &gvk, node, FieldValidation::Strict).expect_err("refused");
    assert_eq!(error.cause(), r#"strict decoding error: unknown field "spec.foo""#);
    let (value, warnings) = decode_value(&value, &gvk, node, FieldValidation::Warn).expect("decodes");
    assert_eq!(
        (value["spec"].clone(), warnings),
        (json!({"replicas": 2}), vec![r#"unknown field "spec.foo""#.to_owned()])
    );
}
