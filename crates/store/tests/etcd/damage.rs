//! Data directories that lack something, or are somebody else's: refused, with what to do.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableTable, TableDefinition};

use crate::cluster::Cluster;
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
    check(&server, "not the log, which has what was written since");
    fs::remove_dir(&wal).expect("empty");
    check(&server, "not the log, which has what was written since");
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

/// A store with one value, as a file.
async fn snapshot_of(value: &str) -> (tempfile::TempDir, PathBuf) {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    client.put("key", value, None).await.expect("a plain put");
    let mut stream = client.snapshot().await.expect("a stream");
    let mut bytes = Vec::new();
    while let Some(piece) = stream.message().await.expect("no error") {
        bytes.extend_from_slice(piece.blob());
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("snapshot");
    fs::write(&file, bytes).expect("writable");
    (dir, file)
}

/// Restores the members and starts them.
async fn restored(files: [&PathBuf; 3], damage: impl FnOnce(&mut Server)) -> Cluster {
    let mut cluster = Cluster::new(&[]);
    for (server, file) in cluster.servers.iter().zip(files) {
        let restored = server.command().arg("restore").arg(file).output().expect("runs");
        assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    }
    damage(&mut cluster.servers[2]);
    cluster.servers.iter_mut().for_each(Server::launch);
    cluster
}

/// Nobody's disk says that anything is wrong: its data is another's all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_other_data_does_not_serve() {
    const RECORDS: TableDefinition<(i64, i64, u32), &[u8]> = TableDefinition::new("records");
    let (_dir, file) = snapshot_of("one").await;
    let damage = |server: &mut Server| {
        server.add_flags(&["--feature-gates", "InitialCorruptCheck=true"]);
        let db = Database::open(server.path("data/member/checkpoint/state.redb")).expect("nobody else has it");
        let write = db.begin_write().expect("whole");
        {
            let mut records = write.open_table(RECORDS).expect("there");
            let (key, record) = {
                let (key, record) = records.last().expect("whole").expect("a put");
                (key.value(), record.value().to_vec())
            };
            let at = record.windows(3).position(|part| part == b"one").expect("the value");
            let other = [&record[..at], b"two", &record[at + 3..]].concat();
            records.insert(key, &other[..]).expect("writable");
        }
        write.commit().expect("writable");
    };
    let mut cluster = restored([&file; 3], damage).await;
    cluster.servers[2].await_line("found data inconsistency with peers");
    assert!(!cluster.servers[2].await_end().success());
}

/// They would be one cluster with two pasts.
#[tokio::test(flavor = "multi_thread")]
async fn members_restored_from_different_snapshots_do_not_listen_to_each_other() {
    let (_dirs, files): (Vec<_>, Vec<_>) = [snapshot_of("one").await, snapshot_of("two").await].into_iter().unzip();
    let mut cluster = restored([&files[0], &files[0], &files[1]], |_| {}).await;
    cluster.servers[2].await_line("cluster ID mismatch");
    cluster.servers[0].await_line("ready to serve client requests");
}

/// On a disk of its own, say; its directory is nobody else's.
#[tokio::test]
async fn the_log_lies_where_it_is_told_to() {
    let mut server = Server::new(&[]);
    let wal = server.path("log");
    server.add_flags(&["--wal-dir", wal.to_str().expect("ascii")]);
    server.restart();
    server.client().await.put("key", "value", None).await.expect("a plain put");
    assert!(!segments(&wal).is_empty() && !server.path("data/member/wal").exists());
    let mut other = Server::new(&[]);
    other.add_flags(&["--wal-dir", wal.to_str().expect("ascii")]);
    check(&other, "another process uses");
    server.kill();
    server.restart();
    assert_eq!(server.client().await.get("key", None).await.expect("readable").count(), 1);
}

#[test]
fn half_a_restore_is_no_member() {
    let server = Server::new(&[]);
    fs::create_dir_all(server.path("data/member")).expect("writable");
    fs::write(server.path("data/member/restoring"), "").expect("writable");
    check(&server, "is what an interrupted restore left: remove it, and restore again");
}

#[test]
fn etcds_data_is_not_taken_for_an_empty_directory() {
    let server = Server::new(&[]);
    fs::create_dir_all(server.path("data/member/snap")).expect("writable");
    check(&server, "holds the data of etcd");
    assert!(!server.path("data/member/wal").exists());
}
