//! A segment's name, and how one begins.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::frame;
use crate::record::Record;
use crate::tail::Tail;
use crate::{Error, io_error};

const SUFFIX: &str = ".wal";

pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}{SUFFIX}"))
}

/// The numbers of the segments in a directory, in order and without a gap.
pub(crate) fn list(dir: &Path) -> Result<Vec<u64>, Error> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io_error("list", dir))? {
        let name = entry.map_err(io_error("list", dir))?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
        let number = stem.and_then(|stem| u64::from_str_radix(stem, 16).ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    for pair in numbers.windows(2) {
        if pair[0] + 1 != pair[1] {
            let path = path(dir, pair[0] + 1);
            return Err(Error::MissingSegment { path });
        }
    }
    Ok(numbers)
}

/// Writes a segment's head, its frame `batch`, over a spare and gives that the segment's name once it is durable.
pub(crate) fn begin(dir: &Path, number: u64, batch: u64, head: &[Record], spare: &Path) -> Result<Tail, Error> {
    let salt = rand::random_range(frame::NO_SALT + 1..=u64::MAX);
    let bytes = fs::metadata(spare).map_err(io_error("look at", spare))?.len();
    let mut buf = Vec::new();
    frame::begin(&mut buf);
    Record::Room { salt, bytes }.encode(&mut buf);
    for record in head {
        record.encode(&mut buf);
    }
    frame::seal(&mut buf, batch, frame::NO_SALT);
    let mut tail = Tail::open(spare.to_owned(), salt, 0, &[])?;
    tail.append(&buf)?;
    failpoint!("log-segment-before-rename");
    tail.rename(path(dir, number))?;
    sync_dir(dir)?;
    Ok(tail)
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    let file = File::open(dir).map_err(io_error("open", dir))?;
    file.sync_all().map_err(io_error("sync", dir))
}
