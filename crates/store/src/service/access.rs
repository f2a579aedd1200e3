//! Who sent a request: by its token, or else by the client's certificate.

use std::time::Instant;

use tonic::{Extensions, Request};

use super::Context;
use crate::auth::{Asker, Caller, Error};
use crate::error::Refusal;
use crate::server::CommonName;
use crate::token::{Simple, Tokens};

/// Where clients put their token; the first is what etcd's own do.
const TOKEN_FIELDS: [&str; 2] = ["token", "authorization"];

/// What a client showed with a request or with the opening of a stream.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    token: Option<String>,
    name: Option<CommonName>,
}

impl Credentials {
    pub fn of<T>(request: &Request<T>) -> Credentials {
        let metadata = request.metadata();
        let token = TOKEN_FIELDS.iter().find_map(|field| metadata.get(*field));
        Credentials {
            token: token.map(|token| String::from_utf8_lossy(token.as_bytes()).into_owned()),
            name: common_name(request.extensions()),
        }
    }
}

fn common_name(extensions: &Extensions) -> Option<CommonName> {
    extensions.get::<CommonName>().cloned()
}

impl Context {
    /// Lets a request in: tells who sent it.
    pub async fn admit<T>(&self, request: Request<T>) -> Result<(Asker, T), Refusal> {
        self.check_voter()?;
        self.admit_to_learner(request).await
    }

    /// As [`Context::admit`], for what a learner answers as well. While authentication is disabled nobody asks.
    pub async fn admit_to_learner<T>(&self, request: Request<T>) -> Result<(Asker, T), Refusal> {
        if !self.shared.gate.enabled() {
            return Ok((Asker::Nobody, request.into_inner()));
        }
        let asker = self.identify(&Credentials::of(&request)).await?;
        Ok((asker, request.into_inner()))
    }

    /// Lets a request in that only who has the role `root` may make.
    pub async fn admit_admin<T>(&self, request: Request<T>) -> Result<(Asker, T), Refusal> {
        let (asker, request) = self.admit(request).await?;
        self.shared.state.read().auth.guard(&asker).admin()?;
        Ok((asker, request))
    }

    /// As [`Context::admit`], for what comes by a stream that is open already.
    pub async fn identify(&self, credentials: &Credentials) -> Result<Asker, Refusal> {
        if !self.shared.gate.enabled() {
            return Ok(Asker::Nobody);
        }
        match (&credentials.token, &credentials.name) {
            (Some(token), _) => Ok(Asker::User(self.bearer(token).await?)),
            (None, Some(CommonName(name))) => Ok(Asker::User(self.caller(name.to_string()))),
            (None, None) => Err(Error::UserEmpty.into()),
        }
    }

    fn caller(&self, user: String) -> Caller {
        Caller { user, revision: self.shared.state.read().auth.revision() }
    }

    async fn bearer(&self, token: &str) -> Result<Caller, Refusal> {
        let tokens = match &self.shared.gate.tokens {
            Tokens::Jwt(jwt) => return Ok(jwt.caller(token)?),
            Tokens::Simple(tokens) => tokens,
        };
        if let Some(user) = tokens.user(token, Instant::now()) {
            return Ok(self.caller(user));
        }
        // Another member may have given it out in an entry that this one has not applied yet.
        let index = Simple::index(token).ok_or(Error::InvalidToken)?;
        if index > self.shared.state.read().applied.index {
            self.node.read_index().await?;
        }
        let user = tokens.user(token, Instant::now()).ok_or(Error::InvalidToken)?;
        Ok(self.caller(user))
    }
}
