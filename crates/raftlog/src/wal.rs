//! The log as its owner sees it: create, open, append, cut.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::frame;
use crate::reader::{self, End, Reader};
use crate::record::{Entry, HardState, Mark, Record};
use crate::segment::{self, sync_dir};
use crate::spares::{self, Spares};
use crate::tail::Tail;
use crate::{Error, io_error};

#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The room a segment has; a batch that does not fit begins the next one.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_bytes: 16 << 20 }
    }
}

/// What a log held when it was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    pub metadata: Bytes,
    pub hard_state: HardState,
    pub mark: Mark,
    /// The entries behind the checkpoint, without a gap.
    pub entries: Vec<Entry>,
}

/// A closed or open segment and the last entry written before it.
#[derive(Debug)]
struct Segment {
    number: u64,
    after_index: u64,
}

#[derive(Debug)]
pub struct Wal {
    dir: PathBuf,
    options: Options,
    segments: VecDeque<Segment>,
    tail: Tail,
    spares: Spares,
    next_batch: u64,
    appended_bytes: u64,
    last_index: u64,
    metadata: Bytes,
    hard_state: HardState,
    mark: Mark,
    buf: Vec<u8>,
    failed: bool,
}

/// Buffers larger than this are given back after a batch.
const KEPT_BUFFER_BYTES: usize = 1 << 20;

impl Wal {
    /// Whether a directory holds a log.
    pub fn exists(dir: &Path) -> Result<bool, Error> {
        Ok(dir.is_dir() && !segment::list(dir)?.is_empty())
    }

    /// Begins a log in a directory that holds none. `mark` is where it begins: zero for a new
    /// cluster, the snapshot's last entry for a restored member.
    pub fn create(dir: &Path, metadata: Bytes, mark: Mark, options: Options) -> Result<Wal, Error> {
        fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        assert!(segment::list(dir)?.is_empty(), "a log is created once");
        if let Some(parent) = dir.parent() {
            sync_dir(parent)?;
        }
        let head = [
            Record::Metadata(metadata.clone()),
            Record::HardState(HardState::default()),
            Record::Mark(mark),
            Record::Position(mark.index),
        ];
        let mut spares = Spares::open(dir, options.segment_bytes)?;
        let tail = segment::begin(dir, 0, 0, &head, &spares.take(0)?)?;
        spares.prepare(1);
        let first = Segment { number: 0, after_index: mark.index };
        Ok(Wal {
            dir: dir.to_owned(),
            options,
            segments: VecDeque::from([first]),
            tail,
            spares,
            next_batch: 1,
            appended_bytes: 0,
            last_index: mark.index,
            metadata,
            hard_state: HardState::default(),
            mark,
            buf: Vec::new(),
            failed: false,
        })
    }

    /// Opens a log and returns what lies behind the checkpoint, which ends at entry
    /// `checkpoint`. What a torn tail left is written over; other damage is refused.
    pub fn open(dir: &Path, checkpoint: u64, options: Options) -> Result<(Wal, Recovered), Error> {
        let mut spares = Spares::open(dir, options.segment_bytes)?;
        let mut replay = Replay::new(checkpoint);
        let numbers = segment::list(dir)?;
        let mut segments = VecDeque::new();
        for pair in numbers.windows(2) {
            replay.closed(segment::path(dir, pair[0]), &segment::path(dir, pair[1]))?;
            segments.push_back(Segment { number: pair[0], after_index: replay.after_index });
        }
        let last = *numbers.last().expect("the caller checked that a log exists");
        let path = segment::path(dir, last);
        let reader = replay.newest(&path)?;
        segments.push_back(Segment { number: last, after_index: replay.after_index });
        let cut = segments[0].after_index.max(replay.recovered.mark.index);
        if cut > checkpoint {
            return Err(Error::Gap { cut, checkpoint });
        }
        let tail = Tail::open(path, reader.salt(), reader.offset(), &reader.last_block()?)?;
        spares::allocate(tail.file(), tail.path(), options.segment_bytes)?;
        spares.prepare(last + 1);
        let wal = Wal {
            dir: dir.to_owned(),
            options,
            segments,
            tail,
            spares,
            next_batch: replay.next_batch,
            appended_bytes: 0,
            last_index: replay.last_index,
            metadata: replay.recovered.metadata.clone(),
            hard_state: replay.recovered.hard_state,
            mark: replay.recovered.mark,
            buf: Vec::new(),
            failed: false,
        };
        Ok((wal, replay.recovered))
    }

