//! Writing trust to disk: whole files by rename, private ones readable by their owner only.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;

/// Private keys and kubeconfigs.
pub const PRIVATE: u32 = 0o600;
/// Certificates.
pub const PUBLIC: u32 = 0o644;

/// Writes beside, syncs, renames: nobody ever reads half a file.
pub fn write(path: &Path, contents: &str, mode: u32) -> anyhow::Result<()> {
    let inner = || -> std::io::Result<()> {
        let parent = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent)?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let beside = parent.join(name);
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&beside)?;
        file.write_all(contents.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    inner().with_context(|| format!("cannot write {}", path.display()))
}

/// `None` when there is no such file.
pub fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
