//! The end of the newest segment, where frames are appended.
//!
//! Whole blocks are written, past the page cache where the file system lets us: nothing of what
//! lay there has to be read, and a sync finds nothing else to do. The block in which a frame
//! ends is written again with the next one; what was in it stays byte for byte what it was, so
//! a write that is cut short cannot harm it. Behind the last frame its block is zeros.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::{Error, io_error};

/// No disk asks for more when it is written to directly.
pub(crate) const BLOCK: u64 = 4096;
const BLOCK_LEN: usize = 4096;
/// Buffers larger than this are given back after a frame.
const KEPT_BUFFER_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    file: File,
    direct: bool,
    salt: u64,
    /// Where the next frame goes.
    length: u64,
    /// What lies before it in its block.
    begun: Vec<u8>,
    blocks: Blocks,
}

impl Tail {
    /// The tail of a segment whose frames take `length` bytes, the last of which are `begun`, from where a block begins.
    pub fn open(path: PathBuf, salt: u64, length: u64, begun: &[u8]) -> Result<Tail, Error> {
        let (file, direct) = match open_with(&path, OFlag::O_DIRECT) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => (open_with(&path, OFlag::empty()), false),
            opened => (opened, true),
        };
        let file = file.map_err(io_error("open", &path))?;
        Ok(Tail { path, file, direct, salt, length, begun: begun.to_owned(), blocks: Blocks::default() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn salt(&self) -> u64 {
        self.salt
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    /// Writes a frame and makes it durable.
    pub fn append(&mut self, frame: &[u8]) -> Result<(), Error> {
        failpoint!("log-before-write");
        self.write(frame).map_err(io_error("write", &self.path))?;
        failpoint!("log-before-sync");
        self.file.sync_data().map_err(io_error("sync", &self.path))?;
        failpoint!("log-after-sync");
        let (begun, frame_bytes) = (self.begun.len(), frame.len());
        self.length += wide(frame_bytes);
        self.begun.clear();
        self.begun.extend_from_slice(self.blocks.end(begun + frame_bytes));
        self.blocks.shrink();
        Ok(())
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        let at = block_begin(self.length);
        let blocks = self.blocks.fill(&self.begun, frame);
        match self.file.write_all_at(blocks, at) {
            // A file system that says only now that it has no direct writes, or for larger blocks only.
            Err(error) if self.direct && error.kind() == io::ErrorKind::InvalidInput => {
                self.file = open_with(&self.path, OFlag::empty())?;
                self.direct = false;
                self.file.write_all_at(blocks, at)
            }
            written => written,
        }
    }

    pub fn rename(&mut self, path: PathBuf) -> Result<(), Error> {
        fs::rename(&self.path, &path).map_err(io_error("rename", &self.path))?;
        self.path = path;
        Ok(())
    }
}

/// Where the block begins that holds the byte at `length`.
pub(crate) fn block_begin(length: u64) -> u64 {
    length - length % BLOCK
}

fn open_with(path: &Path, flags: OFlag) -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(flags.bits()).open(path)
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("usize fits u64")
}

/// A buffer of whole blocks that lies in memory where a block may.
#[derive(Debug, Default)]
struct Blocks {
    bytes: Vec<u8>,
    /// Where the first block begins.
    first: usize,
}

impl Blocks {
    fn fill(&mut self, begun: &[u8], frame: &[u8]) -> &[u8] {
        let filled = begun.len() + frame.len();
        let length = filled.next_multiple_of(BLOCK_LEN);
        if self.bytes.len() < self.first + length {
            // Not grown but made: growing would move what is of no use any more.
            self.bytes = vec![0; length + BLOCK_LEN];
            self.first = self.bytes.as_ptr().align_offset(BLOCK_LEN);
        }
        let blocks = &mut self.bytes[self.first..self.first + length];
        blocks[..begun.len()].copy_from_slice(begun);
        blocks[begun.len()..filled].copy_from_slice(frame);
        blocks[filled..].fill(0);
        blocks
    }

    /// Of `filled` bytes those behind the last whole block.
    fn end(&self, filled: usize) -> &[u8] {
        &self.bytes[self.first..][filled - filled % BLOCK_LEN..filled]
    }

    fn shrink(&mut self) {
        if self.bytes.len() > KEPT_BUFFER_BYTES {
            *self = Blocks::default();
        }
    }
}
