//! Room for segments that the disk has given already.
//!
//! A sync of bytes that lie where bytes were before writes them and nothing else. Behind the end
//! of a file, or in room that was only reserved, the file system has to make its own records of
//! them durable too, which takes twice as long. So a segment is written over a file of zeros,
//! or over a segment that a checkpoint made superfluous; the zeros are written once, while the
//! segment before is in use.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};

use crate::tail::BLOCK;
use crate::{Error, io_error};

const SUFFIX: &str = "spare";
/// Of files of zeros: never of the same name as a segment that is no longer needed.
const ZEROS_SUFFIX: &str = "zeros.spare";
/// Of files being written; whatever is found under such a name was never used.
const TEMPORARY_SUFFIX: &str = "tmp";
/// More are given back to the file system.
const KEPT: usize = 4;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

#[derive(Debug)]
pub(crate) struct Spares {
    dir: PathBuf,
    /// The bytes of each.
    room: u64,
    files: Vec<PathBuf>,
    filling: Option<JoinHandle<Result<PathBuf, Error>>>,
}

impl Spares {
    /// Those that are there. Whatever has another size, or was never completed, is removed.
    pub fn open(dir: &Path, segment_bytes: u64) -> Result<Spares, Error> {
        let room = segment_bytes.next_multiple_of(BLOCK);
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
            let path = entry.map_err(io_error("list", dir))?.path();
            let spare = path.extension().is_some_and(|suffix| suffix == SUFFIX);
            if spare && fits(&path, room)? {
                files.push(path);
            } else if spare || path.extension().is_some_and(|suffix| suffix == TEMPORARY_SUFFIX) {
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(Spares { dir: dir.to_owned(), room, files, filling: None })
    }

    /// Has one written in the background if there is none.
    pub fn prepare(&mut self, number: u64) {
        if self.files.is_empty() && self.filling.is_none() {
            let (dir, bytes) = (self.dir.clone(), self.room);
            let fill = move || fill(&dir, number, bytes);
            // Without a thread it is written when it is needed.
            self.filling = thread::Builder::new().name("log-room".to_owned()).spawn(fill).ok();
        }
    }

    /// One for the segment `number`; waits for it to be written if need be.
    pub fn take(&mut self, number: u64) -> Result<PathBuf, Error> {
        if let Some(path) = self.files.pop() {
            return Ok(path);
        }
        match self.filling.take() {
            // Whoever has no room for it then may have it now.
            Some(filling) => filling.join().unwrap_or(Err(Error::Failed)).or_else(|_| self.fill(number)),
            None => self.fill(number),
        }
    }

    fn fill(&self, number: u64) -> Result<PathBuf, Error> {
        fill(&self.dir, number, self.room)
    }

    /// Takes a segment that nobody needs any more.
    pub fn give(&mut self, segment: &Path) -> Result<(), Error> {
        let spare = segment.with_extension(SUFFIX);
        if self.files.len() >= KEPT || self.files.contains(&spare) || !fits(segment, self.room)? {
            return fs::remove_file(segment).map_err(io_error("remove", segment));
        }
        fs::rename(segment, &spare).map_err(io_error("rename", segment))?;
        self.files.push(spare);
        Ok(())
    }
}

impl Drop for Spares {
    /// Nobody writes into the directory any more.
    fn drop(&mut self) {
        if let Some(filling) = self.filling.take() {
            let _ = filling.join();
        }
    }
}

/// A batch that is larger than a segment makes its file larger, too.
fn fits(path: &Path, room: u64) -> Result<bool, Error> {
    let length = fs::metadata(path).map_err(io_error("look at", path))?.len();
    Ok((room..=2 * room).contains(&length))
}

/// Writes a file of zeros and gives it a spare's name once they are durable.
fn fill(dir: &Path, number: u64, bytes: u64) -> Result<PathBuf, Error> {
    let path = dir.join(format!("{number:016x}.{ZEROS_SUFFIX}"));
    let aside = path.with_extension(TEMPORARY_SUFFIX);
    let filled =
        write_zeros(&aside, bytes).and_then(|()| fs::rename(&aside, &path).map_err(io_error("rename", &aside)));
    if filled.is_err() {
        // On a full disk half a file is in the way of everybody.
        let _ = fs::remove_file(&aside);
    }
    filled.map(|()| path)
}

fn write_zeros(path: &Path, bytes: u64) -> Result<(), Error> {
    let mut file = File::create(path).map_err(io_error("create", path))?;
    allocate(&file, path, bytes)?;
    let mut left = usize::try_from(bytes).expect("a segment fits memory");
    while left > 0 {
        let zeros = &ZEROS[..left.min(ZEROS.len())];
        file.write_all(zeros).map_err(io_error("write", path))?;
        left -= zeros.len();
    }
    file.sync_all().map_err(io_error("sync", path))?;
    // Nobody will read them; should they stay in the page cache all the same, that only takes memory.
    let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    Ok(())
}

/// Reserves room in one piece.
pub(crate) fn allocate(file: &File, path: &Path, bytes: u64) -> Result<(), Error> {
    let length = i64::try_from(bytes).expect("segments are far smaller");
    match fallocate(file, FallocateFlags::empty(), 0, length) {
        // A file system that cannot: the log works, only slower.
        Err(Errno::EOPNOTSUPP) => Ok(()),
        allocated => allocated.map_err(|errno| io_error("allocate", path)(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spare_is_a_file_of_its_own() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut spares = Spares::open(dir.path(), 4096).expect("an empty directory");
        spares.prepare(3);
        // Taken while the zeros for it were written, and needed no longer.
        let segment = dir.path().join("0000000000000003.wal");
        fs::rename(spares.fill(9).expect("a healthy disk"), &segment).expect("renamable");
        spares.give(&segment).expect("a healthy disk");
        for number in 4..7 {
            let taken = spares.take(number).expect("a healthy disk");
            fs::rename(&taken, dir.path().join(format!("{number}.wal"))).expect("it is there");
        }
    }
}
