//! What etcd's configurations have and what asks for nothing here: taken as long as it asks for no more.

use std::ffi::OsString;

use anyhow::{Result, bail, ensure};
use daemon::telemetry::Output;

use super::environment::PREFIX;
use super::{Settings, split};

const LOGGERS: [&str; 2] = ["zap", "capnslog"];
const NO: &[&str] = &["false", "0", "f", "F", "FALSE", "False"];
const YES: &[&str] = &["true", "1", "t", "T", "TRUE", "True"];
const NOTHING: &[&str] = &[""];
const ANY: &[&str] = &[];
/// Flags of etcd's that are none here, and with which values they ask for nothing; none are named where it is any.
const FOREIGN: [(&str, &[&str]); 45] = [
    ("auto-tls", NO),
    ("backend-batch-interval", ANY),
    ("backend-batch-limit", ANY),
    ("client-cert-allowed-hostname", NOTHING),
    ("cors", &["", "*"]),
    ("discovery", NOTHING),
    ("discovery-fallback", ANY),
    ("discovery-proxy", NOTHING),
    ("discovery-srv", NOTHING),
    ("discovery-srv-name", NOTHING),
    ("enable-grpc-gateway", NO),
    ("enable-log-rotation", NO),
    ("experimental-backend-bbolt-freelist-type", ANY),
    ("experimental-bootstrap-defrag-threshold-megabytes", &["0"]),
    ("experimental-compaction-batch-limit", ANY),
    ("experimental-corrupt-check-time", &["0", "0s"]),
    ("experimental-downgrade-check-time", ANY),
    ("experimental-enable-distributed-tracing", NO),
    ("experimental-enable-lease-checkpoint", NO),
    ("experimental-enable-v2v3", NOTHING),
    ("experimental-memory-mlock", NO),
    ("experimental-peer-skip-client-san-verification", NO),
    ("experimental-txn-mode-write-with-shared-buffer", ANY),
    ("experimental-warning-apply-duration", ANY),
    ("experimental-warning-unary-request-duration", ANY),
    ("grpc-keepalive-min-time", &["5s", "5000000000"]),
    ("host-whitelist", &["", "*"]),
    ("initial-election-tick-advance", YES),
    ("log-package-levels", NOTHING),
    ("log-rotation-config-json", ANY),
    ("metrics", &["basic"]),
    ("peer-auto-tls", NO),
    ("peer-cert-allowed-hostname", NOTHING),
    ("proxy", &["off", "false"]),
    ("proxy-dial-timeout", ANY),
    ("proxy-failure-wait", ANY),
    ("proxy-read-timeout", ANY),
    ("proxy-refresh-interval", ANY),
    ("proxy-write-timeout", ANY),
    ("self-signed-cert-validity", ANY),
    ("socket-reuse-address", NO),
    ("socket-reuse-port", NO),
    ("unsafe-no-fsync", NO),
    ("v2-deprecation", ANY),
    ("warning-unary-request-duration", ANY),
];
pub(super) fn is_known(name: &str) -> bool {
    FOREIGN.iter().any(|(flag, _)| *flag == name)
}

pub(super) fn asks_for_nothing(name: &str, value: &str) -> bool {
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
                // Alone it says yes.
                given.is_some() || FOREIGN.contains(&(name, YES))
            }
            None => false,
        };
        if !nothing {
            kept.push(word);
        }
    }
    kept
}

/// What etcd would be asked for by the environment, and cannot be had here, is not passed over in silence: who may connect, or
/// which cluster is joined, could be another.
pub fn check_environment(variable: impl Fn(&str) -> Option<OsString>) -> Result<()> {
    for (flag, _) in FOREIGN {
        let name = variable_of(flag);
        let value = variable(&name).unwrap_or_default();
        let value = value.to_string_lossy();
        ensure!(value.is_empty() || asks_for_nothing(flag, &value), "{name}={value}: there is no --{flag} here");
    }
    Ok(())
}

pub(super) fn is_variable(name: &str) -> bool {
    FOREIGN.iter().any(|(flag, _)| variable_of(flag) == name)
}

pub(super) fn variable_of(flag: &str) -> String {
    format!("{PREFIX}{}", flag.to_uppercase().replace('-', "_"))
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
                "stdout" | "/dev/stdout" => stdout = true,
                "stderr" | "/dev/stderr" | "default" => stderr = true,
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
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::config::environment::names;
    use crate::config::{Config, Flags, with_environment};

    fn said(flags: &[&str]) -> Result<Config, String> {
        let line = ["kube-store", "--data-dir", "d"].iter().chain(flags).map(OsString::from);
        let (line, _) = with_environment(line, |_| None);
        let validated = Flags::try_parse_from(line).map_err(|e| e.to_string())?.validate();
        validated.map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn what_asks_for_nothing_is_taken() {
        let taken: [&[&str]; 17] = [
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
            &["--initial-election-tick-advance", "--name=one"],
            &["--quota-backend-bytes=107374182400", "--log-outputs=/dev/stderr"],
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

    #[test]
    fn none_of_them_is_known_here() {
        let command = Flags::command();
        for (flag, _) in FOREIGN {
            assert!(command.get_arguments().all(|known| !names(known).contains(&flag)), "{flag}");
        }
    }

    #[test]
    fn what_cannot_be_had_is_not_passed_over_in_the_environment() {
        let check = |name: &'static str, value: &'static str| {
            check_environment(|asked| (asked == name).then(|| value.into())).map_err(|error| error.to_string())
        };
        for (name, value) in [("ETCD_PROXY", "off"), ("ETCD_CORS", ""), ("ETCD_PORT", "tcp://10.0.0.1:2379")] {
            assert_eq!(check(name, value), Ok(()), "{name}");
        }
        for (name, value) in [
            ("ETCD_CLIENT_CERT_ALLOWED_HOSTNAME", "good.example"),
            ("ETCD_DISCOVERY_SRV", "example.org"),
            ("ETCD_UNSAFE_NO_FSYNC", "true"),
        ] {
            let why = check(name, value).expect_err(name);
            assert!(why.starts_with(&format!("{name}={value}: there is no --")), "{why}");
        }
    }
}
