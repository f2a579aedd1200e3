//! Flags of etcd that its configurations have and that ask for nothing here: taken as long as they ask for no more.

use anyhow::{Result, ensure};

use super::Settings;

const LOGGERS: [&str; 2] = ["zap", "capnslog"];
const OUTPUTS: [&str; 2] = ["default", "stderr"];

impl Settings {
    pub(super) fn check_foreign(&self) -> Result<()> {
        let Settings { logger, log_outputs, enable_v2, enable_pprof, .. } = self;
        ensure!(LOGGERS.contains(&logger.as_str()), "--logger={logger} is none of {}", LOGGERS.join(", "));
        let known = log_outputs.split(',').all(|output| OUTPUTS.contains(&output.trim()));
        ensure!(
            known,
            "--log-outputs={log_outputs}: the log goes to standard error; start kube-store so that this is there"
        );
        ensure!(!enable_v2, "--enable-v2=true: etcd's old API is not served");
        ensure!(!enable_pprof, "--enable-pprof=true: there are no profiles of Go's to serve");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::config::Flags;

    fn said(flags: &[&str]) -> Result<(), String> {
        let line = ["kube-store", "--data-dir", "d"].iter().chain(flags);
        let validated = Flags::try_parse_from(line).map_err(|e| e.to_string())?.validate();
        validated.map(drop).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn what_asks_for_nothing_is_taken() {
        let taken = [
            "--logger=zap",
            "--log-outputs=stderr",
            "--log-outputs=default,stderr",
            "--max-snapshots=0",
            "--max-wals=10",
            "--enable-v2=false",
            "--enable-pprof=false",
            "--debug",
        ];
        for flag in taken {
            assert_eq!(said(&[flag]), Ok(()), "{flag}");
        }
        for flag in
            ["--logger=log4j", "--log-outputs=stdout", "--log-outputs=/var/log/etcd", "--enable-v2", "--enable-pprof"]
        {
            let why = said(&[flag]).expect_err(flag);
            let (name, _) = flag.split_once('=').unwrap_or((flag, ""));
            assert!(why.starts_with(name), "{flag}: {why}");
        }
    }
}
