//! The configuration file, read as etcd reads its own: what is empty is not set, and durations are numbers of nanoseconds. Go's
//! form of a duration is taken as well.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};
use clap::{Arg, CommandFactory as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::environment::names;
use super::{Flags, Settings, foreign};

const CLIENTS: &str = "client-transport-security";
const PEERS: &str = "peer-transport-security";
/// What has a default other than nothing, and has it, too, when it is said to be nothing.
const DEFAULT_IF_EMPTY: &[&str] = &["auth-token", "initial-cluster-state", "metrics"];

pub fn read(path: &Path) -> Result<Settings> {
    let text = std::fs::read_to_string(path)?;
    let mut settings: Settings = daemon::config::yaml(&without_nothing(&text))?;
    if let Some(tls) = settings.client_transport_security.take() {
        let tls = tls.check(CLIENTS)?;
        // Who believes that it narrows down who may connect must not be left in that belief.
        ensure!(tls.allowed_cn.is_none(), "{CLIENTS}: allowed-cn is for members only");
        settings.cert_file = tls.cert_file;
        settings.key_file = tls.key_file;
        settings.trusted_ca_file = tls.trusted_ca_file;
        settings.client_cert_auth = tls.client_cert_auth.unwrap_or_default();
    }
    if let Some(tls) = settings.peer_transport_security.take() {
        let tls = tls.check(PEERS)?;
        settings.peer_cert_file = tls.cert_file;
        settings.peer_key_file = tls.key_file;
        settings.peer_trusted_ca_file = tls.trusted_ca_file;
        settings.peer_client_cert_auth = tls.client_cert_auth.unwrap_or_default();
        settings.peer_cert_allowed_cn = tls.allowed_cn;
    }
    Ok(settings)
}

/// The text without the keys that are not set, which keep their defaults, and those that ask for nothing. In YAML their lines
/// stay, empty: what is wrong with others is found where they are.
fn without_nothing(text: &str) -> String {
    // What is wrong with a file that cannot be read so is said by who reads it for good.
    let Ok(mut keys) = daemon::config::yaml::<BTreeMap<String, Value>>(text) else { return text.to_owned() };
    let command = Flags::command();
    let asks = |key: &String, value: &mut Value| !asks_for_nothing(command.get_arguments(), key, value);
    if text.trim_start().starts_with('{') {
        keys.retain(asks);
        return serde_json::to_string(&keys).unwrap_or_else(|_| text.to_owned());
    }
    let (kept, blank): (BTreeMap<String, Value>, BTreeMap<String, Value>) =
        keys.into_iter().partition(|(key, value)| asks(key, &mut value.clone()));
    let key_of = |line: &str| line.split_once(':').map(|(key, _)| key.trim_end().trim_matches(['"', '\'']).to_owned());
    let lines = text.split('\n').map(|line| match key_of(line) {
        Some(key) if blank.contains_key(&key) => "",
        _ => line,
    });
    let lines = lines.collect::<Vec<_>>().join("\n");
    // A value on lines of its own would go to the key before it.
    match daemon::config::yaml::<BTreeMap<String, Value>>(&lines) {
        Ok(read) if read == kept => lines,
        _ => serde_json::to_string(&kept).unwrap_or(lines),
    }
}

fn asks_for_nothing<'a>(mut arguments: impl Iterator<Item = &'a Arg>, key: &str, value: &Value) -> bool {
    let argument = arguments.find(|argument| names(argument).contains(&key));
    match value {
        Value::Null => argument.is_some() || [CLIENTS, PEERS].contains(&key) || foreign::is_known(key),
        Value::String(value) => {
            let has_default =
                |argument: &Arg| !argument.get_default_values().is_empty() && !DEFAULT_IF_EMPTY.contains(&key);
            let unset = value.is_empty() && argument.is_some_and(|argument| !has_default(argument));
            unset || foreign::asks_for_nothing(key, value)
        }
        Value::Bool(_) | Value::Number(_) => foreign::asks_for_nothing(key, &value.to_string()),
        Value::Array(_) | Value::Object(_) => false,
    }
}

/// A list, or its elements separated by commas.
pub fn list<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum List {
        Text(String),
        Elements(Vec<String>),
    }
    Ok(match List::deserialize(from)? {
        List::Text(text) => text,
        List::Elements(elements) => elements.join(","),
    })
}

