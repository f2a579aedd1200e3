//! Counts that may be a number or a percentage, as rolling updates and disruption budgets take them.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Error, ErrorList, Path, non_negative};

/// The number in `25%`.
pub fn percent(value: &str) -> Option<i64> {
    let digits = value.strip_suffix('%')?;
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// A number not below zero, or a percentage.
pub fn count_or_percent(value: &IntOrString, path: &Path, errs: &mut ErrorList) {
    match value {
        IntOrString::Int(number) => non_negative(*number, path, errs),
        IntOrString::String(text) if percent(text).is_none() => {
            let detail = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or \
                          '93%', regex used for validation is '[0-9]+%')";
            errs.push(Error::invalid(path, text.as_str(), detail));
        }
        IntOrString::String(_) => {}
    }
}

pub fn at_most_all(value: &IntOrString, path: &Path, errs: &mut ErrorList) {
    if let IntOrString::String(text) = value
        && percent(text).is_some_and(|p| p > 100)
    {
        errs.push(Error::invalid(path, text.as_str(), "must not be greater than 100%"));
    }
}

/// Nothing at all, whichever way it is written.
pub fn is_zero(value: &IntOrString) -> bool {
    match value {
        IntOrString::Int(number) => *number == 0,
        IntOrString::String(text) => percent(text) == Some(0),
    }
}
