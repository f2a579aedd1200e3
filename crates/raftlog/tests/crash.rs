//! What a crash leaves behind, and what only a broken disk does.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use raftlog::{Entry, Error, HardState, Mark, Options, Record, Wal};

const SMALL: Options = Options { segment_bytes: 2_000 };
const NO_ROLL: Options = Options { segment_bytes: 1 << 16 };

fn entry(index: u64, term: u64) -> Record {
    Record::Entry(Entry {
        index,
        term,
        kind: 0,
        context: Bytes::new(),
        data: Bytes::from(vec![u8::try_from(index % 251).expect("small"); 100]),
    })
}

/// A log of batches of two entries and a hard state each, up to entry `last`.
fn written(dir: &Path, last: u64, options: Options) -> Wal {
    let metadata = Bytes::from_static(b"member one");
    let mut wal = Wal::create(dir, metadata, Mark::default(), options).expect("a new log");
    for index in (1..=last).step_by(2) {
        let state = HardState { term: 1, vote: 1, commit: index };
        let batch = [entry(index, 1), entry(index + 1, 1), Record::HardState(state)];
        wal.append(&batch).expect("a healthy disk");
    }
    wal
}

fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("the directory exists");
    let paths = entries.map(|e| e.expect("readable").path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|found| found == suffix)).collect();
    paths.sort();
    paths
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    files(dir, "wal")
}

fn spares(dir: &Path) -> Vec<PathBuf> {
    files(dir, "spare")
}

/// Where a segment's last frame ends; room follows. What frames begin with is part of the salt, which the head tells.
fn end(segment: &[u8]) -> usize {
    let mut magic = *b"CXW1";
    let mut at = 0;
    while let Some(length) = segment[at..].strip_prefix(&magic).and_then(|rest| rest.first_chunk()) {
        at += 20 + usize::try_from(u32::from_le_bytes(*length)).expect("small");
        magic.copy_from_slice(&segment[25..29]);
        magic[0] |= 1;
    }
    at
}

/// Opens a log and checks which entries it gives back.
fn check(dir: &Path, checkpoint: u64, options: Options, expected: impl Iterator<Item = u64>) -> Wal {
    let (wal, recovered) = Wal::open(dir, checkpoint, options).expect("a usable log");
    let indexes: Vec<u64> = recovered.entries.iter().map(|e| e.index).collect();
    assert_eq!(indexes, expected.collect::<Vec<_>>());
    assert_eq!(recovered.metadata, Bytes::from_static(b"member one"));
    wal
}

#[test]
fn reads_back_what_was_appended_across_segments() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    drop(written(dir.path(), 40, SMALL));
    assert!(segments(dir.path()).len() > 2, "the log rolled");
    let mut wal = check(dir.path(), 0, SMALL, 1..=40);
    wal.append(&[entry(41, 2)]).expect("appending goes on");
    drop(wal);
    check(dir.path(), 30, SMALL, 31..=41);
}

#[test]
fn a_tail_torn_anywhere_is_cut_and_the_log_goes_on() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    drop(written(dir.path(), 4, NO_ROLL));
    let path = segments(dir.path()).remove(0);
    let intact = fs::read(&path).expect("readable");
    let end = end(&intact);
    let batch = 20 + 2 * (1 + 8 + 8 + 1 + 4 + 4 + 100) + 25;
    for length in end - batch..end {
        // The rest never reached the disk: its blocks still read as zeros. The last byte written is a zero of the hard
        // state.
        let mut torn = intact.clone();
        torn[length..end].fill(0);
        let whole = torn == intact;
        fs::write(&path, &torn).expect("writable");
        let last = if whole { 4 } else { 2 };
        let mut wal = check(dir.path(), 0, NO_ROLL, 1..=last);
        wal.append(&[entry(last + 1, 1)]).expect("appending goes on");
        drop(wal);
        check(dir.path(), 0, NO_ROLL, 1..=last + 1);
    }
    // A later page may have reached the disk before an earlier one.
    let mut holed = intact.clone();
    holed[end - batch..end - 60].fill(0);
    fs::write(&path, &holed).expect("writable");
    check(dir.path(), 0, NO_ROLL, 1..=2);
}

