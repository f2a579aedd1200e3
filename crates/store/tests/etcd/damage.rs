//! Data directories that lack something, or are somebody else's: refused, with what to do.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::harness::Server;

/// Starts on what is there; it must end, and say why.
fn check(server: &Server, words: &str) {
    let output = server.command().output().expect("runs");
    assert!(!output.status.success(), "{words}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(words), "{words:?} is not in {said}");
}

/// A member with some keys that has ended, after as many entries per checkpoint.
async fn left_behind(snapshot_count: &str) -> Server {
    let mut server = Server::start(&["--snapshot-count", snapshot_count]);
    let mut client = server.client().await;
    for n in 0..100 {
        client.put(n.to_string(), "value", None).await.expect("a plain put");
    }
    server.kill();
    server
}

fn segments(wal: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(wal).expect("a log").map(|file| file.expect("readable").path());
    let mut segments: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "wal")).collect();
    segments.sort();
    segments
}

#[tokio::test]
async fn a_log_that_is_gone_is_missed_before_the_first_checkpoint() {
    let server = left_behind("10000").await;
    let wal = server.path("data/member/wal");
    for path in fs::read_dir(&wal).expect("a log") {
        fs::remove_file(path.expect("readable").path()).expect("removable");
    }
    check(&server, "holds a checkpoint but no log");
    fs::remove_dir(&wal).expect("empty");
    check(&server, "holds a checkpoint but no log");
}

#[tokio::test]
async fn a_log_that_ends_before_its_checkpoint_is_damaged() {
    let server = left_behind("20").await;
    let last = segments(&server.path("data/member/wal")).pop().expect("a segment");
    let file = fs::OpenOptions::new().write(true).open(&last).expect("writable");
    let length = file.metadata().expect("open").len();
    // All but what a segment begins with.
    const HEAD_BYTES: u64 = 4 << 10;
    let zeros = vec![0; usize::try_from(length - HEAD_BYTES).expect("16 MiB")];
    file.write_all_at(&zeros, HEAD_BYTES).expect("writable");
    check(&server, "is damaged: it ends at entry");
}

#[test]
fn etcds_data_is_not_taken_for_an_empty_directory() {
    let server = Server::new(&[]);
    fs::create_dir_all(server.path("data/member/snap")).expect("writable");
    check(&server, "holds the data of etcd");
    assert!(!server.path("data/member/wal").exists());
}
