//! One HTTP/2 connection with gRPC on it, bare: what is measured are the servers, and what the client takes of a
//! processor that both share hides how they differ (docs/decisions/0174).

use std::future::poll_fn;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context as Task, Poll, ready};

use anyhow::{Context, Result, anyhow, ensure};
use bytes::{Buf, BufMut, BytesMut};
use futures::task::AtomicWaker;
use prost::Message;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::io::poll_read_buf;

use crate::http2::Session;

/// A flag of compression, and the length.
const PREFIX: usize = 5;
const READ_BYTES: usize = 64 << 10;

#[derive(Clone)]
pub struct Connection(Arc<Shared>);

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

struct Shared {
    session: Mutex<Session>,
    /// Woken when there is something to write.
    driver: AtomicWaker,
    /// Why nothing more will come.
    failed: OnceLock<String>,
}

impl Connection {
    pub async fn open(address: SocketAddr, tls: Option<Arc<ClientConfig>>) -> Result<Connection> {
        let connecting = || format!("cannot connect to {address}");
        let stream = TcpStream::connect(address).await.with_context(connecting)?;
        stream.set_nodelay(true)?;
        match tls {
            None => Ok(Connection::begin(stream, "http")),
            Some(tls) => {
                let name = ServerName::try_from("localhost").expect("a valid name");
                let stream = TlsConnector::from(tls).connect(name, stream).await.with_context(connecting)?;
                Ok(Connection::begin(stream, "https"))
            }
        }
    }

    fn begin(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, scheme: &'static str) -> Connection {
        let shared = Arc::new(Shared {
            session: Mutex::new(Session::new(scheme)),
            driver: AtomicWaker::new(),
            failed: OnceLock::new(),
        });
        let mut driver =
            Driver { stream, shared: shared.clone(), read: BytesMut::new(), writing: BytesMut::new(), several: false };
        // It ends with the connection, and that with the process.
        tokio::spawn(async move {
            let Err(error) = poll_fn(|task| driver.poll(task)).await;
            let waiting = {
                let mut session = driver.shared.session();
                let _ = driver.shared.failed.set(format!("{error:#}"));
                session.waiting()
            };
            waiting.into_iter().for_each(|waker| waker.wake());
        });
        Connection(shared)
    }

    /// One question, one answer. The path is that of the method: `/package.Service/Method`.
    pub async fn unary<A: Message + Default>(&self, path: &'static str, question: &impl Message) -> Result<A> {
        let mut call = Call::<A>::of(self, path);
        call.put(question, true);
        let shared = &self.0;
        poll_fn(|task| call.poll_ended(&mut shared.session(), task)).await.context(path)?;
        let mut session = shared.session();
        let answer = call.take(&mut session)?.with_context(|| format!("{path} was refused: see the server's log"))?;
        ensure!(call.take(&mut session)?.is_none(), "{path} has two answers");
        drop(session);
        Ok(answer)
    }

    /// Questions and answers that have nothing to do with each other's number.
    pub fn stream<A: Message + Default>(&self, path: &'static str) -> Call<A> {
        Call::of(self, path)
    }
}

impl Shared {
    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().expect("nobody panics holding it")
    }
}

/// Moves bytes between a session and its socket.
struct Driver<S> {
    stream: S,
    shared: Arc<Shared>,
    read: BytesMut,
    writing: BytesMut,
    /// Several clients have just been answered: each is to have its turn before what they ask next is written.
    several: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    fn poll(&mut self, task: &mut Task<'_>) -> Poll<Result<std::convert::Infallible>> {
        self.shared.driver.register(task.waker());
        let mut woken = Vec::new();
        loop {
            self.read.reserve(READ_BYTES);
            match poll_read_buf(Pin::new(&mut self.stream), task, &mut self.read) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(anyhow!("the server has closed the connection"))),
                Poll::Ready(Ok(_)) => self.shared.session().receive(&mut self.read, &mut woken)?,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
            }
        }
        self.several |= woken.len() > 1;
        woken.into_iter().for_each(|waker| waker.wake());
        if let Poll::Ready(Err(error)) = self.write(task) {
            return Poll::Ready(Err(error.into()));
        }
        Poll::Pending
    }

    fn write(&mut self, task: &mut Task<'_>) -> Poll<std::io::Result<()>> {
        loop {
            while !self.writing.is_empty() {
                let written = ready!(Pin::new(&mut self.stream).poll_write(task, &self.writing))?;
                self.writing.advance(written);
            }
            ready!(Pin::new(&mut self.stream).poll_flush(task))?;
            let mut session = self.shared.session();
            if session.out.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if std::mem::take(&mut self.several) {
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
            std::mem::swap(&mut session.out, &mut self.writing);
        }
    }
}

