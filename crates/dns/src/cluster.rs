//! The objects behind the names: keeps them by Service, and brings the index up to date for the one that changed.

use std::collections::HashMap;
use std::sync::Arc;

use hickory_proto::rr::Name;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::{Mutex, RwLock};

use crate::index::{Index, Key};
use crate::records::records_of;

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

pub struct Cluster {
    zone: Name,
    state: Mutex<State>,
    index: Arc<RwLock<Index>>,
}

#[derive(Default)]
struct State {
    services: HashMap<Key, Arc<Service>>,
    /// By Service, then by the slice's name.
    slices: HashMap<Key, HashMap<String, Arc<EndpointSlice>>>,
}

impl Cluster {
    pub fn new(zone: Name, index: Arc<RwLock<Index>>) -> Self {
        Self { zone, state: Mutex::default(), index }
    }

    pub fn set_service(&self, service: Arc<Service>) {
        let key = key(&service.metadata.namespace, &service.metadata.name);
        let mut state = self.state.lock();
        state.services.insert(key.clone(), service);
        self.update(&state, &key);
    }

    pub fn remove_service(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut state = self.state.lock();
        state.services.remove(&key);
        self.update(&state, &key);
    }

    pub fn set_slice(&self, slice: Arc<EndpointSlice>) {
        let Some(key) = service_of(&slice) else { return };
        let name = slice.metadata.name.clone().unwrap_or_default();
        let mut state = self.state.lock();
        state.slices.entry(key.clone()).or_default().insert(name, slice);
        self.update(&state, &key);
    }

    pub fn remove_slice(&self, slice: &EndpointSlice) {
        let Some(key) = service_of(slice) else { return };
        let mut state = self.state.lock();
        if let Some(slices) = state.slices.get_mut(&key) {
            slices.remove(slice.metadata.name.as_deref().unwrap_or_default());
            if slices.is_empty() {
                state.slices.remove(&key);
            }
        }
        self.update(&state, &key);
    }

    pub fn add_namespace(&self, name: &str) {
        self.index.write().add_namespace(name);
    }

    pub fn remove_namespace(&self, name: &str) {
        self.index.write().remove_namespace(name);
    }

    fn update(&self, state: &State, key: &Key) {
        let Some(service) = state.services.get(key) else { return self.index.write().remove_service(key) };
        let slices = state.slices.get(key).into_iter().flat_map(HashMap::values);
        let records = records_of(&self.zone, service, slices.map(AsRef::as_ref));
        self.index.write().set_service(key, records);
    }
}

fn key(namespace: &Option<String>, name: &Option<String>) -> Key {
    (namespace.clone().unwrap_or_default(), name.clone().unwrap_or_default())
}

fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
    Some((slice.metadata.namespace.clone().unwrap_or_default(), name.clone()))
}