#[test]
fn a_flipped_byte_in_the_middle_refuses_and_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    drop(written(dir.path(), 40, SMALL));
    let paths = segments(dir.path());
    let last = paths.len() - 1;
    for (n, path) in paths.iter().enumerate() {
        let intact = fs::read(path).expect("readable");
        // In the newest segment only what lies before its last batch can be told from a tear.
        let end = if n == last { 100 } else { end(&intact) };
        for at in (0..end).step_by(37) {
            let mut flipped = intact.clone();
            flipped[at] ^= 0x10;
            fs::write(path, &flipped).expect("writable");
            let error = Wal::open(dir.path(), 0, SMALL).expect_err("damage is refused");
            assert!(matches!(error, Error::Damaged { .. }), "{error} at {at}");
            let text = error.to_string();
            assert!(text.contains("restore") && text.contains(&path.display().to_string()));
        }
        fs::write(path, &intact).expect("writable");
    }
    check(dir.path(), 0, SMALL, 1..=40);
}

/// No crash shortens a file that had its room before anything was acknowledged.
#[test]
fn a_segment_whose_end_is_missing_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    drop(written(dir.path(), 4, NO_ROLL));
    let path = segments(dir.path()).remove(0);
    let intact = fs::read(&path).expect("readable");
    assert_eq!(intact.len(), 1 << 16);
    let end = end(&intact);
    for length in [intact.len() - 1, end, end - 1, 4096, 200, 1, 0] {
        fs::write(&path, &intact[..length.min(intact.len())]).expect("writable");
        let error = Wal::open(dir.path(), 0, NO_ROLL).expect_err("damage is refused");
        assert!(matches!(error, Error::Damaged { .. }), "{error} at {length}");
    }
    fs::write(&path, &intact).expect("writable");
    check(dir.path(), 0, NO_ROLL, 1..=4);
}

#[test]
fn zeros_before_an_intact_batch_are_damage() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    drop(written(dir.path(), 4, NO_ROLL));
    let path = segments(dir.path()).remove(0);
    let mut segment = fs::read(&path).expect("readable");
    let end = end(&segment);
    let head = end - 2 * (20 + 2 * (1 + 8 + 8 + 1 + 4 + 4 + 100) + 25);
    // The first batch is gone without a trace, and the second still there: it was acknowledged.
    segment[head..head + 200].fill(0);
    fs::write(&path, &segment).expect("writable");
    let error = Wal::open(dir.path(), 0, NO_ROLL).expect_err("damage is refused");
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

#[test]
fn a_missing_segment_is_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    drop(written(dir.path(), 40, SMALL));
    let gone = segments(dir.path()).remove(1);
    fs::remove_file(&gone).expect("removable");
    let error = Wal::open(dir.path(), 0, SMALL).expect_err("a gap is refused");
    assert!(matches!(&error, Error::MissingSegment { path } if *path == gone));
}

#[test]
fn cutting_keeps_what_the_checkpoint_lacks() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut wal = written(dir.path(), 40, SMALL);
    let before = segments(dir.path()).len();
    let removed = wal.cut(Mark { index: 25, term: 1 }).expect("a healthy disk");
    assert!(removed > 0);
    assert_eq!(segments(dir.path()).len(), before - removed);
    drop(wal);
    drop(check(dir.path(), 25, SMALL, 26..=40));
    drop(check(dir.path(), 40, SMALL, std::iter::empty()));
    let error = Wal::open(dir.path(), 24, SMALL).expect_err("the checkpoint is too old");
    assert!(matches!(error, Error::Gap { cut: 25, checkpoint: 24 }));
}

#[test]
fn a_new_leader_replaces_the_end_of_the_log() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut wal = written(dir.path(), 6, NO_ROLL);
    wal.append(&[entry(4, 2)]).expect("replacing is appending");
    drop(wal);
    let (_, recovered) = Wal::open(dir.path(), 0, NO_ROLL).expect("a usable log");
    let terms: Vec<_> = recovered.entries.iter().map(|e| (e.index, e.term)).collect();
    assert_eq!(terms, [(1, 1), (2, 1), (3, 1), (4, 2)]);
}

