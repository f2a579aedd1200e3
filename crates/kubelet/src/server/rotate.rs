//! Keeps container logs within their size: rename, ask the runtime to reopen, pack the old ones.

use std::io::Write;
use std::path::{Path, PathBuf};

use cri::v1::ReopenContainerLogRequest;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::container::sandbox;
use crate::context::Context;
use crate::pods::Pods;

/// One look at every running container's log.
pub async fn sweep(ctx: &Context, pods: &Pods) {
    for entry in pods.all() {
        let dir = sandbox::log_dir(ctx, &entry.desired().pod);
        for container in entry.view().runtime.containers.iter().filter(|c| c.is_running()) {
            let path = dir.join(&container.name).join(format!("{}.log", container.restart_count));
            let size = std::fs::metadata(&path).map_or(0, |m| m.len());
            if size < ctx.settings.log_max_bytes {
                continue;
            }
            if let Err(error) = rotate(ctx, &path, &container.id).await {
                tracing::warn!(error = format!("{error:#}"), log = %path.display(), "cannot rotate the log");
            }
        }
    }
}

async fn rotate(ctx: &Context, path: &Path, id: &str) -> anyhow::Result<()> {
    let old = rotated(path)?;
    // The newest stays readable as it is: followers are still at its end.
    let keep = ctx.settings.config.container_log_max_files.saturating_sub(2) as usize;
    for excess in old.iter().take(old.len().saturating_sub(keep)) {
        std::fs::remove_file(excess)?;
    }
    for plain in old.iter().skip(old.len().saturating_sub(keep)).filter(|p| p.extension().is_none_or(|e| e != "gz")) {
        let plain = plain.clone();
        tokio::task::spawn_blocking(move || compress(&plain)).await??;
    }
    let stamp = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S%3f");
    let aside = PathBuf::from(format!("{}.{stamp}", path.display()));
    std::fs::rename(path, &aside)?;
    if let Err(error) = ctx.cri.reopen_container_log(ReopenContainerLogRequest { container_id: id.to_owned() }).await {
        // The runtime still writes to the old file: give it its name back.
        std::fs::rename(&aside, path)?;
        return Err(error.into());
    }
    Ok(())
}

/// Oldest first: the time is in the name.
fn rotated(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let prefix = format!("{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let dir = path.parent().unwrap_or(Path::new("/"));
    let names = std::fs::read_dir(dir)?.flatten().map(|e| e.path());
    let mut old: Vec<PathBuf> =
        names.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&prefix))).collect();
    old.sort();
    Ok(old)
}

fn compress(path: &Path) -> std::io::Result<()> {
    let packed = PathBuf::from(format!("{}.gz", path.display()));
    let unfinished = PathBuf::from(format!("{}.tmp", packed.display()));
    let mut encoder = GzEncoder::new(std::fs::File::create(&unfinished)?, Compression::default());
    std::io::copy(&mut std::fs::File::open(path)?, &mut encoder)?;
    encoder.finish()?.flush()?;
    std::fs::rename(&unfinished, &packed)?;
    std::fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_and_orders() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("0.log");
        for name in ["0.log", "0.log.2", "0.log.1", "1.log"] {
            std::fs::write(dir.path().join(name), name).expect("writable");
        }
        let names = |list: Vec<PathBuf>| -> Vec<String> {
            list.iter().map(|p| p.file_name().expect("a name").to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names(rotated(&path).expect("readable")), ["0.log.1", "0.log.2"]);
        compress(&dir.path().join("0.log.1")).expect("packed");
        assert_eq!(names(rotated(&path).expect("readable")), ["0.log.1.gz", "0.log.2"]);
        let mut text = String::new();
        let packed = std::fs::File::open(dir.path().join("0.log.1.gz")).expect("there");
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(packed), &mut text).expect("gzip");
        assert_eq!(text, "0.log.1");
    }
}
