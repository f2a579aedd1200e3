//! Checkpoints across crashes, damage and clearing up.

use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use mvcc::{DeleteRange, KeyRange, Put};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::redb::MAX_SPACE_PERCENT;
use super::{Checkpoint, Redb};
use crate::state::State;

/// Disks write sectors whole.
const SECTOR_BYTES: usize = 512;

#[derive(Debug, Clone)]
enum Step {
    SetLen(u64),
    Write(u64, Vec<u8>),
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).expect("test files fit memory")
}

fn apply(file: &mut Vec<u8>, step: &Step) {
    match step {
        Step::SetLen(len) => file.resize(position(*len), 0),
        Step::Write(offset, data) => {
            let start = position(*offset);
            if file.len() < start + data.len() {
                file.resize(start + data.len(), 0);
            }
            file[start..start + data.len()].copy_from_slice(data);
        }
    }
}

#[derive(Debug, Default)]
struct Platter {
    /// What a power loss leaves for sure.
    synced: Vec<u8>,
    /// What has happened since the last sync.
    unsynced: Vec<Step>,
    /// What the process sees.
    seen: Vec<u8>,
    /// Steps until the power goes; `None` is never.
    left: Option<usize>,
    written_bytes: usize,
}

impl Platter {
    fn step(&mut self) -> io::Result<()> {
        match &mut self.left {
            None => Ok(()),
            Some(0) => Err(io::Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn change(&mut self, step: Step) -> io::Result<()> {
        self.step()?;
        apply(&mut self.seen, &step);
        self.unsynced.push(step);
        Ok(())
    }

    /// What is found after the power came back: of each step since the last sync, and of each
    /// sector of a write, nobody knows whether it reached the disk.
    fn after_power_loss(&self, mut reached: impl FnMut() -> bool) -> Vec<u8> {
        let mut file = self.synced.clone();
        for step in &self.unsynced {
            match step {
                Step::SetLen(_) if reached() => apply(&mut file, step),
                Step::SetLen(_) => {}
                Step::Write(offset, data) => {
                    for (sector, part) in (0..).zip(data.chunks(SECTOR_BYTES)) {
                        if reached() {
                            let offset = offset + sector * u64::try_from(SECTOR_BYTES).expect("small");
                            apply(&mut file, &Step::Write(offset, part.to_vec()));
                        }
                    }
                }
            }
        }
        file
    }
}

#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<Platter>>);

impl Disk {
    fn holding(file: Vec<u8>) -> Disk {
        let disk = Disk::default();
        disk.with(|platter| (platter.synced, platter.seen) = (file.clone(), file));
        disk
    }

    fn with<T>(&self, body: impl FnOnce(&mut Platter) -> T) -> T {
        body(&mut self.0.lock().expect("no test panics while holding it"))
    }
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.with(|p| Ok(u64::try_from(p.seen.len()).expect("usize fits u64")))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = position(offset);
        self.with(|p| {
            let found = p.seen.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(found);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|p| p.change(Step::SetLen(len)))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|p| {
            p.step()?;
            p.unsynced.clear();
            p.synced.clone_from(&p.seen);
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|p| {
            p.written_bytes += data.len();
            p.change(Step::Write(offset, data.to_vec()))
        })
    }
}

fn put(state: &mut State, key: &str, value: Vec<u8>) {
    let put = Put { key: Bytes::copy_from_slice(key.as_bytes()), value: value.into(), ..Put::default() };
    state.kv.put(put).expect("a plain put");
    state.applied.index += 1;
}

/// A state that changes and is saved step by step: puts of all sizes, a deletion, a compaction.
fn change(state: &mut State, round: u8) {
    for n in 0..12_u8 {
        put(state, &format!("{}", n % 7), vec![round; usize::from(n) * 211]);
    }
    let keys = KeyRange::Single("3".into());
    state.kv.delete_range(&DeleteRange { keys, prev_kv: false });
    state.kv.compact(state.kv.revision() - 5).expect("goes forward");
    state.applied.index += 2;
}

fn save(checkpoint: &mut Redb, state: &mut State) -> anyhow::Result<()> {
    let changes = state.kv.take_changes();
    checkpoint.save(&state.head(), changes)
}

fn assert_same(found: &State, expected: &State) {
    assert_eq!(found.head(), expected.head());
    assert_eq!(found.kv.records(), expected.kv.records());
}

/// Saves one change more, with the power going after `steps`. Returns the disk and whether the
/// power lasted until everything was done.
fn save_until_power_loss(before: &[u8], rounds: u8, steps: usize) -> (Disk, bool, bool) {
    let disk = Disk::holding(before.to_vec());
    let mut state = saved_state(rounds);
    disk.with(|p| p.left = Some(steps));
    let saved = Redb::on(disk.clone()).and_then(|mut checkpoint| {
        change(&mut state, rounds);
        save(&mut checkpoint, &mut state)
    });
    let lasted = disk.with(|p| p.left != Some(0));
    (disk, saved.is_ok(), lasted)
}

fn saved_state(rounds: u8) -> State {
    let mut state = State::default();
    for round in 0..rounds {
        change(&mut state, round);
        state.kv.take_changes();
    }
    state
}

/// The power goes before every single step of opening, saving and closing, and any part of the
/// unsynced sectors reaches the disk: the last checkpoint is there, or the new one, and the new
/// one for sure once `save` has returned.
#[test]
fn a_crash_between_any_two_steps_leaves_a_whole_checkpoint() {
    let created = Disk::default();
    let _open = Redb::on(created.clone()).expect("opens");
    let mut before = created.with(|p| p.synced.clone());
    let (mut kept, mut renewed) = (0, 0);
    for rounds in 0..3 {
        let (old, new) = (saved_state(rounds), saved_state(rounds + 1));
        for steps in 0.. {
            let (disk, saved, lasted) = save_until_power_loss(&before, rounds, steps);
            for seed in 0..6 {
                let mut rng = StdRng::seed_from_u64(seed);
                // None, all, and some of what was not synced.
                let odds = [0.0, 1.0, 0.5, 0.5, 0.1, 0.9][usize::try_from(seed).expect("small")];
                let left = disk.with(|p| p.after_power_loss(|| rng.random_bool(odds)));
                let found = Redb::on(Disk::holding(left)).and_then(|mut c| c.load());
                let found = found.unwrap_or_else(|e| panic!("round {rounds}, {steps} steps, seed {seed}: {e:#}"));
                match found {
                    None => assert!(rounds == 0 && !saved, "{steps} steps, seed {seed}: nothing is left"),
                    Some(found) if found.applied == new.applied => {
                        renewed += 1;
                        assert_same(&found, &new);
                    }
                    Some(found) => {
                        kept += 1;
                        assert!(!saved, "{steps} steps, seed {seed}: what was saved is gone");
                        assert_same(&found, &old);
                    }
                }
            }
            if lasted {
                before = disk.with(|p| p.seen.clone());
                break;
            }
        }
    }
    println!("{kept} crashes left the last checkpoint, {renewed} the new one");
    assert!(kept > 100 && renewed > 100, "{kept} and {renewed} are too few to show anything");
}

#[test]
fn a_checkpoint_follows_its_state_and_can_be_replaced() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut state = State::default();
    for round in 0..20 {
        let mut checkpoint = Redb::open(dir.path()).expect("opens");
        match checkpoint.load().expect("undamaged") {
            None => assert_eq!(round, 0),
            Some(loaded) => assert_same(&loaded, &state),
        }
        change(&mut state, round);
        save(&mut checkpoint, &mut state).expect("saved");
    }
    let other = saved_state(2);
    let mut checkpoint = Redb::open(dir.path()).expect("opens");
    checkpoint.replace(&other.head(), &other.kv.records()).expect("replaced");
    assert_same(&checkpoint.load().expect("undamaged").expect("there"), &other);
    let late = mvcc::Changes { written: other.kv.records(), ..mvcc::Changes::default() };
    assert!(checkpoint.save(&other.head(), late).is_err(), "what is saved must be newer");
}

/// The engine makes durable whatever was committed when it is closed.
#[test]
fn a_save_that_fails_halfway_leaves_the_last_checkpoint() {
    let disk = Disk::default();
    let mut checkpoint = Redb::on(disk.clone()).expect("opens");
    let mut state = saved_state(3);
    checkpoint.replace(&state.head(), &state.kv.records()).expect("saved");
    let before = saved_state(3);
    change(&mut state, 3);
    let mut changes = state.kv.take_changes();
    assert!(!changes.removed.is_empty(), "the first steps would change nothing");
    changes.written.reverse();
    assert!(checkpoint.save(&state.head(), changes).is_err(), "revisions out of order cannot be appended");
    drop(checkpoint);
    let file = disk.with(|p| p.seen.clone());
    let left = Redb::on(Disk::holding(file)).expect("opens").load().expect("undamaged");
    assert_same(&left.expect("there"), &before);
}

#[test]
fn space_is_given_back() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut checkpoint = Redb::open(dir.path()).expect("opens");
    let mut state = State::default();
    let value = 100_000;
    for n in 0..500 {
        put(&mut state, &format!("{n:03}"), vec![1; value]);
    }
    save(&mut checkpoint, &mut state).expect("saved");
    let full = checkpoint.size_on_disk();
    checkpoint.tidy().expect("nothing to do");
    assert_eq!(checkpoint.size_on_disk(), full);
    let keys = KeyRange::from_wire("010".into(), "9".into());
    state.kv.delete_range(&DeleteRange { keys, prev_kv: false });
    put(&mut state, "last", Vec::new());
    state.kv.compact(state.kv.revision()).expect("goes forward");
    save(&mut checkpoint, &mut state).expect("saved");
    // As if a crash had cut an earlier attempt short.
    std::fs::write(dir.path().join("state.redb.new"), "half").expect("writable");
    checkpoint.tidy().expect("tidied");
    let held = u64::try_from(10 * value).expect("small");
    assert!(checkpoint.size_on_disk() < held * MAX_SPACE_PERCENT / 100, "{}", checkpoint.size_on_disk());
    // The file that took the place is the one that is written on.
    put(&mut state, "after", Vec::new());
    save(&mut checkpoint, &mut state).expect("saved");
    drop(checkpoint);
    std::fs::write(dir.path().join("state.redb.new"), "half").expect("writable");
    let loaded = Redb::open(dir.path()).expect("opens").load().expect("undamaged");
    assert_same(&loaded.expect("there"), &state);
    assert!(!dir.path().join("state.redb.new").exists());
}

/// Far more than the engine's cache holds, and half of it replaced.
#[test]
fn a_large_checkpoint_is_written_once() {
    const KEYS: usize = 4_000;
    const VALUE_BYTES: usize = 2 << 10;
    let disk = Disk::default();
    let mut checkpoint = Redb::on(disk.clone()).expect("opens");
    let mut state = State::default();
    let mut saved = |state: &mut State| {
        let before = disk.with(|p| p.written_bytes);
        save(&mut checkpoint, state).expect("saved");
        disk.with(|p| p.written_bytes) - before
    };
    for n in 0..KEYS {
        put(&mut state, &n.to_string(), vec![1; VALUE_BYTES]);
    }
    let bytes = saved(&mut state);
    assert!(bytes < KEYS * VALUE_BYTES * 4 / 3, "{bytes} bytes for {KEYS} new keys");
    for n in (0..KEYS).step_by(2) {
        put(&mut state, &n.to_string(), vec![2; VALUE_BYTES]);
    }
    state.kv.compact(state.kv.revision()).expect("goes forward");
    // Every old page holds something that goes; the engine moves what stays together only where little is left.
    let bytes = saved(&mut state);
    assert!(bytes < (KEYS + KEYS / 2) * VALUE_BYTES * 4 / 3, "{bytes} bytes for {} new values", KEYS / 2);
}

/// One byte of the file is wrong: the checkpoint is refused, or the byte did not matter.
#[test]
fn damage_is_refused() {
    let disk = Disk::default();
    let mut checkpoint = Redb::on(disk.clone()).expect("opens");
    let mut state = saved_state(3);
    checkpoint.replace(&state.head(), &state.kv.records()).expect("saved");
    let value = 40_000;
    put(&mut state, "more", vec![7; value]);
    save(&mut checkpoint, &mut state).expect("saved");
    drop(checkpoint);
    let file = disk.with(|p| p.seen.clone());
    let mut refused = 0;
    for at in (0..SECTOR_BYTES).chain((SECTOR_BYTES..file.len()).step_by(97)) {
        let mut damaged = file.clone();
        damaged[at] ^= 0x10;
        match Redb::on(Disk::holding(damaged)).and_then(|mut c| c.load()) {
            Ok(found) => assert_same(&found.unwrap_or_else(|| panic!("byte {at} hid the checkpoint")), &state),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > value / 97, "only {refused} bytes mattered");
}
