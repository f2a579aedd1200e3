//! Reading one segment, frame by frame, and the room a segment is given in advance.
//!
//! Behind a segment's last frame lie zeros: room that was allocated and not written yet.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use crate::frame::{self, HEADER_BYTES, Header};
use crate::record::Record;
use crate::{Error, io_error};

const SUFFIX: &str = ".wal";
/// Segments being written aside; whatever is found under such a name was never used.
pub(crate) const TEMPORARY_SUFFIX: &str = ".wal.tmp";

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

/// How reading a segment ended.
pub(crate) enum End {
    /// With its last byte, or with nothing but zeros behind its last frame.
    Clean,
    /// At bytes that are no frame; nothing intact follows them.
    Torn { offset: u64 },
}

pub(crate) struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    offset: u64,
}

impl Reader {
    pub fn open(path: PathBuf) -> Result<Reader, Error> {
        let file = File::open(&path).map_err(io_error("open", &path))?;
        Ok(Reader { path, file: BufReader::with_capacity(256 << 10, file), offset: 0 })
    }

    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Hands every record to `visit`, frame by frame; `next` is the number the first frame
    /// must carry, and is moved on.
    pub fn read(
        &mut self,
        next: &mut u64,
        mut visit: impl FnMut(Record) -> Result<(), &'static str>,
    ) -> Result<End, Error> {
        loop {
            let mut bytes = Vec::new();
            self.fill(&mut bytes, HEADER_BYTES)?;
            if bytes.iter().all(|b| *b == 0) && self.skip_zeros()? {
                return Ok(End::Clean);
            }
            let Some(header) = Header::parse(&bytes).filter(|h| h.number == *next) else {
                return self.bad(bytes, *next);
            };
            self.fill(&mut bytes, header.len)?;
            if !header.admits(&bytes[HEADER_BYTES..]) {
                return self.bad(bytes, *next);
            }
            let length = bytes.len();
            let mut payload = Bytes::from(bytes).slice(HEADER_BYTES..);
            while !payload.is_empty() {
                let record = Record::decode(&mut payload).ok_or("a record is malformed");
                record.and_then(&mut visit).map_err(|what| self.damaged(what))?;
            }
            self.offset += u64::try_from(length).expect("usize fits u64");
            *next += 1;
        }
    }

    fn fill(&mut self, bytes: &mut Vec<u8>, count: usize) -> Result<(), Error> {
        let limit = u64::try_from(count).expect("usize fits u64");
        let mut part = (&mut self.file).take(limit);
        part.read_to_end(bytes).map_err(io_error("read", &self.path))?;
        Ok(())
    }

    /// Skips zeros; whether nothing follows them. No frame begins among them.
    fn skip_zeros(&mut self) -> Result<bool, Error> {
        loop {
            let buf = self.file.fill_buf().map_err(io_error("read", &self.path))?;
            if buf.is_empty() {
                return Ok(true);
            }
            let zeros = buf.iter().take_while(|b| **b == 0).count();
            let ended = zeros < buf.len();
            self.file.consume(zeros);
            if ended {
                return Ok(false);
            }
        }
    }

    /// `seen` are the bytes at the current offset that are not the frame `number`.
    fn bad(&mut self, mut seen: Vec<u8>, number: u64) -> Result<End, Error> {
        self.file.read_to_end(&mut seen).map_err(io_error("read", &self.path))?;
        // The damaged batch itself cannot be found again behind its own start.
        if frame::later_frame(&Bytes::from(seen), number) {
            return Err(self.damaged("a checksum does not match"));
        }
        let offset = self.offset;
        Ok(End::Torn { offset })
    }

    pub fn damaged(&self, what: &'static str) -> Error {
        Error::Damaged { path: self.path.clone(), offset: self.offset, what }
    }
}

/// The number of the first batch of a segment. Segments appear under their names with their
/// first batch complete, so one without is damaged.
pub(crate) fn first_batch(path: &Path) -> Result<u64, Error> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io_error("open", path))?;
    let limit = u64::try_from(HEADER_BYTES).expect("a small constant");
    file.take(limit).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    let header = Header::parse(&bytes).ok_or_else(|| Error::Damaged {
        path: path.to_owned(),
        offset: 0,
        what: "it does not begin with a batch",
    })?;
    Ok(header.number)
}

/// Gives a segment its room. A sync of what is written into it later then need not wait for the
/// file system to make a larger file durable, which takes many times longer than the bytes.
pub(crate) fn allocate(file: &File, path: &Path, bytes: u64) -> Result<(), Error> {
    let length = i64::try_from(bytes).expect("segments are far smaller");
    match fallocate(file, FallocateFlags::empty(), 0, length) {
        // A file system that cannot: the log works, only slower.
        Err(Errno::EOPNOTSUPP) => Ok(()),
        allocated => allocated.map_err(|errno| io_error("allocate", path)(errno.into())),
    }
}

/// Cuts a torn tail off, durably.
pub(crate) fn truncate(path: &Path, length: u64) -> Result<(), Error> {
    let open = OpenOptions::new().write(true).open(path);
    let file = open.map_err(io_error("open", path))?;
    file.set_len(length).map_err(io_error("truncate", path))?;
    file.sync_all().map_err(io_error("sync", path))
}
