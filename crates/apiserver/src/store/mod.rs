//! The store: etcd v3, and nothing above this module knows it.
//!
//! A write is one compare-and-swap on the key's mod revision; a refused one brings the current value back, so that a
//! retry costs no extra read. Values are the object's bytes without its resourceVersion, which is the mod revision.

mod compact;
mod lease;
mod watch;

use std::time::Duration;

use api::ApiError;
use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, GetOptions, Identity, KeyValue, PutOptions, TlsOptions,
    Txn, TxnOp, TxnOpResponse,
};

pub use compact::run as run_compactor;
pub use watch::{Change, Changes, WatchEnd};

/// Larger than any page of `PAGE` objects of the largest size etcd takes in one request (1.5 MiB) that occurs in practice.
const MAX_MESSAGE: usize = 512 << 20;
/// Keys fetched per range request when a whole prefix is read.
const PAGE: i64 = 2000;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

#[derive(Clone, Debug)]
pub struct Config {
    pub servers: Vec<String>,
    pub prefix: String,
    /// PEM: CA, and certificate with key.
    pub ca: Option<Vec<u8>>,
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("connecting to etcd")]
    Connect(#[source] etcd_client::Error),
    #[error("reading from etcd")]
    Read(#[source] etcd_client::Error),
    #[error("writing to etcd")]
    Write(#[source] etcd_client::Error),
    #[error("watching etcd")]
    Watch(#[source] etcd_client::Error),
    #[error("granting an etcd lease")]
    Lease(#[source] etcd_client::Error),
    #[error("the required revision has been compacted")]
    Compacted,
    #[error("etcd did not answer in time")]
    Timeout,
    #[error("etcd answered without a header")]
    Protocol,
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        use std::error::Error as _;
        tracing::warn!(%error, cause = error.source().map(ToString::to_string), "store request failed");
        match &error {
            Error::Timeout => Self::timeout("request did not complete within the allotted timeout", 1),
            Error::Compacted => Self::expired(EXPIRED),
            _ => match error.source() {
                Some(source) => Self::internal(format!("{error}: {source}")),
                None => Self::internal(error),
            },
        }
    }
}

/// Upstream's words for a continue token whose revision etcd no longer has.
pub const EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can \
                           start a new list without the continue parameter, or use the continue token in this \
                           response to retrieve the remainder of the results. Continuing with the provided token \
                           results in an inconsistent list - objects that were created, modified, or deleted between \
                           the time the first chunk was returned and now may show up in the list.";

/// The same of a list at a revision that the client chose.
pub const TOO_OLD: &str = "The resourceVersion for the provided list is too old.";

/// A key's value as it is in the store.
#[derive(Clone, Debug)]
pub struct Stored {
    pub key: String,
    pub value: Vec<u8>,
    pub revision: u64,
}

/// What became of a compare-and-swap.
#[derive(Debug)]
pub enum Written {
    At(u64),
    /// The key was not at the expected revision; this is what it holds.
    Clash(Option<Stored>),
}

#[derive(Debug)]
pub struct Page {
    pub items: Vec<Stored>,
    pub more: bool,
    /// The revision at which the page was read.
    pub revision: u64,
    /// Keys in the range, this page's included.
    pub count: u64,
}

#[derive(Clone)]
pub struct Store {
    client: Client,
    prefix: String,
    leases: lease::Leases,
}

impl Store {
    /// Builds the connection; etcd need not be up yet.
    pub async fn connect(config: &Config) -> Result<Self, Error> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
            .with_require_leader(true);
        if let Some(ca) = &config.ca {
            let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(ca));
            if let Some((cert, key)) = &config.identity {
                tls = tls.identity(Identity::from_pem(cert, key));
            }
            options = options.with_tls(tls);
        }
        let client = Client::connect(&config.servers, Some(options)).await.map_err(Error::Connect)?;
        let prefix = format!("/{}", config.prefix.trim_matches('/'));
        Ok(Self { client, prefix, leases: lease::Leases::default() })
    }

    /// `/registry`, without a trailing slash.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn kv(&self) -> etcd_client::KvClient {
        self.client.kv_client().max_decoding_message_size(MAX_MESSAGE)
    }

    /// The newest committed revision, by a linearizable read.
    pub async fn revision(&self) -> Result<u64, Error> {
        let key = format!("{}/\0revision", self.prefix);
        let options = GetOptions::new().with_count_only();
        let answer = timed(self.kv().get(key, Some(options)), Error::Read).await?;
        answer.header().map(|h| unsigned(h.revision())).ok_or(Error::Protocol)
    }

    pub async fn get(&self, key: &str) -> Result<(Option<Stored>, u64), Error> {
        let mut answer = timed(self.kv().get(key, None), Error::Read).await?;
        let revision = answer.header().map(|h| unsigned(h.revision())).ok_or(Error::Protocol)?;
        Ok((answer.take_kvs().pop().map(stored), revision))
    }

    /// One page of the keys in `[start, prefix's end)`, at a revision (0: now).
    pub async fn page(&self, prefix: &str, start: &str, revision: u64, limit: i64) -> Result<Page, Error> {
        let options =
            GetOptions::new().with_range(prefix_end(prefix)).with_limit(limit).with_revision(signed(revision));
        let mut answer = timed(self.kv().get(start, Some(options)), read_error).await?;
        let seen = answer.header().map(|h| unsigned(h.revision())).ok_or(Error::Protocol)?;
        let (more, count) = (answer.more(), unsigned(answer.count()));
        let items = answer.take_kvs().into_iter().map(stored).collect();
        Ok(Page { items, more, revision: if revision == 0 { seen } else { revision }, count })
    }

    /// Hands everything under the prefix to `each`, as of one revision, which is returned.
    pub async fn scan(&self, prefix: &str, mut each: impl FnMut(Stored)) -> Result<u64, Error> {
        let (mut start, mut revision) = (prefix.to_owned(), 0);
        loop {
            let page = self.page(prefix, &start, revision, PAGE).await?;
            revision = page.revision;
            let last = page.items.last().map(|s| s.key.clone());
            page.items.into_iter().for_each(&mut each);
            match last {
                Some(last) if page.more => start = format!("{last}\0"),
                _ => return Ok(revision),
            }
        }
    }

    pub async fn create(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<Written, Error> {
        self.put_if(key, 0, value, ttl).await
    }

    pub async fn update(&self, key: &str, at: u64, value: &[u8], ttl: Option<Duration>) -> Result<Written, Error> {
        self.put_if(key, at, value, ttl).await
    }

    pub async fn delete(&self, key: &str, at: u64) -> Result<Written, Error> {
        self.swap(key, at, TxnOp::delete(key, None)).await
    }

    async fn put_if(&self, key: &str, at: u64, value: &[u8], ttl: Option<Duration>) -> Result<Written, Error> {
        let mut options = PutOptions::new();
        if let Some(ttl) = ttl {
            options = options.with_lease(self.leases.get(&self.client, ttl).await?);
        }
        self.swap(key, at, TxnOp::put(key, value, Some(options))).await
    }

    async fn swap(&self, key: &str, at: u64, op: TxnOp) -> Result<Written, Error> {
        let txn = Txn::new()
            .when([Compare::mod_revision(key, CompareOp::Equal, signed(at))])
            .and_then([op])
            .or_else([TxnOp::get(key, None)]);
        let answer = timed(self.kv().txn(txn), Error::Write).await?;
        let revision = answer.header().map(|h| unsigned(h.revision())).ok_or(Error::Protocol)?;
        if answer.succeeded() {
            return Ok(Written::At(revision));
        }
        let current = answer.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(mut get) => get.take_kvs().pop().map(stored),
            _ => None,
        });
        Ok(Written::Clash(current))
    }

    /// Everything under the prefix from `revision` on.
    pub async fn watch(&self, revision: u64) -> Result<Changes, Error> {
        Changes::open(&self.client, &format!("{}/", self.prefix), signed(revision), MAX_MESSAGE).await
    }
}

async fn timed<T>(
    call: impl Future<Output = Result<T, etcd_client::Error>>,
    wrap: fn(etcd_client::Error) -> Error,
) -> Result<T, Error> {
    tokio::time::timeout(REQUEST_TIMEOUT, call).await.map_err(|_| Error::Timeout)?.map_err(wrap)
}

fn read_error(error: etcd_client::Error) -> Error {
    match &error {
        etcd_client::Error::GRpcStatus(status) if status.message().contains("required revision has been compacted") => {
            Error::Compacted
        }
        _ => Error::Read(error),
    }
}

fn stored(kv: KeyValue) -> Stored {
    let revision = unsigned(kv.mod_revision());
    let (key, value) = kv.into_key_value();
    Stored { key: String::from_utf8_lossy(&key).into_owned(), value, revision }
}

/// The first key after all that start with `prefix`.
fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

fn unsigned(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::prefix_end;

    #[test]
    fn the_end_of_a_prefix() {
        assert_eq!(prefix_end("/a/"), b"/a0");
        assert_eq!(prefix_end("\u{7f}"), b"\x80");
        assert_eq!(prefix_end(""), [0]);
    }
}
