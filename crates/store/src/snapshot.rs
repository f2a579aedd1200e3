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

/// What tells a snapshot from others, once [`read`] has found it to be right.
pub fn checksum(snapshot: &Bytes) -> &[u8] {
    snapshot.last_chunk::<HASH_BYTES>().map_or(&[], |hash| &hash[..])
}

/// Reads a whole snapshot back.
pub fn read(bytes: &Bytes) -> Result<State> {
    let mut reader = Reader::default();
    reader.take(bytes)?;
    reader.finish()
}

/// Takes a snapshot in as it comes; holds the records, not their encoding.
#[derive(Default)]
pub struct Reader {
    /// What was received and not understood yet; its last bytes may be the checksum.
    buf: BytesMut,
    hasher: Sha256,
    received: u64,
    head: Option<kvraft::Head>,
    records: Vec<(Revision, KeyValue)>,
    begun: bool,
    ended: bool,
}

impl Reader {
    pub fn take(&mut self, piece: &[u8]) -> Result<()> {
        self.received += wide(piece.len());
        self.buf.extend_from_slice(piece);
        if !self.begun && self.buf.len() >= MAGIC.len() {
            ensure!(self.buf.starts_with(MAGIC), "this is no snapshot of kube-store");
            self.consume(MAGIC.len());
            self.begun = true;
        }
        while self.begun && !self.ended && self.message()? {}
        self.discard_padding();
        Ok(())
    }

    /// Counts in bytes that were understood.
    fn consume(&mut self, len: usize) -> BytesMut {
        let part = self.buf.split_to(len);
        self.hasher.update(&part);
        part
    }

    /// One message, if it is here whole, and the checksum's length beyond it, so that the checksum is never mistaken.
    fn message(&mut self) -> Result<bool> {
        let mut ahead = &self.buf[..];
        if ahead.len() < HASH_BYTES {
            return Ok(false);
        }
        let len = prost::decode_length_delimiter(&mut ahead).context("a record is malformed")?;
        let prefix = self.buf.len() - ahead.len();
        if len == 0 {
            self.ended = true;
            return Ok(false);
        }
        if self.buf.len() < prefix + len + HASH_BYTES {
            return Ok(false);
        }
        let mut message = self.consume(prefix + len).freeze();
        message.advance(prefix);
        if self.head.is_none() {
            self.head = Some(kvraft::Head::decode(message).context("the snapshot's head is malformed")?);
            return Ok(true);
        }
        let record = kvraft::Record::decode(message).context("a record is malformed")?;
        let kv = convert::key_value_from_wire(record.kv.context("a record is empty")?);
        // The piece that it came in is not kept for it.
        let kv = KeyValue { key: Bytes::copy_from_slice(&kv.key), value: Bytes::copy_from_slice(&kv.value), ..kv };
        self.records.push((Revision { main: record.main, sub: record.sub }, kv));
        Ok(true)
    }

    fn discard_padding(&mut self) {
        if self.ended && self.buf.len() > HASH_BYTES {
            self.consume(self.buf.len() - HASH_BYTES);
        }
    }

    pub fn finish(mut self) -> Result<State> {
        ensure!(
            self.ended && self.buf.len() == HASH_BYTES && self.received % wide(PAGE_BYTES) == wide(HASH_BYTES),
            "the snapshot is cut short"
        );
        let hash = self.hasher.finalize_reset();
        ensure!(hash[..] == self.buf[..], "the snapshot's checksum does not match");
        let head = self.head.take().context("the snapshot has no head")?;
        Ok(State::restore(head, std::mem::take(&mut self.records))?)
    }
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
        let restored = read(&Bytes::from(file.clone())).expect("intact");
        let mut reader = Reader::default();
        file.chunks(777).for_each(|piece| reader.take(piece).expect("intact"));
        assert_eq!(reader.finish().expect("intact").kv.records(), state.kv.records());
        assert_eq!(restored.kv.records(), state.kv.records());
        assert_eq!((restored.kv.revision(), restored.cluster_id), (501, 7));
        for at in [0, 20, file.len() / 2, file.len() - 1] {
            let mut flipped = file.clone();
            flipped[at] ^= 1;
            assert!(read(&Bytes::from(flipped)).is_err(), "flipped at {at}");
        }
        assert!(read(&Bytes::from(file[..file.len() - 512].to_vec())).is_err());
    }
}
