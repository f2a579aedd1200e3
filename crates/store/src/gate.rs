//! What stands between the wire and the rights: whether credentials are looked at, the tokens
//! of this member, and the hashing of passwords.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::Semaphore;
use tonic::Status;

use crate::auth::{self, Effect, Error};
use crate::error::Refusal;
use crate::token::{Config, Tokens};

/// Hashes under way; each takes a processor for tens of milliseconds.
const MAX_HASHES: usize = 4;
/// What is longer bcrypt would cut off.
const MAX_PASSWORD_BYTES: usize = 72;

pub struct Gate {
    /// Follows the state. Rights are judged by the state; this spares looking at credentials
    /// that nobody needs.
    enabled: AtomicBool,
    pub tokens: Tokens,
    passwords: Passwords,
}

impl Gate {
    pub fn new(tokens: Config, bcrypt_cost: u32) -> Gate {
        let passwords = Passwords { cost: bcrypt_cost, permits: Arc::new(Semaphore::new(MAX_HASHES)) };
        Gate { enabled: AtomicBool::new(false), tokens: tokens.into(), passwords }
    }

    pub fn enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// The state was read from a checkpoint or replaced by a snapshot. Which tokens were
    /// voided in the entries in between is not known: their holders authenticate again.
    pub fn adopt(&self, auth: &auth::Store) {
        self.set_enabled(auth.enabled());
        if let Tokens::Simple(tokens) = &self.tokens {
            tokens.forget_all();
        }
    }

    fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    /// Called in the order of the log, while the state cannot be read.
    pub fn follow(&self, effect: &Effect) {
        match (effect, &self.tokens) {
            (Effect::Enabled, _) => self.set_enabled(true),
            (Effect::Disabled, Tokens::Jwt(_)) => self.set_enabled(false),
            (Effect::Disabled, Tokens::Simple(tokens)) => {
                self.set_enabled(false);
                tokens.forget_all();
            }
            (Effect::Voided(user), Tokens::Simple(tokens)) => tokens.forget(user),
            (Effect::Assigned { token, user }, Tokens::Simple(tokens)) => {
                tokens.assign(token.clone(), user.clone(), Instant::now());
            }
            // Signed tokens are void by the revision they carry.
            (Effect::None, _) | (Effect::Voided(_) | Effect::Assigned { .. }, Tokens::Jwt(_)) => {}
        }
    }

    pub async fn hash(&self, password: String) -> Result<String, Status> {
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(Status::unknown("bcrypt: password length exceeds 72 bytes"));
        }
        let cost = self.passwords.cost;
        let hashed = self.passwords.run(move || bcrypt::hash(password, cost)).await?;
        hashed.map_err(|error| Status::internal(format!("the password could not be hashed: {error}")))
    }

    pub async fn verify(&self, password: String, hash: String) -> Result<(), Status> {
        let fits = password.len() <= MAX_PASSWORD_BYTES;
        let verified = self.passwords.run(move || bcrypt::verify(password, &hash)).await?;
        if fits && verified.unwrap_or(false) { Ok(()) } else { Err(Error::Failed.into()) }
    }
}

struct Passwords {
    cost: u32,
    permits: Arc<Semaphore>,
}

impl Passwords {
    /// Away from the threads that serve requests, and a few at a time.
    async fn run<T: Send + 'static>(&self, hashing: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| Refusal::Stopped)?;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            hashing()
        });
        done.await.map_err(|_| Refusal::Stopped.into())
    }
}
