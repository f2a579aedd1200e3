//! Two connections made one, after both have switched protocols.
//!
//! A side that ends, or breaks, takes nothing with it: what it sent before is passed on, written out and followed by an
//! end of the stream. What still comes for a side that is gone is read and dropped, because the kernel resets a
//! connection that is closed with unread input, and throws away what the peer was still to receive.

use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const BUFFER: usize = 32 << 10;
/// How long one side may go on after the other has ended.
pub const LINGER: Duration = Duration::from_secs(10);

/// Carries bytes both ways, until both sides have ended or one has and the other had `LINGER` to do so.
pub async fn join<A, B>(one: A, other: B)
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (one_reader, one_writer) = tokio::io::split(one);
    let (other_reader, other_writer) = tokio::io::split(other);
    both(carry(one_reader, other_writer), carry(other_reader, one_writer)).await;
}

/// Runs both directions of a stream; the one that is left has `LINGER` to end.
pub async fn both(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    tokio::pin!(one, other);
    let ended = tokio::select! {
        () = &mut one => tokio::time::timeout(LINGER, other).await,
        () = &mut other => tokio::time::timeout(LINGER, one).await,
    };
    if ended.is_err() {
        tracing::debug!("one side of a stream has ended, the other does not");
    }
}

/// One direction, to its end: of one that breaks as well, which is how TLS reports a peer that is just gone.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut buffer = vec![0; BUFFER];
    let mut heard = true;
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => {
                tracing::debug!(%error, "a stream broke");
                break;
            }
        };
        heard = heard && pass_on(&mut to, &buffer[..count]).await.is_ok();
    }
    let _ = to.shutdown().await;
}

async fn pass_on(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{BufStream, ReadBuf};

    use super::*;

    /// Has something to say, then breaks; what is written to it is taken, or refused.
    struct Breaks {
        says: &'static [u8],
        takes: bool,
    }

    impl AsyncRead for Breaks {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            if self.says.is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            let (now, later) = self.says.split_at(self.says.len().min(buffer.remaining()));
            buffer.put_slice(now);
            self.says = later;
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Breaks {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(if self.takes { Ok(bytes.len()) } else { Err(io::ErrorKind::BrokenPipe.into()) })
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn heard_from(backend: Breaks, client_says: &[u8]) -> Vec<u8> {
        // Smaller than what is said, so that the client is slower than the backend; and written out when asked to only.
        let (mut client, server) = tokio::io::duplex(16);
        let client_side = async {
            client.write_all(client_says).await.expect("everything a client says is read");
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.expect("an orderly end");
            drop(client);
            heard
        };
        tokio::join!(join(BufStream::new(server), backend), client_side).1
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_said_before_a_break_arrives() {
        let says = b"a first word, some more, and a last one";
        assert_eq!(heard_from(Breaks { says, takes: true }, b"").await, says);
    }

    #[tokio::test(start_paused = true)]
    async fn who_no_longer_listens_is_still_heard() {
        let says = b"a process that ends before it has read its input";
        assert_eq!(heard_from(Breaks { says, takes: false }, &[b'y'; 4096]).await, says);
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_never_ends_is_left() {
        let (client, server) = tokio::io::duplex(16);
        join(server, Breaks { says: b"bye", takes: true }).await;
        drop(client);
    }
}
