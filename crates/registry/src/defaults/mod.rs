//! Defaulting shared by several kinds: pod specs and their parts, pod templates, persistent volume claims.
//!
//! Every function is idempotent and fills only what is absent. Structs that upstream always writes out, even empty
//! (`resources: {}`), are filled too, so that what a client reads back has upstream's shape.

pub mod container;
pub mod pod_spec;
pub mod template;
pub mod volume;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// `field = value` when absent.
pub(crate) fn fill<T>(field: &mut Option<T>, value: T) {
    if field.is_none() {
        *field = Some(value);
    }
}

/// As `fill`, for strings, where upstream cannot tell an empty string from an absent one.
pub(crate) fn fill_text(field: &mut Option<String>, value: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(value.to_owned());
    }
}

/// As `fill`, for numbers that upstream keeps by value: zero is absent.
pub(crate) fn fill_number<T: Default + PartialEq>(field: &mut Option<T>, value: T) {
    if field.as_ref().is_none_or(|v| *v == T::default()) {
        *field = Some(value);
    }
}

pub(crate) fn percent(value: u8) -> IntOrString {
    IntOrString::String(format!("{value}%"))
}

/// How an absent quantity reads back.
pub(crate) fn zero() -> Quantity {
    Quantity("0".to_owned())
}
