//! Who is asking. A client certificate or a bearer token names a user; nothing names the anonymous user, whom RBAC
//! then mostly refuses. Credentials that are there and wrong are a 401, never anonymous.

pub mod impersonation;
pub mod legacy_token;
pub mod review;
pub mod service_account;
pub mod x509;

use std::collections::BTreeMap;

use api::ApiError;
use http::{HeaderMap, header};

use service_account::Tokens;

pub const ANONYMOUS: &str = "system:anonymous";
pub const AUTHENTICATED: &str = "system:authenticated";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// May do everything, whatever the bindings say.
pub const MASTERS: &str = "system:masters";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..Self::default() }
    }

    /// The server's own identity, for what it does on its own account.
    pub fn loopback() -> Self {
        let groups = vec![AUTHENTICATED.to_owned(), MASTERS.to_owned()];
        Self { name: "system:apiserver".to_owned(), groups, ..Self::default() }
    }

    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    pub fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }

    /// `web-1` of `system:node:web-1`, when it is in the nodes' group.
    pub fn node_name(&self) -> Option<&str> {
        self.name.strip_prefix("system:node:").filter(|n| !n.is_empty() && self.in_group("system:nodes"))
    }
}

/// What a connection's client certificate says.
#[derive(Clone, Copy, Debug)]
pub enum Certified<'a> {
    /// There is none, or it names nobody.
    Nobody,
    User(&'a User),
    /// It is not believed, or not any more.
    Refused,
}

/// Names the user of a request.
pub async fn authenticate(certificate: Certified<'_>, headers: &HeaderMap, tokens: &Tokens) -> Result<User, ApiError> {
    let mut user = match (certificate, bearer(headers)) {
        (Certified::User(user), _) => user.clone(),
        (_, Some(token)) => {
            tokens
                .authenticate(token, &[])
                .await
                .map_err(|error| {
                    tracing::debug!(%error, "refused a bearer token");
                    ApiError::unauthorized()
                })?
                .user
        }
        (Certified::Nobody, None) => return Ok(User::anonymous()),
        (Certified::Refused, None) => return Err(ApiError::unauthorized()),
    };
    if !user.in_group(AUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    Ok(user)
}

/// The token of `Authorization: Bearer`, or of the WebSocket subprotocol that browsers have to use.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim())
}
