//! Object metadata helpers: who owns what, what is being deleted, times in whole seconds as the API writes them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::{Metadata, Resource};

/// Read access that treats absent and empty alike, as the API does.
pub trait Meta {
    fn meta(&self) -> &ObjectMeta;

    fn name(&self) -> &str {
        self.meta().name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.meta().namespace.as_deref().unwrap_or_default()
    }

    fn uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or_default()
    }

    fn deleting(&self) -> bool {
        self.meta().deletion_timestamp.is_some()
    }

    fn generation(&self) -> i64 {
        self.meta().generation.unwrap_or_default()
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.meta().labels.as_ref()?.get(key).map(String::as_str)
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.meta().annotations.as_ref()?.get(key).map(String::as_str)
    }

    fn has_finalizer(&self, name: &str) -> bool {
        self.meta().finalizers.iter().flatten().any(|finalizer| finalizer == name)
    }

    fn created(&self) -> jiff::Timestamp {
        self.meta().creation_timestamp.as_ref().map_or(jiff::Timestamp::UNIX_EPOCH, |time| time.0)
    }

    /// The owner that manages this object, at most one.
    fn controller(&self) -> Option<&OwnerReference> {
        self.meta().owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
    }

    fn controlled_by(&self, uid: &str) -> bool {
        self.controller().is_some_and(|owner| owner.uid == uid)
    }
}

impl<K: Metadata<Ty = ObjectMeta>> Meta for K {
    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }
}

/// The owner reference a controller puts on what it creates.
pub fn controller_reference<K: Resource + Metadata<Ty = ObjectMeta>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: owner.name().to_owned(),
        uid: owner.uid().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// `now` in the API's resolution.
pub fn time(now: jiff::Timestamp) -> Time {
    Time(jiff::Timestamp::from_second(now.as_second()).expect("a valid timestamp without its fraction is valid"))
}

/// Seconds from `since` until `now`; negative when `since` lies ahead.
pub fn seconds_since(since: jiff::Timestamp, now: jiff::Timestamp) -> f64 {
    now.duration_since(since).as_secs_f64()
}

pub fn after_seconds(start: jiff::Timestamp, seconds: i64) -> jiff::Timestamp {
    start.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(jiff::Timestamp::MAX)
}

/// Counters that the API leaves out when they are zero.
pub fn nonzero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    Up,
    Down,
}

/// `3` or `25%` of `total`; a malformed percentage counts as nothing, validation refuses it earlier.
pub fn scaled_value(value: &IntOrString, total: i32, round: Round) -> i32 {
    match value {
        IntOrString::Int(count) => *count,
        IntOrString::String(text) => {
            let Some(percent) = text.strip_suffix('%').and_then(|number| number.parse::<i64>().ok()) else {
                return 0;
            };
            let product = percent * i64::from(total);
            let whole = match round {
                Round::Up => (product + 99).div_euclid(100),
                Round::Down => product.div_euclid(100),
            };
            i32::try_from(whole).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: IntOrString, total: i32, up: i32, down: i32) {
        assert_eq!((scaled_value(&value, total, Round::Up), scaled_value(&value, total, Round::Down)), (up, down));
    }

    #[test]
    fn percentages_round_both_ways() {
        check(IntOrString::Int(3), 10, 3, 3);
        check(IntOrString::String("25%".into()), 10, 3, 2);
        check(IntOrString::String("25%".into()), 4, 1, 1);
        check(IntOrString::String("0%".into()), 4, 0, 0);
        check(IntOrString::String("100%".into()), 7, 7, 7);
        check(IntOrString::String("lots".into()), 7, 0, 0);
    }
}
