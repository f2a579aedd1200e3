//! The store: etcd v3, and nothing above this module knows it.
//!
//! A write is one compare-and-swap on the key's mod revision; a refused one brings the current value back, so that a
//! retry costs no extra read. Values are the object's bytes without its resourceVersion, which is the mod revision.

mod compact;
mod lease;
mod retry;
mod watch;

use std::time::Duration;

use api::ApiError;
use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, GetOptions, GetResponse, Identity, KeyValue, PutOptions,
    TlsOptions, Txn, TxnOp, TxnOpResponse,
};

pub use compact::run as run_compactor;
use retry::persist;
pub use watch::{Change, Changes, WatchEnd};

/// Larger than any page of `PAGE` objects of the largest size etcd takes in one request (1.5 MiB) that occurs in practice.
const MAX_MESSAGE: usize = 512 << 20;
/// Keys fetched per range request when a whole prefix is read.
const PAGE: i64 = 2000;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Of the question whether the store answers; upstream's.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
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
    #[error("etcd did not say whether the write went through, and the object has changed since")]
    Unheard,
    #[error("etcd answered without a header")]
    Protocol,
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<&Error> for ApiError {
    fn from(error: &Error) -> Self {
        use std::error::Error as _;
        tracing::warn!(%error, cause = error.source().map(ToString::to_string), "store request failed");
        match error {
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
        let answer = persist(Error::Read, |_| self.ask_revision()).await?;
        answer.header().map(|h| unsigned(h.revision())).ok_or(Error::Protocol)
    }

    /// Whether the store answers, at the first try.
    pub async fn probe(&self) -> Result<(), Error> {
        let answer = tokio::time::timeout(PROBE_TIMEOUT, self.ask_revision()).await.map_err(|_| Error::Timeout)?;
        answer.map(drop).map_err(Error::Read)
    }

    async fn ask_revision(&self) -> Result<GetResponse, etcd_client::Error> {
        let key = format!("{}/\0revision", self.prefix);
        self.kv().get(key, Some(GetOptions::new().with_count_only())).await
    }

    pub async fn get(&self, key: &str) -> Result<(Option<Stored>, u64), Error> {
        let mut answer = persist(Error::Read, |_| self.range(key, None)).await?;
        let revision = answer.header().map(|h| unsigned(h.revision())).ok_or(Error::Protocol)?;
        Ok((answer.take_kvs().pop().map(stored), revision))
    }

    async fn range(&self, key: &str, options: Option<GetOptions>) -> Result<GetResponse, etcd_client::Error> {
        self.kv().get(key, options).await
    }

    /// One page of the keys in `[start, prefix's end)`, at a revision (0: now).
    pub async fn page(&self, prefix: &str, start: &str, revision: u64, limit: i64) -> Result<Page, Error> {
        let options =
            GetOptions::new().with_range(prefix_end(prefix)).with_limit(limit).with_revision(signed(revision));
        let mut answer = persist(read_error, |_| self.range(start, Some(options.clone()))).await?;
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
        self.swap(Swap { key, at, value: None, lease: 0 }).await
    }

    async fn put_if(&self, key: &str, at: u64, value: &[u8], ttl: Option<Duration>) -> Result<Written, Error> {
        let lease = match ttl {
            Some(ttl) => self.leases.get(&self.client, ttl).await?,
            None => 0,
        };
        self.swap(Swap { key, at, value: Some(value), lease }).await
    }

    async fn swap(&self, swap: Swap<'_>) -> Result<Written, Error> {
        let mut tries = 0;
        let answer = persist(Error::Write, |attempt| {
            tries = attempt + 1;
            let (mut kv, txn) = (self.kv(), swap.txn());
            async move { kv.txn(txn).await }
        });
        let answer = answer.await?;
        let revision = answer.header().map(|h| unsigned(h.revision())).ok_or(Error::Protocol)?;
        if answer.succeeded() {
            return Ok(Written::At(revision));
        }
        let current = answer.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(mut get) => get.take_kvs().pop().map(stored),
            _ => None,
        });
        if tries > 1 { swap.settle(current, revision) } else { Ok(Written::Clash(current)) }
    }

    /// Everything under the prefix from `revision` on.
    pub async fn watch(&self, revision: u64) -> Result<Changes, Error> {
        Changes::open(&self.client, &format!("{}/", self.prefix), signed(revision), MAX_MESSAGE).await
    }
}

/// A write of one key, if it is as it was at revision `at`.
struct Swap<'a> {
    key: &'a str,
    at: u64,
    /// None deletes.
    value: Option<&'a [u8]>,
    lease: i64,
}

impl Swap<'_> {
    fn txn(&self) -> Txn {
        let op = match self.value {
            Some(value) => TxnOp::put(self.key, value, Some(PutOptions::new().with_lease(self.lease))),
            None => TxnOp::delete(self.key, None),
        };
        Txn::new()
            .when([Compare::mod_revision(self.key, CompareOp::Equal, signed(self.at))])
            .and_then([op])
            .or_else([TxnOp::get(self.key, None)])
    }

    /// What a refusal means after a try whose answer was not heard: that try has gone through if the key is as this
    /// write leaves it. Somebody else may have written the very same, which then comes to the same. If the key is
    /// anything else nobody can tell: called a clash, the request would be made anew on what is there now, a second time
    /// perhaps, and a deletion would take the object that has come after.
    fn settle(&self, current: Option<Stored>, revision: u64) -> Result<Written, Error> {
        match (&current, self.value) {
            (Some(stored), Some(value)) if stored.value == value => Ok(Written::At(stored.revision)),
            (None, None) => Ok(Written::At(revision)),
            _ => Err(Error::Unheard),
        }
    }
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
    use super::{Error, Stored, Swap, Written, prefix_end};

    #[test]
    fn a_write_that_was_not_heard_of_is_known_by_what_it_has_left() {
        let there = |value: &str| Some(Stored { key: "k".into(), value: value.into(), revision: 7 });
        let put = Swap { key: "k", at: 5, value: Some(b"new"), lease: 0 };
        assert!(matches!(put.settle(there("new"), 9), Ok(Written::At(7))));
        assert!(matches!(put.settle(there("other"), 9), Err(Error::Unheard)));
        assert!(matches!(put.settle(None, 9), Err(Error::Unheard)));
        let delete = Swap { value: None, ..put };
        assert!(matches!(delete.settle(None, 9), Ok(Written::At(9))));
        assert!(matches!(delete.settle(there("new"), 9), Err(Error::Unheard)));
    }

    #[test]
    fn the_end_of_a_prefix() {
        assert_eq!(prefix_end("/a/"), b"/a0");
        assert_eq!(prefix_end("\u{7f}"), b"\x80");
        assert_eq!(prefix_end(""), [0]);
    }
}
