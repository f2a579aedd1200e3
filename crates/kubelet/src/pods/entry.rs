//! What is known about one pod, shared between its worker, its sources and the HTTPS API.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;
use podsync::{PodRuntime, Probed};
use tokio::sync::Notify;

/// What the kubelet says of a pod, and nobody else.
pub const OWN_CONDITIONS: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// The newest word of the pod's source.
#[derive(Debug, Clone)]
pub struct Desired {
    pub pod: Arc<Pod>,
    /// The source does not have it any more.
    pub removed: bool,
    /// The object standing for a static pod at the API server.
    pub mirror: Option<Arc<Pod>>,
}

/// What the worker saw last.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub runtime: PodRuntime,
    pub status: Option<PodStatus>,
}

#[derive(Debug)]
pub struct Entry {
    pub uid: String,
    desired: Mutex<Desired>,
    /// Verdicts by container id.
    pub probes: Mutex<BTreeMap<String, Probed>>,
    view: Mutex<View>,
    /// The status that the API server last took, and the version that the object had then.
    pub written: Mutex<Option<(PodStatus, u64)>>,
    wake: Notify,
}

impl Entry {
    pub fn new(pod: Arc<Pod>) -> Entry {
        let probes = Mutex::new(seed(&pod));
        let view = View { status: pod.status.clone(), ..View::default() };
        Entry {
            uid: podsync::pod::uid(&pod).to_owned(),
            desired: Mutex::new(Desired { pod, removed: false, mirror: None }),
            probes,
            view: Mutex::new(view),
            written: Mutex::default(),
            wake: Notify::new(),
        }
    }

    pub fn desired(&self) -> Desired {
        self.desired.lock().clone()
    }

    pub fn update(&self, change: impl FnOnce(&mut Desired)) {
        change(&mut self.desired.lock());
        self.wake();
    }

    pub fn wake(&self) {
        self.wake.notify_one();
    }

    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    pub fn view(&self) -> View {
        self.view.lock().clone()
    }

    pub fn set_view(&self, view: View) {
        *self.view.lock() = view;
    }

    /// The pod as this node knows it: the source's spec under our own status.
    pub fn pod(&self) -> Pod {
        let mut pod = Pod::clone(&self.desired.lock().pod);
        let Some(mut own) = self.view.lock().status.clone() else { return pod };
        let theirs = pod.status.take().and_then(|status| status.conditions).unwrap_or_default();
        let conditions = own.conditions.get_or_insert_default();
        // Readiness gates and the like are others' to say.
        conditions.extend(theirs.into_iter().filter(|c| !OWN_CONDITIONS.contains(&c.type_.as_str())));
        pod.status = Some(own);
        pod
    }
}

/// A container reported as started before this kubelet began needs no second startup probe.
fn seed(pod: &Pod) -> BTreeMap<String, Probed> {
    let status = pod.status.as_ref();
    let all =
        [status.and_then(|s| s.init_container_statuses.as_ref()), status.and_then(|s| s.container_statuses.as_ref())];
    let started = all.into_iter().flatten().flatten().filter(|s| s.started == Some(true));
    let id = |id: &str| id.rsplit_once("://").map_or(id, |(_, id)| id).to_owned();
    let passed = Probed { startup: Some(podsync::Outcome::Success), ..Probed::default() };
    started.filter_map(|s| Some((id(s.container_id.as_deref()?), passed))).collect()
}
