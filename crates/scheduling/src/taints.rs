//! Taints and tolerations.

use k8s_openapi::api::core::v1 as core;

/// Set by `kubectl cordon` together with `spec.unschedulable`.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

impl Effect {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "NoSchedule" => Some(Effect::NoSchedule),
            "PreferNoSchedule" => Some(Effect::PreferNoSchedule),
            "NoExecute" => Some(Effect::NoExecute),
            _ => None,
        }
    }

    /// Keeps a pod off the node altogether.
    pub fn forbids(self) -> bool {
        self != Effect::PreferNoSchedule
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Taint {
    pub key: Box<str>,
    pub value: Box<str>,
    pub effect: Effect,
}

impl Taint {
    pub fn new(taint: &core::Taint) -> Option<Self> {
        let effect = Effect::parse(&taint.effect)?;
        Some(Taint { key: taint.key.as_str().into(), value: taint.value.as_deref().unwrap_or_default().into(), effect })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Toleration {
    /// Empty with `Exists` tolerates every key.
    key: Box<str>,
    value: Value,
    /// `None` tolerates every effect.
    effect: Option<Effect>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Value {
    Any,
    Equal(Box<str>),
    Gt(i64),
    Lt(i64),
    Never,
}

impl From<&core::Toleration> for Toleration {
    fn from(t: &core::Toleration) -> Self {
        let text = t.value.as_deref().unwrap_or_default();
        let bound = |make: fn(i64) -> Value| text.parse().map_or(Value::Never, make);
        let value = match t.operator.as_deref() {
            None | Some("" | "Equal") => Value::Equal(text.into()),
            Some("Exists") => Value::Any,
            Some("Gt") => bound(Value::Gt),
            Some("Lt") => bound(Value::Lt),
            Some(_) => Value::Never,
        };
        let effect = t.effect.as_deref().filter(|e| !e.is_empty()).and_then(Effect::parse);
        Toleration { key: t.key.as_deref().unwrap_or_default().into(), value, effect }
    }
}

impl Toleration {
    pub fn tolerates(&self, taint: &Taint) -> bool {
        if self.effect.is_some_and(|e| e != taint.effect) || (!self.key.is_empty() && self.key != taint.key) {
            return false;
        }
        let number = || taint.value.parse::<i64>().ok();
        match &self.value {
            Value::Any => true,
            Value::Equal(value) => *value == taint.value,
            Value::Gt(bound) => number().is_some_and(|n| n > *bound),
            Value::Lt(bound) => number().is_some_and(|n| n < *bound),
            Value::Never => false,
        }
    }

    /// Whether it says anything about taints that only discourage.
    pub fn covers_preferences(&self) -> bool {
        self.effect.is_none_or(|e| e == Effect::PreferNoSchedule)
    }
}

/// The first taint that keeps the pod off the node.
pub fn untolerated<'a>(taints: &'a [Taint], tolerations: &[Toleration]) -> Option<&'a Taint> {
    taints.iter().find(|taint| taint.effect.forbids() && !tolerations.iter().any(|t| t.tolerates(taint)))
}
