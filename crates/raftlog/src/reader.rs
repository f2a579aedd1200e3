//! Reading one segment, frame by frame.
//!
//! Behind the last frame lies room: zeros, or what the file held when it was another segment.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::frame::{self, HEADER_BYTES, Header};
use crate::record::Record;
use crate::tail;
use crate::{Error, io_error};

const CHUNK_BYTES: usize = 256 << 10;

/// How the frames of a segment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With something else than the next frame.
    Clean,
    /// With the next frame's header, but not its payload.
    Torn,
}

pub(crate) struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    offset: u64,
    salt: u64,
    /// What the file has had from the start; not known of segments of older versions.
    room: u64,
}

impl Reader {
    pub fn open(path: PathBuf) -> Result<Reader, Error> {
        let file = File::open(&path).map_err(io_error("open", &path))?;
        Ok(Reader { path, file: BufReader::with_capacity(CHUNK_BYTES, file), offset: 0, salt: frame::NO_SALT, room: 0 })
    }

    /// Where the frames read so far end.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub fn salt(&self) -> u64 {
        self.salt
    }

    /// Whether the end of the file is missing. No crash takes away what the disk had given.
    pub fn is_cut_off(&self) -> Result<bool, Error> {
        let file = self.file.get_ref().metadata().map_err(io_error("read", &self.path))?;
        Ok(file.len() < self.room)
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
            let Some(header) = Header::parse(&bytes, self.salt).filter(|h| h.number == *next) else {
                return Ok(End::Clean);
            };
            self.fill(&mut bytes, header.len)?;
            if !header.admits(&bytes[HEADER_BYTES..], self.salt) {
                return Ok(End::Torn);
            }
            let length = bytes.len();
            let mut payload = Bytes::from(bytes).slice(HEADER_BYTES..);
            while !payload.is_empty() {
                let record = Record::decode(&mut payload).ok_or("a record is malformed");
                record.and_then(|record| self.take(record, &mut visit)).map_err(|what| self.damaged(what))?;
            }
            self.offset += u64::try_from(length).expect("usize fits u64");
            *next += 1;
        }
    }

    fn take(
        &mut self,
        record: Record,
        visit: &mut impl FnMut(Record) -> Result<(), &'static str>,
    ) -> Result<(), &'static str> {
        match record {
            Record::Room { salt, bytes } if self.offset == 0 => (self.salt, self.room) = (salt, bytes),
            Record::Room { .. } => return Err("a segment's head lies in its middle"),
            other => return visit(other),
        }
        Ok(())
    }

    fn fill(&mut self, bytes: &mut Vec<u8>, count: usize) -> Result<(), Error> {
        let limit = u64::try_from(count).expect("usize fits u64");
        let mut part = (&mut self.file).take(limit);
        part.read_to_end(bytes).map_err(io_error("read", &self.path))?;
        Ok(())
    }

    /// Whether an intact frame numbered `after` or later lies anywhere behind the frames that were read.
    pub fn frame_follows(&self, after: u64) -> Result<bool, Error> {
        let magic = frame::magic(self.salt);
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut at = self.offset;
        loop {
            let read = self.read_at(&mut chunk, at)?;
            let starts = chunk[..read].windows(magic.len()).enumerate();
            for (start, _) in starts.filter(|(_, window)| **window == magic) {
                if self.is_frame(at + u64::try_from(start).expect("usize fits u64"), after)? {
                    return Ok(true);
                }
            }
            if read < chunk.len() {
                return Ok(false);
            }
            // The next magic may lie across.
            at += u64::try_from(read + 1 - magic.len()).expect("usize fits u64");
        }
    }

    /// The end of the frames, from where its block begins.
    pub fn last_block(&self) -> Result<Vec<u8>, Error> {
        let begin = tail::block_begin(self.offset);
        let mut bytes = vec![0; usize::try_from(self.offset - begin).expect("less than a block")];
        self.read_at(&mut bytes, begin)?;
        Ok(bytes)
    }

    fn is_frame(&self, at: u64, after: u64) -> Result<bool, Error> {
        let mut bytes = [0; HEADER_BYTES];
        let read = self.read_at(&mut bytes, at)?;
        let Some(header) = Header::parse(&bytes[..read], self.salt).filter(|h| h.number >= after) else {
            return Ok(false);
        };
        let begin = at + u64::try_from(HEADER_BYTES).expect("usize fits u64");
        let end = begin + u64::try_from(header.len).expect("usize fits u64");
        if end > self.file.get_ref().metadata().map_err(io_error("read", &self.path))?.len() {
            return Ok(false);
        }
        let mut payload = vec![0; header.len];
        let read = self.read_at(&mut payload, begin)?;
        Ok(header.admits(&payload[..read], self.salt))
    }

    /// Fills `bytes` as far as the file goes.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < bytes.len() {
            let offset = at + u64::try_from(filled).expect("usize fits u64");
            match self.file.get_ref().read_at(&mut bytes[filled..], offset) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(io_error("read", &self.path)(error)),
            }
        }
        Ok(filled)
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
    let header = Header::parse(&bytes, frame::NO_SALT).ok_or_else(|| Error::Damaged {
        path: path.to_owned(),
        offset: 0,
        what: "it does not begin with a batch",
    })?;
    Ok(header.number)
}