#[test]
fn a_file_that_was_being_written_aside_is_removed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    drop(written(dir.path(), 4, NO_ROLL));
    for name in ["0000000000000007.tmp", "0000000000000007.wal.tmp"] {
        fs::write(dir.path().join(name), b"half").expect("writable");
    }
    drop(check(dir.path(), 0, NO_ROLL, 1..=4));
    assert!(files(dir.path(), "tmp").is_empty());
}

#[test]
fn a_segment_that_is_no_longer_needed_is_written_over() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut wal = written(dir.path(), 40, SMALL);
    let before = segments(dir.path());
    wal.cut(Mark { index: 25, term: 1 }).expect("a healthy disk");
    let kept: Vec<PathBuf> =
        before.iter().map(|path| path.with_extension("spare")).filter(|path| path.exists()).collect();
    assert!(!kept.is_empty());
    // Behind the head of the segment to come lie intact frames of another.
    let held = kept.iter().map(|path| fs::read(path).expect("readable"));
    assert!(held.into_iter().all(|bytes| end(&bytes) > 1_000));
    let mut last = 40;
    while kept.iter().any(|path| path.exists()) {
        last += 1;
        wal.append(&[entry(last, 1)]).expect("appending goes on");
        drop(wal);
        // Of what lies behind any frame nothing is read.
        wal = check(dir.path(), 25, SMALL, 26..=last);
    }
    assert_eq!(fs::read(segments(dir.path()).pop().expect("one")).expect("readable").len(), 4096);
    drop(wal);
    let (_, recovered) = Wal::open(dir.path(), 25, SMALL).expect("a usable log");
    assert!(recovered.entries.iter().all(|entry| entry.term == 1));
}

#[test]
fn a_tail_torn_over_what_was_there_is_cut() {
    const MIDDLE: Options = Options { segment_bytes: 16_384 };
    const SECTOR: usize = 512;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut wal = written(dir.path(), 200, MIDDLE);
    wal.cut(Mark { index: 200, term: 1 }).expect("a healthy disk");
    let used = spares(dir.path()).pop().expect("a segment that is no longer needed");
    let mut last = 200;
    while used.exists() {
        last += 1;
        wal.append(&[entry(last, 1)]).expect("appending goes on");
    }
    let path = segments(dir.path()).pop().expect("one");
    let old = fs::read(&path).expect("readable");
    let Record::Entry(plain) = entry(last + 1, 1) else { unreachable!("made as one") };
    let large = Entry { data: vec![7; 3_000].into(), ..plain };
    wal.append(&[Record::Entry(large)]).expect("appending goes on");
    drop(wal);
    let new = fs::read(&path).expect("readable");
    let changed: Vec<usize> =
        (0..new.len()).step_by(SECTOR).filter(|at| old[*at..][..SECTOR] != new[*at..][..SECTOR]).collect();
    assert!(changed.len() > 5);
    for subset in 0..1_u32 << changed.len() {
        // Of the sectors that a write changes, any may have reached the disk.
        let mut torn = old.clone();
        for (_, at) in changed.iter().enumerate().filter(|(n, _)| subset & (1 << n) != 0) {
            torn[*at..][..SECTOR].copy_from_slice(&new[*at..][..SECTOR]);
        }
        fs::write(&path, &torn).expect("writable");
        let mut wal = check(dir.path(), 200, MIDDLE, 201..=last + u64::from(torn == new));
        // What is left of a torn batch is not in the way of the next.
        wal.append(&[entry(wal.last_index() + 1, 2)]).expect("appending goes on");
        drop(wal);
        check(dir.path(), 200, MIDDLE, 201..=last + 1 + u64::from(torn == new));
    }
}

