use std::sync::Arc;

use serde_json::{Value, json};

use super::compare::Comparison;
use super::managed::{Entry, Managed, Operation};
use super::merge::merge;
use super::typed::Walk;
use super::{ApplyError, Element, FieldSet, Request, apply, show, unchanged, update};
use crate::builtin::Schemas;
use crate::node::Node;

struct Kind(Arc<Schemas>, &'static str, &'static str, &'static str);

impl Kind {
    fn of(group: &'static str, kind: &'static str) -> Self {
        Self(Schemas::builtin(), group, "v1", kind)
    }

    fn node(&self) -> &Node {
        self.0.kind(self.1, self.2, self.3).expect("a built-in kind")
    }
}

fn deployments() -> Kind {
    Kind::of("apps", "Deployment")
}

fn set(fields: &Value) -> FieldSet {
    FieldSet::decode(fields).expect("a field set")
}

/// An object with its owners, written by one client after the other.
struct World {
    kind: Kind,
    object: Value,
    reset: FieldSet,
    now: u32,
}

impl World {
    fn new(kind: Kind) -> Self {
        Self { kind, object: json!({}), reset: ["status"].into_iter().collect(), now: 0 }
    }

    fn request<'a>(&'a self, manager: &'a str, now: &'a str) -> Request<'a> {
        let (api_version, subresource) = if self.kind.1.is_empty() { ("v1", "") } else { ("apps/v1", "") };
        Request { manager, subresource, api_version, now, reset: &self.reset, node: self.kind.node() }
    }

    fn tick(&mut self) -> String {
        self.now += 1;
        format!("2026-01-01T00:00:{:02}Z", self.now)
    }

    fn update(&mut self, manager: &str, mut new: Value) {
        let now = self.tick();
        let managed = Managed::of(&self.object).expect("owners");
        update(&self.object, &new, managed, self.request(manager, &now)).write(&mut new);
        self.object = new;
    }

    fn apply(&mut self, manager: &str, config: &Value, force: bool) -> Result<(), ApplyError> {
        let now = self.tick();
        let managed = Managed::of(&self.object).expect("owners");
        let (mut object, managed) = apply(&self.object, config, managed, self.request(manager, &now), force)?;
        managed.write(&mut object);
        self.object = object;
        Ok(())
    }

    fn owned(&self, manager: &str) -> Value {
        let managed = Managed::of(&self.object).expect("owners");
        managed.0.iter().find(|e| e.manager == manager).map_or(Value::Null, |e| e.fields.encode())
    }
}

fn config(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}, "data": data})
}

fn config_maps() -> World {
    World::new(Kind::of("", "ConfigMap"))
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "b"}, "spec": spec})
}

