//! Flags from the environment, as etcd takes them: `ETCD_DATA_DIR` is `--data-dir`, and what is on the command line
//! counts more. `etcdctl member add` prints the settings of the new member in this form. There a flag may begin with a single
//! dash, as in all of Go's programs.

use std::ffi::{OsStr, OsString};

use clap::{Arg, CommandFactory};

use super::{Flags, foreign};

pub(super) const PREFIX: &str = "ETCD_";
/// Of the program, not of the store.
const OTHERS: [&str; 2] = ["help", "version"];

/// The command line with what the environment adds to it, and the names of the variables that were used.
pub fn with_environment(
    line: impl IntoIterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> (Vec<OsString>, Vec<String>) {
    let mut line = foreign::strip(line.into_iter().collect());
    let mut used = Vec::new();
    let command = Flags::command();
    let known = || command.get_arguments().flat_map(names);
    line.retain(|word| !command.get_arguments().any(|argument| unsets(word, argument)));
    for word in &mut line {
        if known().any(|flag| gives(word, "-", flag)) {
            *word = [OsStr::new("-"), word].into_iter().collect();
        }
    }
    for flag in known().filter(|flag| !OTHERS.contains(flag)) {
        let name = foreign::variable_of(flag);
        let given = line.iter().any(|word| gives(word, "--", flag));
        let Some(value) = variable(&name).filter(|value| !given && !value.is_empty()) else { continue };
        let mut word = OsString::from(format!("--{flag}="));
        word.push(value);
        // Before a subcommand.
        line.insert(1.min(line.len()), word);
        used.push(name);
    }
    (line, used)
}

/// Variables that look like etcd's and are none of it, nor of kube-store. Kubernetes sets some of its own in every container.
pub fn unrecognized(variables: impl Iterator<Item = String>) -> Vec<String> {
    let command = Flags::command();
    let known: Vec<String> = command.get_arguments().flat_map(names).map(foreign::variable_of).collect();
    let mut unknown: Vec<String> = variables.filter(|name| name.starts_with(PREFIX)).collect();
    unknown.retain(|name| !known.contains(name) && !foreign::is_variable(name));
    unknown.sort();
    unknown
}

pub(super) fn names(argument: &Arg) -> Vec<&str> {
    argument.get_long().into_iter().chain(argument.get_all_aliases().into_iter().flatten()).collect()
}

/// A setting that has no default is unset by giving it nothing.
fn unsets(word: &OsStr, argument: &Arg) -> bool {
    let flag = word.to_str().and_then(|word| word.strip_suffix('=')).map(|flag| flag.trim_start_matches('-'));
    let has_value = argument.get_action().takes_values() && argument.get_default_values().is_empty();
    has_value && flag.is_some_and(|flag| names(argument).contains(&flag))
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
            "ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL" => Some("5s".into()),
            "ETCD_CERT_FILE" | "ETCD_SNAPSHOT_COUNT" => Some("".into()),
            "ETCD_HELP" | "ETCD_UNKNOWN" => Some("x".into()),
            _ => None,
        };
        let line = ["kube-store", "-name=e", "-data-dir", "d", "--v=2", "-v", "1", "--key-file=", "restore", "file"]
            .map(OsString::from);
        let (line, mut used) = with_environment(line, environment);
        used.sort();
        let progress = "ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL";
        let expected = ["ETCD_CLIENT_CERT_AUTH", progress, "ETCD_INITIAL_CLUSTER", "ETCD_INITIAL_CLUSTER_STATE"];
        assert_eq!(used, expected);
        let flags = Flags::try_parse_from(line).expect("known flags");
        let settings = flags.settings;
        assert_eq!((settings.name.as_str(), settings.initial_cluster_state.as_str()), ("e", "existing"));
        assert_eq!((settings.watch_progress_notify_interval.as_str(), settings.key_file), ("5s", None));
        assert!(settings.client_cert_auth && settings.initial_cluster.contains("12380") && flags.command.is_some());
    }

    #[test]
    fn what_etcd_would_not_know_either_is_named() {
        let variables = ["PATH", "ETCD_NAME", "ETCD_PROXY", "ETCD_SERVICE_HOST", "ETCD_NMAE"].map(str::to_owned);
        assert_eq!(unrecognized(variables.into_iter()), ["ETCD_NMAE", "ETCD_SERVICE_HOST"]);
    }
}