    /// Writes a batch and makes it durable.
    pub fn append(&mut self, records: &[Record]) -> Result<(), Error> {
        if self.failed {
            return Err(Error::Failed);
        }
        frame::begin(&mut self.buf);
        for record in records {
            record.encode(&mut self.buf);
        }
        if self.buf.len() > frame::MAX_PAYLOAD_BYTES {
            let bytes = self.buf.len();
            return Err(Error::TooLarge { bytes });
        }
        let written = self.roll_if_full().and_then(|()| {
            frame::seal(&mut self.buf, self.next_batch, self.tail.salt());
            for record in records {
                self.note(record);
            }
            self.tail.append(&self.buf)?;
            self.next_batch += 1;
            self.appended_bytes += self.buf.len() as u64;
            Ok(())
        });
        self.failed = written.is_err();
        self.buf.clear();
        self.buf.shrink_to(KEPT_BUFFER_BYTES);
        written
    }

    /// What was appended since the log was opened.
    pub fn appended_bytes(&self) -> u64 {
        self.appended_bytes
    }

    fn note(&mut self, record: &Record) {
        match record {
            Record::Position(_) | Record::Room { .. } => unreachable!("only a segment's head holds them"),
            Record::Metadata(metadata) => self.metadata = metadata.clone(),
            Record::HardState(state) => self.hard_state = *state,
            Record::Mark(mark) => self.mark = *mark,
            Record::Entry(entry) => {
                assert!(
                    entry.index <= self.last_index + 1 && entry.index > self.mark.index,
                    "entry {} after {} would leave a gap or rewrite a checkpoint",
                    entry.index,
                    self.last_index
                );
                self.last_index = entry.index;
            }
        }
    }

    fn roll_if_full(&mut self) -> Result<(), Error> {
        let length = self.tail.length() + u64::try_from(self.buf.len()).expect("usize fits u64");
        if length <= self.options.segment_bytes { Ok(()) } else { self.begin_segment() }
    }

    /// The next segment, whose head holds all it takes to read on from there.
    fn begin_segment(&mut self) -> Result<(), Error> {
        let number = self.segments.back().expect("there is always one").number + 1;
        let head = [
            Record::Metadata(self.metadata.clone()),
            Record::HardState(self.hard_state),
            Record::Mark(self.mark),
            Record::Position(self.last_index),
        ];
        let spare = self.spares.take(number)?;
        self.tail = segment::begin(&self.dir, number, self.next_batch, &head, &spare)?;
        self.spares.prepare(number + 1);
        self.next_batch += 1;
        self.segments.push_back(Segment { number, after_index: self.last_index });
        Ok(())
    }

    /// Begins anew behind a durable checkpoint that came from elsewhere: what was written so far is part of it, or
    /// never happened.
    pub fn jump(&mut self, mark: Mark) -> Result<(), Error> {
        if self.failed {
            return Err(Error::Failed);
        }
        assert!(mark.index >= self.mark.index, "checkpoints only go forward");
        self.mark = mark;
        self.last_index = mark.index;
        let begun = self.begin_segment().and_then(|()| self.remove_closed());
        self.failed = begun.is_err();
        begun
    }

    fn remove_closed(&mut self) -> Result<(), Error> {
        failpoint!("log-jump-before-remove");
        while self.segments.len() > 1 {
            self.remove_oldest()?;
        }
        sync_dir(&self.dir)
    }

    fn remove_oldest(&mut self) -> Result<(), Error> {
        self.spares.give(&segment::path(&self.dir, self.segments[0].number))?;
        self.segments.pop_front();
        Ok(())
    }

    /// Notes that a durable checkpoint holds everything up to `mark`, and removes the
    /// segments that hold nothing else. Returns how many went.
    pub fn cut(&mut self, mark: Mark) -> Result<usize, Error> {
        assert!(mark.index <= self.last_index, "a checkpoint of the future");
        assert!(mark.index >= self.mark.index, "checkpoints only go forward");
        self.append(&[Record::Mark(mark)])?;
        failpoint!("log-cut-before-remove");
        let mut removed = 0;
        while self.segments.get(1).is_some_and(|next| next.after_index <= mark.index) {
            self.remove_oldest()?;
            removed += 1;
        }
        if removed > 0 {
            sync_dir(&self.dir)?;
        }
        Ok(removed)
    }

    pub fn last_index(&self) -> u64 {
        self.last_index
    }
}

const MISMATCH: &str = "a checksum does not match";

/// Collects what the segments say, oldest first.
struct Replay {
    checkpoint: u64,
    next_batch: u64,
    last_index: u64,
    /// The last entry before the segment being read.
    after_index: u64,
    recovered: Recovered,
    /// Whether nothing was read yet: only then may entries be missing before.
    oldest: bool,
}