#[test]
fn fields_are_read_and_written() {
    let check = |fields: Value| assert_eq!(set(&fields).encode(), fields, "{fields}");
    check(json!({}));
    check(json!({"f:data": {".": {}, "f:a": {}}, "f:spec": {"f:replicas": {}}}));
    check(json!({"f:ports": {r#"k:{"containerPort":80,"protocol":"TCP"}"#: {".": {}, "f:name": {}}}}));
    check(json!({"f:finalizers": {r#"v:"x""#: {}, "v:1": {}}, "f:list": {"i:0": {}}}));
    assert_eq!(set(&json!({"x:later": {}, "f:a": {}})).encode(), json!({"f:a": {}}), "unknown steps are skipped");
    assert_eq!(set(&json!({r#"k:{"b":1.0,"a":"x"}"#: {}})).encode(), json!({r#"k:{"a":"x","b":1}"#: {}}));
    assert_eq!(FieldSet::decode(&json!({"f:a": 1})), None);
    assert_eq!(FieldSet::decode(&json!([])), None);
}

#[test]
fn sets_are_added_and_taken_away() {
    let a = set(&json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}}));
    let b = set(&json!({"f:a": {"f:b": {}, "f:d": {}}}));
    assert_eq!(a.clone().union(&b).encode(), json!({"f:a": {".": {}, "f:b": {}, "f:d": {}}, "f:c": {}}));
    assert_eq!(a.clone().difference(&b).encode(), json!({"f:a": {}, "f:c": {}}));
    assert_eq!(a.intersection(&b).encode(), json!({"f:a": {"f:b": {}}}));
    let mut below = b.clone();
    below.remove_below(&a);
    assert!(below.is_empty());
    let path = [Element::field("a"), Element::field("b")];
    assert!(a.has(&path) && !a.has(&path[..0]) && !b.has(&path[..1]));
    assert_eq!(a.paths().iter().map(|p| show(p)).collect::<Vec<_>>(), [".a", ".a.b", ".c"]);
}

#[test]
fn what_a_configuration_says() {
    let said = |spec: Value| {
        let walk = Walk::over(&json!({"spec": {"template": {"spec": spec}}}), deployments().node());
        let words: Vec<String> = walk.misfits.iter().map(ToString::to_string).collect();
        let fields = walk.set.encode();
        (fields.pointer("/f:spec/f:template/f:spec").cloned().unwrap_or_default(), words)
    };
    let check = |spec: Value, expected: Value| assert_eq!(said(spec), (expected, Vec::new()));
    check(
        json!({"containers": [{"name": "a", "image": "i", "ports": [{"containerPort": 80}], "args": ["x"]}]}),
        json!({"f:containers": {r#"k:{"name":"a"}"#: {
            ".": {}, "f:name": {}, "f:image": {}, "f:args": {},
            "f:ports": {r#"k:{"containerPort":80,"protocol":"TCP"}"#: {".": {}, "f:containerPort": {}}},
        }}}),
    );
    check(json!({"nodeSelector": {"a": "b"}}), json!({"f:nodeSelector": {}}));
    check(json!({"securityContext": {}}), json!({"f:securityContext": {}}));
    let refused = |spec: Value, expected: &str| assert_eq!(said(spec).1, [expected]);
    refused(json!({"nope": 1}), ".spec.template.spec.nope: field not declared in schema");
    refused(
        json!({"containers": [{"name": "a"}, {"name": "a"}]}),
        r#".spec.template.spec.containers: duplicate entries for key [name="a"]"#,
    );
    refused(
        json!({"containers": [{"image": "a"}]}),
        ".spec.template.spec.containers: element 0: associative list with keys has an element that omits all key fields \
         [\"name\"] (and doesn't have default values for any key fields)",
    );
    refused(json!({"containers": {"a": 1}}), ".spec.template.spec.containers: expected list, got map");
}

#[test]
fn what_differs() {
    let check = |old: Value, new: Value, expected: [Value; 3]| {
        let found = Comparison::of(&old, &new, deployments().node());
        let found = [&found.added, &found.modified, &found.removed].map(FieldSet::encode);
        assert_eq!(found, expected, "{old} {new}");
    };
    let none = || json!({});
    check(none(), json!({"spec": {"replicas": 1}}), [json!({"f:spec": {"f:replicas": {}}}), none(), none()]);
    check(
        json!({"spec": {"replicas": 1}}),
        json!({"spec": {"replicas": 2}}),
        [none(), json!({"f:spec": {"f:replicas": {}}}), none()],
    );
    check(
        json!({"metadata": {"labels": {"a": "b"}}}),
        json!({"metadata": {}}),
        [none(), none(), json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}})],
    );
    // A selector is one thing.
    check(
        json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}}),
        json!({"spec": {"selector": {"matchLabels": {"a": "c"}}}}),
        [none(), json!({"f:spec": {"f:selector": {}}}), none()],
    );
    // An item that is there twice is compared as a whole.
    let env = |values: &[&str]| {
        let env: Vec<Value> = values.iter().map(|v| json!({"name": "a", "value": v})).collect();
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "env": env}]}}}})
    };
    let item = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {r#"k:{"name":"c"}"#: {"f:env": {
        r#"k:{"name":"a"}"#: {}}}}}}}});
    check(env(&["1", "2"]), env(&["1", "3"]), [none(), item, none()]);
    check(env(&["1", "2"]), env(&["1", "2"]), [none(), none(), none()]);
}

#[test]
fn lists_are_merged_in_the_order_of_the_configuration() {
    let names = |list: &[&str]| {
        let list: Vec<Value> = list.iter().map(|name| json!({"name": name})).collect();
        json!({"spec": {"template": {"spec": {"containers": list}}}})
    };
    let check = |live: &[&str], config: &[&str], expected: &[&str]| {
        assert_eq!(merge(&names(live), &names(config), deployments().node()), names(expected));
    };
    check(&["a", "b", "c"], &["c", "a"], &["b", "c", "a"]);
    check(&["a", "b", "c"], &["b", "x", "a"], &["b", "c", "x", "a"]);
    check(&["a", "b"], &["x", "a"], &["x", "a", "b"]);
    check(&["a", "b"], &["a", "b", "c"], &["a", "b", "c"]);
    check(&["a"], &[], &["a"]);
    check(&[], &["b", "a"], &["b", "a"]);
    check(&["a", "a"], &["a"], &["a"]);
    check(&["x", "a", "y", "b", "z"], &["a", "n", "b"], &["x", "a", "y", "n", "b", "z"]);
}

