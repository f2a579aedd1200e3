//! The name servers of a resolv.conf.

use std::net::IpAddr;

/// As the C library: more are ignored.
const MAX_NAME_SERVERS: usize = 3;

pub fn name_servers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok())?
    };
    text.lines().filter_map(server).take(MAX_NAME_SERVERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_name_servers_count() {
        let text = "# nameserver 1.1.1.1\nsearch a b\nnameserver 10.0.0.1\nnameserver\tfd00::1 # two\nnameserver x\n";
        let expected: Vec<IpAddr> = vec!["10.0.0.1".parse().expect("an IP"), "fd00::1".parse().expect("an IP")];
        assert_eq!(name_servers(text), expected);
    }
}
