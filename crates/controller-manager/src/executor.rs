//! Carries out plans: the one place from which controllers write.
//!
//! Neighbouring creates go out in batches of 1, 2, 4, ...: when every create fails, as with a quota, one request finds
//! out. Neighbouring deletes go side by side, everything else in order. The first group with a failure ends the plan;
//! what is left is planned anew from the state found then. A status that lost to a newer version of its object may be
//! excepted: others who write to an object must not keep its controller from acting on it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use client::kube::{self, Client};
use client::{Key, Recorder, recorder};
use controllers::Failure;
use controllers::plan::{Event, EventType, Guard, Op, Plan, Target, Verb};
use futures::stream::{self, StreamExt};
use serde_json::Value;

use crate::expectations::Written;
use crate::request;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests of one plan under way at a time.
const PARALLEL: usize = 16;
const FIRST_BATCH: usize = 1;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else was faster; the caches will tell.
    #[error("{what} changed meanwhile")]
    Conflict { what: String },
    #[error("{what}: {message}")]
    Refused { what: String, message: String, create: bool, delete: bool },
    #[error("{what}: no answer in time")]
    Timeout { what: String },
    #[error("{what}")]
    Transport {
        what: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("{what} is gone or being deleted")]
    OwnerGone { what: String },
    #[error("{what} is there after all")]
    OwnerBack { what: String },
}

impl Error {
    /// What the next plan should know about it.
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::Refused { message, create: true, .. } => {
                Some(Failure { reason: "FailedCreate", message: message.clone() })
            }
            Self::Refused { message, delete: true, .. } => {
                Some(Failure { reason: "FailedDelete", message: message.clone() })
            }
            _ => None,
        }
    }

    /// In a namespace that is going away nothing can be created any more; trying again is pointless.
    pub fn is_pointless(&self) -> bool {
        matches!(self, Self::Refused { message, .. } if message.contains("because it is being terminated"))
    }
}

/// The writes that went through, also when a later one did not.
pub struct Done {
    pub written: Vec<Written>,
    pub error: Option<Error>,
    /// What did not hold up the rest, and is to be planned again all the same.
    stale: Option<Error>,
}

#[derive(Clone)]
pub struct Executor {
    client: Client,
    recorder: Recorder,
}

impl Executor {
    pub fn new(client: Client, recorder: Recorder) -> Self {
        Self { client, recorder }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub async fn execute(&self, plan: &Plan) -> Done {
        plan.events.iter().for_each(|event| self.tell(event, "", ""));
        let mut done = Done { written: Vec::new(), error: None, stale: None };
        let mut guards = HashMap::new();
        for group in plan.ops.chunk_by(|a, b| a.is_create() && b.is_create() || a.is_delete() && b.is_delete()) {
            if let Err(error) = self.check_guards(group, &mut guards).await {
                done.error = Some(error);
                break;
            }
            let mut rest = group;
            let mut size = if group[0].is_create() { FIRST_BATCH } else { group.len() };
            while !rest.is_empty() && done.error.is_none() {
                let (batch, later) = rest.split_at(size.min(rest.len()));
                self.run_batch(batch, &mut done).await;
                (rest, size) = (later, size * 2);
            }
            if done.error.is_some() {
                break;
            }
        }
        done.error = done.error.or(done.stale.take());
        done
    }

    async fn run_batch(&self, batch: &[Op], done: &mut Done) {
        let requests: Vec<_> = batch.iter().map(|op| self.apply(op)).collect();
        let mut results = stream::iter(requests).buffered(PARALLEL);
        for op in batch {
            match results.next().await.expect("one result for each request") {
                Ok(written) => done.written.extend(written),
                Err(error @ Error::Conflict { .. }) if op.stale_is_ok => done.stale = Some(error),
                Err(error) => done.error = Some(error),
            }
        }
    }

    async fn check_guards(&self, ops: &[Op], known: &mut HashMap<Target, Option<Value>>) -> Result<(), Error> {
        for guard in ops.iter().filter_map(|op| op.guard.as_ref()) {
            let (Guard::Alive { target, .. } | Guard::Absent { target, .. }) = guard;
            if !known.contains_key(target) {
                known.insert(target.clone(), self.read(target).await?);
            }
            check_guard(guard, known.get(target).and_then(Option::as_ref))?;
        }
        Ok(())
    }

    async fn read(&self, target: &Target) -> Result<Option<Value>, Error> {
        let what = describe_target(target);
        let found = request::get(&self.client, target).await;
        found.map_err(|source| Error::Transport { what, source: Box::new(source) })
    }

    async fn apply(&self, op: &Op) -> Result<Option<Written>, Error> {
        let result = self.send(op).await;
        match &result {
            Ok(written) => {
                let name = written.as_ref().map_or(op.target.name.as_str(), |written| written.key.name.as_str());
                op.announce.success.iter().for_each(|event| self.tell(event, name, ""));
            }
            Err(Error::Refused { message, .. }) => {
                op.announce.failure.iter().for_each(|event| self.tell(event, &op.target.name, message));
            }
            Err(_) => {}
        }
        result
    }

    async fn send(&self, op: &Op) -> Result<Option<Written>, Error> {
        let what = describe(op);
        let request = request::build(&op.target, &op.verb).map_err(|error| Error::Refused {
            what: what.clone(),
            message: error.to_string(),
            create: op.is_create(),
            delete: op.is_delete(),
        })?;
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, self.client.request::<Value>(request)).await;
        match answer {
            Err(_) => Err(Error::Timeout { what }),
            Ok(Ok(object)) => Ok(written(op, &object)),
            Ok(Err(kube::Error::Api(status))) => refused(op, what, &status),
            Ok(Err(source)) => Err(Error::Transport { what, source: Box::new(source) }),
        }
    }

