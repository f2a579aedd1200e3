//! Finding what a request is about.

use std::collections::BTreeMap;

use http::{Response, StatusCode};
use podsync::Container;

use crate::pods::Entry;
use crate::server::Server;
use crate::server::body::{Body, text};
use std::sync::Arc;

/// Query parameters; repeated ones keep their order.
#[derive(Debug, Default)]
pub struct Query(BTreeMap<String, Vec<String>>);

impl Query {
    pub fn of(uri: &http::Uri) -> Query {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            all.entry(name.into_owned()).or_default().push(value.into_owned());
        }
        Query(all)
    }

    pub fn all(&self, name: &str) -> Vec<String> {
        self.0.get(name).cloned().unwrap_or_default()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.first().map(String::as_str).filter(|value| !value.is_empty())
    }

    /// `1` and `true`, as Go parses booleans.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
    }

    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Box<Response<Body>>> {
        let bad = |value: &str| Box::new(text(StatusCode::BAD_REQUEST, format!("invalid {name}: {value:?}")));
        self.get(name).map(|value| value.parse().map_err(|_| bad(value))).transpose()
    }
}

pub fn pod(server: &Server, namespace: &str, name: &str, uid: Option<&str>) -> Result<Arc<Entry>, Box<Response<Body>>> {
    let found = server.pods.find(namespace, name, uid);
    found.ok_or_else(|| Box::new(text(StatusCode::NOT_FOUND, format!("pod \"{name}\" not found"))))
}

/// The running instance of a container.
pub fn running(entry: &Entry, name: &str) -> Result<Container, Box<Response<Body>>> {
    let view = entry.view();
    let instance = view.runtime.latest(name).filter(|c| c.is_running()).cloned();
    instance.ok_or_else(|| Box::new(text(StatusCode::NOT_FOUND, format!("container not found (\"{name}\")"))))
}
