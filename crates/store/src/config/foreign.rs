//! What etcd's configurations have and what asks for nothing here: taken as long as it asks for no more.

use std::collections::BTreeMap;
use std::ffi::OsString;

use anyhow::{Result, bail, ensure};
use clap::CommandFactory as _;
use daemon::telemetry::Output;
use serde_json::Value;

use super::{Flags, Settings, split};

const LOGGERS: [&str; 2] = ["zap", "capnslog"];
const NO: &[&str] = &["false", "0", "f", "F", "FALSE", "False"];
const YES: &[&str] = &["true", "1", "t", "T", "TRUE", "True"];
const NOTHING: &[&str] = &[""];
/// Flags of etcd's that are none here, and with which values they ask for nothing; none are named where it is any.
const FOREIGN: [(&str, &[&str]); 32] = [
    ("auto-tls", NO),
    ("backend-batch-interval", &[]),
    ("backend-batch-limit", &[]),
    ("cors", &["", "*"]),
    ("discovery", NOTHING),
    ("discovery-fallback", &[]),
    ("discovery-proxy", NOTHING),
    ("discovery-srv", NOTHING),
    ("discovery-srv-name", NOTHING),
    ("enable-grpc-gateway", NO),
    ("experimental-backend-bbolt-freelist-type", &[]),
    ("experimental-compaction-batch-limit", &[]),
    ("experimental-corrupt-check-time", &["0", "0s"]),
    ("experimental-enable-lease-checkpoint", NO),
    ("experimental-enable-v2v3", NOTHING),
    ("experimental-peer-skip-client-san-verification", NO),
    ("experimental-warning-apply-duration", &[]),
    ("host-whitelist", &["", "*"]),
    ("initial-election-tick-advance", YES),
    ("log-package-levels", NOTHING),
    ("log-rotation-config-json", &[]),
    ("enable-log-rotation", NO),
    ("metrics", &["basic"]),
    ("peer-auto-tls", NO),
    ("proxy", &["off", "false"]),
    ("proxy-dial-timeout", &[]),
    ("proxy-failure-wait", &[]),
    ("proxy-read-timeout", &[]),
    ("proxy-refresh-interval", &[]),
    ("proxy-write-timeout", &[]),
    ("self-signed-cert-validity", &[]),
    ("unsafe-no-fsync", NO),
];
/// Sections of the file.
const SECTIONS: [&str; 2] = ["client-transport-security", "peer-transport-security"];

fn asks_for_nothing(name: &str, value: &str) -> bool {
    let known = FOREIGN.iter().find(|(flag, _)| *flag == name);
    known.is_some_and(|(_, values)| values.is_empty() || values.contains(&value))
}

/// A command line without what asks for nothing on it.
pub(super) fn strip(line: Vec<OsString>) -> Vec<OsString> {
    let mut kept = Vec::with_capacity(line.len());
    let mut words = line.into_iter().peekable();
    while let Some(word) = words.next() {
        let flag = word.to_str().and_then(|word| word.strip_prefix("--").or_else(|| word.strip_prefix('-')));
        let nothing = match flag.map(|flag| flag.split_once('=').ok_or(flag)) {
            Some(Ok((name, value))) => asks_for_nothing(name, value),
            Some(Err(name)) => {
                let given = words.next_if(|value| value.to_str().is_some_and(|value| asks_for_nothing(name, value)));
                given.is_some()
            }
            None => false,
        };
        if !nothing {
            kept.push(word);
        }
    }
    kept
}