#[test]
fn an_update_owns_what_it_changes() {
    let mut world = config_maps();
    world.update("one", config(json!({"a": "1", "b": "1"})));
    assert_eq!(world.owned("one"), json!({"f:data": {".": {}, "f:a": {}, "f:b": {}}}));
    world.update("two", config(json!({"a": "1", "b": "2", "c": "2"})));
    assert_eq!(world.owned("one"), json!({"f:data": {".": {}, "f:a": {}}}));
    assert_eq!(world.owned("two"), json!({"f:data": {"f:b": {}, "f:c": {}}}));
    let before = world.object.clone();
    world.update("two", before.clone());
    assert_eq!(world.object, before, "what changes nothing changes no time either");
    world.update("two", config(json!({"c": "2"})));
    assert_eq!(world.owned("one"), json!({"f:data": {}}));
    assert_eq!(world.owned("two"), json!({"f:data": {"f:c": {}}}));
}

#[test]
fn an_apply_owns_what_it_says_and_takes_it_back() {
    let mut world = config_maps();
    world.apply("one", &config(json!({"a": "1", "b": "1"})), false).expect("applies");
    assert_eq!(world.owned("one"), json!({"f:data": {"f:a": {}, "f:b": {}}}));
    world.apply("two", &config(json!({"b": "1", "c": "2"})), false).expect("shares what is the same");
    world.apply("one", &config(json!({"a": "2"})), false).expect("applies");
    assert_eq!(world.object["data"], json!({"a": "2", "b": "1", "c": "2"}), "the other still says b");
    world.apply("two", &config(json!({"c": "2"})), false).expect("applies");
    assert_eq!(world.object["data"], json!({"a": "2", "c": "2"}));
    world
        .apply("two", &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}), false)
        .expect("applies nothing");
    assert_eq!(world.object["data"], json!({"a": "2"}));
    assert_eq!(world.owned("two"), Value::Null);
}

#[test]
fn what_others_own_is_taken_by_force_only() {
    let mut world = config_maps();
    world.apply("one", &config(json!({"a": "1", "b": "1"})), false).expect("applies");
    world.update("three", {
        let mut object = world.object.clone();
        object["data"]["c"] = "3".into();
        object
    });
    let wanted = config(json!({"a": "2", "b": "2", "c": "2"}));
    let before = world.object.clone();
    let error = world.apply("two", &wanted, false).expect_err("conflicts");
    assert_eq!(world.object, before);
    let ApplyError::Conflicts(conflicts) = &error else { panic!("{error:?}") };
    assert_eq!(conflicts.len(), 3);
    let status = error.into_api_error("b/a; v1, Kind=ConfigMap").into_status();
    assert_eq!((status.code, status.reason.as_deref()), (Some(409), Some("Conflict")));
    assert_eq!(
        status.message.as_deref(),
        Some(
            "Apply failed with 3 conflicts: conflicts with \"one\":\n- .data.a\n- .data.b\nconflicts with \"three\" \
             using v1:\n- .data.c"
        )
    );
    let causes = status.details.and_then(|d| d.causes).unwrap_or_default();
    assert_eq!(causes[0].reason.as_deref(), Some("FieldManagerConflict"));
    assert_eq!(
        (causes[0].field.as_deref(), causes[0].message.as_deref()),
        (Some(".data.a"), Some("conflict with \"one\""))
    );
    world.apply("two", &wanted, true).expect("forced");
    assert_eq!(world.object["data"], json!({"a": "2", "b": "2", "c": "2"}));
    assert_eq!((world.owned("one"), world.owned("three")), (Value::Null, Value::Null));
}

#[test]
fn one_conflict_is_told_in_one_line() {
    let mut world = World::new(deployments());
    world.update("kubectl-scale", deployment(json!({"replicas": 3})));
    let error = world.apply("me", &deployment(json!({"replicas": 2})), false).expect_err("a conflict");
    let error = error.into_api_error("b/a; apps/v1, Kind=Deployment");
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"kubectl-scale\" using apps/v1: .spec.replicas"
    );
}

