//! HTTP/2 as far as a gRPC client needs it, without reading or writing anything itself: bytes in, bytes out. What headers
//! an answer has is not looked at: a call has its messages, and an end.

use std::collections::HashMap;
use std::task::Waker;

use bytes::{Buf, BufMut, BytesMut};

use crate::headers::Headers;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
/// What a server must take, and what it grants until it says otherwise.
const MAX_FRAME_BYTES: usize = 16 << 10;
const DEFAULT_WINDOW: i64 = 65_535;
/// Wide enough that no server ever waits for the client.
const STREAM_WINDOW: u32 = i32::MAX.unsigned_abs();
/// The connection's window is opened again after so many bytes.
const GRANT: u32 = 1 << 30;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;

const INITIAL_WINDOW_SIZE: u16 = 0x4;

mod kind {
    pub const DATA: u8 = 0x0;
    pub const HEADERS: u8 = 0x1;
    pub const RST_STREAM: u8 = 0x3;
    pub const SETTINGS: u8 = 0x4;
    pub const PING: u8 = 0x6;
    pub const GOAWAY: u8 = 0x7;
    pub const WINDOW_UPDATE: u8 = 0x8;
}

/// One side of a connection: the client's.
pub struct Session {
    /// To be written.
    pub out: BytesMut,
    streams: HashMap<u32, Stream>,
    headers: Headers,
    scheme: &'static str,
    next_id: u32,
    /// What the server still takes, of the connection and of a new stream.
    window: i64,
    stream_window: i64,
    /// Streams that have more to send than the server takes.
    stalled: Vec<u32>,
    /// Received since the window was last opened.
    received: u32,
}

struct Stream {
    /// Received and not yet taken.
    buffer: BytesMut,
    ended: bool,
    /// Why it was ended from outside.
    reset: Option<u32>,
    waker: Option<Waker>,
    unsent: Unsent,
}

struct Unsent {
    bytes: BytesMut,
    end: bool,
    window: i64,
}

/// What a server has done that no call can go on after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    GoAway(u32),
    Malformed(&'static str),
}

impl std::error::Error for Broken {}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Broken::GoAway(code) => write!(f, "the server has ended the connection: code {code}"),
            Broken::Malformed(what) => write!(f, "the server speaks no HTTP/2: {what} is malformed"),
        }
    }
}

impl Session {
    pub fn new(scheme: &'static str) -> Session {
        let mut session = Session {
            out: BytesMut::from(PREFACE),
            streams: HashMap::new(),
            headers: Headers::default(),
            scheme,
            next_id: 1,
            window: DEFAULT_WINDOW,
            stream_window: DEFAULT_WINDOW,
            stalled: Vec::new(),
            received: 0,
        };
        frame(&mut session.out, 6, kind::SETTINGS, 0, 0);
        session.out.put_u16(INITIAL_WINDOW_SIZE);
        session.out.put_u32(STREAM_WINDOW);
        session.grant(STREAM_WINDOW - u32::try_from(DEFAULT_WINDOW).expect("positive"));
        session
    }

    /// Begins a call: its headers go out with the first bytes that follow.
    pub fn open(&mut self, path: &'static str) -> u32 {
        let id = self.next_id;
        self.next_id += 2;
        let start = self.out.len();
        frame(&mut self.out, 0, kind::HEADERS, END_HEADERS, id);
        self.headers.encode(self.scheme, path, &mut self.out);
        let length = self.out.len() - start - FRAME_HEADER;
        self.out[start..start + 3].copy_from_slice(&length_bytes(length));
        let unsent = Unsent { bytes: BytesMut::new(), end: false, window: self.stream_window };
        self.streams.insert(id, Stream { buffer: BytesMut::new(), ended: false, reset: None, waker: None, unsent });
        id
    }

