//! The log as its owner sees it: create, open, append, cut.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::frame;
use crate::record::{Entry, HardState, Mark, Record};
use crate::segment::{self, End, Reader};
use crate::{Error, io_error};

#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The room a segment is given; once it is full the segment is closed and the next one begun.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_bytes: 64 << 20 }
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
    file: File,
    length: u64,
    next_batch: u64,
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
        let mut buf = Vec::new();
        let (file, length) = write_segment(dir, Begun { number: 0, batch: 0 }, &head, options, &mut buf)?;
        let first = Segment { number: 0, after_index: mark.index };
        Ok(Wal {
            dir: dir.to_owned(),
            options,
            segments: VecDeque::from([first]),
            file,
            length,
            next_batch: 1,
            last_index: mark.index,
            metadata,
            hard_state: HardState::default(),
            mark,
            buf,
            failed: false,
        })
    }

    /// Opens a log and returns what lies behind the checkpoint, which ends at entry
    /// `checkpoint`. A torn tail is cut off; other damage is refused.
    pub fn open(dir: &Path, checkpoint: u64, options: Options) -> Result<(Wal, Recovered), Error> {
        remove_temporary(dir)?;
        let mut replay = Replay::new(checkpoint);
        let numbers = segment::list(dir)?;
        let last = *numbers.last().expect("the caller checked that a log exists");
        let mut segments = VecDeque::new();
        let mut length = 0;
        for number in numbers {
            length = replay.segment(dir, number, number == last)?;
            let after_index = replay.after_index;
            segments.push_back(Segment { number, after_index });
        }
        let first = segments.front().expect("at least one segment");
        let cut = first.after_index.max(replay.recovered.mark.index);
        if cut > checkpoint {
            return Err(Error::Gap { cut, checkpoint });
        }
        let path = segment::path(dir, last);
        let file = open_for_writing(&path)?;
        segment::allocate(&file, &path, options.segment_bytes)?;
        let wal = Wal {
            dir: dir.to_owned(),
            options,
            segments,
            file,
            length,
            next_batch: replay.next_batch,
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
        frame::seal(&mut self.buf, self.next_batch);
        for record in records {
            self.note(record);
        }
        let written = self.write().and_then(|()| self.roll_if_full());
        self.failed = written.is_err();
        self.buf.clear();
        self.buf.shrink_to(KEPT_BUFFER_BYTES);
        written
    }

    fn note(&mut self, record: &Record) {
        match record {
            Record::Position(_) => unreachable!("only a segment's head holds its position"),
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

    fn write(&mut self) -> Result<(), Error> {
        let path = segment::path(&self.dir, self.current().number);
        failpoint!("log-before-write");
        self.file.write_all_at(&self.buf, self.length).map_err(io_error("write", &path))?;
        failpoint!("log-before-sync");
        self.file.sync_data().map_err(io_error("sync", &path))?;
        failpoint!("log-after-sync");
        self.length += u64::try_from(self.buf.len()).expect("usize fits u64");
        self.next_batch += 1;
        Ok(())
    }

    fn current(&self) -> &Segment {
        self.segments.back().expect("there is always one")
    }

    fn roll_if_full(&mut self) -> Result<(), Error> {
        if self.length < self.options.segment_bytes { Ok(()) } else { self.begin_segment() }
    }

    /// The next segment, whose head holds all it takes to read on from there.
    fn begin_segment(&mut self) -> Result<(), Error> {
        let number = self.current().number + 1;
        let head = [
            Record::Metadata(self.metadata.clone()),
            Record::HardState(self.hard_state),
            Record::Mark(self.mark),
            Record::Position(self.last_index),
        ];
        let begun = Begun { number, batch: self.next_batch };
        let (file, length) = write_segment(&self.dir, begun, &head, self.options, &mut self.buf)?;
        self.file = file;
        self.length = length;
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
            let path = segment::path(&self.dir, self.segments[0].number);
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
            self.segments.pop_front();
        }
        sync_dir(&self.dir)
    }

    /// Notes that a durable checkpoint holds everything up to `mark`, and removes the
    /// segments that hold nothing else. Returns how many went.
    pub fn cut(&mut self, mark: Mark) -> Result<usize, Error> {
        assert!(mark.index <= self.last_index, "a checkpoint of the future");
        assert!(mark.index >= self.mark.index, "checkpoints only go forward");
        self.append(&[Record::Mark(mark)])?;
        failpoint!("log-cut-before-remove");
        let mut removed = 0;
        while let Some(next) = self.segments.get(1) {
            if next.after_index > mark.index {
                break;
            }
            let path = segment::path(&self.dir, self.segments[0].number);
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
            self.segments.pop_front();
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

    /// Reads one segment and returns its length. Only the newest may end torn.
    fn segment(&mut self, dir: &Path, number: u64, newest: bool) -> Result<u64, Error> {
        let path = segment::path(dir, number);
        let mut reader = Reader::open(path.clone())?;
        if self.oldest {
            self.next_batch = segment::first_batch(&path)?;
        }
        let mut next = self.next_batch;
        let end = reader.read(&mut next, |record| self.record(record))?;
        self.next_batch = next;
        if let End::Torn { offset } = end {
            if !newest || offset == 0 {
                return Err(reader.damaged("a checksum does not match"));
            }
            tracing::warn!(
                path = %path.display(), offset,
                "the log ends in a batch that was never completed; cutting it off"
            );
            segment::truncate(&path, offset)?;
        }
        Ok(reader.offset())
    }

    fn record(&mut self, record: Record) -> Result<(), &'static str> {
        match record {
            Record::Metadata(metadata) => self.recovered.metadata = own(&metadata),
            Record::HardState(state) => self.recovered.hard_state = state,
            Record::Mark(mark) => self.recovered.mark = mark,
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

fn open_for_writing(path: &Path) -> Result<File, Error> {
    let open = OpenOptions::new().write(true).open(path);
    open.map_err(io_error("open", path))
}

/// A new segment's number and that of its first batch.
struct Begun {
    number: u64,
    batch: u64,
}

/// Writes a segment's first frame aside and gives it its name once it is durable.
fn write_segment(
    dir: &Path,
    Begun { number, batch }: Begun,
    head: &[Record],
    options: Options,
    buf: &mut Vec<u8>,
) -> Result<(File, u64), Error> {
    frame::begin(buf);
    for record in head {
        record.encode(buf);
    }
    frame::seal(buf, batch);
    let path = segment::path(dir, number);
    let aside = dir.join(format!("{number:016x}{}", segment::TEMPORARY_SUFFIX));
    let mut file = File::create(&aside).map_err(io_error("create", &aside))?;
    segment::allocate(&file, &aside, options.segment_bytes)?;
    file.write_all(buf).map_err(io_error("write", &aside))?;
    file.sync_all().map_err(io_error("sync", &aside))?;
    failpoint!("log-segment-before-rename");
    fs::rename(&aside, &path).map_err(io_error("rename", &aside))?;
    sync_dir(dir)?;
    let length = u64::try_from(buf.len()).expect("usize fits u64");
    Ok((file, length))
}

fn remove_temporary(dir: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        let path = entry.map_err(io_error("list", dir))?.path();
        let name = path.to_string_lossy();
        if name.ends_with(segment::TEMPORARY_SUFFIX) {
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    Ok(())
}

fn sync_dir(dir: &Path) -> Result<(), Error> {
    let file = File::open(dir).map_err(io_error("open", dir))?;
    file.sync_all().map_err(io_error("sync", dir))
}
