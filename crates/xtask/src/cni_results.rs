//! The results that containerd's CNI library keeps of every pod's network, in one directory of the host for all
//! containerds on it. They go with the pod; those of pods that ran to the end of the cluster have to be found. A result
//! names the pod's network namespace, and that lies below the cluster's directory.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

/// Compiled into containerd.
pub const DIRECTORY: &str = "/var/lib/cni/results";

#[derive(Deserialize)]
struct Cached {
    #[serde(default)]
    result: Outcome,
}

#[derive(Default, Deserialize)]
struct Outcome {
    #[serde(default)]
    interfaces: Vec<Interface>,
}

#[derive(Deserialize)]
struct Interface {
    /// The path of the network namespace; the host's ends of links have none.
    #[serde(default)]
    sandbox: String,
}

/// Removes the results of the pods whose namespaces were below `owner`.
pub fn remove(results: &Path, owner: &Path) -> anyhow::Result<()> {
    let entries = match fs::read_dir(results) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", results.display())),
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        // Another cluster's may go while we look.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if is_of(&text, owner) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn is_of(result: &str, owner: &Path) -> bool {
    let Ok(cached) = serde_json::from_str::<Cached>(result) else { return false };
    cached.result.interfaces.iter().any(|interface| Path::new(&interface.sandbox).starts_with(owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(namespace: &str) -> String {
        let interfaces = format!(r#"[{{"name": "cni0"}}, {{"name": "eth0", "sandbox": "{namespace}"}}]"#);
        format!(r#"{{"kind": "cniCacheV1", "containerId": "0a", "result": {{"interfaces": {interfaces}}}}}"#)
    }

    fn check(text: &str, expected: bool) {
        assert_eq!(is_of(text, Path::new("/data/one")), expected, "{text}");
    }

    #[test]
    fn a_result_belongs_to_the_cluster_its_namespace_is_in() {
        check(&result("/data/one/nodes/node-1/containerd/state/netns/cni-1"), true);
        check(&result("/data/one-more/nodes/node-1/containerd/state/netns/cni-1"), false);
        check(&result("/run/netns/cni-1"), false);
        check(r#"{"kind": "cniCacheV1", "result": {}}"#, false);
        check("half a fi", false);
    }

    #[test]
    fn others_results_stay() -> anyhow::Result<()> {
        let results = tempfile::tempdir()?;
        fs::write(results.path().join("net-0a-eth0"), result("/data/one/netns/cni-1"))?;
        fs::write(results.path().join("net-0b-eth0"), result("/data/two/netns/cni-2"))?;
        remove(results.path(), Path::new("/data/one"))?;
        let left: Vec<_> = fs::read_dir(results.path())?.flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["net-0b-eth0"]);
        remove(&results.path().join("absent"), Path::new("/data/one"))
    }
}
