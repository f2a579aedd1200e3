//! The options of a write, from the query or (for deletes) from the body.

use api::field::{Error, Path};
use api::{ApiError, ErrorList};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions};

use schema::FieldValidation;

use crate::http::query::Query;

#[derive(Clone, Copy, Debug, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub field_validation: FieldValidation,
    /// An apply takes what others own.
    pub force: bool,
}

impl WriteOptions {
    /// `kind` is the options' kind, for the error.
    pub fn parse(query: &Query, kind: &str) -> Result<Self, ApiError> {
        let mut errors = ErrorList::new();
        let dry_run = dry_run(query.all("dryRun"), &mut errors);
        let validation = query.get("fieldValidation").unwrap_or_default();
        let field_validation = FieldValidation::parse(validation).unwrap_or_else(|| {
            let supported = ["Ignore", "Strict", "Warn"];
            errors.push(Error::not_supported(&Path::new("fieldValidation"), validation, &supported));
            FieldValidation::Warn
        });
        check_manager(query.get("fieldManager").unwrap_or_default(), &mut errors);
        refuse("meta.k8s.io", kind, &errors)?;
        Ok(Self { dry_run, field_validation, force: false })
    }

    /// Of a patch that is no apply.
    pub fn of_patch(query: &Query) -> Result<Self, ApiError> {
        if query.get("force").is_some() {
            let errors = [Error::forbidden(&Path::new("force"), "may not be specified for non-apply patch")];
            refuse("meta.k8s.io", "PatchOptions", &ErrorList::from_iter(errors))?;
        }
        Self::parse(query, "PatchOptions")
    }

    /// Of an apply, which is somebody's.
    pub fn of_apply(query: &Query) -> Result<Self, ApiError> {
        if query.filled("fieldManager").is_none() {
            let errors = [Error::required(&Path::new("fieldManager"), "is required for apply patch")];
            refuse("meta.k8s.io", "PatchOptions", &ErrorList::from_iter(errors))?;
        }
        Ok(Self { force: query.truthy("force"), ..Self::parse(query, "PatchOptions")? })
    }
}

fn check_manager(manager: &str, errors: &mut ErrorList) {
    let path = Path::new("fieldManager");
    if manager.len() > MAX_MANAGER {
        errors.push(Error::too_long(&path, MAX_MANAGER));
    }
    if manager.chars().any(char::is_control) {
        errors.push(Error::invalid(&path, manager, "should only contain printable characters"));
    }
}

pub const MAX_MANAGER: usize = 128;

fn dry_run<'a>(values: impl Iterator<Item = &'a str>, errors: &mut ErrorList) -> bool {
    let mut all = false;
    for value in values.filter(|v| !v.is_empty()) {
        if value == "All" {
            all = true;
        } else {
            errors.push(Error::not_supported(&Path::new("dryRun"), value, &["All"]));
        }
    }
    all
}

fn refuse(group: &str, kind: &str, errors: &ErrorList) -> Result<(), ApiError> {
    if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid(group, kind, "", errors)) }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// What the kind does by default.
    #[default]
    Default,
    Background,
    Foreground,
    Orphan,
}

#[derive(Clone, Debug, Default)]
pub struct Deletion {
    pub dry_run: bool,
    pub grace_period_seconds: Option<i64>,
    pub propagation: Propagation,
    /// `orphanDependents: false` asks for an honest 202.
    pub orphan_dependents: Option<bool>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

impl Deletion {
    /// A body wins over the query, as upstream reads only one of them.
    pub fn parse(body: &[u8], query: &Query) -> Result<Self, ApiError> {
        let options = if body.iter().all(u8::is_ascii_whitespace) {
            from_query(query)?
        } else {
            let mut value: serde_json::Value = serde_json::from_slice(body)
                .map_err(|e| ApiError::bad_request(format!("couldn't get version/kind; json parse error: {e}")))?;
            let kind = value["kind"].as_str().unwrap_or("DeleteOptions");
            if kind != "DeleteOptions" {
                return Err(ApiError::bad_request(format!(
                    "decoded object cannot be converted to DeleteOptions: {kind}"
                )));
            }
            if let Some(map) = value.as_object_mut() {
                map.remove("kind");
                map.remove("apiVersion");
            }
            serde_json::from_value(value).map_err(|e| ApiError::bad_request(e.to_string()))?
        };
        Self::checked(options)
    }

