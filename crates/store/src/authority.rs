//! What etcd's clients up to 3.4 call the server they want: the whole URL of the endpoint, `http://127.0.0.1:2379`,
//! where HTTP/2 wants an authority. Go's server takes it, a strict one resets the stream. Of a connection's first
//! request (later ones refer to its header fields) the scheme is blotted out before anyone parses it.
//!
//! Invariants
//! - No length changes, encoded or not: `httpx--127.0.0.1:2379` is an authority, takes as many bits in HPACK's code, and
//!   both sides' tables stay equal.
//! - Nothing but the first HEADERS frame is touched or held back, and that only until it is complete.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 1;
/// A first request with more than this in one frame is not held back.
const MAX_HELD: usize = 32 << 10;
const READ: usize = 4 << 10;

/// A literal that is added to the table, its name the first of the static table: `:authority`.
const AUTHORITY: u8 = 0x41;
const CODED: u8 = 0x80;
/// `http://` in HPACK's code of [`BITS`] bits, and `httpx--`, which has as many.
const BITS: u32 = 41;
const URL: u64 = code(&[(0x27, 6), (0x09, 5), (0x09, 5), (0x2b, 6), (0x5c, 7), (0x18, 6), (0x18, 6)]);
const NAME: u64 = code(&[(0x27, 6), (0x09, 5), (0x09, 5), (0x2b, 6), (0x79, 7), (0x16, 6), (0x16, 6)]);
const PLAIN_URL: &[u8; 7] = b"http://";
const PLAIN_NAME: &[u8; 7] = b"httpx--";

/// The codes one after another, from the highest bit on.
const fn code(codes: &[(u64, u32)]) -> u64 {
    let (mut bits, mut used, mut n) = (0, 0, 0);
    while n < codes.len() {
        let (code, length) = codes[n];
        used += length;
        bits |= code << (64 - used);
        n += 1;
    }
    assert!(used == BITS, "seven characters of the code");
    bits
}

/// A plaintext connection to a server.
pub struct Authority<T> {
    inner: T,
    /// Read and not handed on. Empty and unused once the first request is through.
    held: BytesMut,
    /// Of what is held: may be handed on.
    clear: usize,
    /// Of what HTTP/2 begins with: has come.
    preface: usize,
    /// Bytes to pass by before the next frame begins.
    skip: usize,
    done: bool,
}

impl<T: AsyncRead + Unpin> Authority<T> {
    pub fn new(inner: T) -> Authority<T> {
        Authority { inner, held: BytesMut::new(), clear: 0, preface: 0, skip: 0, done: false }
    }

    /// Marks as clear what may be handed on.
    fn look(&mut self) {
        let begun = self.held[self.clear..].iter().zip(&PREFACE[self.preface..]).take_while(|(a, b)| a == b).count();
        self.preface += begun;
        self.clear += begun;
        // What begins in another way is not HTTP/2.
        self.done |= self.preface < PREFACE.len() && self.clear < self.held.len();
        while !self.done && self.preface == PREFACE.len() {
            let passed = self.skip.min(self.held.len() - self.clear);
            self.clear += passed;
            self.skip -= passed;
            let rest = &mut self.held[self.clear..];
            if self.skip > 0 || rest.len() < FRAME_HEADER {
                return;
            }
            let length = FRAME_HEADER + (&rest[..3]).get_uint(3) as usize;
            if rest[3] != HEADERS {
                self.skip = length;
            } else if length > MAX_HELD {
                self.done = true;
            } else if rest.len() < length {
                return;
            } else {
                blot_out(&mut rest[FRAME_HEADER..length]);
                self.done = true;
            }
        }
        self.clear = self.held.len();
    }
}

fn blot_out(headers: &mut [u8]) {
    let found = |window: &[u8]| {
        let url = &window[2..];
        window[0] == AUTHORITY
            && if window[1] & CODED == 0 { url.starts_with(PLAIN_URL) } else { (bits(url) ^ URL) >> (64 - BITS) == 0 }
    };
    let Some(at) = headers.windows(2 + 8).position(found) else { return };
    let (coded, url) = (headers[at + 1] & CODED != 0, &mut headers[at + 2..at + 10]);
    if coded {
        let rest = bits(url) << BITS >> BITS;
        url.copy_from_slice(&(NAME | rest).to_be_bytes());
    } else {
        url[..PLAIN_NAME.len()].copy_from_slice(PLAIN_NAME);
    }
}

