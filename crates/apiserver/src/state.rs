//! What every request handler may use.

use std::sync::Arc;

use daemon::CancellationToken;
use daemon::health::Health;

use crate::authn::service_account::Tokens;
use crate::authz::Rbac;
use crate::cache::{Cache, Caches};
use crate::catalog::{Catalog, Kind};
use crate::config::Config;
use crate::documents::Documents;
use crate::metrics::Metrics;
use crate::network::Services;
use crate::proxy::Backend;
use crate::rest::turns::Turns;
use crate::store::Store;

pub struct Api {
    pub config: Config,
    pub store: Store,
    pub catalog: Catalog,
    pub caches: Arc<Caches>,
    pub rbac: Rbac,
    pub tokens: Arc<Tokens>,
    pub services: Services,
    pub backend: Backend,
    pub documents: Documents,
    pub health: Health,
    pub metrics: Metrics,
    pub turns: Turns,
    /// Cancelled when the server drains: watches end then.
    pub stop: CancellationToken,
}

impl Api {
    pub fn cache(&self, kind: &Kind) -> Option<&Arc<Cache>> {
        self.caches.get(&kind.storage_path)
    }

    /// The cache of a kind that is built in, by its storage path.
    pub fn builtin(&self, storage_path: &str) -> &Arc<Cache> {
        self.caches.get(storage_path).expect("a built-in kind has a cache")
    }

    pub fn kind(&self, group: &str, version: &str, plural: &str) -> &Arc<Kind> {
        self.catalog.find(group, version, plural).expect("a built-in kind is in the table")
    }
}