impl Replay {
    fn new(checkpoint: u64) -> Replay {
        Replay {
            checkpoint,
            next_batch: 0,
            last_index: 0,
            after_index: 0,
            recovered: Recovered::default(),
            oldest: true,
        }
    }

    /// Reads a segment up to where the one behind it goes on.
    fn closed(&mut self, path: PathBuf, behind: &Path) -> Result<(), Error> {
        let (reader, _) = self.read(path)?;
        // What was never completed was never followed by a segment.
        if self.next_batch == reader::first_batch(behind)? { Ok(()) } else { Err(reader.damaged(MISMATCH)) }
    }

    /// Reads the newest segment, which may end torn.
    fn newest(&mut self, path: &Path) -> Result<Reader, Error> {
        let (reader, end) = self.read(path.to_owned())?;
        if reader.frame_follows(self.next_batch)? {
            return Err(reader.damaged(MISMATCH));
        }
        if end == End::Torn {
            let (path, offset) = (path.display(), reader.offset());
            tracing::warn!(%path, offset, "the log ends in a batch that was never completed; cutting it off");
        }
        Ok(reader)
    }

    fn read(&mut self, path: PathBuf) -> Result<(Reader, End), Error> {
        if self.oldest {
            self.next_batch = reader::first_batch(&path)?;
        }
        let mut reader = Reader::open(path)?;
        let mut next = self.next_batch;
        let end = reader.read(&mut next, |record| self.record(record))?;
        self.next_batch = next;
        // A segment appears under its name with its head complete.
        if reader.offset() == 0 {
            return Err(reader.damaged(MISMATCH));
        }
        if reader.is_cut_off()? {
            return Err(reader.damaged("its end is missing"));
        }
        Ok((reader, end))
    }

    fn record(&mut self, record: Record) -> Result<(), &'static str> {
        match record {
            Record::Metadata(metadata) => self.recovered.metadata = own(&metadata),
            Record::HardState(state) => self.recovered.hard_state = state,
            Record::Mark(mark) => self.recovered.mark = mark,
            Record::Room { .. } => unreachable!("the reader keeps it"),
            Record::Position(index) => {
                let follows = std::mem::take(&mut self.oldest) || index == self.last_index;
                if !follows && index != self.recovered.mark.index {
                    return Err("it does not continue the segment before it");
                }
                if !follows {
                    // The log began anew behind a checkpoint; the segments before were about to go.
                    self.recovered.entries.clear();
                }
                self.last_index = index;
                self.after_index = index;
            }
            Record::Entry(entry) => return self.entry(entry),
        }
        Ok(())
    }

    /// A later entry with the same index replaces the earlier one and all behind it: a new
    /// leader's log won.
    fn entry(&mut self, entry: Entry) -> Result<(), &'static str> {
        if entry.index > self.last_index + 1 {
            return Err("entries are missing");
        }
        self.last_index = entry.index;
        let entries = &mut self.recovered.entries;
        while entries.last().is_some_and(|e| e.index >= entry.index) {
            entries.pop();
        }
        if entry.index > self.checkpoint {
            entries.push(Entry { context: own(&entry.context), data: own(&entry.data), ..entry });
        }
        Ok(())
    }
}

/// A copy that does not keep a whole frame alive.
fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As versions before wrote them: frames of one magic for all segments, and no room told.
    #[test]
    fn a_segment_of_an_older_version_is_gone_on_with() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = segment::path(dir.path(), 0);
        let head = [Record::Metadata(Bytes::from_static(b"whose")), Record::Mark(Mark::default()), Record::Position(0)];
        let entry = |index: u64| Record::Entry(Entry { index, term: 1, ..Entry::default() });
        let mut segment = Vec::new();
        for (number, records) in (0..).zip([&head[..], &[entry(1)], &[entry(2)]]) {
            let mut buf = Vec::new();
            frame::begin(&mut buf);
            records.iter().for_each(|record| record.encode(&mut buf));
            frame::seal(&mut buf, number, frame::NO_SALT);
            segment.extend(buf);
        }
        segment.resize(10_000, 0);
        fs::write(&path, &segment).expect("writable");
        let options = Options { segment_bytes: 8_192 };
        let check = |last: u64| {
            let (wal, recovered) = Wal::open(dir.path(), 0, options).expect("a usable log");
            assert_eq!(recovered.entries.iter().map(|e| e.index).collect::<Vec<_>>(), (1..=last).collect::<Vec<_>>());
            wal
        };
        check(2).append(&[entry(3)]).expect("a healthy disk");
        // Through to segments of this version.
        for last in 3..400 {
            check(last).append(&[entry(last + 1)]).expect("a healthy disk");
        }
        assert!(check(400).segments.len() > 1);
    }
}
