//! What things may be called. Each rule returns upstream's complaints, with the regular expression quoted; nothing
//! means the name is fine.

use std::fmt::Write as _;

pub const LABEL_MAX: usize = 63;
pub const SUBDOMAIN_MAX: usize = 253;
pub const QUALIFIED_NAME_MAX: usize = 63;
pub const PORT_NAME_MAX: usize = 15;
/// What is kept of `generateName`, so that the result still fits a label.
const GENERATED_BASE_MAX: usize = LABEL_MAX - GENERATED_SUFFIX;
const GENERATED_SUFFIX: usize = 5;
/// No vowels and no lookalikes, so that no word and no misreading comes out.
const GENERATED_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS_1035: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const WILDCARD: &str = r"\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";

/// How the objects of a kind are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NameRule {
    /// RFC 1123 subdomain: most kinds.
    #[default]
    Subdomain,
    /// RFC 1123 label: namespaces.
    Label,
    /// RFC 1035 label: services, whose names become DNS labels.
    Dns1035,
    /// Anything that can be a part of a URL path: the RBAC kinds.
    PathSegment,
}

impl NameRule {
    /// `prefix`: the name is a `generateName`, which may end in a dash.
    pub fn check(self, name: &str, prefix: bool) -> Vec<String> {
        if self == Self::PathSegment {
            return path_segment(name, prefix);
        }
        // Something will follow the prefix, so its last dash counts as the middle of a name.
        let masked = match name.as_bytes() {
            [start @ .., _, b'-'] if prefix => format!("{}a", String::from_utf8_lossy(start)),
            _ => name.to_owned(),
        };
        let name = masked.as_str();
        match self {
            Self::Subdomain => dns_1123_subdomain(name),
            Self::Label => dns_1123_label(name),
            Self::Dns1035 => dns_1035_label(name),
            Self::PathSegment => unreachable!("returned above"),
        }
    }
}

pub fn dns_1123_label(value: &str) -> Vec<String> {
    const WORDS: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                         start and end with an alphanumeric character";
    let mut complaints = too_long(value, LABEL_MAX);
    if !is_label(value) {
        complaints.push(regex_error(WORDS, LABEL, &["my-name", "123-abc"]));
    }
    complaints
}

pub fn dns_1123_subdomain(value: &str) -> Vec<String> {
    const WORDS: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
                         and must start and end with an alphanumeric character";
    let mut complaints = too_long(value, SUBDOMAIN_MAX);
    if !is_subdomain(value) {
        complaints.push(regex_error(WORDS, SUBDOMAIN, &["example.com"]));
    }
    complaints
}

pub fn dns_1035_label(value: &str) -> Vec<String> {
    const WORDS: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                         alphabetic character, and end with an alphanumeric character";
    let mut complaints = too_long(value, LABEL_MAX);
    if !(is_label(value) && value.starts_with(|c: char| c.is_ascii_lowercase())) {
        complaints.push(regex_error(WORDS, DNS_1035, &["my-name", "abc-123"]));
    }
    complaints
}

pub fn wildcard_dns_1123_subdomain(value: &str) -> Vec<String> {
    const WORDS: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which \
                         must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric \
                         character";
    let mut complaints = too_long(value, SUBDOMAIN_MAX);
    if !value.strip_prefix("*.").is_some_and(is_subdomain) {
        complaints.push(regex_error(WORDS, WILDCARD, &["*.example.com"]));
    }
    complaints
}

/// `example.com/name`: label keys, annotation keys, finalizers, resource names.
pub fn qualified_name(value: &str) -> Vec<String> {
    const WORDS: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                         alphanumeric character";
    const EXAMPLES: &[&str] = &["MyName", "my.name", "123-abc"];
    let mut complaints = Vec::new();
    let name = match value.split('/').collect::<Vec<_>>()[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                complaints.push("prefix part must be non-empty".to_owned());
            } else {
                complaints.extend(dns_1123_subdomain(prefix).into_iter().map(|c| format!("prefix part {c}")));
            }
            name
        }
        _ => {
            let words = regex_error(&format!("a qualified name {WORDS}"), QUALIFIED, EXAMPLES);
            let suffix = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("{words}{suffix}")];
        }
    };
    if name.is_empty() {
        complaints.push("name part must be non-empty".to_owned());
    } else if name.len() > QUALIFIED_NAME_MAX {
        complaints.push(format!("name part {}", max_length_error(QUALIFIED_NAME_MAX)));
    }
    if !is_name_part(name) {
        complaints.push(regex_error(&format!("name part {WORDS}"), QUALIFIED, EXAMPLES));
    }
    complaints
}

