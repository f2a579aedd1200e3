//! Tells when files change, by inotify on their directories: a renewal by rename, a symlink swap and an in-place
//! write all count.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use std::os::fd::OwnedFd;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A stream of "something changed near these files". Events arriving together are one change.
#[derive(Debug)]
pub struct Watch {
    inotify: AsyncFd<OwnedFd>,
}

impl Watch {
    pub fn new<'a>(files: impl IntoIterator<Item = &'a Path>) -> std::io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let directories: BTreeSet<PathBuf> = files.into_iter().map(directory_of).collect();
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_CREATE;
        for directory in &directories {
            inotify.add_watch(directory, flags)?;
        }
        // SAFETY: the descriptor is owned by the `AsyncFd` from here on and closed only when it is dropped.
        #[allow(unsafe_code)]
        let inotify = unsafe { AsyncFd::register_with_interest(OwnedFd::from(inotify), Interest::READABLE) }?;
        Ok(Self { inotify })
    }

    /// Waits for the next change. What exactly changed is of no interest, so the events are read and dropped.
    pub async fn changed(&mut self) -> std::io::Result<()> {
        let mut events = [0_u8; 4096];
        loop {
            let mut ready = self.inotify.readable_mut().await?;
            match nix::unistd::read(ready.get_inner(), &mut events) {
                Ok(_) => return Ok(()),
                Err(nix::errno::Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn directory_of(file: &Path) -> PathBuf {
    if file.is_dir() {
        return file.to_owned();
    }
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_rename_is_a_change() {
        let dir = std::env::temp_dir().join(format!("coxswain-watch-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("temp dir is writable");
        let file = dir.join("tls.crt");
        let mut watch = Watch::new([file.as_path()]).expect("inotify works");
        std::fs::write(dir.join("new"), "x").expect("writable");
        std::fs::rename(dir.join("new"), &file).expect("same directory");
        tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.expect("noticed").expect("readable");
        std::fs::remove_dir_all(&dir).expect("created above");
    }
}
