//! Gathers what a connection writes within a moment into one system call.
//!
//! Answers and events of one batch of the log are written by many tasks, one per stream, and
//! HTTP/2's connection task would flush after each: a system call per answer. Here a flush is
//! put off until the connection has been polled [`TURNS`] times. It wakes itself for that, which
//! puts it behind the tasks that are ready to run, and they add what they have. Only a connection
//! with one request at a time does not wait: nobody could add anything ([`Company`]).
//!
//! Invariants
//! - Bytes that are held back have a wake-up on the way, or the peer does not read: nothing is
//!   held while the connection sleeps.
//! - Whoever drives the connection reads whenever polled, as HTTP/2 does: that is when the
//!   turns are counted.
//! - No more is held than [`MAX_HELD_BYTES`]; what is large goes straight through.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::metrics::Traffic;

const TURNS: u8 = 1;
const MAX_HELD_BYTES: usize = 64 << 10;
/// Writes from here on are not copied.
const LARGE_BYTES: usize = 16 << 10;

/// Who else is answered on a connection.
#[derive(Debug, Default)]
pub struct Company {
    /// Not answered yet.
    requests: AtomicUsize,
    /// Calls that are answered again and again, ever begun: such a connection is rarely used for anything else.
    streams: AtomicUsize,
}

impl Company {
    pub fn begin_stream(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    /// Until it is dropped a request is under way.
    pub fn begin(self: &Arc<Self>) -> UnderWay {
        self.requests.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.clone())
    }

    /// Whoever is being answered is the only one.
    fn is_alone(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0 && self.streams.load(Ordering::Relaxed) <= 1
    }
}

