//! The data directory: opened by one process, log and checkpoint brought together.
//!
//! ```text
//! <data-dir>/member/lock
//! <data-dir>/member/wal/          the log, the authority; `--wal-dir` puts it elsewhere
//! <data-dir>/member/checkpoint/   the state as of some entry of it
//! <data-dir>/member/founding      while both are made; what is there without the other then is of no account
//! <data-dir>/member/restoring     while both are made from a snapshot; what is there then is of no use
//! ```
//!
//! Neither is made anew without the other: whatever is missing held what clients were promised.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use prost::Message;
use raftlog::{Options, Recovered, Wal};

use crate::checkpoint::{Checkpoint, Redb};
use crate::config::Config;
use crate::force_new;
use crate::members;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::{Bootstrap, MembersResponse};
use crate::snapshot;
use crate::state::{Applied, State};

const RESTORING: &str = "restoring";

pub struct Opened {
    pub member_id: u64,
    pub state: State,
    pub wal: Wal,
    pub recovered: Recovered,
    pub checkpoint: Box<dyn Checkpoint>,
    /// Peers beside those in the state: of one who joins, everybody.
    pub peers: Vec<pb::Member>,
}

/// Opens what is there; else founds a cluster with the members named in the flags, or begins as one who joins.
/// `found` asks a cluster that is there for its members, if one is to be joined.
pub async fn open<F: Future<Output = Result<Option<MembersResponse>>>>(
    config: &Config,
    _locks: &Locks,
    found: impl FnOnce() -> F,
) -> Result<Opened> {
    let member = config.data_dir.join("member");
    let wal_dir = config.wal_dir.clone();
    refuse_etcds(&member)?;
    ensure!(
        !Unfinished(member.join(RESTORING)).is_under_way()?,
        "{} is what an interrupted restore left: remove it, and restore again",
        member.display()
    );
    let mut checkpoint = Redb::open(&member.join("checkpoint"))?;
    let saved = checkpoint.load()?;
    let founding = Unfinished(member.join("founding"));
    if !Wal::exists(&wal_dir)? {
        ensure!(
            !config.force_new_cluster,
            "--force-new-cluster: there is no log in {} to go on with",
            wal_dir.display()
        );
        ensure!(
            saved.is_none() || founding.is_under_way()?,
            "{} holds a checkpoint, and {} not the log, which has what was written since: if it is elsewhere, say so by \
             --wal-dir; if it is lost, remove the member and add it again; a lone member can only be restored from a \
             snapshot",
            member.display(),
            wal_dir.display()
        );
        founding.begin()?;
        let beginning = match found().await? {
            Some(found) => joined(config, found)?,
            None => founded(config),
        };
        let opened = begin(config, Box::new(checkpoint), beginning)?;
        founding.end()?;
        return Ok(opened);
    }
    // It was interrupted at its very end.
    founding.end()?;
    let applied = saved.as_ref().map_or(Applied::default(), |state| state.applied);
    let (mut wal, mut recovered) = Wal::open(&wal_dir, applied.index, Options::default())?;
    if wal.last_index() < applied.index {
        // Else a snapshot's checkpoint was written, and the log not begun anew behind it yet.
        ensure!(
            checkpoint.is_installed()?,
            "the log in {} is damaged: it ends at entry {}, the checkpoint has entry {}: remove the member and add it \
             again; a lone member can only be restored from a snapshot",
            wal_dir.display(),
            wal.last_index(),
            applied.index
        );
        wal.jump(applied.into())?;
    }
    let Bootstrap { cluster_id, member_id, members } =
        Bootstrap::decode(recovered.metadata.clone()).context("the log's metadata is damaged")?;
    let state = saved.unwrap_or_else(|| State { cluster_id, ..State::default() });
    ensure!(
        state.cluster_id == cluster_id,
        "the checkpoint is of cluster {:x}, the log of cluster {cluster_id:x}",
        state.cluster_id
    );
    if config.force_new_cluster {
        force_new::go_on_alone(&mut wal, &mut recovered, &state, member_id)?;
    }
    let peers = if state.members.is_empty() { members } else { Vec::new() };
    Ok(Opened { member_id, state, wal, recovered, checkpoint: Box::new(checkpoint), peers })
}

/// The checkpoint of the beginning comes first: a log without one would be of a member that knows nobody.
fn begin(
    config: &Config,
    mut checkpoint: Box<dyn Checkpoint>,
    Beginning { bootstrap, state, peers }: Beginning,
) -> Result<Opened> {
    let Bootstrap { cluster_id, member_id, .. } = bootstrap;
    checkpoint.replace(&state.head(), &[])?;
    let metadata = Bytes::from(bootstrap.encode_to_vec());
    let wal = Wal::create(&config.wal_dir, metadata.clone(), state.applied.into(), Options::default())?;
    sync_dir(&config.data_dir)?;
    tracing::info!(
        cluster_id = format!("{cluster_id:x}"),
        member_id = format!("{member_id:x}"),
        members = state.members.len(),
        joins = config.joins,
        "began as a member"
    );
    let recovered = Recovered { metadata, ..Recovered::default() };
    Ok(Opened { member_id, state, wal, recovered, checkpoint, peers })
}

struct Beginning {
    bootstrap: Bootstrap,
    state: State,
    peers: Vec<pb::Member>,
}

fn founded(config: &Config) -> Beginning {
    let bootstrap = bootstrap(config, &[]);
    Beginning { state: State::founded(bootstrap.clone()), bootstrap, peers: Vec::new() }
}