/// A call under way.
pub struct Call<A> {
    connection: Connection,
    id: u32,
    messages: PhantomData<fn() -> A>,
}

impl<A: Message + Default> Call<A> {
    fn of(connection: &Connection, path: &'static str) -> Self {
        let id = connection.0.session().open(path);
        Call { connection: connection.clone(), id, messages: PhantomData }
    }

    pub fn send(&mut self, question: &impl Message) {
        self.put(question, false);
    }

    fn put(&mut self, question: &impl Message, end: bool) {
        let frame = frame(question);
        self.connection.0.session().send(self.id, &frame, end);
        self.connection.0.driver.wake();
    }

    /// The next answer; none when the server has ended the call.
    pub async fn message(&mut self) -> Result<Option<A>> {
        poll_fn(|task| {
            let mut session = self.connection.0.session();
            if let Some(message) = self.take(&mut session)? {
                return Poll::Ready(Ok(Some(message)));
            }
            self.poll_ended(&mut session, task).map_ok(|()| None)
        })
        .await
    }

    /// One whole message of what was received.
    fn take(&self, session: &mut Session) -> Result<Option<A>> {
        let (buffer, ..) = session.call(self.id).context("a call that was closed")?;
        take_message(buffer)
    }

    fn poll_ended(&self, session: &mut Session, task: &mut Task<'_>) -> Poll<Result<()>> {
        if let Some(why) = self.connection.0.failed.get() {
            return Poll::Ready(Err(anyhow!("{why}")));
        }
        match session.call(self.id) {
            Some((_, _, Some(code))) => Poll::Ready(Err(anyhow!("the server has reset the call: code {code}"))),
            Some((_, false, None)) => {
                session.await_more(self.id, task.waker());
                Poll::Pending
            }
            Some((_, true, None)) | None => Poll::Ready(Ok(())),
        }
    }
}

impl<A> Drop for Call<A> {
    fn drop(&mut self) {
        self.connection.0.session().close(self.id);
    }
}

fn frame(message: &impl Message) -> BytesMut {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).expect("a request is small"));
    message.encode(&mut frame).expect("there is room");
    frame
}

fn take_message<A: Message + Default>(buffer: &mut BytesMut) -> Result<Option<A>> {
    let Some(prefix) = buffer.first_chunk::<PREFIX>() else { return Ok(None) };
    ensure!(prefix[0] == 0, "an answer is compressed");
    let length = (&prefix[1..]).get_u32() as usize;
    if buffer.len() < PREFIX + length {
        return Ok(None);
    }
    let mut message = buffer.split_to(PREFIX + length);
    message.advance(PREFIX);
    Ok(Some(A::decode(message.freeze())?))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::pb::etcdserverpb::PutRequest;

    #[test]
    fn messages_come_in_pieces() {
        let put = |key: &'static [u8]| PutRequest { key: Bytes::from_static(key), ..PutRequest::default() };
        let wire = [frame(&put(b"a")), frame(&put(b"longer"))].concat();
        let (mut buffer, mut taken) = (BytesMut::new(), Vec::new());
        for byte in wire {
            buffer.put_u8(byte);
            taken.extend(take_message::<PutRequest>(&mut buffer).expect("whole"));
        }
        assert_eq!(taken, [put(b"a"), put(b"longer")]);
        assert!(take_message::<PutRequest>(&mut BytesMut::from(&[1, 0, 0, 0, 0][..])).is_err());
    }
}