fn bits(mut bytes: &[u8]) -> u64 {
    bytes.get_u64()
}

impl<T: AsyncRead + Unpin> AsyncRead for Authority<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while !this.done && this.clear == 0 {
            let mut room = [0; READ];
            let mut read = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut read))?;
            this.held.extend_from_slice(read.filled());
            this.look();
            if read.filled().is_empty() {
                // The end: what is held is all there is.
                this.done = true;
                this.clear = this.held.len();
            }
        }
        if this.clear == 0 {
            return Pin::new(&mut this.inner).poll_read(cx, out);
        }
        let taken = this.clear.min(out.remaining());
        out.put_slice(&this.held.split_to(taken));
        this.clear -= taken;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Authority<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, 0, 0, 0, 0, 1]);
        frame.extend(payload);
        frame
    }

    /// What is read of a connection on which this was sent in pieces of so many bytes.
    async fn through(sent: &[u8], piece: usize) -> Vec<u8> {
        let (mut client, server) = duplex(1 << 20);
        for piece in sent.chunks(piece) {
            client.write_all(piece).await.expect("there is room");
        }
        drop(client);
        let mut seen = Vec::new();
        Authority::new(server).read_to_end(&mut seen).await.expect("reads to the end");
        seen
    }

    fn connection(authority: &[u8]) -> Vec<u8> {
        let literal = [&[AUTHORITY, authority.len() as u8], authority].concat();
        let request = frame(HEADERS, &[&[0x83, 0x86], &literal[..], &[0x40, 1, b'a', 1, b'b']].concat());
        // The same bytes elsewhere are somebody's data.
        [&PREFACE[..], &frame(4, &[0; 6])[..], &request, &frame(0, &literal), &frame(HEADERS, &literal)].concat()
    }

    #[tokio::test]
    async fn the_first_requests_scheme_is_blotted_out_and_nothing_else() {
        for piece in [1, 7, 1000] {
            let sent = connection(b"http://127.0.0.1:2379");
            let mut expected = sent.clone();
            let at = sent.windows(7).position(|w| w == PLAIN_URL).expect("in the first request");
            expected[at..at + 7].copy_from_slice(PLAIN_NAME);
            assert_eq!(through(&sent, piece).await, expected, "in pieces of {piece}");
            let sent = connection(b"127.0.0.1:2379");
            assert_eq!(through(&sent, piece).await, sent, "an authority, in pieces of {piece}");
        }
    }

    #[test]
    fn a_coded_url_keeps_its_length_and_its_rest() {
        let mut headers = vec![0x83, AUTHORITY, CODED | 16];
        headers.extend((URL | 0x2a_aaaa).to_be_bytes());
        headers.extend([0xaa; 8]);
        let mut expected = headers.clone();
        expected[3..11].copy_from_slice(&(NAME | 0x2a_aaaa).to_be_bytes());
        blot_out(&mut headers);
        assert_eq!(headers, expected);
        blot_out(&mut headers[..4]);
    }

    #[tokio::test]
    async fn what_is_not_http2_is_handed_on_at_once() {
        for sent in [&b"GET /health HTTP/1.1\r\n\r\n"[..], b"PUT /health HTTP/1.1\r\nhost: a\r\n\r\n"] {
            for piece in [1, 7, 1000] {
                let (mut client, server) = duplex(1 << 10);
                let mut server = Authority::new(server);
                let mut seen = vec![0; sent.len()];
                for piece in sent.chunks(piece) {
                    client.write_all(piece).await.expect("there is room");
                }
                // The client waits for its answer.
                server.read_exact(&mut seen).await.expect("all of it");
                assert_eq!(seen, sent, "in pieces of {piece}");
            }
        }
    }

    #[tokio::test]
    async fn what_ends_early_is_handed_on() {
        let sent = connection(b"http://127.0.0.1:2379");
        let cut = &sent[..PREFACE.len() + 15 + 12];
        assert_eq!(through(cut, 5).await, cut);
    }
}