    fn checked(options: DeleteOptions) -> Result<Self, ApiError> {
        let mut errors = ErrorList::new();
        let dry_run = dry_run(options.dry_run.iter().flatten().map(String::as_str), &mut errors);
        let path = Path::new("propagationPolicy");
        if options.propagation_policy.is_some() && options.orphan_dependents.is_some() {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(Error::invalid(&path, options.propagation_policy.clone(), why));
        }
        let propagation = match (options.propagation_policy.as_deref(), options.orphan_dependents) {
            (None | Some(""), None) => Propagation::Default,
            (None | Some(""), Some(true)) | (Some("Orphan"), _) => Propagation::Orphan,
            (None | Some(""), Some(false)) | (Some("Background"), _) => Propagation::Background,
            (Some("Foreground"), _) => Propagation::Foreground,
            (Some(other), _) => {
                errors.push(Error::not_supported(&path, other, &["Background", "Foreground", "Orphan"]));
                Propagation::Default
            }
        };
        refuse("meta.k8s.io", "DeleteOptions", &errors)?;
        let Preconditions { uid, resource_version } = options.preconditions.unwrap_or_default();
        Ok(Self {
            dry_run,
            grace_period_seconds: options.grace_period_seconds,
            propagation,
            orphan_dependents: options.orphan_dependents,
            uid,
            resource_version,
        })
    }
}

fn from_query(query: &Query) -> Result<DeleteOptions, ApiError> {
    let dry_run: Vec<String> = query.all("dryRun").map(str::to_owned).collect();
    Ok(DeleteOptions {
        dry_run: (!dry_run.is_empty()).then_some(dry_run),
        grace_period_seconds: query.integer("gracePeriodSeconds")?,
        propagation_policy: query.filled("propagationPolicy").map(str::to_owned),
        orphan_dependents: query.get("orphanDependents").map(|_| query.truthy("orphanDependents")),
        ..DeleteOptions::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expected: Result<bool, &str>) {
        let got = WriteOptions::parse(&Query::parse(query), "CreateOptions").map(|o| o.dry_run);
        assert_eq!(got.map_err(|e| e.to_string()), expected.map_err(str::to_owned));
    }

    #[test]
    fn dry_runs() {
        check("", Ok(false));
        check("dryRun=All", Ok(true));
        check(
            "dryRun=Some",
            Err(
                r#"CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: "Some": supported values: "All""#,
            ),
        );
    }

    #[test]
    fn deletions() {
        let parse = |body: &str, query: &str| Deletion::parse(body.as_bytes(), &Query::parse(query));
        let body = r#"{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0,"propagationPolicy":"Foreground",
            "preconditions":{"uid":"u"}}"#;
        let got = parse(body, "propagationPolicy=Orphan").expect("valid");
        assert_eq!(
            (got.propagation, got.grace_period_seconds, got.uid.as_deref()),
            (Propagation::Foreground, Some(0), Some("u"))
        );
        assert_eq!(parse("", "propagationPolicy=Orphan").expect("valid").propagation, Propagation::Orphan);
        assert_eq!(parse("{}", "").expect("valid").propagation, Propagation::Default);
        assert_eq!(parse(r#"{"propagationPolicy":"Maybe"}"#, "").expect_err("refused").code(), 422);
        assert_eq!(parse(r#"{"kind":"Pod"}"#, "").expect_err("refused").code(), 400);
    }
}
