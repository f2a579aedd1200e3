//! Woken by token Secrets, and by ServiceAccounts on behalf of theirs. Without a key to sign with it does nothing.

use std::sync::Arc;

use client::Key;
use controllers::meta::Meta;
use controllers::service_account_token::{self, Claims, Issuer};
use controllers::{Failure, Plan};
use jiff::Timestamp;

use super::{Built, Setup, built};
use crate::informers::Caches;
use crate::signer::Signer;
use crate::work::Controller;

struct Shell {
    caches: Caches,
    issuer: Option<Signed>,
}

struct Signed {
    signer: Arc<Signer>,
    root_ca: Option<String>,
}

impl Issuer for Signed {
    fn sign(&self, claims: &Claims) -> Option<String> {
        let signed = self.signer.sign(claims);
        signed.inspect_err(|error| tracing::error!(?error, "cannot sign a token")).ok()
    }

    fn root_ca(&self) -> Option<&str> {
        self.root_ca.as_deref()
    }
}

pub fn build(setup: &mut Setup) -> Built {
    let work = setup.work("serviceaccount_tokens_secret");
    let root_ca = setup.flags.root_ca.clone();
    let issuer = setup.flags.signer.clone().map(|signer| Signed { signer, root_ca });
    if issuer.is_some() {
        work.on_self(&mut setup.informers.token_secrets);
        let (waker, secrets) = (work.clone(), setup.caches.token_secrets.clone());
        setup.informers.service_accounts.on_change(move |change| {
            let account = change.object();
            let own = |secret: &Arc<_>| service_account_token::account_name(secret) == account.name();
            secrets.list_in(account.namespace()).iter().filter(|s| own(s)).for_each(|s| waker.add(Key::of(s.as_ref())));
        });
    } else {
        tracing::warn!("\"serviceaccount-token-controller\" is disabled because there is no private key");
    }
    let workers = setup.flags.concurrent_serviceaccount_token_syncs;
    built(work, workers, Shell { caches: setup.caches.clone(), issuer })
}

impl Controller for Shell {
    fn plan(&self, key: &Key, _failure: Option<&Failure>, _now: Timestamp) -> Plan {
        let Some(issuer) = &self.issuer else { return Plan::default() };
        let Some(secret) = self.caches.token_secrets.get(key) else {
            let accounts = self.caches.service_accounts.list_in(&key.namespace);
            return service_account_token::plan_gone(&key.namespace, &key.name, &accounts);
        };
        let name = service_account_token::account_name(&secret);
        let account = self.caches.service_accounts.get(&Key::new(&key.namespace, name));
        service_account_token::plan(&secret, account.as_deref(), issuer)
    }
}
