//! The one error type of the API: everything a handler can refuse with, carried as the `metav1.Status` that the
//! client will read. Constructors carry upstream's codes, reasons and words.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};

use crate::field::ErrorList;

/// A resource in words: `pods`, `deployments.apps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupResource<'a> {
    pub group: &'a str,
    pub resource: &'a str,
}

impl fmt::Display for GroupResource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        Ok(())
    }
}

/// A refusal, ready to be written as a `Status`.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError(Box<Status>);

impl std::error::Error for ApiError {}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.message.as_deref().unwrap_or("unknown"))
    }
}

impl ApiError {
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self(Box::new(Status {
            status: Some("Failure".to_owned()),
            message: Some(message.into()),
            reason: (!reason.is_empty()).then(|| reason.to_owned()),
            code: Some(i32::from(code)),
            ..Status::default()
        }))
    }

    pub fn code(&self) -> u16 {
        self.0.code.and_then(|c| u16::try_from(c).ok()).unwrap_or(500)
    }

    pub fn reason(&self) -> &str {
        self.0.reason.as_deref().unwrap_or_default()
    }

    pub fn status(&self) -> &Status {
        &self.0
    }

    pub fn into_status(self) -> Status {
        *self.0
    }

    fn details(mut self, details: StatusDetails) -> Self {
        self.0.details = Some(details);
        self
    }

    fn about(self, gr: GroupResource<'_>, name: &str) -> Self {
        self.details(StatusDetails {
            group: (!gr.group.is_empty()).then(|| gr.group.to_owned()),
            kind: (!gr.resource.is_empty()).then(|| gr.resource.to_owned()),
            name: (!name.is_empty()).then(|| name.to_owned()),
            ..StatusDetails::default()
        })
    }

    #[must_use]
    pub fn with_retry_after(mut self, seconds: i32) -> Self {
        self.0.details.get_or_insert_default().retry_after_seconds = Some(seconds);
        self
    }

    /// A 410 for a page of a list may say where the client can go on, inconsistently.
    #[must_use]
    pub fn with_continue(mut self, token: String) -> Self {
        self.0.metadata.continue_ = Some(token);
        self
    }

    #[must_use]
    pub fn with_causes(mut self, causes: Vec<StatusCause>) -> Self {
        self.0.details.get_or_insert_default().causes = Some(causes);
        self
    }

    /// The server's general refusals have details, and nothing to tell in them.
    #[must_use]
    pub fn without_details(self) -> Self {
        self.details(StatusDetails::default())
    }

    pub fn not_found(gr: GroupResource<'_>, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{gr} {name:?} not found")).about(gr, name)
    }

    /// No such path or resource at all, as opposed to a missing object.
    pub fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource").details(StatusDetails::default())
    }

    pub fn already_exists(gr: GroupResource<'_>, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{gr} {name:?} already exists")).about(gr, name)
    }

    pub fn conflict(gr: GroupResource<'_>, name: &str, why: &str) -> Self {
        Self::new(409, "Conflict", format!("Operation cannot be fulfilled on {gr} {name:?}: {why}")).about(gr, name)
    }

    /// The write named a resourceVersion that is no longer the newest.
    pub fn stale(gr: GroupResource<'_>, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(gr, name, why)
    }

    /// `kind` is the Kind (`Deployment`), `group` its group: upstream words it `Deployment.apps "x" is invalid: ...`.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &ErrorList) -> Self {
        let gk = GroupResource { group, resource: kind };
        let mut error = Self::new(422, "Invalid", format!("{gk} {name:?} is invalid: {errors}")).about(gk, name);
        error.0.details.get_or_insert_default().causes = Some(errors.iter().map(|e| e.cause()).collect());
        error
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// Admission or a rule of the API says no; the authorizer's own refusal is worded by the authorizer.
    pub fn forbidden(gr: GroupResource<'_>, name: &str, why: &str) -> Self {
        let subject = match (gr.resource, name) {
            ("", _) => "forbidden".to_owned(),
            (_, "") => format!("{gr} is forbidden"),
            _ => format!("{gr} {name:?} is forbidden"),
        };
        Self::new(403, "Forbidden", format!("{subject}: {why}")).about(gr, name)
    }

    /// There is no such route: the path is known, but not with this method.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message).details(StatusDetails::default())
    }

    pub fn not_acceptable(supported: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", supported.join(", "));
        Self::new(406, "NotAcceptable", message)
    }

    pub fn unsupported_media_type(supported: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            supported.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// A watch or continue token points before what is kept.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(410, "Gone", message)
    }

    /// The resourceVersion asked for is newer than what this server has seen; try again.
    pub fn too_large_resource_version(asked: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {current}");
        let cause = StatusCause {
            reason: Some("ResourceVersionTooLarge".to_owned()),
            message: Some("Too large resource version".to_owned()),
            field: None,
        };
        Self::timeout(message, 1).with_causes(vec![cause])
    }

    pub fn timeout(message: impl Into<String>, retry_after_seconds: i32) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {}", message.into())).with_retry_after(retry_after_seconds)
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: i32) -> Self {
        Self::new(429, "TooManyRequests", message).with_retry_after(retry_after_seconds)
    }

    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    pub fn internal(cause: impl fmt::Display) -> Self {
        let message = format!("Internal error occurred: {cause}");
        let cause = StatusCause { message: Some(cause.to_string()), ..StatusCause::default() };
        Self::new(500, "InternalError", message).with_causes(vec![cause])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{Error, Path};

    const DEPLOYMENTS: GroupResource<'static> = GroupResource { group: "apps", resource: "deployments" };

    fn check(error: &ApiError, code: u16, reason: &str, message: &str) {
        assert_eq!((error.code(), error.reason(), error.to_string().as_str()), (code, reason, message));
    }

    #[test]
    fn wording() {
        check(&ApiError::not_found(DEPLOYMENTS, "web"), 404, "NotFound", r#"deployments.apps "web" not found"#);
        check(
            &ApiError::already_exists(DEPLOYMENTS, "web"),
            409,
            "AlreadyExists",
            r#"deployments.apps "web" already exists"#,
        );
        check(
            &ApiError::stale(DEPLOYMENTS, "web"),
            409,
            "Conflict",
            "Operation cannot be fulfilled on deployments.apps \"web\": the object has been modified; please apply \
             your changes to the latest version and try again",
        );
        check(&ApiError::unauthorized(), 401, "Unauthorized", "Unauthorized");
    }

    #[test]
    fn invalid_carries_a_cause_per_field() {
        let errors = ErrorList::from_iter([Error::required(&Path::new("spec").child("selector"), "")]);
        let error = ApiError::invalid("apps", "Deployment", "web", &errors);
        check(&error, 422, "Invalid", r#"Deployment.apps "web" is invalid: spec.selector: Required value"#);
        let details = error.status().details.as_ref().expect("invalid has details");
        let causes = details.causes.as_ref().expect("and causes");
        assert_eq!(causes[0].reason.as_deref(), Some("FieldValueRequired"));
        assert_eq!(causes[0].field.as_deref(), Some("spec.selector"));
        assert_eq!(details.kind.as_deref(), Some("Deployment"));
    }
}
