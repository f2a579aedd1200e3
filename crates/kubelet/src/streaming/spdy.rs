//! SPDY/3.1 frames, as much of it as Kubernetes' streaming speaks. No IO: bytes in, frames out.
//!
//! Header blocks of one direction share a compression state, so every block must be decoded, in
//! order, even of frames nobody cares about. Flow control is not part of the dialect: the peers
//! (moby/spdystream) neither send nor heed window updates beyond accepting them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::dictionary::dictionary;

const VERSION: u16 = 3;
const FLAG_FIN: u8 = 1;
/// The wire allows 16 MiB; no peer of ours sends nearly as much in one frame.
const MAX_FRAME: usize = 4 << 20;
const MAX_HEADER_BLOCK: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("SPDY frame of {0} bytes is too large")]
    TooLarge(usize),
    #[error("SPDY version {0} is not spoken here")]
    Version(u16),
    #[error("SPDY frame is cut short")]
    Short,
    #[error("SPDY header block cannot be read")]
    Headers,
}

pub type Headers = Vec<(String, String)>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    SynStream {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    SynReply {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    Data {
        stream: u32,
        data: Bytes,
        fin: bool,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    Ping(u32),
    GoAway,
    /// SETTINGS, HEADERS, WINDOW_UPDATE: nothing to do.
    Other(u16),
}

pub struct Encoder {
    deflate: Compress,
}

impl Default for Encoder {
    fn default() -> Encoder {
        let mut deflate = Compress::new(Compression::default(), true);
        deflate.set_dictionary(&dictionary()).expect("a fresh stream takes a dictionary");
        Encoder { deflate }
    }
}

fn control(kind: u16, flags: u8, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(8 + body.len());
    frame.put_u16(0x8000 | VERSION);
    frame.put_u16(kind);
    let length = u32::try_from(body.len()).expect("control frames are small");
    frame.put_u32(u32::from(flags) << 24 | length);
    frame.put_slice(body);
    frame.freeze()
}

impl Encoder {
    pub fn syn_stream(&mut self, stream: u32, headers: &[(&str, &str)], fin: bool) -> Bytes {
        let mut body = BytesMut::new();
        body.put_u32(stream);
        body.put_u32(0);
        body.put_u16(0);
        body.put_slice(&self.block(headers));
        control(1, if fin { FLAG_FIN } else { 0 }, &body)
    }

    pub fn syn_reply(&mut self, stream: u32) -> Bytes {
        let mut body = BytesMut::new();
        body.put_u32(stream);
        body.put_slice(&self.block(&[]));
        control(2, 0, &body)
    }

    fn block(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let length = |text: &str| u32::try_from(text.len()).expect("headers are short");
        let mut plain = BytesMut::new();
        plain.put_u32(u32::try_from(headers.len()).expect("headers are few"));
        for (name, value) in headers {
            plain.put_u32(length(name));
            plain.put_slice(name.as_bytes());
            plain.put_u32(length(value));
            plain.put_slice(value.as_bytes());
        }
        // A sync flush ends with all input taken in and some room left in the output.
        let mut packed = Vec::with_capacity(plain.len() + 128);
        self.deflate.compress_vec(&plain, &mut packed, FlushCompress::Sync).expect("deflate takes any input");
        packed
    }
}

pub fn data(stream: u32, payload: &[u8], fin: bool) -> Bytes {
    let mut frame = BytesMut::with_capacity(8 + payload.len());
    frame.put_u32(stream & 0x7fff_ffff);
    let length = u32::try_from(payload.len()).expect("callers cut their data to frames");
    frame.put_u32(u32::from(if fin { FLAG_FIN } else { 0 }) << 24 | length);
    frame.put_slice(payload);
    frame.freeze()
}

pub fn ping(id: u32) -> Bytes {
    control(6, 0, &id.to_be_bytes())
}

fn text(plain: &mut Bytes) -> Result<String, Error> {
    let length = plain.try_get_u32().map_err(|_| Error::Headers)? as usize;
    if plain.len() < length {
        return Err(Error::Headers);
    }
    Ok(String::from_utf8_lossy(&plain.split_to(length)).into_owned())
}

pub struct Decoder {
    inflate: Decompress,
    buffer: BytesMut,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { inflate: Decompress::new(true), buffer: BytesMut::new() }
    }
}

impl Decoder {
    /// Where to read more bytes into.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole frame, if there is one.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        if self.buffer.len() < 8 {
            return Ok(None);
        }
        let first = u32::from_be_bytes(self.buffer[..4].try_into().expect("four bytes"));
        let second = u32::from_be_bytes(self.buffer[4..8].try_into().expect("four bytes"));
        let (flags, length) = ((second >> 24) as u8, (second & 0x00ff_ffff) as usize);
        if length > MAX_FRAME {
            return Err(Error::TooLarge(length));
        }
        if self.buffer.len() < 8 + length {
            return Ok(None);
        }
        self.buffer.advance(8);
        let body = self.buffer.split_to(length).freeze();
        let fin = flags & FLAG_FIN != 0;
        if first & 0x8000_0000 == 0 {
            return Ok(Some(Frame::Data { stream: first, data: body, fin }));
        }
        let version = (first >> 16) as u16 & 0x7fff;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        self.control(first as u16, fin, body).map(Some)
    }

    fn control(&mut self, kind: u16, fin: bool, mut body: Bytes) -> Result<Frame, Error> {
        let stream = |body: &mut Bytes| body.try_get_u32().map(|id| id & 0x7fff_ffff).map_err(|_| Error::Short);
        match kind {
            1 => {
                let id = stream(&mut body)?;
                if body.len() < 6 {
                    return Err(Error::Short);
                }
                body.advance(6);
                Ok(Frame::SynStream { stream: id, headers: self.block(&body)?, fin })
            }
            2 => Ok(Frame::SynReply { stream: stream(&mut body)?, headers: self.block(&body)?, fin }),
            3 => Ok(Frame::Reset { stream: stream(&mut body)?, status: body.try_get_u32().unwrap_or(0) }),
            6 => Ok(Frame::Ping(body.try_get_u32().map_err(|_| Error::Short)?)),
            7 => Ok(Frame::GoAway),
            8 => {
                stream(&mut body)?;
                self.block(&body)?;
                Ok(Frame::Other(kind))
            }
            other => Ok(Frame::Other(other)),
        }
    }

    fn block(&mut self, packed: &[u8]) -> Result<Headers, Error> {
        let mut plain = self.inflate_all(packed)?;
        let count = plain.try_get_u32().map_err(|_| Error::Headers)?;
        let mut headers = Headers::new();
        for _ in 0..count {
            headers.push((text(&mut plain)?, text(&mut plain)?));
        }
        Ok(headers)
    }

    fn inflate_all(&mut self, packed: &[u8]) -> Result<Bytes, Error> {
        let mut plain = Vec::new();
        let mut input = packed;
        loop {
            let before = (self.inflate.total_in(), self.inflate.total_out());
            plain.reserve(1024);
            let outcome = self.inflate.decompress_vec(input, &mut plain, FlushDecompress::Sync);
            let taken = usize::try_from(self.inflate.total_in() - before.0).map_err(|_| Error::Headers)?;
            input = &input[taken..];
            match outcome {
                Ok(Status::StreamEnd) => break,
                Ok(_) if plain.len() > MAX_HEADER_BLOCK => return Err(Error::Headers),
                Ok(_) if input.is_empty() && plain.len() < plain.capacity() => break,
                Ok(_) if (self.inflate.total_in(), self.inflate.total_out()) == before => return Err(Error::Headers),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.inflate.set_dictionary(&dictionary()).map_err(|_| Error::Headers)?;
                }
                Err(_) => return Err(Error::Headers),
            }
        }
        Ok(Bytes::from(plain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(decoder: &mut Decoder, bytes: &[u8]) -> Vec<Frame> {
        decoder.buffer().extend_from_slice(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = decoder.next_frame().expect("valid frames") {
            frames.push(frame);
        }
        frames
    }

    #[test]
    fn streams_share_one_compression_state() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
            let bytes = encoder.syn_stream(stream, &[("streamtype", kind)], false);
            let headers = vec![("streamtype".to_owned(), kind.to_owned())];
            assert_eq!(decode(&mut decoder, &bytes), [Frame::SynStream { stream, headers, fin: false }]);
        }
        let reply = encoder.syn_reply(1);
        assert_eq!(decode(&mut decoder, &reply), [Frame::SynReply { stream: 1, headers: vec![], fin: false }]);
    }

    #[test]
    fn frames_arrive_in_pieces() {
        let mut all = data(3, b"hello", false).to_vec();
        all.extend_from_slice(&data(3, b"", true));
        all.extend_from_slice(&ping(2));
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for byte in all {
            frames.extend(decode(&mut decoder, &[byte]));
        }
        let hello = Frame::Data { stream: 3, data: Bytes::from_static(b"hello"), fin: false };
        let end = Frame::Data { stream: 3, data: Bytes::new(), fin: true };
        assert_eq!(frames, [hello, end, Frame::Ping(2)]);
    }

    #[test]
    fn hostile_bytes_are_errors() {
        let check = |bytes: &[u8]| {
            let mut decoder = Decoder::default();
            decoder.buffer().extend_from_slice(bytes);
            assert!(decoder.next_frame().is_err(), "{bytes:?}");
        };
        check(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff]);
        check(&[0x80, 2, 0, 1, 0, 0, 0, 0]);
        check(&[0x80, 3, 0, 1, 0, 0, 0, 2, 0, 0]);
        check(&[0x80, 3, 0, 2, 0, 0, 0, 8, 0, 0, 0, 1, 1, 2, 3, 4]);
    }
}