/// What somebody who knows the format hides in a value is not taken for a later batch.
#[test]
fn a_frame_within_a_value_is_none() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut wal = written(dir.path(), 2, NO_ROLL);
    let mut forged = b"CXW1".to_vec();
    let (len, number) = (0_u32.to_le_bytes(), 9_u64.to_le_bytes());
    let checksum = crc32fast::hash(&[&len[..], &number[..]].concat());
    forged.extend([&len[..], &number[..], &checksum.to_le_bytes()[..]].concat());
    let Record::Entry(plain) = entry(3, 1) else { unreachable!("made as one") };
    wal.append(&[Record::Entry(Entry { data: forged.into(), ..plain })]).expect("a healthy disk");
    drop(wal);
    let path = segments(dir.path()).remove(0);
    let mut torn = fs::read(&path).expect("readable");
    let end = end(&torn);
    torn[end - 60] ^= 0x10;
    fs::write(&path, &torn).expect("writable");
    check(dir.path(), 0, NO_ROLL, 1..=2);
}

#[test]
fn room_for_the_next_segment_is_there_before_it_is_needed_and_has_its_size() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    drop(written(dir.path(), 2, NO_ROLL));
    let one = spares(dir.path());
    assert_eq!(one.len(), 1);
    assert_eq!(fs::read(&one[0]).expect("readable"), vec![0; 1 << 16]);
    // As one of another version would have it.
    fs::write(&one[0], [0; 100]).expect("writable");
    drop(check(dir.path(), 0, NO_ROLL, 1..=2));
    assert_eq!(fs::read(&spares(dir.path())[0]).expect("readable").len(), 1 << 16);
}

#[test]
fn a_log_begins_anew_behind_a_snapshot() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut wal = written(dir.path(), 10, SMALL);
    let before = segments(dir.path());
    let kept: Vec<(PathBuf, Vec<u8>)> =
        before.iter().map(|path| (path.clone(), fs::read(path).expect("readable"))).collect();
    for mark in [Mark { index: 50, term: 3 }, Mark { index: 70, term: 3 }] {
        wal.jump(mark).expect("a healthy disk");
        wal.append(&[entry(mark.index + 1, 3)]).expect("appending goes on");
    }
    drop(wal);
    assert_eq!(segments(dir.path()).len(), 1);
    drop(check(dir.path(), 70, SMALL, 71..=71));
    // A crash before the old segments went: they count for nothing.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut wal = written(dir.path(), 10, SMALL);
    wal.jump(Mark { index: 50, term: 3 }).expect("a healthy disk");
    drop(wal);
    for (path, bytes) in kept {
        let name = path.file_name().expect("a file");
        fs::write(dir.path().join(name), bytes).expect("writable");
    }
    let mut wal = check(dir.path(), 50, SMALL, std::iter::empty());
    assert_eq!(wal.last_index(), 50);
    wal.append(&[entry(51, 3)]).expect("appending goes on");
    drop(wal);
    check(dir.path(), 50, SMALL, 51..=51);
}

#[test]
fn a_jump_over_a_longer_tail_forgets_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut wal = written(dir.path(), 10, NO_ROLL);
    wal.jump(Mark { index: 6, term: 2 }).expect("a healthy disk");
    wal.append(&[entry(7, 2)]).expect("appending goes on");
    drop(wal);
    check(dir.path(), 6, NO_ROLL, 7..=7);
}

#[test]
fn batches_of_every_size_come_back() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut wal = written(dir.path(), 2, NO_ROLL);
    let sizes = [1, 3_900, 4_096, 8_192, 70_000, 3 << 20, 5];
    let data = |size: usize| Bytes::from((0_u8..251).cycle().take(size).collect::<Vec<_>>());
    for (index, size) in (3..).zip(sizes) {
        let Record::Entry(plain) = entry(index, 1) else { unreachable!("made as one") };
        wal.append(&[Record::Entry(Entry { data: data(size), ..plain })]).expect("a healthy disk");
        drop(wal);
        let (reopened, recovered) = Wal::open(dir.path(), 2, NO_ROLL).expect("a usable log");
        assert_eq!(recovered.entries.last().expect("just written").data, data(size));
        wal = reopened;
    }
    drop(wal);
    drop(check(dir.path(), 2, NO_ROLL, 3..=9));
}
