//! Counts by topology domain: how much of something there is in each value of a node label.

use std::collections::HashMap;

use crate::labels::Labels;

/// Sums by (topology key, value). A pod names few keys, a key has many values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopologySums(Vec<(Box<str>, Sums)>);

type Sums = HashMap<Box<str>, i64>;

impl TopologySums {
    /// Adds `delta` where `labels` place a node under `key`; sums that return to zero are forgotten.
    pub fn add(&mut self, key: &str, labels: &Labels, delta: i64) {
        let Some(value) = labels.get(key) else { return };
        let at = self.0.iter().position(|(k, _)| **k == *key).unwrap_or_else(|| {
            self.0.push((key.into(), HashMap::new()));
            self.0.len() - 1
        });
        let values = &mut self.0[at].1;
        match values.get_mut(value) {
            Some(sum) => *sum += delta,
            None => {
                values.insert(value.into(), delta);
            }
        }
        if values.get(value) == Some(&0) {
            values.remove(value);
        }
        if values.is_empty() {
            self.0.swap_remove(at);
        }
    }

    pub fn get(&self, key: &str, labels: &Labels) -> i64 {
        let values = self.0.iter().find(|(k, _)| **k == *key).map(|(_, values)| values);
        values.zip(labels.get(key)).and_then(|(values, value)| values.get(value)).copied().unwrap_or(0)
    }

    /// Everything that applies to a node with these labels.
    pub fn total(&self, labels: &Labels) -> i64 {
        let of = |(key, values): &(Box<str>, Sums)| values.get(labels.get(key)?).copied();
        self.0.iter().filter_map(of).sum()
    }

    pub fn any(&self, labels: &Labels) -> bool {
        self.0.iter().any(|(key, values)| labels.get(key).and_then(|v| values.get(v)).is_some_and(|sum| *sum > 0))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