    fn tell(&self, event: &Event, name: &str, error: &str) {
        let kind = match event.kind {
            EventType::Normal => recorder::Type::Normal,
            EventType::Warning => recorder::Type::Warning,
        };
        let mut message = Cow::Borrowed(event.message.as_str());
        for (mark, value) in [("{name}", name), ("{error}", error)] {
            if message.contains(mark) {
                message = Cow::Owned(message.replace(mark, value));
            }
        }
        self.recorder.event(&event.regarding, kind, &event.reason, message.into_owned());
    }
}

fn check_guard(guard: &Guard, found: Option<&Value>) -> Result<(), Error> {
    let is = |uid: &str| found.is_some_and(|object| object["metadata"]["uid"] == uid);
    match guard {
        Guard::Alive { target, uid } => {
            let deleting = found.is_some_and(|object| !object["metadata"]["deletionTimestamp"].is_null());
            let alive = is(uid) && !deleting;
            if alive { Ok(()) } else { Err(Error::OwnerGone { what: describe_target(target) }) }
        }
        Guard::Absent { target, uid } => {
            let back = if uid.is_empty() { found.is_some() } else { is(uid) };
            if back { Err(Error::OwnerBack { what: describe_target(target) }) } else { Ok(()) }
        }
    }
}

fn refused(op: &Op, what: String, status: &kube::core::Status) -> Result<Option<Written>, Error> {
    let gone = status.code == 404 && !op.is_create();
    let exists = status.code == 409 && status.reason == "AlreadyExists";
    match status.code {
        // What is gone need not be deleted or changed; a uid that does not fit means the same.
        _ if gone => Ok(None),
        409 if op.is_delete() => Ok(None),
        409 if exists && op.exists_is_ok => Ok(None),
        409 => Err(Error::Conflict { what }),
        _ => Err(Error::Refused {
            what,
            message: status.message.clone(),
            create: op.is_create(),
            delete: op.is_delete(),
        }),
    }
}

