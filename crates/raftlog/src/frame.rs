//! A frame is one batch on disk: `magic, length, number, checksum, payload`.
//!
//! Batches are numbered without a gap through all segments. The checksum covers the segment's
//! salt, length, number and payload, so a frame that was moved, repeated or half-written does
//! not pass. The magic is the segment's own, too: what another segment left in the file, or what
//! somebody hid in a value, does not even look like a frame. A segment's head, which tells the
//! salt, has none itself.

use bytes::Buf;

pub(crate) const HEADER_BYTES: usize = 20;
/// No batch comes near; a larger length is damage, not a reason to reserve memory.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 256 << 20;
pub(crate) const MAGIC_BYTES: usize = 4;
/// What a segment's head is checked with.
pub(crate) const NO_SALT: u64 = 0;

pub(crate) fn magic(salt: u64) -> [u8; MAGIC_BYTES] {
    if salt == NO_SALT {
        return *b"CXW1";
    }
    // Never that of zeros.
    (u32::try_from(salt >> 32).expect("half of it") | 1).to_le_bytes()
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub len: usize,
    pub number: u64,
    checksum: u32,
}

fn checksum(salt: u64, len: u32, number: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    if salt != NO_SALT {
        hasher.update(&salt.to_le_bytes());
    }
    hasher.update(&len.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// Makes room for a header in an empty buffer; the payload is appended by the caller.
pub(crate) fn begin(buf: &mut Vec<u8>) {
    buf.clear();
    buf.resize(HEADER_BYTES, 0);
}

/// Fills in the header of the frame that `buf` holds.
pub(crate) fn seal(buf: &mut [u8], number: u64, salt: u64) {
    let (header, payload) = buf.split_at_mut(HEADER_BYTES);
    assert!(payload.len() <= MAX_PAYLOAD_BYTES, "a frame is bounded");
    let len = u32::try_from(payload.len()).expect("bounded above");
    header[..4].copy_from_slice(&magic(salt));
    header[4..8].copy_from_slice(&len.to_le_bytes());
    header[8..16].copy_from_slice(&number.to_le_bytes());
    header[16..].copy_from_slice(&checksum(salt, len, number, payload).to_le_bytes());
}

impl Header {
    pub fn parse(mut bytes: &[u8], salt: u64) -> Option<Header> {
        if bytes.len() < HEADER_BYTES || bytes[..4] != magic(salt) {
            return None;
        }
        bytes.advance(4);
        let len = usize::try_from(bytes.get_u32_le()).ok()?;
        let number = bytes.get_u64_le();
        let checksum = bytes.get_u32_le();
        (len <= MAX_PAYLOAD_BYTES).then_some(Header { len, number, checksum })
    }

    pub fn admits(&self, payload: &[u8], salt: u64) -> bool {
        let len = u32::try_from(self.len).expect("parsed from 32 bits");
        payload.len() == self.len && self.checksum == checksum(salt, len, self.number, payload)
    }
}
