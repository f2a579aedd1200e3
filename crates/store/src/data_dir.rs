//! The data directory: opened by one process, log and checkpoint brought together.
//!
//! ```text
//! <data-dir>/member/lock
//! <data-dir>/member/wal/          the log, the authority
//! <data-dir>/member/checkpoint/   the state as of some entry of it
//! ```

use std::fs::{self, DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use prost::Message;
use raftlog::{Mark, Options, Recovered, Wal};
use sha2::{Digest, Sha256};

use crate::checkpoint::{Checkpoint, Redb};
use crate::config::Config;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::Bootstrap;
use crate::snapshot;
use crate::state::State;

pub struct Opened {
    /// Held while the process lives.
    pub lock: File,
    pub member_id: u64,
    pub state: State,
    pub wal: Wal,
    pub recovered: Recovered,
    pub checkpoint: Box<dyn Checkpoint>,
}

/// Opens what is there, or founds a cluster of one.
pub fn open(config: &Config) -> Result<Opened> {
    let member = config.data_dir.join("member");
    create(&member)?;
    let lock = lock(&member)?;
    let wal_dir = member.join("wal");
    let mut checkpoint = Redb::open(&member.join("checkpoint"))?;
    let saved = checkpoint.load()?;
    let (wal, recovered) = if Wal::exists(&wal_dir)? {
        let applied = saved.as_ref().map_or(0, |state| state.applied.index);
        Wal::open(&wal_dir, applied, Options::default())?
    } else {
        ensure!(
            saved.is_none(),
            "{} holds a checkpoint but no log: restore the data directory from a snapshot",
            member.display()
        );
        found(&wal_dir, config)?
    };
    let bootstrap = Bootstrap::decode(recovered.metadata.clone()).context("the log's metadata is damaged")?;
    let member_id = bootstrap.member_id;
    let cluster_id = bootstrap.cluster_id;
    let state = saved.unwrap_or_else(|| State::founded(bootstrap));
    ensure!(
        state.cluster_id == cluster_id,
        "the checkpoint is of cluster {:x}, the log of cluster {cluster_id:x}",
        state.cluster_id
    );
    Ok(Opened { lock, member_id, state, wal, recovered, checkpoint: Box::new(checkpoint) })
}

/// Founds a cluster of one that begins with a snapshot's state.
pub fn restore(config: &Config, snapshot: &Path) -> Result<()> {
    let bytes = fs::read(snapshot).with_context(|| format!("cannot read {}", snapshot.display()))?;
    let mut state = snapshot::read(bytes.into()).with_context(|| format!("cannot use {}", snapshot.display()))?;
    let member = config.data_dir.join("member");
    ensure!(!member.exists(), "{} exists already: restore into an empty data directory", member.display());
    create(&member)?;
    let _lock = lock(&member)?;
    let bootstrap = bootstrap(config);
    let metadata = Bytes::from(bootstrap.encode_to_vec());
    let founded = State::founded(bootstrap);
    (state.cluster_id, state.members, state.conf) = (founded.cluster_id, founded.members, founded.conf);
    Redb::open(&member.join("checkpoint"))?.replace(&state.head(), &state.kv.records())?;
    let mark = Mark { index: state.applied.index, term: state.applied.term };
    Wal::create(&member.join("wal"), metadata, mark, Options::default())?;
    sync_dir(&config.data_dir)?;
    println!("restored revision {} into {}", state.kv.revision(), config.data_dir.display());
    Ok(())
}

fn create(member: &Path) -> Result<()> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(member);
    created.with_context(|| format!("cannot create the data directory {}", member.display()))
}

fn lock(member: &Path) -> Result<File> {
    let path = member.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another process uses the data directory ({} is locked)", path.display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

fn found(wal_dir: &Path, config: &Config) -> Result<(Wal, Recovered)> {
    let bootstrap = bootstrap(config);
    let (cluster_id, member_id) = (bootstrap.cluster_id, bootstrap.member_id);
    let metadata = Bytes::from(bootstrap.encode_to_vec());
    let wal = Wal::create(wal_dir, metadata.clone(), Mark::default(), Options::default())?;
    sync_dir(&config.data_dir)?;
    tracing::info!(
        cluster_id = format!("{cluster_id:x}"),
        member_id = format!("{member_id:x}"),
        "founded a cluster of one"
    );
    Ok((wal, Recovered { metadata, ..Recovered::default() }))
}

fn sync_dir(dir: &Path) -> Result<()> {
    let synced = fs::File::open(dir).and_then(|file| file.sync_all());
    synced.with_context(|| format!("cannot sync {}", dir.display()))
}

/// Ids are derived, not drawn: members that are told of each other by their URLs agree on
/// them without having talked.
fn bootstrap(config: &Config) -> Bootstrap {
    let mut peer_ur_ls = config.advertise_peer_urls.clone();
    peer_ur_ls.sort();
    let member_id = id(&[peer_ur_ls.concat().as_bytes(), config.cluster_token.as_bytes()]);
    let member = pb::Member {
        id: member_id,
        name: config.name.clone(),
        peer_ur_ls,
        client_ur_ls: config.advertise_client_urls.clone(),
        is_learner: false,
    };
    let cluster_id = id(&[&member_id.to_be_bytes()]);
    Bootstrap { cluster_id, member_id, members: vec![member] }
}

/// Never zero: zero is nobody.
fn id(parts: &[&[u8]]) -> u64 {
    let hash = Sha256::digest(parts.concat());
    let first = hash.first_chunk().expect("a hash has 32 bytes");
    u64::from_be_bytes(*first).max(1)
}