/// A configuration file without the keys that have no value, which keep their defaults, and without those that ask for
/// nothing. Their lines stay, empty: what is wrong with others is found where they are.
pub(super) fn blank(text: &str) -> String {
    // What is wrong with a file that cannot be read so is said by who reads it for good.
    let Ok(keys) = daemon::config::yaml::<BTreeMap<String, Value>>(text) else { return text.to_owned() };
    let command = Flags::command();
    let is_known = |key: &str| {
        SECTIONS.contains(&key)
            || FOREIGN.iter().any(|(flag, _)| *flag == key)
            || command.get_arguments().any(|argument| argument.get_long() == Some(key))
    };
    let is_blank = |(key, value): &(String, Value)| match value {
        Value::Null => is_known(key),
        Value::String(value) => asks_for_nothing(key, value),
        Value::Bool(_) | Value::Number(_) => asks_for_nothing(key, &value.to_string()),
        Value::Array(_) | Value::Object(_) => false,
    };
    let blank: Vec<String> = keys.into_iter().filter(is_blank).map(|(key, _)| key).collect();
    let key_of = |line: &str| line.split_once(':').map(|(key, _)| key.trim_matches(['"', '\'']).to_owned());
    let lines = text.split('\n').map(|line| match key_of(line) {
        Some(key) if blank.contains(&key) => "",
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

impl Settings {
    pub(super) fn check_foreign(&self) -> Result<()> {
        let Settings { logger, enable_v2, enable_pprof, .. } = self;
        ensure!(LOGGERS.contains(&logger.as_str()), "--logger={logger} is none of {}", LOGGERS.join(", "));
        ensure!(!enable_v2, "--enable-v2=true: etcd's old API is not served");
        ensure!(!enable_pprof, "--enable-pprof=true: there are no profiles of Go's to serve");
        Ok(())
    }

    pub(super) fn log_output(&self) -> Result<Output> {
        let (mut stdout, mut stderr) = (false, false);
        for output in split(&self.log_outputs) {
            match output {
                "stdout" => stdout = true,
                "stderr" | "default" => stderr = true,
                other => bail!(
                    "--log-outputs={other} is none of default, stderr, stdout: whoever starts kube-store sends these on"
                ),
            }
        }
        Ok(match (stdout, stderr) {
            (true, true) => Output::Both,
            (true, false) => Output::Stdout,
            (false, _) => Output::Stderr,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::{Config, with_environment};

    fn said(flags: &[&str]) -> Result<Config, String> {
        let line = ["kube-store", "--data-dir", "d"].iter().chain(flags).map(OsString::from);
        let (line, _) = with_environment(line, |_| None);
        let validated = Flags::try_parse_from(line).map_err(|e| e.to_string())?.validate();
        validated.map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn what_asks_for_nothing_is_taken() {
        let taken: [&[&str]; 15] = [
            &["--logger=zap"],
            &["--log-outputs=stderr"],
            &["--log-outputs=default,stderr"],
            &["--log-outputs="],
            &["--max-snapshots=0"],
            &["--max-wals=10"],
            &["--enable-v2=false"],
            &["--enable-pprof=false"],
            &["--debug"],
            &["--auto-compaction-retention="],
            &["--proxy=off", "-proxy-failure-wait=1"],
            &["--proxy", "off", "--log-package-levels", ""],
            &["--log-package-levels=", "--unsafe-no-fsync=false"],
            &["--enable-grpc-gateway=false", "--experimental-enable-v2v3="],
            &["--experimental-compaction-batch-limit", "7"],
        ];
        for flags in taken {
            assert!(said(flags).is_ok(), "{flags:?}: {:?}", said(flags));
        }
        let refused = [
            "--logger=log4j",
            "--log-outputs=/var/log/etcd",
            "--enable-v2",
            "--enable-pprof",
            "--proxy=on",
            "--unsafe-no-fsync",
            "--enable-grpc-gateway=true",
            "--cors=http://a",
        ];
        for flag in refused {
            let why = said(&[flag]).expect_err(flag);
            let (name, _) = flag.split_once('=').unwrap_or((flag, ""));
            assert!(why.contains(name), "{flag}: {why}");
        }
    }

    #[test]
    fn the_log_goes_where_it_is_wanted() {
        for (flag, output) in [
            ("--log-outputs=stdout", Output::Stdout),
            ("--log-outputs=stdout,default", Output::Both),
            ("--log-outputs=default", Output::Stderr),
        ] {
            assert_eq!(said(&[flag]).expect(flag).log_output, output);
        }
    }

    /// As etcd's own example has it, but for what is asked for there.
    #[test]
    fn a_file_with_keys_that_ask_for_nothing() {
        let keys = "name: one\ndata-dir: d\nwal-dir:\ncors:\ndiscovery:\ndiscovery-fallback: 'proxy'\n\
            initial-cluster:\nproxy: 'off'\nproxy-failure-wait: 5000\nproxy-read-timeout: 0\nenable-v2: false\n\
            client-transport-security:\n  cert-file:\n  client-cert-auth:\n  auto-tls: false\n\
            peer-transport-security:\ndebug: # as it is\n'logger':\nlog-package-levels:\nlog-outputs: []\n\
            auto-compaction-mode: periodic\nauto-compaction-retention:\nforce-new-cluster: false\n";
        let read = |text: &str| {
            let file = tempfile::NamedTempFile::new().expect("a temporary file");
            std::fs::write(file.path(), text).expect("writable");
            said(&["--config-file", file.path().to_str().expect("ascii")])
        };
        let config = read(keys).expect("it asks for nothing that there is not");
        assert_eq!((config.name.as_str(), config.log_output), ("one", Output::Stderr));
        for (wrong, why) in [
            ("nmae:\n", "nmae"),
            ("proxy: on\n", "proxy"),
            ("client-transport-security:\n  auto-tls: true\n", "auto-tls"),
            ("cors:\nsnapshot-count: many\n", "line 2"),
        ] {
            let error = read(wrong).expect_err(wrong);
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
