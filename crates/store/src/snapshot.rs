//! The snapshot file: the whole state as of one revision, for backup and restore.
//!
//! ```text
//! "CXSNAP01"  head  record  record ...  0  padding to 512 bytes  sha256 of all before
//! ```
//!
//! Head and records are length-delimited messages; the zero length ends them. The padding
//! makes the length what `etcdctl snapshot save` expects of a file with a checksum.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::{Buf, Bytes, BytesMut};
use mvcc::{KeyValue, Revision};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::convert;
use crate::pb::kvraft;
use crate::state::State;

const MAGIC: &[u8; 8] = b"CXSNAP01";
const PAGE_BYTES: usize = 512;
const HASH_BYTES: usize = 32;
/// Bytes per piece.
const CHUNK_BYTES: usize = 32 << 10;

/// Writes a snapshot piece by piece; holds the records, not their encoding.
pub struct Writer {
    records: std::vec::IntoIter<(Revision, Arc<KeyValue>)>,
    buf: BytesMut,
    hasher: Sha256,
    written: u64,
    total: u64,
    ended: bool,
}

fn record((at, kv): &(Revision, Arc<KeyValue>)) -> kvraft::Record {
    kvraft::Record { main: at.main, sub: at.sub, kv: Some(convert::key_value(kv)) }
}

fn delimited_len(message: &impl Message) -> u64 {
    let len = message.encoded_len();
    wide(len + prost::length_delimiter_len(len))
}

fn wide(len: usize) -> u64 {
    u64::try_from(len).expect("usize fits u64")
}

impl Writer {
    /// From [`State::head`] and the store's records, taken together.
    pub fn new(head: &kvraft::Head, records: Vec<(Revision, Arc<KeyValue>)>) -> Writer {
        let body = records.iter().map(|r| delimited_len(&record(r))).sum::<u64>();
        let end = wide(MAGIC.len()) + delimited_len(head) + body + 1;
        let mut buf = BytesMut::new();
        buf.extend_from_slice(MAGIC);
        head.encode_length_delimited(&mut buf).expect("a growing buffer has room");
        Writer {
            records: records.into_iter(),
            buf,
            hasher: Sha256::new(),
            written: 0,
            total: end.next_multiple_of(wide(PAGE_BYTES)) + wide(HASH_BYTES),
            ended: false,
        }
    }

    /// What is still to come after the pieces handed out so far.
    pub fn remaining(&self) -> u64 {
        self.total - self.written
    }

    fn fill(&mut self) {
        while self.buf.len() < CHUNK_BYTES && !self.ended {
            if let Some(next) = self.records.next() {
                record(&next).encode_length_delimited(&mut self.buf).expect("a growing buffer has room");
                continue;
            }
            self.ended = true;
            let body = usize::try_from(self.remaining()).expect("the rest is small") - HASH_BYTES;
            self.buf.resize(body, 0);
            self.hasher.update(&self.buf);
            let hash = self.hasher.finalize_reset();
            self.buf.extend_from_slice(&hash);
        }
    }
}

impl Iterator for Writer {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        self.fill();
        let piece = self.buf.split().freeze();
        if !self.ended {
            self.hasher.update(&piece);
        }
        self.written += wide(piece.len());
        (!piece.is_empty()).then_some(piece)
    }
}

/// Reads a whole snapshot back.
pub fn read(mut bytes: Bytes) -> Result<State> {
    ensure!(bytes.len() > HASH_BYTES && bytes.len() % PAGE_BYTES == HASH_BYTES, "the snapshot is cut short");
    let hash = bytes.split_off(bytes.len() - HASH_BYTES);
    ensure!(Sha256::digest(&bytes)[..] == hash[..], "the snapshot's checksum does not match");
    ensure!(bytes.starts_with(MAGIC), "this is no snapshot of kube-store");
    bytes.advance(MAGIC.len());
    let head = kvraft::Head::decode_length_delimited(&mut bytes).context("the snapshot's head is malformed")?;
    let mut records = Vec::new();
    while bytes.first().is_some_and(|length| *length != 0) {
        let record = kvraft::Record::decode_length_delimited(&mut bytes).context("a record is malformed")?;
        let kv = convert::key_value_from_wire(record.kv.context("a record is empty")?);
        records.push((Revision { main: record.main, sub: record.sub }, kv));
    }
    Ok(State::restore(head, records)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_damage_is_noticed() {
        let mut state = State { cluster_id: 7, ..State::default() };
        for n in 0..500_u32 {
            let key = Bytes::from(n.to_string());
            let put = mvcc::Put { value: Bytes::from(vec![1; 200]), key, ..mvcc::Put::default() };
            state.kv.put(put).expect("a plain put");
        }
        let writer = Writer::new(&state.head(), state.kv.records());
        let total = writer.remaining();
        let file: Vec<u8> = writer.flatten().collect();
        assert_eq!(wide(file.len()), total);
        let restored = read(Bytes::from(file.clone())).expect("intact");
        assert_eq!(restored.kv.records(), state.kv.records());
        assert_eq!((restored.kv.revision(), restored.cluster_id), (501, 7));
        for at in [0, 20, file.len() / 2, file.len() - 1] {
            let mut flipped = file.clone();
            flipped[at] ^= 1;
            assert!(read(Bytes::from(flipped)).is_err(), "flipped at {at}");
        }
        assert!(read(Bytes::from(file[..file.len() - 512].to_vec())).is_err());
    }
}
