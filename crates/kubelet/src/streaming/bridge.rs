//! exec and attach: a client's WebSocket channels to the runtime's SPDY streams.
//!
//! Channels: 0 stdin, 1 stdout, 2 stderr, 3 error (a Status in JSON), 4 resize; in v5 a message
//! `[255, n]` closes channel n. SPDY can close one stream, a WebSocket of the runtime's cannot:
//! hence SPDY behind.

use std::collections::BTreeMap;

use bytes::Bytes;
use daemon::join::LINGER;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::spdy::{self, Decoder, Encoder, Frame};
use super::upgrade;

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

/// Runs until the process has ended and said how, or the client is gone.
pub async fn run<A, B>(client: WebSocketStream<A>, runtime: B, streams: Streams) -> anyhow::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut reader, mut writer) = tokio::io::split(runtime);
    let (mut sink, mut source) = client.split();
    let mut ids = BTreeMap::new();
    let mut encoder = Encoder::default();
    for (index, (channel, name)) in (0u32..).zip(streams.channels()) {
        let id = index * 2 + 1;
        ids.insert(channel, id);
        writer.write_all(&encoder.syn_stream(id, &[("streamtype", name)], false)).await?;
    }
    let (pings, answers) = mpsc::channel(PINGS);
    let result = {
        let inbound = inbound(&mut source, &mut writer, &ids, answers);
        let outbound = async {
            let result = outbound(&mut reader, &mut sink, &ids, pings).await;
            close(&mut sink, &result).await;
            result
        };
        tokio::pin!(inbound);
        tokio::select! {
            () = &mut inbound => Ok(()),
            result = outbound => {
                let _ = tokio::time::timeout(LINGER, inbound).await;
                result
            }
        }
    };
    upgrade::end(sink, source).await;
    result
}

/// The client's input, and the answers to pings, until the client has ended. A process that reads no more of it may still
/// have something to say: what comes for it is dropped.
async fn inbound<A, B>(
    source: &mut SplitStream<WebSocketStream<A>>,
    writer: &mut WriteHalf<B>,
    ids: &BTreeMap<u8, u32>,
    mut pings: mpsc::Receiver<u32>,
) where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut listens = true;
    loop {
        let frames = tokio::select! {
            Some(id) = pings.recv() => vec![spdy::ping(id)],
            message = source.next() => match message {
                Some(Ok(Message::Binary(bytes))) => frames(&bytes, ids),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
        };
        for frame in frames {
            listens = listens && writer.write_all(&frame).await.is_ok();
        }
    }
}

/// What one message of a client says to the runtime.
fn frames(message: &[u8], ids: &BTreeMap<u8, u32>) -> Vec<Bytes> {
    let id = |channel: &u8| ids.get(channel).copied();
    match message.split_first() {
        Some((&CLOSE, [closed])) => id(closed).map(|id| spdy::data(id, &[], true)).into_iter().collect(),
        Some((channel @ &(STDIN | RESIZE), payload)) => {
            let Some(id) = id(channel) else { return Vec::new() };
            payload.chunks(CHUNK).map(|chunk| spdy::data(id, chunk, false)).collect()
        }
        _ => Vec::new(),
    }
}

/// The process's output, until every stream of it has ended.
async fn outbound<A, B>(
    reader: &mut ReadHalf<B>,
    sink: &mut SplitSink<WebSocketStream<A>, Message>,
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
    while !open.is_empty() {
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
                Frame::GoAway => return Ok(()),
                _ => {}
            }
        }
        if !open.is_empty() && reader.read_buf(decoder.buffer()).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Clients take anything but a normal closure for a broken connection.
async fn close<A>(sink: &mut SplitSink<WebSocketStream<A>, Message>, result: &anyhow::Result<()>)
where
    A: AsyncRead + AsyncWrite + Unpin,
{
    let code = if result.is_ok() { CloseCode::Normal } else { CloseCode::Error };
    let frame = CloseFrame { code, reason: Utf8Bytes::default() };
    let _ = sink.send(Message::Close(Some(frame))).await;
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind, Result};
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::ReadBuf;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    const ALL: Streams = Streams { stdin: true, stdout: true, stderr: false, tty: false };

    /// A runtime that takes the opening of streams and no input after it, and speaks when some has come.
    struct Deaf {
        opened: usize,
        says: Vec<u8>,
        refused: bool,
        waiting: Option<std::task::Waker>,
    }

    impl AsyncRead for Deaf {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<Result<()>> {
            if !self.refused {
                self.waiting = Some(context.waker().clone());
                return Poll::Pending;
            }
            let now = self.says.len().min(buffer.remaining());
            buffer.put_slice(&self.says.drain(..now).collect::<Vec<_>>());
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Deaf {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
            if self.opened > 0 {
                self.opened -= 1;
                return Poll::Ready(Ok(bytes.len()));
            }
            self.refused = true;
            self.waiting.take().into_iter().for_each(std::task::Waker::wake);
            Poll::Ready(Err(Error::from(ErrorKind::BrokenPipe)))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// `yes | kubectl exec -i POD -- head -n 1`
    #[tokio::test(start_paused = true)]
    async fn a_process_that_leaves_its_input_is_heard_to_the_end() {
        let (client, server) = tokio::io::duplex(64 << 10);
        let server = WebSocketStream::from_raw_socket(server, Role::Server, None).await;
        let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let (stdout, error) = (5, 1);
        let says = [spdy::data(stdout, b"out", true), spdy::data(error, b"status", true)].concat();
        let runtime = Deaf { opened: ALL.channels().len(), says, refused: false, waiting: None };
        let (mut sink, source) = client.split();
        let client = async {
            for _ in 0..3 {
                sink.send(Message::binary(vec![STDIN, b'y'])).await.expect("input is taken");
            }
            source.map(|message| message.expect("no broken connection")).collect::<Vec<_>>().await
        };
        let (served, heard) = tokio::join!(run(server, runtime, ALL), client);
        served.expect("an orderly end");
        let normal = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
        let output = |channel: u8, text: &str| Message::binary([&[channel], text.as_bytes()].concat());
        assert_eq!(heard, [output(STDOUT, "out"), output(ERROR, "status"), Message::Close(Some(normal))]);
    }
}
