//! What a batch is made of, and how it lies in the file.

use bytes::{Buf, BufMut, Bytes};

/// One Raft log entry; `kind` and `context` are the caller's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    pub index: u64,
    pub term: u64,
    pub kind: u8,
    pub context: Bytes,
    pub data: Bytes,
}

/// What Raft must not forget beside its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HardState {
    pub term: u64,
    pub vote: u64,
    pub commit: u64,
}

/// Everything up to this entry is in a durable checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    pub index: u64,
    pub term: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Whose log this is; the caller's bytes, written once and carried along.
    Metadata(Bytes),
    HardState(HardState),
    Mark(Mark),
    Entry(Entry),
    /// Heads a segment: the last entry written before it.
    Position(u64),
    /// Heads a segment: what its later frames are marked and checked with, so that nothing its file held before is taken
    /// for one, and the size its file has at least.
    Room {
        salt: u64,
        bytes: u64,
    },
}

const METADATA: u8 = 1;
const HARD_STATE: u8 = 2;
const MARK: u8 = 3;
const ENTRY: u8 = 4;
const POSITION: u8 = 5;
const ROOM: u8 = 6;

impl Record {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Record::Metadata(bytes) => {
                out.put_u8(METADATA);
                put_bytes(out, bytes);
            }
            Record::HardState(state) => {
                out.put_u8(HARD_STATE);
                out.put_u64_le(state.term);
                out.put_u64_le(state.vote);
                out.put_u64_le(state.commit);
            }
            Record::Mark(mark) => {
                out.put_u8(MARK);
                out.put_u64_le(mark.index);
                out.put_u64_le(mark.term);
            }
            Record::Position(index) => {
                out.put_u8(POSITION);
                out.put_u64_le(*index);
            }
            Record::Room { salt, bytes } => {
                out.put_u8(ROOM);
                out.put_u64_le(*salt);
                out.put_u64_le(*bytes);
            }
            Record::Entry(entry) => {
                out.put_u8(ENTRY);
                out.put_u64_le(entry.index);
                out.put_u64_le(entry.term);
                out.put_u8(entry.kind);
                put_bytes(out, &entry.context);
                put_bytes(out, &entry.data);
            }
        }
    }

    /// Takes one record off a payload whose checksum held; `None` if it is not well-formed.
    pub(crate) fn decode(buf: &mut Bytes) -> Option<Record> {
        Some(match buf.try_get_u8().ok()? {
            METADATA => Record::Metadata(get_bytes(buf)?),
            HARD_STATE => Record::HardState(HardState {
                term: buf.try_get_u64_le().ok()?,
                vote: buf.try_get_u64_le().ok()?,
                commit: buf.try_get_u64_le().ok()?,
            }),
            MARK => Record::Mark(Mark { index: buf.try_get_u64_le().ok()?, term: buf.try_get_u64_le().ok()? }),
            ENTRY => Record::Entry(Entry {
                index: buf.try_get_u64_le().ok()?,
                term: buf.try_get_u64_le().ok()?,
                kind: buf.try_get_u8().ok()?,
                context: get_bytes(buf)?,
                data: get_bytes(buf)?,
            }),
            POSITION => Record::Position(buf.try_get_u64_le().ok()?),
            ROOM => Record::Room { salt: buf.try_get_u64_le().ok()?, bytes: buf.try_get_u64_le().ok()? },
            _ => return None,
        })
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &Bytes) {
    let len = u32::try_from(bytes.len()).expect("a record is bounded by the frame's size");
    out.put_u32_le(len);
    out.extend_from_slice(bytes);
}

fn get_bytes(buf: &mut Bytes) -> Option<Bytes> {
    let len = usize::try_from(buf.try_get_u32_le().ok()?).ok()?;
    (buf.len() >= len).then(|| buf.split_to(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_the_round_trip_and_no_prefix_is_mistaken_for_one() {
        let records = [
            Record::Metadata(Bytes::from_static(b"whose")),
            Record::HardState(HardState { term: 3, vote: 1, commit: 9 }),
            Record::Mark(Mark { index: 7, term: 2 }),
            Record::Position(6),
            Record::Room { salt: 5, bytes: 4 },
            Record::Entry(Entry {
                index: 8,
                term: 3,
                kind: 1,
                context: Bytes::from_static(b"c"),
                data: Bytes::from_static(b"data"),
            }),
        ];
        for record in records {
            let mut out = Vec::new();
            record.encode(&mut out);
            let bytes = Bytes::from(out);
            for cut in 0..bytes.len() {
                assert_eq!(Record::decode(&mut bytes.slice(..cut)), None);
            }
            assert_eq!(Record::decode(&mut bytes.clone()), Some(record));
        }
    }
}