/// The answer to a write is the object, or a Status for a deletion that was carried out at once.
fn written(op: &Op, object: &Value) -> Option<Written> {
    let deleted = op.is_delete();
    let meta = &object["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = meta["name"].as_str().unwrap_or(&op.target.name);
    let uid = match &op.verb {
        Verb::Delete { uid, .. } => uid.clone().unwrap_or_default(),
        _ => text(&meta["uid"]),
    };
    if uid.is_empty() {
        return None;
    }
    Some(Written {
        kind: op.target.kind.clone(),
        key: Key::new(op.target.namespace.as_deref().unwrap_or_default(), name),
        uid,
        version: meta["resourceVersion"].as_str().and_then(|version| version.parse().ok()).unwrap_or_default(),
        deleted,
    })
}

fn describe(op: &Op) -> String {
    let verb = match op.verb {
        Verb::Create(_) => "create",
        Verb::Update { .. } => "update",
        Verb::Patch { .. } => "patch",
        Verb::Delete { .. } => "delete",
    };
    format!("{verb} {}", describe_target(&op.target))
}

fn describe_target(target: &Target) -> String {
    let namespace = target.namespace.as_deref().unwrap_or_default();
    format!("{} {namespace}/{}", target.kind.plural, target.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use controllers::plan::{reference, warning};
    use http::{Method, Response};
    use k8s_openapi::api::core::v1::Pod;
    use kube::client::Body;
    use parking_lot::Mutex;
    use serde_json::json;
    use std::convert::Infallible;
    use std::sync::Arc;

    type Log = Arc<Mutex<Vec<String>>>;

    /// An API server that answers creates of pods with `code` from the `fails_from`th on, and everything else well.
    fn executor(fails_from: usize, code: u16) -> (Executor, Log) {
        let log = Log::default();
        let seen = log.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let event = path.ends_with("/events");
            if !event {
                seen.lock().push(format!("{method} {path}"));
            }
            let count = seen.lock().len();
            let failing = !event && method == Method::POST && count >= fails_from;
            let (status, body) = if failing {
                (code, json!({"kind": "Status", "status": "Failure", "code": code, "reason": "X", "message": "no"}))
            } else {
                (200, json!({"metadata": {"name": format!("p{count}"), "uid": "u", "resourceVersion": "7"}}))
            };
            let response = Response::builder().status(status).body(Body::from(body.to_string().into_bytes()));
            async move { Ok::<_, Infallible>(response.expect("a valid response")) }
        });
        let client = Client::new(service, "default");
        (Executor::new(client.clone(), Recorder::new(client, "test", None)), log)
    }

    fn creates(count: usize) -> Plan {
        let mut pod = Pod::default();
        pod.metadata.generate_name = Some("p-".into());
        pod.metadata.namespace = Some("ns".into());
        let op = Op::create(&pod).on_failure(warning(&reference(&pod), "FailedCreate", "Error creating: {error}"));
        Plan { ops: vec![op; count], ..Plan::default() }
    }

    async fn check(fails_from: usize, wanted: usize, sent: usize, created: usize) {
        let (executor, log) = executor(fails_from, 403);
        let done = executor.execute(&creates(wanted)).await;
        assert_eq!((log.lock().len(), done.written.len()), (sent, created));
        let failure = done.error.as_ref().and_then(Error::failure);
        assert_eq!(failure.is_some(), created < wanted);
    }

    #[tokio::test]
    async fn creates_start_slowly() {
        check(usize::MAX, 20, 20, 20).await;
        // The first one already fails: nothing else is tried.
        check(1, 20, 1, 0).await;
        // 1, then 2, then 4 of which the first two go through.
        check(6, 20, 7, 5).await;
    }

    #[tokio::test]
    async fn a_failure_ends_the_plan() {
        let (executor, log) = executor(1, 403);
        let mut plan = creates(1);
        let target = Target { kind: controllers::Kind::of::<Pod>(), namespace: Some("ns".into()), name: "x".into() };
        plan.push(Op::patch(target, controllers::plan::PatchType::Merge, json!({})));
        assert!(executor.execute(&plan).await.error.is_some());
        assert_eq!(log.lock().len(), 1);
    }

    #[tokio::test]
    async fn a_stale_status_may_not_hold_up_the_rest() {
        let sent_after = async |or_stale: fn(Op) -> Op| {
            let (executor, log) = executor(1, 409);
            let mut plan = creates(1);
            plan.ops = plan.ops.into_iter().map(or_stale).collect();
            let target =
                Target { kind: controllers::Kind::of::<Pod>(), namespace: Some("ns".into()), name: "x".into() };
            plan.push(Op::patch(target, controllers::plan::PatchType::Merge, json!({})));
            let done = executor.execute(&plan).await;
            assert!(matches!(done.error, Some(Error::Conflict { .. })), "it is planned again");
            log.lock().len()
        };
        assert_eq!(sent_after(Op::or_stale).await, 2);
        assert_eq!(sent_after(|op| op).await, 1);
    }

    #[tokio::test]
    async fn what_exists_already_may_be_good_enough() {
        let (executor, _) = executor(1, 409);
        assert!(matches!(executor.execute(&creates(1)).await.error, Some(Error::Conflict { .. })));
    }

    #[test]
    fn guards_look_at_what_is_there() {
        let target = Target { kind: controllers::Kind::of::<Pod>(), namespace: None, name: "p".into() };
        let alive = |uid: &str| Guard::Alive { target: target.clone(), uid: uid.to_owned() };
        let absent = |uid: &str| Guard::Absent { target: target.clone(), uid: uid.to_owned() };
        let there = json!({"metadata": {"uid": "u"}});
        let check = |guard: Guard, found: Option<&Value>, expected: bool| {
            assert_eq!(check_guard(&guard, found).is_ok(), expected, "{guard:?} {found:?}");
        };
        check(alive("u"), Some(&there), true);
        check(alive("old"), Some(&there), false);
        check(alive("u"), Some(&json!({"metadata": {"uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"}})), false);
        check(alive("u"), None, false);
        check(absent(""), None, true);
        check(absent(""), Some(&there), false);
        check(absent("u"), Some(&there), false);
        check(absent("old"), Some(&there), true);
    }
}
