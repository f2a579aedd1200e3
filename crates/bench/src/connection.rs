//! One HTTP/2 connection with gRPC on it, bare: what is measured are the servers, and what the client takes of a
//! processor that both share hides how they differ.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};
use prost::Message;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Wide enough that no server ever waits for the client.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 5 << 20;
/// A flag of compression, and the length.
const PREFIX: usize = 5;
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

#[derive(Debug, Clone)]
pub struct Connection {
    requests: SendRequest<Bytes>,
    scheme: Scheme,
    headers: HeaderMap,
}

impl Connection {
    pub async fn open(address: SocketAddr, tls: Option<Arc<ClientConfig>>) -> Result<Connection> {
        let connecting = || format!("cannot connect to {address}");
        let stream = TcpStream::connect(address).await.with_context(connecting)?;
        stream.set_nodelay(true)?;
        match tls {
            None => Connection::begin(stream, Scheme::HTTP).await,
            Some(tls) => {
                let name = ServerName::try_from("localhost").expect("a valid name");
                let stream = TlsConnector::from(tls).connect(name, stream).await.with_context(connecting)?;
                Connection::begin(stream, Scheme::HTTPS).await
            }
        }
    }

    async fn begin(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, scheme: Scheme) -> Result<Connection> {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let (requests, driver) = builder.handshake(stream).await?;
        // It ends with the last handle, or with an error that the next request meets.
        tokio::spawn(driver);
        let headers =
            [(CONTENT_TYPE, HeaderValue::from_static("application/grpc")), (TE, HeaderValue::from_static("trailers"))];
        Ok(Connection { requests, scheme, headers: headers.into_iter().collect() })
    }

    /// One question, one answer. The path is that of the method: `/package.Service/Method`.
    pub async fn unary<A: Message + Default>(&self, path: &'static str, question: &impl Message) -> Result<A> {
        let mut call = Call::<A>::of(self, path).await?;
        call.sent.send_data(frame(question), true)?;
        let answer = call.message().await?.with_context(|| format!("{path} has no answer"))?;
        ensure!(call.message().await?.is_none(), "{path} has two answers");
        Ok(answer)
    }

    /// Questions and answers that have nothing to do with each other's number.
    pub async fn stream<A: Message + Default>(&self, path: &'static str) -> Result<Call<A>> {
        Call::of(self, path).await
    }
}

/// A call under way.
pub struct Call<A> {
    sent: SendStream<Bytes>,
    answer: Answer,
    /// Received and not yet taken.
    buffer: BytesMut,
    messages: PhantomData<fn() -> A>,
}

enum Answer {
    Awaited(h2::client::ResponseFuture),
    Begun(RecvStream),
}

impl<A: Message + Default> Call<A> {
    async fn of(connection: &Connection, path: &'static str) -> Result<Self> {
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(connection.scheme.clone());
        uri.authority = Some(Authority::from_static("localhost"));
        uri.path_and_query = Some(PathAndQuery::from_static(path));
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_parts(uri)?;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = connection.headers.clone();
        let mut requests = connection.requests.clone().ready().await?;
        let (answer, sent) = requests.send_request(request, false)?;
        Ok(Call { sent, answer: Answer::Awaited(answer), buffer: BytesMut::new(), messages: PhantomData })
    }

    pub fn send(&mut self, question: &impl Message) -> Result<()> {
        Ok(self.sent.send_data(frame(question), false)?)
    }

    /// The next answer; none when the server has ended the call well.
    pub async fn message(&mut self) -> Result<Option<A>> {
        loop {
            if let Some(message) = take_message(&mut self.buffer)? {
                return Ok(Some(message));
            }
            let body = self.body().await?;
            let Some(data) = body.data().await else {
                let trailers = body.trailers().await?.context("a call without a status")?;
                return succeeded(&trailers).map(|()| None);
            };
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            self.buffer.extend_from_slice(&data);
        }
    }

    async fn body(&mut self) -> Result<&mut RecvStream> {
        if let Answer::Awaited(response) = &mut self.answer {
            let response = response.await?;
            if response.headers().contains_key(&GRPC_STATUS) {
                succeeded(response.headers())?;
            }
            self.answer = Answer::Begun(response.into_body());
        }
        match &mut self.answer {
            Answer::Begun(body) => Ok(body),
            Answer::Awaited(_) => unreachable!("begun above"),
        }
    }
}

fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).expect("a request is small"));
    message.encode(&mut frame).expect("there is room");
    frame.freeze()
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

fn succeeded(headers: &HeaderMap) -> Result<()> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    match text("grpc-status") {
        "0" => Ok(()),
        code => bail!("gRPC status {code:?}: {}", text("grpc-message")),
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_status_that_is_not_zero_is_an_error() {
        let headers =
            |code: &'static str| HeaderMap::from_iter([(GRPC_STATUS.clone(), HeaderValue::from_static(code))]);
        assert!(succeeded(&headers("0")).is_ok());
        assert!(succeeded(&headers("14")).is_err() && succeeded(&HeaderMap::new()).is_err());
    }
}