/// Knows nobody yet, and lets itself be told; but whom to answer it must know.
fn joined(config: &Config, found: MembersResponse) -> Result<Beginning> {
    let own = |m: &&pb::Member| m.peer_ur_ls.iter().any(|url| config.advertise_peer_urls.contains(url));
    let member_id = found.members.iter().find(own).context("the cluster does not know this member")?.id;
    let cluster_id = found.cluster_id;
    Ok(Beginning {
        bootstrap: Bootstrap { cluster_id, member_id, members: found.members.clone() },
        state: State { cluster_id, ..State::default() },
        peers: found.members,
    })
}

/// Founds a cluster that begins with a snapshot's state. Every member restores the same snapshot under the same flags
/// but its own name. It is another cluster than the one that was saved, and its members are others: if that still
/// runs, nobody of it listens to them, who have forgotten what was promised since.
pub fn restore(config: &Config, snapshot: &Path) -> Result<()> {
    let bytes = Bytes::from(fs::read(snapshot).with_context(|| format!("cannot read {}", snapshot.display()))?);
    let mut state = snapshot::read(&bytes).with_context(|| format!("cannot use {}", snapshot.display()))?;
    let member = config.data_dir.join("member");
    ensure!(!member.exists(), "{} exists already: restore into an empty data directory", member.display());
    let _locks = lock(config)?;
    ensure!(!Wal::exists(&config.wal_dir)?, "{} holds a log already", config.wal_dir.display());
    let restoring = Unfinished(member.join(RESTORING));
    restoring.begin()?;
    let bootstrap = bootstrap(config, snapshot::checksum(&bytes));
    let metadata = Bytes::from(bootstrap.encode_to_vec());
    let founded = State::founded(bootstrap);
    (state.cluster_id, state.members, state.conf) = (founded.cluster_id, founded.members, founded.conf);
    state.removed.clear();
    Redb::open(&member.join("checkpoint"))?.replace(&state.head(), &state.kv.records())?;
    Wal::create(&config.wal_dir, metadata, state.applied.into(), Options::default())?;
    sync_dir(&config.data_dir)?;
    restoring.end()?;
    println!("restored revision {} into {}", state.kv.revision(), config.data_dir.display());
    Ok(())
}

fn create(member: &Path) -> Result<()> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(member);
    created.with_context(|| format!("cannot create the data directory {}", member.display()))
}

/// Of the data directory, and of the log's where that lies elsewhere.
pub type Locks = (File, Option<File>);

/// Keeps others out for as long as they are held.
pub fn lock(config: &Config) -> Result<Locks> {
    let member = config.data_dir.join("member");
    create(&member)?;
    let own = lock_dir(&member)?;
    if config.wal_dir.starts_with(&member) {
        return Ok((own, None));
    }
    create(&config.wal_dir)?;
    Ok((own, Some(lock_dir(&config.wal_dir)?)))
}

fn lock_dir(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another process uses the data directory ({} is locked)", path.display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// Marks that log and checkpoint are being made.
struct Unfinished(PathBuf);

impl Unfinished {
    fn is_under_way(&self) -> Result<bool> {
        self.0.try_exists().with_context(|| format!("cannot look for {}", self.0.display()))
    }

    fn begin(&self) -> Result<()> {
        File::create(&self.0).with_context(|| format!("cannot create {}", self.0.display()))?;
        sync_dir(self.0.parent().expect("it lies in the data directory"))
    }

    /// A mark that comes back after a power cut does no harm: both are there.
    fn end(&self) -> Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.0.display()))
            }
            _ => Ok(()),
        }
    }
}

/// etcd keeps its data in the same place, in other files: beside them an empty cluster would be founded.
fn refuse_etcds(member: &Path) -> Result<()> {
    let snap = member.join("snap");
    let there = snap.try_exists().with_context(|| format!("cannot look for {}", snap.display()))?;
    ensure!(
        !there,
        "{} holds the data of etcd, which has a format of its own: name another --data-dir, and copy the keys with \
         `etcdctl make-mirror` while both run",
        member.display()
    );
    Ok(())
}

fn sync_dir(dir: &Path) -> Result<()> {
    let synced = fs::File::open(dir).and_then(|file| file.sync_all());
    synced.with_context(|| format!("cannot sync {}", dir.display()))
}

/// Ids are derived, not drawn: members that are told of each other by their URLs agree on
/// them without having talked. `origin` is what the cluster begins with.
fn bootstrap(config: &Config, origin: &[u8]) -> Bootstrap {
    let member = |(name, urls): &(String, Vec<String>)| {
        let mut peer_ur_ls = urls.clone();
        peer_ur_ls.sort();
        let id = members::id(&[peer_ur_ls.concat().as_bytes(), config.cluster_token.as_bytes(), origin]);
        // A member is known by name once it has come up and said so; a lone one has.
        let alone = config.initial_cluster.len() == 1;
        let name = if alone { name.clone() } else { String::new() };
        let client_ur_ls = if alone { config.advertise_client_urls.clone() } else { Vec::new() };
        pb::Member { id, name, peer_ur_ls, client_ur_ls, is_learner: false }
    };
    let mut members: Vec<pb::Member> = config.initial_cluster.iter().map(member).collect();
    let mut own = config.advertise_peer_urls.clone();
    own.sort();
    let member_id = members.iter().find(|m| m.peer_ur_ls == own).map_or(0, |m| m.id);
    members.sort_by_key(|m| m.id);
    let ids: Vec<u8> = members.iter().flat_map(|m| m.id.to_be_bytes()).collect();
    Bootstrap { cluster_id: members::id(&[&ids]), member_id, members }
}
