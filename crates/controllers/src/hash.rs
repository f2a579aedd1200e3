//! Short stable hashes for object names.

use serde::Serialize;

/// The alphabet of generated names: no vowels and no digits that look like one, so that no word appears by chance.
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// FNV-1a over the canonical JSON of `object` and the collision count, written in the safe alphabet.
pub fn compute<T: Serialize>(object: &T, collision_count: Option<i32>) -> String {
    let json = serde_json::to_vec(object).expect("a Kubernetes object has string keys only");
    let mut hash = fnv1a(0x811c_9dc5, &json);
    if let Some(count) = collision_count.filter(|count| *count != 0) {
        hash = fnv1a(hash, &count.to_le_bytes());
    }
    safe_encode(&hash.to_string())
}

fn fnv1a(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn safe_encode(text: &str) -> String {
    text.bytes().map(|byte| char::from(SAFE[usize::from(byte) % SAFE.len()])).collect()
}

/// FNV-1a for callers that need the number, such as names derived from a time.
pub fn fnv32(bytes: &[u8]) -> u32 {
    fnv1a(0x811c_9dc5, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_stable_and_safe() {
        assert_eq!(fnv32(b""), 0x811c_9dc5);
        assert_eq!(fnv32(b"a"), 0xe40c_292c);
        assert_eq!(compute(&"a", None), compute(&"a", Some(0)));
        assert_ne!(compute(&"a", None), compute(&"a", Some(1)));
        assert!(compute(&"a", None).bytes().all(|byte| SAFE.contains(&byte)));
    }
}
