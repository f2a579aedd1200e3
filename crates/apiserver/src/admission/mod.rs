//! Admission: what a write must pass beside validation. One plugin, one file, one row; most decide purely on the
//! objects they are given.

mod certificates;
mod default_tolerations;
mod namespace_lifecycle;
mod node_restriction;
mod priority;
mod runtime_class;
mod service_account;
mod taint_nodes;

use api::ApiError;
use serde_json::Value;

use crate::authz::escalation;
use crate::catalog::Kind;
use crate::rest::write::Writer;
use crate::state::Api;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
}

/// What a plugin sees of a write.
pub struct Attributes<'a> {
    pub api: &'a Api,
    pub kind: &'a Kind,
    pub writer: &'a Writer<'a>,
    pub operation: Operation,
    pub subresource: &'a str,
    pub old: Option<&'a Value>,
}

impl Attributes<'_> {
    /// A write of the main resource of a kind of the legacy group.
    fn is(&self, operation: Operation, plural: &str) -> bool {
        self.operation == operation && self.subresource.is_empty() && self.kind.is("", plural)
    }

    fn refuse(&self, name: &str, why: &str) -> ApiError {
        ApiError::forbidden(self.kind.row.group_resource(), name, why)
    }
}

/// Runs the plugins that change the object, in upstream's order.
pub async fn mutate(
    api: &Api,
    kind: &Kind,
    writer: &Writer<'_>,
    operation: Operation,
    subresource: &str,
    old: Option<&Value>,
    object: &mut Value,
) -> Result<(), ApiError> {
    let attributes = Attributes { api, kind, writer, operation, subresource, old };
    namespace_lifecycle::admit(&attributes, object).await?;
    service_account::admit(&attributes, object).await?;
    taint_nodes::admit(&attributes, object);
    priority::admit(&attributes, object).await?;
    default_tolerations::admit(&attributes, object);
    runtime_class::admit(&attributes, object).await?;
    certificates::admit(&attributes, object);
    Ok(())
}

/// Runs the plugins that only refuse.
pub async fn validate(
    api: &Api,
    kind: &Kind,
    writer: &Writer<'_>,
    operation: Operation,
    subresource: &str,
    old: Option<&Value>,
    object: &Value,
) -> Result<(), ApiError> {
    let attributes = Attributes { api, kind, writer, operation, subresource, old };
    namespace_lifecycle::check(&attributes, object)?;
    node_restriction::check(&attributes, object)?;
    certificates::check(&attributes, object)?;
    if operation != Operation::Delete {
        escalation::check(&api.rbac, kind, writer.user, old, object)?;
    }
    Ok(())
}
