//! The one watch over everything the API server stores.
//!
//! One stream for all kinds, not one per kind: its order is the store's order, so a single revision says how far the
//! whole cache has come, and an idle kind needs no traffic of its own to be known fresh.

use etcd_client::{Client, EventType, WatchOptions, WatchStream};

use super::{Error, Stored, unsigned};

/// One key's change.
#[derive(Debug)]
pub enum Change {
    Put(Stored),
    Delete { key: String, revision: u64 },
}

impl Change {
    pub fn revision(&self) -> u64 {
        match self {
            Self::Put(stored) => stored.revision,
            Self::Delete { revision, .. } => *revision,
        }
    }

    pub fn key(&self) -> &str {
        match self {
            Self::Put(stored) => &stored.key,
            Self::Delete { key, .. } => key,
        }
    }
}

/// Why the stream stopped.
#[derive(Debug)]
pub enum WatchEnd {
    /// What comes next has been compacted away; the state must be read anew.
    Compacted,
    Closed,
    Failed(Error),
}

pub struct Changes {
    stream: WatchStream,
}

impl Changes {
    pub(super) async fn open(client: &Client, prefix: &str, revision: i64, max: usize) -> Result<Self, Error> {
        let options = WatchOptions::new().with_prefix().with_start_revision(revision).with_progress_notify();
        let mut watcher = client.watch_client().max_decoding_message_size(max);
        let stream = watcher.watch(prefix, Some(options)).await.map_err(Error::Watch)?;
        Ok(Self { stream })
    }

    /// The next changes, in order; none with a revision means that the stream has come that far.
    pub async fn next(&mut self) -> Result<(Vec<Change>, u64), WatchEnd> {
        loop {
            let message = match self.stream.message().await {
                Ok(Some(message)) => message,
                Ok(None) => return Err(WatchEnd::Closed),
                Err(error) => return Err(WatchEnd::Failed(Error::Watch(error))),
            };
            if message.compact_revision() > 0 {
                return Err(WatchEnd::Compacted);
            }
            if message.canceled() {
                return Err(WatchEnd::Closed);
            }
            if message.created() {
                continue;
            }
            let changes: Vec<_> = message.events().iter().filter_map(change).collect();
            let header = message.header().map_or(0, |h| unsigned(h.revision()));
            let reached = changes.last().map_or(header, Change::revision);
            return Ok((changes, reached));
        }
    }

    /// Asks the store to say how far the stream has come.
    pub async fn request_progress(&mut self) -> Result<(), WatchEnd> {
        self.stream.request_progress().await.map_err(|e| WatchEnd::Failed(Error::Watch(e)))
    }
}

fn change(event: &etcd_client::Event) -> Option<Change> {
    let kv = event.kv()?;
    let (key, revision) = (String::from_utf8_lossy(kv.key()).into_owned(), unsigned(kv.mod_revision()));
    Some(match event.event_type() {
        EventType::Put => Change::Put(Stored { key, value: kv.value().to_vec(), revision }),
        EventType::Delete => Change::Delete { key, revision },
    })
}