#[test]
fn items_that_nobody_applies_any_more_go() {
    let containers = |list: Value| deployment(json!({"template": {"spec": {"containers": list}}}));
    let mut world = World::new(deployments());
    let both = containers(json!([{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]));
    world.apply("me", &both, false).expect("applies");
    // The server fills in what nobody said.
    world.object["spec"]["template"]["spec"]["containers"][1]["imagePullPolicy"] = "Always".into();
    world.apply("me", &containers(json!([{"name": "a", "image": "i"}])), false).expect("applies");
    assert_eq!(world.object.pointer("/spec/template/spec/containers"), Some(&json!([{"name": "a", "image": "i"}])));
    // What it said of an item goes; the item stays when another has it.
    world.apply("other", &containers(json!([{"name": "a", "args": ["x"]}])), false).expect("applies");
    world.apply("me", &containers(json!([{"name": "b", "image": "i"}])), false).expect("applies");
    assert_eq!(
        world.object.pointer("/spec/template/spec/containers"),
        Some(&json!([{"name": "a", "args": ["x"]}, {"name": "b", "image": "i"}]))
    );
}

#[test]
fn an_update_that_takes_over_what_was_applied_is_no_reason_to_remove_it() {
    let mut world = config_maps();
    world.apply("one", &config(json!({"a": "1"})), false).expect("applies");
    world.update("two", {
        let mut object = world.object.clone();
        object["data"]["a"] = "2".into();
        object
    });
    world.apply("one", &config(json!({"b": "1"})), false).expect("applies");
    assert_eq!(world.object["data"], json!({"a": "2", "b": "1"}));
}

#[test]
fn the_status_is_not_owned_through_the_object() {
    let mut world = World::new(deployments());
    let mut object = deployment(json!({"replicas": 1}));
    object["status"] = json!({"replicas": 1});
    world.apply("one", &object, false).expect("applies");
    world.update("two", {
        let mut object = world.object.clone();
        object["status"]["replicas"] = 2.into();
        object
    });
    assert_eq!(world.owned("one"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(world.owned("two"), Value::Null);
}

#[test]
fn times_tell_of_changes() {
    let mut world = config_maps();
    let time = |world: &World, manager: &str| {
        let managed = Managed::of(&world.object).expect("owners");
        managed.0.into_iter().find(|e| e.manager == manager).and_then(|e| e.time)
    };
    let wanted = config(json!({"a": "1"}));
    world.apply("one", &wanted, false).expect("applies");
    let first = time(&world, "one");
    let before = world.object.clone();
    world.apply("one", &wanted, false).expect("applies again");
    assert_eq!((time(&world, "one"), &world.object), (first.clone(), &before));
    world.apply("one", &config(json!({"a": "1", "b": "1"})), false).expect("applies more");
    assert_ne!(time(&world, "one"), first);
}

#[test]
fn old_updates_are_kept_under_one_name() {
    let mut world = config_maps();
    let mut data = json!({});
    for at in 0..12 {
        data[format!("k{at:02}")] = "v".into();
        let mut object = config(data.clone());
        object["metadata"]["managedFields"] = world.object["metadata"]["managedFields"].clone();
        world.update(&format!("m{at:02}"), object);
    }
    let managed = Managed::of(&world.object).expect("owners");
    assert_eq!(managed.0.len(), 10);
    assert_eq!(world.owned("ancient-changes"), json!({"f:data": {".": {}, "f:k00": {}, "f:k01": {}, "f:k02": {}}}));
    assert_eq!(world.owned("m00"), Value::Null);
}

#[test]
fn owners_are_read_strictly() {
    let check = |entry: Value, expected: &str| {
        let object = json!({"metadata": {"managedFields": [entry]}});
        assert_eq!(Managed::of(&object).map_err(|e| e.to_string()), Err(expected.to_owned()));
    };
    check(json!({"operation": "Eat"}), "operation must be `Apply` or `Update`");
    check(json!({"operation": "Apply"}), "apiVersion must not be empty");
    check(json!({"operation": "Apply", "apiVersion": "v1"}), "missing fieldsType in managed fields entry 0");
    let other = json!({"operation": "Apply", "apiVersion": "v1", "fieldsType": "V2"});
    check(other, "invalid fieldsType \"V2\" in managed fields entry 0");
    assert_eq!(Managed::of(&json!({})), Ok(Managed::default()));
}

#[test]
fn appliers_come_first_then_the_older() {
    let entry = |manager: &str, operation, time: &str| Entry {
        manager: manager.to_owned(),
        operation,
        api_version: "v1".to_owned(),
        subresource: String::new(),
        time: Some(time.to_owned()),
        fields: set(&json!({"f:data": {}})),
    };
    let mut object = json!({"metadata": {}});
    Managed(vec![
        entry("c", Operation::Update, "2026-01-01T00:00:00Z"),
        entry("b", Operation::Apply, "2026-01-02T00:00:00Z"),
        entry("a", Operation::Apply, "2026-01-03T00:00:00Z"),
    ])
    .write(&mut object);
    let names: Vec<String> = Managed::of(&object).expect("owners").0.into_iter().map(|e| e.manager).collect();
    assert_eq!(names, ["b", "a", "c"]);
    Managed::default().write(&mut object);
    assert_eq!(object, json!({"metadata": {}}));
}

#[test]
fn what_client_side_apply_said_and_is_still_so() {
    let last = config(json!({"a": "1", "b": "1", "c": "1"}));
    let live = config(json!({"a": "1", "b": "2", "d": "1"}));
    let kept = unchanged(&last, &live, Kind::of("", "ConfigMap").node()).expect("fits");
    let has = |name: &str| kept.has(&[Element::field("data"), Element::field(name)]);
    assert!(has("a") && !has("b") && !has("c") && !has("d"));
}