pub struct UnderWay(Arc<Company>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

pub struct Gather<T> {
    inner: T,
    company: Arc<Company>,
    traffic: Traffic,
    held: BytesMut,
    /// Turns taken since the first byte was held; `None` if no flush was asked for.
    turns: Option<u8>,
}

impl<T: AsyncWrite + Unpin> Gather<T> {
    pub fn new(inner: T, company: Arc<Company>, traffic: Traffic) -> Gather<T> {
        Gather { inner, company, traffic, held: BytesMut::new(), turns: None }
    }

    /// Writes and flushes what is held.
    fn release(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.held))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(written);
        }
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.turns = None;
        Poll::Ready(Ok(()))
    }

    /// Another turn has come: waits for the next, or writes.
    fn turn(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match &mut self.turns {
            None => Ok(()),
            Some(turns) if *turns < TURNS => {
                *turns += 1;
                cx.waker().wake_by_ref();
                Ok(())
            }
            Some(_) => match self.release(cx) {
                // Who is woken when there is room again comes by here.
                Poll::Pending => Ok(()),
                Poll::Ready(released) => released,
            },
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gather<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.turn(cx)?;
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.traffic.received.inc_by((buf.filled().len() - before) as u64);
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gather<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes: usize = bufs.iter().map(|b| b.len()).sum();
        let large = bytes >= LARGE_BYTES;
        if large || self.held.len() + bytes > MAX_HELD_BYTES {
            ready!(self.release(cx))?;
        }
        if large {
            let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs))?;
            self.traffic.sent.inc_by(written as u64);
            return Poll::Ready(Ok(written));
        }
        self.traffic.sent.inc_by(bytes as u64);
        for buf in bufs {
            self.held.extend_from_slice(buf);
        }
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What is held counts as flushed: it will be.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            return Pin::new(&mut self.inner).poll_flush(cx);
        }
        if self.turns.is_some() {
            return Poll::Ready(Ok(()));
        }
        if self.company.is_alone() {
            self.turns = Some(TURNS);
            self.turn(cx)?;
        } else {
            self.turns = Some(0);
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.release(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Wake, Waker};

    use super::*;

    /// Remembers single writes, and takes no more than it has room for.
    struct Socket {
        writes: Vec<Vec<u8>>,
        room: usize,
    }

    impl AsyncRead for Socket {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Socket {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let taken = self.room.min(buf.len());
            if taken == 0 {
                return Poll::Pending;
            }
            self.room -= taken;
            self.writes.push(buf[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Driven {
        gather: Gather<Socket>,
        wakes: Arc<Wakes>,
        _other: Option<UnderWay>,
    }

    impl Driven {
        /// Of a connection on which somebody else is to be answered, too.
        fn new(room: usize) -> Driven {
            let driven = Driven::alone(room);
            let other = Some(driven.gather.company.begin());
            Driven { _other: other, ..driven }
        }

        fn alone(room: usize) -> Driven {
            let gather = Gather::new(Socket { writes: Vec::new(), room }, Arc::default(), Traffic::default());
            Driven { gather, wakes: Arc::default(), _other: None }
        }

        fn poll<R>(&mut self, step: impl FnOnce(Pin<&mut Gather<Socket>>, &mut Context<'_>) -> R) -> R {
            let waker = Waker::from(self.wakes.clone());
            step(Pin::new(&mut self.gather), &mut Context::from_waker(&waker))
        }

        fn write(&mut self, bytes: &[u8]) -> bool {
            let written = self.poll(|g, cx| g.poll_write(cx, bytes));
            let flushed = self.poll(|g, cx| g.poll_flush(cx));
            assert!(matches!(flushed, Poll::Ready(Ok(()))));
            matches!(written, Poll::Ready(Ok(n)) if n == bytes.len())
        }

        /// As a woken connection does; whether a wake-up had been asked for since the last time.
        fn turn(&mut self) -> bool {
            let woken = self.wakes.0.swap(0, Ordering::Relaxed) > 0;
            assert!(self.poll(|g, cx| g.poll_read(cx, &mut ReadBuf::new(&mut [0; 8]))).is_pending());
            woken
        }

        fn writes(&self) -> Vec<&[u8]> {
            self.gather.inner.writes.iter().map(Vec::as_slice).collect()
        }
    }

    #[test]
    fn what_several_tasks_write_leaves_at_once_and_every_turn_is_woken_for() {
        let mut driven = Driven::new(usize::MAX);
        assert!(driven.write(b"one"));
        for _ in 0..TURNS {
            assert!(driven.turn());
        }
        assert!(driven.write(b"two"));
        assert!(driven.write(b"three"));
        assert!(driven.writes().is_empty());
        assert!(driven.turn());
        assert_eq!(driven.writes(), [b"onetwothree"]);
        assert!(!driven.turn(), "nothing is left to do");
    }

    #[test]
    fn a_lone_answer_leaves_at_once() {
        let mut driven = Driven::alone(4);
        driven.gather.company.begin_stream();
        assert!(driven.write(b"abcdef"));
        assert_eq!(driven.writes(), [b"abcd"], "as far as there is room");
        driven.gather.inner.room = 4;
        driven.turn();
        assert_eq!(driven.writes(), [&b"abcd"[..], b"ef"]);
        driven.gather.company.begin_stream();
        driven.gather.inner.room = 4;
        assert!(driven.write(b"gh"));
        assert_eq!(driven.writes().len(), 2, "there is another stream");
    }

    #[test]
    fn what_the_socket_has_no_room_for_follows_later() {
        let mut driven = Driven::new(4);
        driven.write(b"abcdef");
        for _ in 0..=TURNS {
            driven.turn();
        }
        assert_eq!(driven.writes(), [b"abcd"]);
        driven.gather.inner.room = 4;
        driven.turn();
        assert_eq!(driven.writes(), [&b"abcd"[..], b"ef"]);
    }

    #[test]
    fn large_writes_go_straight_through_behind_what_is_held() {
        let mut driven = Driven::new(usize::MAX);
        let large = vec![7; LARGE_BYTES];
        driven.write(b"small");
        assert!(driven.write(&large));
        assert_eq!(driven.writes(), [b"small", &large[..]]);
    }

    #[test]
    fn no_more_is_held_than_allowed() {
        let mut driven = Driven::new(0);
        let part = vec![7; LARGE_BYTES - 1];
        let taken = (0..10).take_while(|_| driven.write(&part)).count();
        assert_eq!(taken, MAX_HELD_BYTES / part.len());
    }

    #[test]
    fn closing_writes_what_is_held() {
        let mut driven = Driven::new(usize::MAX);
        driven.write(b"last words");
        assert!(driven.poll(|g, cx| g.poll_shutdown(cx)).is_ready());
        assert_eq!(driven.writes(), [b"last words"]);
    }
}
