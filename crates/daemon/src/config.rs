//! Configuration files: Kubernetes component configuration in YAML, checked strictly before anything is started.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The parser's message names line, column and field.
    #[error("invalid configuration file {}", path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    #[error("{}: expected apiVersion {expected_version} and kind {expected_kind}, found {found_version} and {found_kind}", path.display())]
    WrongKind {
        path: PathBuf,
        expected_version: &'static str,
        expected_kind: &'static str,
        found_version: String,
        found_kind: String,
    },
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct TypeMeta {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
}

/// Reads a component configuration of one kind. `T` should `deny_unknown_fields` and hold `apiVersion` and `kind`.
pub fn load<T: DeserializeOwned>(path: &Path, api_version: &'static str, kind: &'static str) -> Result<T, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let parse = |source: serde_saphyr::Error| Error::Parse { path: path.to_owned(), source: Box::new(source) };
    let meta: TypeMeta = yaml(&text).map_err(parse)?;
    if meta.api_version != api_version || meta.kind != kind {
        return Err(Error::WrongKind {
            path: path.to_owned(),
            expected_version: api_version,
            expected_kind: kind,
            found_version: meta.api_version,
            found_kind: meta.kind,
        });
    }
    yaml(&text).map_err(parse)
}

/// YAML as Kubernetes reads it: YAML 1.1 booleans and octal numbers, duplicate keys refused.
pub fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, serde_saphyr::Error> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_str_with_options(text, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    #[allow(dead_code)]
    struct Example {
        api_version: String,
        kind: String,
        port: u16,
    }

    fn check(text: &str, expected: Result<u16, &str>) {
        let file = std::env::temp_dir().join(format!("coxswain-config-{}-{}", std::process::id(), text.len()));
        std::fs::write(&file, text).expect("temp dir is writable");
        let loaded = load::<Example>(&file, "x/v1", "Example");
        std::fs::remove_file(&file).expect("written above");
        match (loaded, expected) {
            (Ok(loaded), Ok(port)) => assert_eq!(loaded.port, port),
            (Err(error), Err(words)) => {
                let chain = format!(
                    "{error}: {}",
                    std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
                );
                assert!(chain.contains(words), "{chain}");
                assert!(chain.contains(&file.display().to_string()), "{chain}");
            }
            (loaded, expected) => panic!("{loaded:?} is not {expected:?}"),
        }
    }

    #[test]
    fn strict_and_clear() {
        check("apiVersion: x/v1\nkind: Example\nport: 80\n", Ok(80));
        check("apiVersion: x/v1\nkind: Example\nport: 80\nprot: 1\n", Err("prot"));
        check("apiVersion: x/v1\nkind: Other\nport: 80\n\n", Err("expected apiVersion x/v1 and kind Example"));
        check("apiVersion: x/v1\nkind: Example\nport: many\n", Err("line 3"));
    }
}
