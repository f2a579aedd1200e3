//! Fixtures for this crate's tables.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::runtime::{Container, Exit, Sandbox, State};

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("in range")
}

/// Pod `p` in `ns` with uid `u`, created at second 0.
pub fn pod_of(spec: Value) -> Pod {
    let meta = json!({"name": "p", "namespace": "ns", "uid": "u"});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).expect("a valid pod")
}

pub fn sandbox(id: &str, ready: bool) -> Sandbox {
    Sandbox { id: id.into(), attempt: 0, ready, created_at: at(0), ips: vec!["10.0.0.2".into()] }
}

pub fn container(name: &str, restart_count: u32, state: State) -> Container {
    let spec = k8s_openapi::api::core::v1::Container {
        name: name.into(),
        image: Some("i".into()),
        ..k8s_openapi::api::core::v1::Container::default()
    };
    Container {
        id: format!("{name}-{restart_count}"),
        sandbox_id: "sb".into(),
        name: name.into(),
        restart_count,
        hash: crate::pod::container_hash(&spec),
        created_at: at(i64::from(restart_count)),
        image: "i".into(),
        image_id: "sha256:0".into(),
        state,
    }
}

pub fn running(name: &str, restart_count: u32) -> Container {
    container(name, restart_count, State::Running { started_at: at(1) })
}

pub fn exited(name: &str, restart_count: u32, code: i32, finished: i64) -> Container {
    let exit = Exit {
        code,
        reason: if code == 0 { "Completed".into() } else { "Error".into() },
        message: String::new(),
        started_at: Some(at(1)),
        finished_at: Some(at(finished)),
    };
    container(name, restart_count, State::Exited(exit))
}