pub fn label_value(value: &str) -> Vec<String> {
    const WORDS: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
                         and must start and end with an alphanumeric character";
    let mut complaints = too_long(value, LABEL_MAX);
    if !value.is_empty() && !is_name_part(value) {
        complaints.push(regex_error(WORDS, LABEL_VALUE, &["MyValue", "my_value", "12345"]));
    }
    complaints
}

pub fn c_identifier(value: &str) -> Vec<String> {
    const WORDS: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of \
                         alphanumeric characters or '_'";
    let starts = value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Vec::new();
    }
    vec![regex_error(WORDS, "[A-Za-z_][A-Za-z0-9_]*", &["my_name", "MY_NAME", "MyName"])]
}

/// Names of environment variables: anything printable but `=`.
pub fn env_var_name(value: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if value.is_empty() {
        complaints.push("environment variable name must be non-empty".to_owned());
    }
    if value.chars().any(|c| !(' '..='~').contains(&c) || c == '=') {
        complaints.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        );
    }
    complaints
}

/// Keys of ConfigMaps and Secrets, which become file names.
pub fn config_map_key(value: &str) -> Vec<String> {
    const WORDS: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
    let mut complaints = too_long(value, SUBDOMAIN_MAX);
    if value.is_empty() || !value.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) {
        complaints.push(regex_error(WORDS, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    match value {
        "." | ".." => complaints.push(format!("must not be '{value}'")),
        _ if value.starts_with("..") => complaints.push("must not start with '..'".to_owned()),
        _ => {}
    }
    complaints
}

/// Names of container ports (`IANA_SVC_NAME`).
pub fn port_name(value: &str) -> Vec<String> {
    let mut complaints = too_long(value, PORT_NAME_MAX);
    if value.is_empty() || !value.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        complaints.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !value.chars().any(|c| c.is_ascii_lowercase()) {
        complaints.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        complaints.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        complaints.push("must not begin or end with a hyphen".to_owned());
    }
    complaints
}

pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) { Vec::new() } else { vec!["must be between 1 and 65535, inclusive".to_owned()] }
}

