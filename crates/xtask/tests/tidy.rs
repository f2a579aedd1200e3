//! Rules about the tree that the compiler does not check.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Crates that decide and never do: no runtime, no sockets, no HTTP.
const PURE: [&str; 10] = [
    "api",
    "controllers",
    "mvcc",
    "pki",
    "podsync",
    "protobuf@0.1.0",
    "proxyrules",
    "registry",
    "schema",
    "scheduling",
];
const IMPURE: [&str; 7] = ["tokio", "hyper", "kube-client", "nix", "socket2", "rtnetlink", "tonic"];
/// Longer files are split.
const LINES: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn pure_crates_depend_on_nothing_that_does_io() {
    for krate in PURE {
        let args = ["tree", "--offline", "-p", krate, "-e", "normal", "--prefix", "none", "--format", "{p}"];
        let output = Command::new(env!("CARGO")).args(args).current_dir(root()).output().expect("cargo runs");
        assert!(output.status.success(), "{krate}: {}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(tree.lines().count() > 1, "{krate} depends on something:\n{tree}");
        for name in tree.lines().filter_map(|line| line.split(' ').next()) {
            assert!(!IMPURE.contains(&name), "{krate} is pure, but depends on {name}");
        }
    }
}

#[test]
fn files_are_short() {
    let mut pending = vec![root().join("crates"), root().join("tests")];
    let mut seen = 0;
    while let Some(directory) = pending.pop() {
        for path in std::fs::read_dir(&directory).expect("readable").flatten().map(|e| e.path()) {
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let lines = std::fs::read_to_string(&path).expect("UTF-8").lines().count();
                assert!(lines <= LINES, "{} has {lines} lines", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 100, "the tree was found");
}
