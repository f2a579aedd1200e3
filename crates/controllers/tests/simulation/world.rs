//! A small API server in memory: objects as JSON, versions, preconditions, finalizers, graceful deletion of pods.
//! Plans may be cut off between any two writes, as a crash would.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use controllers::meta::Meta;
use controllers::plan::{Kind, Op, PatchType, Plan, Verb};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub struct World {
    pub objects: BTreeMap<(String, String), Value>,
    pub now: Timestamp,
    pub rng: StdRng,
    pub events: Vec<String>,
    serial: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let now = "2026-01-01T00:00:00Z".parse().expect("a timestamp");
        Self { objects: BTreeMap::new(), now, rng: StdRng::seed_from_u64(seed), events: Vec::new(), serial: 0 }
    }

    pub fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    pub fn tick(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    pub fn list<K: Resource + DeserializeOwned>(&self) -> Vec<Arc<K>> {
        let of_kind = self.objects.iter().filter(|((plural, _), _)| plural == K::URL_PATH_SEGMENT);
        of_kind.map(|(_, object)| Arc::new(serde_json::from_value(object.clone()).expect("the right type"))).collect()
    }

    pub fn get<K: Resource + DeserializeOwned>(&self, name: &str) -> Option<K> {
        let object = self.objects.get(&(K::URL_PATH_SEGMENT.to_owned(), name.to_owned()))?;
        Some(serde_json::from_value(object.clone()).expect("the right type"))
    }

    pub fn put<K: Resource + Metadata<Ty = ObjectMeta> + Serialize>(&mut self, object: &K) {
        let op = Op::create(object);
        assert!(self.write(&op), "{} exists already", op.target.name);
    }

    pub fn edit<K>(&mut self, name: &str, edit: impl FnOnce(&mut K))
    where
        K: Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned,
    {
        let mut object: K = self.get(name).expect("it exists");
        edit(&mut object);
        assert!(self.write(&Op::update(&object)), "nobody else writes");
    }

    /// Carries out a plan, or the beginning of it: one time in ten the process dies in the middle.
    pub fn apply(&mut self, plan: &Plan) {
        let crash = if self.chance(10) { self.rng.random_range(0..=plan.ops.len()) } else { plan.ops.len() };
        self.events.extend(plan.events.iter().map(|event| format!("{} {}", event.reason, event.message)));
        for op in &plan.ops[..crash] {
            if !self.write(op) {
                return;
            }
            let said = op.announce.success.iter().map(|event| format!("{} {}", event.reason, event.message));
            self.events.extend(said);
        }
    }

    /// One request; false when its preconditions do not hold.
    pub fn write(&mut self, op: &Op) -> bool {
        let plural = op.target.kind.plural.to_string();
        self.serial += 1;
        match &op.verb {
            Verb::Create(object) => self.create(plural, object.clone()),
            Verb::Update { object, subresource } => {
                let name = op.target.name.clone();
                let Some(old) = self.objects.get(&(plural.clone(), name.clone())).cloned() else { return true };
                if object["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] {
                    return false;
                }
                let mut new = object.clone();
                match subresource {
                    Some(_) => {
                        new = old.clone();
                        new["status"] = object["status"].clone();
                    }
                    None => new["status"] = old["status"].clone(),
                }
                self.store(plural, name, &old, new);
                true
            }
            Verb::Patch { patch, kind, .. } => {
                let key = (plural, op.target.name.clone());
                let Some(old) = self.objects.get(&key).cloned() else { return true };
                let uid = &patch["metadata"]["uid"];
                let version = &patch["metadata"]["resourceVersion"];
                let stale = !version.is_null() && *version != old["metadata"]["resourceVersion"];
                if stale || !uid.is_null() && *uid != old["metadata"]["uid"] {
                    return false;
                }
                let mut new = old.clone();
                merge(&mut new, patch, *kind == PatchType::Strategic);
                self.store(key.0, key.1, &old, new);
                true
            }
            Verb::Delete { uid, propagation, .. } => {
                let key = (plural, op.target.name.clone());
                let Some(old) = self.objects.get(&key).cloned() else { return true };
                if uid.as_ref().is_some_and(|uid| old["metadata"]["uid"] != *uid) {
                    return true;
                }
                self.delete(key, old, propagation.map(|policy| policy.name()));
                true
            }
        }
    }

    fn create(&mut self, plural: String, mut object: Value) -> bool {
        let meta = &mut object["metadata"];
        if meta["name"].is_null() {
            let prefix = meta["generateName"].as_str().expect("a name or a prefix").to_owned();
            meta["name"] = json!(format!("{prefix}{:05}", self.serial));
        }
        let name = meta["name"].as_str().expect("text").to_owned();
        let key = (plural, name);
        if self.objects.contains_key(&key) {
            return false;
        }
        meta["uid"] = json!(format!("uid-{}", self.serial));
        meta["generation"] = json!(1);
        meta["creationTimestamp"] = json!(self.now.to_string());
        meta["resourceVersion"] = json!(self.serial.to_string());
        self.objects.insert(key, object);
        true
    }

    fn store(&mut self, plural: String, name: String, old: &Value, mut new: Value) {
        new["metadata"]["resourceVersion"] = json!(self.serial.to_string());
        if new["spec"] != old["spec"] {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or_default();
            new["metadata"]["generation"] = json!(generation + 1);
        }
        let empty = new["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        // Pods go when the kubelet says so, everything else with its last finalizer.
        if !new["metadata"]["deletionTimestamp"].is_null() && empty && plural != "pods" {
            self.objects.remove(&(plural, name));
        } else {
            self.objects.insert((plural, name), new);
        }
    }

    fn delete(&mut self, key: (String, String), old: Value, policy: Option<&str>) {
        let mut new = old.clone();
        let finalizers = new["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        let mut finalizers: Vec<Value> = finalizers;
        let wanted = match policy {
            Some("Foreground") => Some("foregroundDeletion"),
            Some("Orphan") => Some("orphan"),
            _ => None,
        };
        if let Some(name) = wanted.filter(|name| !finalizers.contains(&json!(name))) {
            finalizers.push(json!(name));
        }
        if finalizers.is_empty() && key.0 != "pods" {
            self.objects.remove(&key);
            return;
        }
        new["metadata"]["finalizers"] = json!(finalizers);
        if new["metadata"]["deletionTimestamp"].is_null() {
            new["metadata"]["deletionTimestamp"] = json!(self.now.to_string());
        }
        self.store(key.0, key.1, &old, new);
    }

    /// A kubelet and a scheduler in one: some pod makes a step. `outcome` says how a running pod goes on.
    pub fn run_some_pod(&mut self, outcome: impl FnOnce(&mut Self, &Pod) -> &'static str) {
        let pods = self.list::<Pod>();
        if pods.is_empty() {
            return;
        }
        let pod = pods[self.rng.random_range(0..pods.len())].clone();
        let key = ("pods".to_owned(), pod.name().to_owned());
        let old = self.objects[&key].clone();
        let phase = old["status"]["phase"].as_str().unwrap_or_default().to_owned();
        let mut new = old.clone();
        self.serial += 1;
        if pod.deleting() {
            if pod.meta().finalizers.as_ref().is_none_or(Vec::is_empty) {
                self.objects.remove(&key);
                return;
            }
            if phase != "Succeeded" {
                new["status"]["phase"] = json!("Failed");
            }
        } else if phase.is_empty() {
            if new["spec"]["nodeName"].is_null() {
                new["spec"]["nodeName"] = json!(format!("node-{}", self.serial % 3));
            }
            new["status"] = running(self.now);
        } else if phase == "Running" {
            let next = outcome(self, &pod);
            if next == "Running" {
                return;
            }
            new["status"]["phase"] = json!(next);
            new["status"]["conditions"] =
                json!([{"type": "Ready", "status": "False", "lastTransitionTime": self.now.to_string()}]);
        }
        self.store(key.0, key.1, &old, new);
    }
}

fn running(now: Timestamp) -> Value {
    json!({
        "phase": "Running",
        "podIP": "10.244.0.1",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now.to_string()}],
    })
}

/// A merge patch; a strategic one knows the two keyed lists that plans patch.
fn merge(target: &mut Value, patch: &Value, strategic: bool) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (field, value) in fields {
        match field.as_str() {
            "ownerReferences" if strategic => merge_list(&mut target[field], value, "uid"),
            "conditions" if strategic => merge_list(&mut target[field], value, "type"),
            _ if value.is_null() => target[field] = Value::Null,
            _ => merge(&mut target[field], value, strategic),
        }
    }
}

fn merge_list(target: &mut Value, patch: &Value, key: &str) {
    let mut list = target.as_array().cloned().unwrap_or_default();
    for patch in patch.as_array().into_iter().flatten() {
        list.retain(|entry| entry[key] != patch[key]);
        if patch["$patch"] != "delete" {
            list.push(patch.clone());
        }
    }
    *target = Value::from(list);
}

pub fn kind_of<K: Resource>() -> Kind {
    Kind::of::<K>()
}
