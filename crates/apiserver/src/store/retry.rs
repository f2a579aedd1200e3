//! Another try, at another member: while the store elects a leader, and after a member has ended, requests fail that
//! the next one serves. etcd's own client does the same for reads. Writes are tried again too, because every write
//! of the API server is a compare-and-swap: one that went through unheard is refused the second time, and is known by
//! what it has left (`Swap::settle`).

use std::error::Error as _;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tonic::Code;

use super::Error;

/// For all tries of one request together.
const PATIENCE: Duration = Duration::from_secs(10);
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(200);

/// Calls until there is an answer, or a refusal that another member would give too. `call` is told which try it is.
pub(super) async fn persist<T, F: Future<Output = Result<T, etcd_client::Error>>>(
    wrap: fn(etcd_client::Error) -> Error,
    mut call: impl FnMut(usize) -> F,
) -> Result<T, Error> {
    let deadline = Instant::now() + PATIENCE;
    let mut backoff = BACKOFF_MIN;
    let mut last = None;
    for attempt in 0.. {
        match timeout_at(deadline, call(attempt)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if passes(&error) && Instant::now() + backoff < deadline => {
                tracing::debug!(%error, attempt, "the store did not answer; trying again");
                last = Some(error);
            }
            Ok(Err(error)) => return Err(wrap(error)),
            Err(_) => break,
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
    if let Some(error) = last {
        tracing::warn!(%error, "the store did not answer in time");
    }
    Err(Error::Timeout)
}

/// Whether the request may be served at the next try: no leader now, or a connection that broke.
fn passes(error: &etcd_client::Error) -> bool {
    match error {
        etcd_client::Error::GRpcStatus(status) => status.code() == Code::Unavailable || broke(status),
        etcd_client::Error::TransportError(_) => true,
        _ => false,
    }
}

/// What a server says has no source; what the transport says has.
fn broke(status: &tonic::Status) -> bool {
    status.source().is_some() && matches!(status.code(), Code::Unknown | Code::Internal | Code::Cancelled)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn refused(code: Code) -> etcd_client::Error {
        etcd_client::Error::GRpcStatus(tonic::Status::new(code, "etcdserver: leader changed"))
    }

    fn broken() -> etcd_client::Error {
        let mut status = tonic::Status::new(Code::Unknown, "transport error");
        status.set_source(std::sync::Arc::new(std::io::Error::from(std::io::ErrorKind::BrokenPipe)));
        etcd_client::Error::GRpcStatus(status)
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_tried_again_and_nothing_else() {
        let cases: [(fn() -> etcd_client::Error, usize); 4] = [
            (|| refused(Code::Unavailable), 4),
            (broken, 4),
            (|| refused(Code::Unknown), 1),
            (|| refused(Code::ResourceExhausted), 1),
        ];
        for (fails, tries) in cases {
            let tried = Cell::new(0);
            let answer = persist(Error::Read, |attempt| {
                assert_eq!(attempt, tried.replace(tried.get() + 1));
                async move { if attempt == 3 { Ok(()) } else { Err(fails()) } }
            });
            assert_eq!(answer.await.is_ok(), tries == 4, "{}", fails());
            assert_eq!(tried.get(), tries, "{}", fails());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let began = Instant::now();
        let silent = persist(Error::Read, |_| std::future::pending::<Result<(), _>>()).await;
        assert!(matches!(silent, Err(Error::Timeout)) && began.elapsed() >= PATIENCE);
        let began = Instant::now();
        let refusing = persist(Error::Read, |_| async { Err::<(), _>(refused(Code::Unavailable)) }).await;
        assert!(matches!(refusing, Err(Error::Read(_))) && began.elapsed() < PATIENCE, "the reason is handed on");
    }
}
