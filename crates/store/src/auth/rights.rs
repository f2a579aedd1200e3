//! The keys a user may read or write, merged over all of their roles.

use bytes::Bytes;
use mvcc::KeyRange;

use crate::pb::authpb::permission::Type;

/// Where a range of keys ends. The order is that of what they let in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Before(Bytes),
    Open,
}

/// Disjoint ranges that do not touch, by their start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Ranges(Vec<(Bytes, End)>);

impl Ranges {
    fn merge(mut ranges: Vec<(Bytes, End)>) -> Ranges {
        ranges.sort();
        let mut merged: Vec<(Bytes, End)> = Vec::with_capacity(ranges.len());
        for (start, end) in ranges {
            match merged.last_mut() {
                Some((_, last)) if *last >= End::Before(start.clone()) => {
                    if end > *last {
                        *last = end;
                    }
                }
                _ => merged.push((start, end)),
            }
        }
        Ranges(merged)
    }

    fn contain(&self, keys: &KeyRange) -> bool {
        let (start, end) = span(keys);
        let before = self.0.partition_point(|(first, _)| *first <= start);
        before > 0 && self.0[before - 1].1 >= end && self.0[before - 1].1 > End::Before(start)
    }
}

/// A single key is the range up to its successor, the key with a zero byte behind it.
fn span(keys: &KeyRange) -> (Bytes, End) {
    let start = keys.start().clone();
    let end = match keys {
        KeyRange::Single(key) => {
            let mut next = Vec::with_capacity(key.len() + 1);
            next.extend_from_slice(key);
            next.push(0);
            End::Before(next.into())
        }
        KeyRange::Between(_, end) => End::Before(end.clone()),
        KeyRange::From(_) => End::Open,
    };
    (start, end)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    read: Ranges,
    write: Ranges,
}

impl Rights {
    /// Merges permissions. An empty range permits nothing.
    pub fn merge<'a>(permissions: impl IntoIterator<Item = (&'a KeyRange, Type)>) -> Rights {
        let (mut read, mut write) = (Vec::new(), Vec::new());
        for (keys, kind) in permissions {
            if keys.is_empty() {
                continue;
            }
            if kind != Type::Write {
                read.push(span(keys));
            }
            if kind != Type::Read {
                write.push(span(keys));
            }
        }
        Rights { read: Ranges::merge(read), write: Ranges::merge(write) }
    }

    pub fn may_read(&self, keys: &KeyRange) -> bool {
        self.read.contain(keys)
    }

    pub fn may_write(&self, keys: &KeyRange) -> bool {
        self.write.contain(keys)
    }
}

/// Whether a permission can be given for this range: it names a key, and does not end before
/// it begins.
pub fn is_valid(key: &[u8], range_end: &[u8]) -> bool {
    !key.is_empty() && (matches!(range_end, [] | [0]) || key < range_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(key: &str, end: &str) -> KeyRange {
        KeyRange::from_wire(Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(end.as_bytes()))
    }

    /// Permissions as `key`, `range_end`; what they cover together; what they do not.
    fn check(permissions: &[(&str, &str)], inside: &[(&str, &str)], outside: &[(&str, &str)]) {
        let ranges: Vec<KeyRange> = permissions.iter().map(|(key, end)| keys(key, end)).collect();
        let rights = Rights::merge(ranges.iter().map(|range| (range, Type::Read)));
        for (key, end) in inside {
            assert!(rights.may_read(&keys(key, end)), "{permissions:?} cover {key:?}..{end:?}");
        }
        for (key, end) in outside {
            assert!(!rights.may_read(&keys(key, end)), "{permissions:?} do not cover {key:?}..{end:?}");
        }
        assert!(!rights.may_write(&keys("b", "")), "a right to read is none to write");
    }

    #[test]
    fn one_permission() {
        check(&[("b", "")], &[("b", "")], &[("a", ""), ("ba", ""), ("b", "c"), ("b", "\0"), ("b\0", "")]);
        check(
            &[("b", "d")],
            &[("b", ""), ("c", ""), ("b", "d"), ("c", "cz")],
            &[("a", ""), ("d", ""), ("a", "c"), ("b", "e"), ("b", "\0"), ("c", "\0")],
        );
        check(&[("b", "\0")], &[("b", ""), ("zz", ""), ("b", "\0"), ("c", "d")], &[("a", ""), ("a", "\0")]);
        check(&[("\0", "\0")], &[("\0", ""), ("a", "z"), ("\0", "\0")], &[("", "\0")]);
        check(&[("d", "b")], &[], &[("b", ""), ("c", ""), ("d", "")]);
        check(&[], &[], &[("a", ""), ("\0", "\0")]);
    }

    #[test]
    fn permissions_together() {
        check(&[("a", "c"), ("c", "e")], &[("a", "e"), ("b", "d")], &[("a", "f")]);
        check(&[("a", "c"), ("d", "e")], &[("a", "c"), ("d", "")], &[("a", "e"), ("c", "")]);
        check(&[("a", "z"), ("b", "c")], &[("a", "z"), ("c", "d")], &[("a", "\0")]);
        check(&[("a", ""), ("a\0", "")], &[("a", "a\0\0")], &[("a", "b")]);
        check(&[("b", "\0"), ("a", "c")], &[("a", "\0")], &[]);
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_judged_by_where_it_lies() {
        check(&[("b", "d")], &[("c", "b")], &[("e", "b"), ("d", "b"), ("a", "\u{1}")]);
    }

    #[test]
    fn kinds_of_permission() {
        let (b, c, d) = (keys("b", ""), keys("c", ""), keys("d", ""));
        let rights = Rights::merge([(&b, Type::Read), (&c, Type::Write), (&d, Type::Readwrite)]);
        assert_eq!([&b, &c, &d].map(|k| rights.may_read(k)), [true, false, true]);
        assert_eq!([&b, &c, &d].map(|k| rights.may_write(k)), [false, true, true]);
    }

    #[test]
    fn permissions_that_make_sense() {
        for (key, end, expected) in [
            ("a", "", true),
            ("a", "b", true),
            ("a", "\0", true),
            ("\0", "\0", true),
            ("", "b", false),
            ("", "", false),
            ("b", "a", false),
            ("a", "a", false),
        ] {
            assert_eq!(is_valid(key.as_bytes(), end.as_bytes()), expected, "{key:?}..{end:?}");
        }
    }
}