    pub fn send(&mut self, id: u32, bytes: &[u8], end: bool) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let unsent = &mut stream.unsent;
        unsent.end |= end;
        let length = i64::try_from(bytes.len()).expect("memory is smaller");
        if unsent.bytes.is_empty() && bytes.len() <= MAX_FRAME_BYTES && length <= self.window.min(unsent.window) {
            frame(&mut self.out, bytes.len(), kind::DATA, if end { END_STREAM } else { 0 }, id);
            self.out.extend_from_slice(bytes);
            self.window -= length;
            unsent.window -= length;
            return;
        }
        unsent.bytes.extend_from_slice(bytes);
        if !self.stalled.contains(&id) {
            self.stalled.push(id);
        }
        self.send_stalled();
    }

    /// As much as the server takes now.
    fn send_stalled(&mut self) {
        let mut stalled = std::mem::take(&mut self.stalled);
        stalled.retain(|id| {
            let Some(Stream { unsent, .. }) = self.streams.get_mut(id) else { return false };
            loop {
                let room = usize::try_from(self.window.min(unsent.window)).unwrap_or(0);
                let length = unsent.bytes.len().min(room).min(MAX_FRAME_BYTES);
                if length == 0 {
                    return !unsent.bytes.is_empty();
                }
                let last = unsent.end && length == unsent.bytes.len();
                frame(&mut self.out, length, kind::DATA, if last { END_STREAM } else { 0 }, *id);
                self.out.extend_from_slice(&unsent.bytes.split_to(length));
                let length = i64::try_from(length).expect("a frame is small");
                self.window -= length;
                unsent.window -= length;
            }
        });
        self.stalled.append(&mut stalled);
    }

    /// What has been received of a call, and whether it has ended.
    pub fn call(&mut self, id: u32) -> Option<(&mut BytesMut, bool, Option<u32>)> {
        self.streams.get_mut(&id).map(|stream| (&mut stream.buffer, stream.ended, stream.reset))
    }

    /// Who is woken when there is more of a call.
    pub fn await_more(&mut self, id: u32, waker: &Waker) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.waker.as_ref().is_some_and(|known| known.will_wake(waker))
        {
            stream.waker = Some(waker.clone());
        }
    }

    pub fn close(&mut self, id: u32) {
        if self.streams.remove(&id).is_some_and(|stream| !stream.ended) {
            frame(&mut self.out, 4, kind::RST_STREAM, 0, id);
            self.out.put_u32(8); // CANCEL
        }
    }

    /// Everyone who waits, once no more will come.
    pub fn waiting(&mut self) -> Vec<Waker> {
        self.streams.values_mut().filter_map(|stream| stream.waker.take()).collect()
    }

    /// Takes whole frames off what was read; whoever has more to see now is added to `woken`.
    pub fn receive(&mut self, read: &mut BytesMut, woken: &mut Vec<Waker>) -> Result<(), Broken> {
        while let Some(header) = read.first_chunk::<FRAME_HEADER>() {
            let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            let (kind, flags) = (header[3], header[4]);
            let id = u32::from_be_bytes([header[5] & 0x7f, header[6], header[7], header[8]]);
            if read.len() < FRAME_HEADER + length {
                return Ok(());
            }
            read.advance(FRAME_HEADER);
            let payload = &read[..length];
            self.take(kind, flags, id, payload, woken)?;
            read.advance(length);
        }
        Ok(())
    }

    fn take(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8], woken: &mut Vec<Waker>) -> Result<(), Broken> {
        match kind {
            kind::DATA => self.take_data(flags, id, payload, woken),
            kind::HEADERS if flags & END_STREAM != 0 => {
                self.end(id, None, woken);
                Ok(())
            }
            kind::RST_STREAM => {
                self.end(id, Some(number(payload)?), woken);
                Ok(())
            }
            kind::SETTINGS if flags & ACK == 0 => self.take_settings(payload),
            kind::PING if flags & ACK == 0 => {
                frame(&mut self.out, payload.len(), kind::PING, ACK, 0);
                self.out.extend_from_slice(payload);
                Ok(())
            }
            kind::GOAWAY => Err(Broken::GoAway(payload.get(4..).map_or(Ok(0), number)?)),
            kind::WINDOW_UPDATE => {
                let more = i64::from(number(payload)?);
                match self.streams.get_mut(&id) {
                    _ if id == 0 => self.window += more,
                    Some(stream) => stream.unsent.window += more,
                    None => {}
                }
                self.send_stalled();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn take_data(&mut self, flags: u8, id: u32, payload: &[u8], woken: &mut Vec<Waker>) -> Result<(), Broken> {
        self.received += u32::try_from(payload.len()).expect("a frame is small");
        if self.received >= GRANT {
            let received = std::mem::take(&mut self.received);
            self.grant(received);
        }
        let data = match (flags & PADDED != 0, payload) {
            (false, data) => data,
            (true, [padding, rest @ ..]) if usize::from(*padding) <= rest.len() => {
                &rest[..rest.len() - usize::from(*padding)]
            }
            _ => return Err(Broken::Malformed("padding")),
        };
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        stream.buffer.extend_from_slice(data);
        if flags & END_STREAM != 0 {
            stream.ended = true;
        }
        // A question with one answer is over with its headers, which come next.
        if !stream.unsent.end || stream.ended {
            woken.extend(stream.waker.take());
        }
        Ok(())
    }

    fn take_settings(&mut self, payload: &[u8]) -> Result<(), Broken> {
        for setting in payload.chunks(6) {
            let [a, b, value @ ..] = setting else { return Err(Broken::Malformed("a setting")) };
            if u16::from_be_bytes([*a, *b]) == INITIAL_WINDOW_SIZE {
                let window = i64::from(number(value)?);
                let more = window - self.stream_window;
                self.stream_window = window;
                self.streams.values_mut().for_each(|stream| stream.unsent.window += more);
            }
        }
        frame(&mut self.out, 0, kind::SETTINGS, ACK, 0);
        self.send_stalled();
        Ok(())
    }

    fn end(&mut self, id: u32, reset: Option<u32>, woken: &mut Vec<Waker>) {
        // A server that has answered may still say that it wants to hear no more of the question.
        if let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.ended) {
            stream.ended = true;
            stream.reset = reset;
            woken.extend(stream.waker.take());
        }
    }

    fn grant(&mut self, bytes: u32) {
        frame(&mut self.out, 4, kind::WINDOW_UPDATE, 0, 0);
        self.out.put_u32(bytes);
    }
}

fn number(bytes: &[u8]) -> Result<u32, Broken> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)).ok_or(Broken::Malformed("a number"))
}

fn length_bytes(length: usize) -> [u8; 3] {
    let [_, rest @ ..] = u32::try_from(length).expect("a frame is small").to_be_bytes();
    rest
}

fn frame(out: &mut BytesMut, length: usize, kind: u8, flags: u8, id: u32) {
    out.put_slice(&length_bytes(length));
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(id);
}

#[cfg(test)]
#[path = "http2_tests.rs"]
mod tests;