pub fn http_header_name(value: &str) -> Vec<String> {
    const WORDS: &str = "a valid HTTP header must consist of alphanumeric characters or '-'";
    if !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Vec::new();
    }
    vec![regex_error(WORDS, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

pub fn percent(value: &str) -> Vec<String> {
    const WORDS: &str = "a valid percent string must be a numeric string followed by an ending '%'";
    let digits = value.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Vec::new();
    }
    vec![regex_error(WORDS, "[0-9]+%", &["1%", "93%"])]
}

pub fn path_segment(name: &str, prefix: bool) -> Vec<String> {
    if !prefix && (name == "." || name == "..") {
        return vec![format!("may not be '{name}'")];
    }
    let illegal = ["/", "%"].into_iter().filter(|c| name.contains(c));
    illegal.map(|c| format!("may not contain '{c}'")).collect()
}

/// `base` and five characters chosen by `seed`; the same seed makes the same name.
pub fn generate(base: &str, seed: u64) -> String {
    let mut name: String = base.chars().take(GENERATED_BASE_MAX).collect();
    name.push_str(&random_suffix(GENERATED_SUFFIX, seed));
    name
}

/// `length` characters of the alphabet of generated names.
pub fn random_suffix(length: usize, seed: u64) -> String {
    let mut state = seed;
    let pick = |_| {
        // splitmix64: every seed, also a small one, spreads over the whole alphabet.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let at = usize::try_from(z % GENERATED_ALPHABET.len() as u64).expect("below 27");
        char::from(GENERATED_ALPHABET[at])
    };
    (0..length).map(pick).collect()
}

/// Encodes a hash in the alphabet of generated names, as pod-template-hash labels are.
pub fn safe_encode(text: &str) -> String {
    text.bytes().map(|b| char::from(GENERATED_ALPHABET[usize::from(b) % GENERATED_ALPHABET.len()])).collect()
}

pub fn max_length_error(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

pub fn regex_error(words: &str, regex: &str, examples: &[&str]) -> String {
    let mut text = format!("{words} (");
    for (i, example) in examples.iter().enumerate() {
        text.push_str(if i == 0 { "e.g. " } else { " or " });
        let _ = write!(text, "'{example}', ");
    }
    let _ = write!(text, "regex used for validation is '{regex}')");
    text
}

fn too_long(value: &str, max: usize) -> Vec<String> {
    if value.len() > max { vec![max_length_error(max)] } else { Vec::new() }
}

fn is_label(value: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    value.starts_with(alphanumeric)
        && value.ends_with(alphanumeric)
        && value.chars().all(|c| alphanumeric(c) || c == '-')
}

fn is_subdomain(value: &str) -> bool {
    value.split('.').all(is_label)
}

fn is_name_part(value: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_alphanumeric();
    value.starts_with(alphanumeric)
        && value.ends_with(alphanumeric)
        && value.chars().all(|c| alphanumeric(c) || "-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBDOMAIN_ERROR: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
         '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for \
         validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

    fn check(rule: fn(&str) -> Vec<String>, good: &[&str], bad: &[&str]) {
        for name in good {
            assert_eq!(rule(name), Vec::<String>::new(), "{name} is good");
        }
        for name in bad {
            assert_ne!(rule(name), Vec::<String>::new(), "{name} is bad");
        }
    }

    #[test]
    fn what_fits_and_what_does_not() {
        let long = "a".repeat(64);
        check(dns_1123_label, &["a", "a-1", "1a"], &["", "A", "a.b", "-a", "a-", &long, "ä"]);
        check(dns_1123_subdomain, &["a", "a.b", "1.2", &long], &["", ".", "a..b", "A", "a_b"]);
        check(dns_1035_label, &["a", "a-1"], &["", "1a", "a.b", "a-"]);
        check(wildcard_dns_1123_subdomain, &["*.a.b"], &["*", "a.b", "*.", "*a"]);
        check(qualified_name, &["a", "A_b.c", "x.y/Z"], &["", "/a", "a/", "a/b/c", "X/a", "-a", &long]);
        check(label_value, &["", "a", "A-b_c.1"], &["-", "a-", "a b", &long]);
        check(c_identifier, &["a", "_", "A1"], &["", "1", "a-b"]);
        check(env_var_name, &["a", "a.b", "1 a"], &["", "a=b", "ä", "\t"]);
        check(config_map_key, &["a.b", "_", "...a".trim_start_matches("..")], &["", ".", "..", "..a", "a/b"]);
        check(port_name, &["http", "a-1", "1a"], &["", "1", "a--b", "-a", "a-", "A", "sixteen-letters-"]);
        check(http_header_name, &["X-A"], &["", "a b"]);
        check(percent, &["1%", "100%"], &["", "%", "1", "-1%"]);
    }

    #[test]
    fn wording() {
        assert_eq!(dns_1123_subdomain("A"), [SUBDOMAIN_ERROR]);
        assert_eq!(
            dns_1123_label("A"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
              end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
              '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert_eq!(
            qualified_name("a/b/c"),
            [
                "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
              alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
              '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. \
              'example.com/MyName')"
            ]
        );
        assert_eq!(qualified_name("/a"), ["prefix part must be non-empty"]);
    }

    #[test]
    fn a_prefix_may_end_in_a_dash() {
        assert!(NameRule::Subdomain.check("web-", true).is_empty());
        assert!(!NameRule::Subdomain.check("web-", false).is_empty());
        assert!(!NameRule::Subdomain.check("-", true).is_empty());
        assert!(!NameRule::Subdomain.check("ä-", true).is_empty());
        assert!(NameRule::PathSegment.check("system:node", false).is_empty());
        assert_eq!(NameRule::PathSegment.check("a/b", false), ["may not contain '/'"]);
        assert_eq!(NameRule::PathSegment.check("..", false), ["may not be '..'"]);
    }

    #[test]
    fn generated_names_are_repeatable_valid_and_fit_a_label() {
        let name = generate("web-", 7);
        assert_eq!(name, generate("web-", 7));
        assert_ne!(name, generate("web-", 8));
        assert_eq!(name.len(), 9);
        assert!(dns_1123_label(&name).is_empty());
        assert_eq!(generate(&"a".repeat(100), 1).len(), LABEL_MAX);
    }
}