pub fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Duration {
        Nanoseconds(u64),
        Text(String),
    }
    Ok(match Duration::deserialize(from)? {
        Duration::Nanoseconds(count) => format!("{count}ns"),
        Duration::Text(text) => text,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use daemon::telemetry::Output;

    use super::*;
    use crate::config::{Compaction, Config};

    fn said(text: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("writable");
        let path = file.path().to_str().expect("ascii");
        let flags = Flags::try_parse_from(["kube-store", "--config-file", path]).expect("known flags");
        flags.validate().map_err(|error| format!("{error:#}"))
    }

    /// As etcd's own example has it, but for what is asked for there.
    #[test]
    fn keys_without_a_value_and_keys_that_ask_for_nothing() {
        let keys = "name: one\ndata-dir: d\nwal-dir:\ncors:\ndiscovery:\ndiscovery-fallback: 'proxy'\n\
            initial-cluster:\nproxy: 'off'\nproxy-failure-wait: 5000\nproxy-read-timeout: 0\nenable-v2: false\n\
            client-transport-security:\n  cert-file:\n  client-cert-auth:\n  auto-tls: false\n\
            peer-transport-security:\ndebug: # as it is\n'logger':\nlog-package-levels:\nlog-outputs: []\n\
            auto-compaction-mode: periodic\nauto-compaction-retention:\nforce-new-cluster: false\n\
            experimental-watch-progress-notify-interval:\n";
        let config = said(keys).expect("it asks for nothing that there is not");
        assert_eq!((config.name.as_str(), config.log_output), ("one", Output::Stderr));
        for (wrong, why) in [
            ("nmae:\n", "nmae"),
            ("proxy: on\n", "proxy"),
            ("client-transport-security:\n  auto-tls: true\n", "auto-tls"),
            ("client-transport-security:\n  allowed-cn: ann\n", "allowed-cn is for members only"),
            ("cors:\nsnapshot-count: many\n", "line 2"),
        ] {
            let error = said(wrong).expect_err(wrong);
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }

    #[test]
    fn what_is_empty_is_not_set() {
        let tls = "cert-file: '', key-file: \"\", trusted-ca-file: '', allowed-cn: ''";
        let config = said(&format!(
            "data-dir: d\nwal-dir: ''\nauto-compaction-mode: ''\nauto-compaction-retention: 1\n\
            client-transport-security: {{{tls}}}\npeer-transport-security: {{{tls}}}\n"
        ));
        let config = config.expect("nothing is set");
        assert!(config.tls.is_none() && config.peer_tls.is_none() && config.wal_dir.ends_with("d/member/wal"));
        let hour = std::time::Duration::from_secs(3_600);
        assert_eq!(config.compaction, Compaction::Periodic(hour));
    }

    #[test]
    fn values_on_lines_of_their_own() {
        let config =
            said("name: one\ndata-dir: d\nproxy:\n  'off'\ncors : ''\nauth-token: ''\ninitial-cluster-state: ''\n");
        let config = config.expect("it asks for nothing that there is not");
        assert_eq!((config.name.as_str(), config.wal_dir.starts_with("d/")), ("one", true));
        let config =
            said("name: 'one'\nauto-compaction-mode: revision\nproxy:\n  'off'\nquota-backend-bytes: 20000000\n");
        assert_eq!(config.expect("nor does this").quota_bytes, 20_000_000);
    }

    #[test]
    fn durations_are_numbers_of_nanoseconds() {
        let keys = "experimental-watch-progress-notify-interval: 5000000000\ngrpc-keepalive-interval: 30s\n\
            grpc-keepalive-timeout: 20000000000\n";
        let config = said(keys).expect("durations");
        let seconds = std::time::Duration::from_secs;
        assert_eq!((config.progress_interval, config.tuning.keepalive_timeout), (seconds(5), seconds(20)));
        assert_eq!(config.tuning.keepalive_interval, Some(seconds(30)));
    }

    #[test]
    fn json_is_yaml() {
        let config = said("{\"name\": \"one\", \"cors\": \"\", \"wal-dir\": null, \"proxy\": \"off\"}").expect("valid");
        assert_eq!(config.name, "one");
    }
}
