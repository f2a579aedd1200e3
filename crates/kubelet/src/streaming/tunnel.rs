//! SPDY inside a WebSocket's messages (port-forward): its bytes are carried unparsed.

use daemon::join;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::upgrade;

const BUFFER: usize = 32 << 10;

/// Each message carries the next bytes of the connection; their borders mean nothing.
pub async fn websocket<A, B>(client: WebSocketStream<A>, runtime: B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut source) = client.split();
    let (mut reader, mut writer) = tokio::io::split(runtime);
    let inbound = async {
        while let Some(Ok(message)) = source.next().await {
            match message {
                // A runtime that no longer listens may still have something to say.
                Message::Binary(bytes) => drop(writer.write_all(&bytes).await),
                Message::Close(_) => break,
                _ => {}
            }
        }
        let _ = writer.shutdown().await;
    };
    let outbound = async {
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = reader.read(&mut buffer).await.unwrap_or(0);
            if count == 0 || sink.send(Message::binary(buffer[..count].to_vec())).await.is_err() {
                break;
            }
        }
        let _ = sink.close().await;
    };
    join::both(inbound, outbound).await;
    upgrade::end(sink, source).await;
}
