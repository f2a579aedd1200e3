//! The write-ahead log: CRC'd append-only segments, one fdatasync per batch.
