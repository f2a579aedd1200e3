//! What a crash leaves behind, and what only a broken disk does.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use raftlog::{Entry, Error, HardState, Mark, Options, Record, Wal};

const SMALL: Options = Options { segment_bytes: 2_000 };
const NO_ROLL: Options = Options { segment_bytes: 1 << 20 };

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

fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("the directory exists");
    let mut paths: Vec<_> = entries.map(|e| e.expect("readable").path()).collect();
    paths.sort();
    paths
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
    // Both batches are alike, so the second begins two lengths of the rest before the end.
    let head = fs::metadata(&path).expect("there").len();
    let head = usize::try_from(head).expect("small");
    let batch = 20 + 2 * (1 + 8 + 8 + 1 + 4 + 4 + 100) + 25;
    for length in head - batch..head {
        fs::write(&path, &intact[..length]).expect("writable");
        let mut wal = check(dir.path(), 0, NO_ROLL, 1..=2);
        wal.append(&[entry(3, 1)]).expect("appending goes on");
        drop(wal);
        check(dir.path(), 0, NO_ROLL, 1..=3);
    }
    // A later page may have reached the disk before an earlier one.
    let mut holed = intact.clone();
    holed[head - batch..head - 60].fill(0);
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
        let end = if n == last { 100 } else { intact.len() };
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
fn a_segment_that_was_being_written_aside_is_ignored() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    drop(written(dir.path(), 4, NO_ROLL));
    fs::write(dir.path().join("0000000000000001.wal.tmp"), b"half").expect("writable");
    drop(check(dir.path(), 0, NO_ROLL, 1..=4));
    assert_eq!(segments(dir.path()).len(), 1);
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
