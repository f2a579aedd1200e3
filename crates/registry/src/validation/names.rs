//! What a name of each sort must look like: `api::names` under the short names this crate uses, and addresses.

use std::net::IpAddr;

pub use api::names::{
    config_map_key, dns_1035_label as dns1035_label, dns_1123_label as dns_label, dns_1123_subdomain as dns_subdomain,
    env_var_name as env_name, http_header_name as http_header, label_value, port_name, qualified_name,
    wildcard_dns_1123_subdomain as wildcard_subdomain,
};

const IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

pub fn ip(value: &str) -> Vec<String> {
    if value.parse::<IpAddr>().is_ok() { Vec::new() } else { vec![IP.to_owned()] }
}

pub fn cidr(value: &str) -> Vec<String> {
    let fits = value.parse::<ipnet::IpNet>().is_ok();
    if fits { Vec::new() } else { vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned()] }
}
