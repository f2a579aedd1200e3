//! How records lie in the engine: as messages, cut into pieces.
//!
//! The engine's pages are 4 KiB, a page holds whole entries only, and an entry that does not
//! fit gets a power of two of pages: objects of 2 KiB would take twice their size. So a record
//! is cut into pieces of which eight fill a page. All pieces but the last have
//! [`PIECE_BYTES`]; the last has fewer, so it is known without looking at what follows.
//!
//! ```text
//! (revision, 0)  [ 489 bytes ]
//! (revision, 1)  [ 489 bytes ]      a record of 1,000 bytes
//! (revision, 2)  [  22 bytes ]
//! ```

use anyhow::{Context, Result, ensure};
use mvcc::{KeyValue, Revision};
use prost::Message;
use prost::encoding::{bytes, int64};

use crate::convert;
use crate::pb::mvccpb;

/// An eighth of a page, without what the engine adds to an entry.
pub const PIECE_BYTES: usize = 489;

/// Main and sub revision and the piece's number: sorts as the revisions were taken.
pub type Key = (i64, i64, u32);

/// Encodes in place of what `buf` held. The same message as [`mvccpb::KeyValue`], written from
/// borrowed fields: cloning the value would cost it an allocation that stays as long as it does.
pub fn encode(kv: &KeyValue, buf: &mut Vec<u8>) {
    buf.clear();
    bytes::encode(1, &kv.key, buf);
    int64::encode(2, &kv.create_revision, buf);
    int64::encode(3, &kv.mod_revision, buf);
    int64::encode(4, &kv.version, buf);
    bytes::encode(5, &kv.value, buf);
    int64::encode(6, &kv.lease, buf);
}

/// Cuts an encoded record. There is always a piece shorter than the others, at the end.
pub fn pieces(revision: Revision, encoded: &[u8]) -> impl Iterator<Item = (Key, &[u8])> {
    let full = encoded.chunks_exact(PIECE_BYTES);
    let last = full.remainder();
    let number = (0_u32..).map(move |n| (revision.main, revision.sub, n));
    number.zip(full.chain([last]))
}

/// Puts pieces together again; keeps one record at a time.
#[derive(Default)]
pub struct Joiner {
    encoded: Vec<u8>,
    next: u32,
}

impl Joiner {
    /// Takes the next piece and returns the record that it completes.
    pub fn join(&mut self, (main, sub, number): Key, piece: &[u8]) -> Result<Option<(Revision, KeyValue)>> {
        ensure!(number == self.next, "the checkpoint is damaged: a piece of the record at revision {main} is missing");
        self.encoded.extend_from_slice(piece);
        self.next += 1;
        if piece.len() >= PIECE_BYTES {
            return Ok(None);
        }
        let revision = Revision { main, sub };
        let kv = mvccpb::KeyValue::decode(&self.encoded[..]).context("a record of the checkpoint is no key-value")?;
        self.encoded.clear();
        self.next = 0;
        Ok(Some((revision, convert::key_value_from_wire(kv))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_every_length_come_back() {
        let at = Revision { main: 7, sub: 3 };
        let mut encoded = Vec::new();
        let mut joiner = Joiner::default();
        for length in (0..3 * PIECE_BYTES).step_by(7).chain(PIECE_BYTES - 40..PIECE_BYTES + 1) {
            let value = vec![1; length].into();
            let kv = KeyValue { key: "k".into(), value, mod_revision: 7, version: 1, ..KeyValue::default() };
            encode(&kv, &mut encoded);
            let mut joined = None;
            for (key, piece) in pieces(at, &encoded) {
                assert!(joined.is_none(), "complete before its last piece");
                joined = joiner.join(key, piece).expect("undamaged");
            }
            assert_eq!(joined, Some((at, kv)), "{length}");
        }
        assert!(joiner.join((7, 3, 1), &[]).is_err(), "the first piece is missing");
    }

    #[test]
    fn the_message_is_the_wires() {
        let (create_revision, mod_revision, version, lease) = (1, 2, 3, 4);
        let kv = KeyValue { key: "k".into(), value: "v".into(), create_revision, mod_revision, version, lease };
        let mut encoded = Vec::new();
        encode(&kv, &mut encoded);
        assert_eq!(encoded, convert::key_value(&kv).encode_to_vec());
    }
}
