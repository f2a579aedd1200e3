//! Completion indexes, written the way a printer's page ranges are: `1,3-5,7`.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;

use super::COMPLETION_INDEX;
use crate::meta::Meta;

pub fn parse(text: &str) -> BTreeSet<i32> {
    let mut indexes = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(low), Ok(high)) = (low.parse::<i32>(), high.parse::<i32>()) {
            indexes.extend(low..=high);
        }
    }
    indexes
}

pub fn format(indexes: &BTreeSet<i32>) -> String {
    let mut ranges: Vec<(i32, i32)> = Vec::new();
    for index in indexes {
        match ranges.last_mut() {
            Some((_, high)) if *high + 1 == *index => *high = *index,
            _ => ranges.push((*index, *index)),
        }
    }
    // Two neighbours stay two numbers, as upstream writes them.
    let text = ranges.into_iter().map(|(low, high)| match high - low {
        0 => low.to_string(),
        1 => format!("{low},{high}"),
        _ => format!("{low}-{high}"),
    });
    text.collect::<Vec<_>>().join(",")
}

pub fn of(pod: &Pod) -> Option<i32> {
    pod.annotation(COMPLETION_INDEX)?.parse().ok().filter(|index| *index >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(indexes: &[i32], text: &str) {
        let set: BTreeSet<i32> = indexes.iter().copied().collect();
        assert_eq!(format(&set), text);
        assert_eq!(parse(text), set);
    }

    #[test]
    fn ranges() {
        check(&[], "");
        check(&[3], "3");
        check(&[1, 2], "1,2");
        check(&[1, 3, 4, 5, 7], "1,3-5,7");
    }
}
