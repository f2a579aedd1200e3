//! exec and attach: a client's WebSocket channels to the runtime's SPDY streams.
//!
//! Channels: 0 stdin, 1 stdout, 2 stderr, 3 error (a Status in JSON), 4 resize; in v5 a message
//! `[255, n]` closes channel n. SPDY can close one stream, a WebSocket of the runtime's cannot:
//! hence SPDY behind.

use std::collections::BTreeMap;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::spdy::{self, Decoder, Encoder, Frame};

pub const V5: &str = "v5.channel.k8s.io";
pub const V4: &str = "v4.channel.k8s.io";

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// Input is passed on in frames of at most this size.
const CHUNK: usize = 32 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

impl Streams {
    /// In the order clients open them.
    fn channels(self) -> Vec<(u8, &'static str)> {
        let all = [
            (ERROR, "error", true),
            (STDIN, "stdin", self.stdin),
            (STDOUT, "stdout", self.stdout),
            (STDERR, "stderr", self.stderr && !self.tty),
            (RESIZE, "resize", self.tty),
        ];
        all.into_iter().filter(|(.., on)| *on).map(|(channel, name, _)| (channel, name)).collect()
    }
}

/// Pings of the runtime not yet answered.
const PINGS: usize = 16;

/// Runs until the process has ended and said how, or either side is gone.
pub async fn run<A, B>(client: WebSocketStream<A>, runtime: B, streams: Streams) -> anyhow::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (reader, mut writer) = tokio::io::split(runtime);
    let (sink, source) = client.split();
    let mut ids = BTreeMap::new();
    let mut encoder = Encoder::default();
    for (index, (channel, name)) in (0u32..).zip(streams.channels()) {
        let id = index * 2 + 1;
        ids.insert(channel, id);
        writer.write_all(&encoder.syn_stream(id, &[("streamtype", name)], false)).await?;
    }
    let (pings, answers) = mpsc::channel(PINGS);
    tokio::select! {
        result = inbound(source, writer, &ids, answers) => result,
        result = outbound(reader, sink, &ids, pings) => result,
    }
}

/// The client's input, and the answers to pings.
async fn inbound<A, B>(
    mut source: SplitStream<WebSocketStream<A>>,
    mut writer: WriteHalf<B>,
    ids: &BTreeMap<u8, u32>,
    mut pings: mpsc::Receiver<u32>,
) -> anyhow::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let message = tokio::select! {
            Some(id) = pings.recv() => {
                writer.write_all(&spdy::ping(id)).await?;
                continue;
            }
            message = source.next() => message,
        };
        let bytes = match message {
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
            Some(Ok(_)) => continue,
        };
        let Some((channel, payload)) = bytes.split_first() else { continue };
        match (*channel, payload) {
            (CLOSE, [closed]) => {
                if let Some(id) = ids.get(closed) {
                    writer.write_all(&spdy::data(*id, &[], true)).await?;
                }
            }
            (STDIN | RESIZE, payload) => {
                let Some(id) = ids.get(channel) else { continue };
                for chunk in payload.chunks(CHUNK) {
                    writer.write_all(&spdy::data(*id, chunk, false)).await?;
                }
            }
            _ => {}
        }
    }
}

/// The process's output, until every stream of it has ended.
async fn outbound<A, B>(
    mut reader: ReadHalf<B>,
    mut sink: SplitSink<WebSocketStream<A>, Message>,
    ids: &BTreeMap<u8, u32>,
    pings: mpsc::Sender<u32>,
) -> anyhow::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let channels: BTreeMap<u32, u8> = ids.iter().map(|(channel, id)| (*id, *channel)).collect();
    let mut open: Vec<u8> = ids.keys().copied().filter(|c| matches!(*c, STDOUT | STDERR | ERROR)).collect();
    let mut decoder = Decoder::default();
    'read: while !open.is_empty() {
        while let Some(frame) = decoder.next_frame()? {
            match frame {
                Frame::Data { stream, data, fin } => {
                    let Some(channel) = channels.get(&stream) else { continue };
                    if !data.is_empty() {
                        sink.send(Message::binary([&[*channel], data.as_ref()].concat())).await?;
                    }
                    if fin {
                        open.retain(|c| c != channel);
                    }
                }
                Frame::Reset { stream, .. } => open.retain(|c| channels.get(&stream) != Some(c)),
                // The peer's pings are even; ours, if any, would be odd.
                Frame::Ping(id) if id % 2 == 0 => drop(pings.try_send(id)),
                Frame::GoAway => break 'read,
                _ => {}
            }
        }
        if !open.is_empty() && reader.read_buf(decoder.buffer()).await? == 0 {
            break;
        }
    }
    // Clients take anything but a normal closure for a broken connection.
    let normal = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
    sink.send(Message::Close(Some(normal))).await?;
    sink.close().await?;
    Ok(())
}
