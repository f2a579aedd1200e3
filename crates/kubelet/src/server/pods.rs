//! `/pods`: the pods of this node, static ones included.

use http::Response;
use serde_json::json;

use crate::server::Server;
use crate::server::body::{Body, json as respond};

pub fn list(server: &Server) -> Response<Body> {
    let pods: Vec<_> = server.pods.all().iter().map(|entry| entry.pod()).collect();
    respond(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods}))
}
