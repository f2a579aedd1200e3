//! Image references, by the grammar of the distribution project: is this one at all, and which tag does it mean.

/// A path component and its registry are at most this long together.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;
const MALFORMED: &str = "invalid reference format";

/// What is wrong with a reference, in the words that users know.
pub fn check(image: &str) -> Result<(), String> {
    if image.len() == 64 && image.bytes().all(is_hex) {
        return Err(format!("invalid repository name ({image}), cannot specify 64-byte hexadecimal strings"));
    }
    let (domain, rest) = split_domain(image);
    let path_end = rest.find([':', '@']).unwrap_or(rest.len());
    let (path, suffix) = rest.split_at(path_end);
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        let library = if domain.is_none() && !path.contains('/') { "library/" } else { "" };
        return Err(format!("{MALFORMED}: repository name ({library}{path}) must be lowercase"));
    }
    if domain.is_some_and(|d| !is_domain(d)) || !path.split('/').all(is_path_component) || !is_suffix(suffix) {
        return Err(MALFORMED.to_owned());
    }
    if domain.map_or(0, |d| d.len() + 1) + path.len() > MAX_NAME {
        return Err(format!("repository name must not be more than {MAX_NAME} characters"));
    }
    Ok(())
}

/// The part before the first slash, if it can be no user's name.
pub fn split_domain(image: &str) -> (Option<&str>, &str) {
    match image.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, image),
    }
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let label = |l: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !l.is_empty() && l.bytes().all(inner) && !l.starts_with('-') && !l.ends_with('-')
    };
    let address = |h: &str| {
        let inner = h.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        inner.is_some_and(|i| !i.is_empty() && i.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'))
    };
    (address(host) || host.split('.').all(label))
        && port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

/// Runs of letters and digits, held together by `.`, `_`, `__` or dashes.
fn is_path_component(component: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = component.bytes().next().is_some_and(word) && component.bytes().next_back().is_some_and(word);
    let mut separators = component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends && separators.all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

/// `[:tag][@digest]`
fn is_suffix(suffix: &str) -> bool {
    let (tag, digest) = match suffix.split_once('@') {
        Some((tag, digest)) => (tag, Some(digest)),
        None => (suffix, None),
    };
    (tag.is_empty() || tag.strip_prefix(':').is_some_and(is_tag)) && digest.is_none_or(is_digest)
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.bytes().next().is_some_and(word)
        && tag.len() <= MAX_TAG
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let part = |p: &str| {
        p.bytes().next().is_some_and(|b| b.is_ascii_alphabetic()) && p.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(part) && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn references() {
        let good = |image: &str| assert_eq!(check(image), Ok(()), "{image}");
        let bad = |image: &str, why: &str| assert_eq!(check(image), Err(why.to_owned()), "{image}");
        good("nginx");
        good("nginx:1.27");
        good("a/b__c.d--e_f/g:V_1.0-x");
        good("localhost:5000/nginx");
        good("[2001:db8::1]:5000/nginx");
        good("Registry.example/nginx");
        good(&format!("quay.io/a@sha256:{}", "0".repeat(64)));
        good(&format!("a:b@sha256:{}", "0".repeat(64)));
        let malformed =
            ["", "nginx:", ":tag", "a b", "a//b", "a/", "-a", "a___b", "a..b", "nginx:bad tag", "a@b", "a:b:c"];
        malformed.iter().for_each(|image| bad(image, "invalid reference format"));
        bad("a.b:x/nginx", "invalid reference format");
        bad("Nginx", "invalid reference format: repository name (library/Nginx) must be lowercase");
        bad("me/Nginx:1", "invalid reference format: repository name (me/Nginx) must be lowercase");
        bad(&"a".repeat(256), "repository name must not be more than 255 characters");
        let id = "0".repeat(64);
        bad(&id, &format!("invalid repository name ({id}), cannot specify 64-byte hexadecimal strings"));
    }
}
