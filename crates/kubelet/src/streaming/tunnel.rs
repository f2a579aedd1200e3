//! Bytes carried unparsed: SPDY to SPDY, or SPDY inside a WebSocket's messages (port-forward).

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

const BUFFER: usize = 32 << 10;

pub async fn raw<A, B>(mut client: A, mut runtime: B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut runtime).await {
        tracing::debug!(%error, "stream ended");
    }
}

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
                Message::Binary(bytes) => writer.write_all(&bytes).await?,
                Message::Close(_) => break,
                _ => {}
            }
        }
        writer.shutdown().await
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
    tokio::select! {
        result = inbound => if let Err(error) = result { tracing::debug!(%error, "port-forward ended") },
        () = outbound => {}
    }
}
