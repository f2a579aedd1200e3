//! Flags from the environment, as etcd takes them: `ETCD_DATA_DIR` is `--data-dir`, and what is on the command line
//! counts more. `etcdctl member add` prints the settings of the new member in this form. There a flag may begin with a single
//! dash, as in all of Go's programs.

use std::ffi::{OsStr, OsString};

use clap::CommandFactory;

use super::Flags;

const PREFIX: &str = "ETCD_";
/// Of the program, not of the store.
const OTHERS: [&str; 2] = ["help", "version"];

/// The command line with what the environment adds to it, and the names of the variables that were used.
pub fn with_environment(
    line: impl IntoIterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> (Vec<OsString>, Vec<String>) {
    let mut line: Vec<OsString> = line.into_iter().collect();
    let mut used = Vec::new();
    let command = Flags::command();
    let known = || command.get_arguments().filter_map(|argument| argument.get_long());
    for word in &mut line {
        if known().any(|flag| gives(word, "-", flag)) {
            *word = [OsStr::new("-"), word].into_iter().collect();
        }
    }
    for flag in known().filter(|flag| !OTHERS.contains(flag)) {
        let name = format!("{PREFIX}{}", flag.to_uppercase().replace('-', "_"));
        let Some(value) = variable(&name).filter(|_| !line.iter().any(|word| gives(word, "--", flag))) else {
            continue;
        };
        let mut word = OsString::from(format!("--{flag}="));
        word.push(value);
        // Before a subcommand.
        line.insert(1.min(line.len()), word);
        used.push(name);
    }
    (line, used)
}

fn gives(word: &OsStr, dashes: &str, flag: &str) -> bool {
    let rest = word.to_str().and_then(|word| word.strip_prefix(dashes)?.strip_prefix(flag));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn the_environment_adds_what_the_command_line_leaves_out() {
        let environment = |name: &str| match name {
            "ETCD_NAME" => Some("d".into()),
            "ETCD_INITIAL_CLUSTER" => Some("d=http://127.0.0.1:2380,a=http://127.0.0.1:12380".into()),
            "ETCD_INITIAL_CLUSTER_STATE" => Some("existing".into()),
            "ETCD_CLIENT_CERT_AUTH" => Some("1".into()),
            "ETCD_HELP" | "ETCD_UNKNOWN" => Some("x".into()),
            _ => None,
        };
        let line =
            ["kube-store", "-name=e", "-data-dir", "d", "--v=2", "-v", "1", "restore", "file"].map(OsString::from);
        let (line, mut used) = with_environment(line, environment);
        used.sort();
        assert_eq!(used, ["ETCD_CLIENT_CERT_AUTH", "ETCD_INITIAL_CLUSTER", "ETCD_INITIAL_CLUSTER_STATE"]);
        let flags = Flags::try_parse_from(line).expect("known flags");
        let settings = flags.settings;
        assert_eq!((settings.name.as_str(), settings.initial_cluster_state.as_str()), ("e", "existing"));
        assert!(settings.client_cert_auth && settings.initial_cluster.contains("12380") && flags.command.is_some());
    }
}
