//! Users, roles, tokens.

use tonic::{Request, Response, Status};

use super::Context;
use super::access::Credentials;
use crate::auth::{Asker, Effect, Error, Guard};
use crate::error::Refusal;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::{self, auth_change::Change, command::Op as Command};
use crate::state::{Outcome, State};
use crate::token::{Simple, Tokens};

const SERVICE: &str = "etcdserverpb.Auth";
/// How often a password is checked anew because users or roles changed meanwhile.
const MAX_ATTEMPTS: usize = 10;

pub struct Auth(pub Context);

type Header = Option<pb::ResponseHeader>;

impl Auth {
    /// Puts a change through the log.
    async fn change<T>(&self, r: Request<T>, change: impl FnOnce(T) -> Change) -> Result<Header, Status> {
        let (asker, r) = self.0.admit(r).await?;
        let change = kvraft::AuthChange { change: Some(change(r)) };
        match self.0.propose(asker, Command::Auth(change)).await? {
            Outcome::Auth(_) => Ok(self.0.shared.header_now()),
            _ => unreachable!("a change of the users or roles answers one"),
        }
    }

    /// Reads the newest users and roles, if the asker may.
    async fn read<T, A>(
        &self,
        r: Request<T>,
        permitted: impl FnOnce(Guard<'_>, &T) -> Result<(), Error>,
        read: impl FnOnce(&State, &T, Header) -> Result<A, Error>,
    ) -> Result<A, Status> {
        let (asker, r) = self.0.admit(r).await?;
        self.0.read_index().await?;
        let state = self.0.shared.state.read();
        permitted(state.auth.guard(&asker), &r)?;
        let header = Some(self.0.shared.header(state.kv.revision()));
        Ok(read(&state, &r, header)?)
    }

    async fn authenticate(&self, r: pb::AuthenticateRequest) -> Result<pb::AuthenticateResponse, Status> {
        self.0.read_index().await?;
        for _ in 0..MAX_ATTEMPTS {
            let (hash, revision) = {
                let state = self.0.shared.state.read();
                (state.auth.password_hash(&r.name)?, state.auth.revision())
            };
            self.0.shared.gate.verify(r.password.clone(), hash).await?;
            let token = match &self.0.shared.gate.tokens {
                Tokens::Jwt(jwt) => jwt.assign(&r.name, revision).map_err(|e| Status::unknown(format!("auth: {e}")))?,
                Tokens::Simple(_) => match self.assign(&r.name, revision).await {
                    Err(Refusal::Auth(Error::OldRevision)) => continue,
                    assigned => assigned?,
                },
            };
            return Ok(pb::AuthenticateResponse { header: self.0.shared.header_now(), token });
        }
        Err(Error::OldRevision.into())
    }

    /// Gives out a token for a password that was right at `revision`, on every member.
    async fn assign(&self, user: &str, revision: u64) -> Result<String, Refusal> {
        let authenticate = kvraft::Authenticate { user: user.to_owned(), token: Simple::draw(), revision };
        let change = kvraft::AuthChange { change: Some(Change::Authenticate(authenticate)) };
        match self.0.propose(Asker::Nobody, Command::Auth(change)).await? {
            Outcome::Auth(Effect::Assigned { token, .. }) => Ok(token),
            _ => unreachable!("to authenticate assigns a token"),
        }
    }

    async fn user_add(&self, mut r: Request<pb::AuthUserAddRequest>) -> Result<Header, Status> {
        if r.get_ref().name.is_empty() {
            return Err(Error::UserEmpty.into());
        }
        let password = std::mem::take(&mut r.get_mut().password);
        let no_password = r.get_ref().options.is_some_and(|options| options.no_password);
        let hashed = if no_password { String::new() } else { self.hash(&r, password).await? };
        r.get_mut().hashed_password = hashed;
        self.change(r, Change::UserAdd).await
    }

    /// An empty password makes one that nothing equals.
    async fn user_change_password(&self, mut r: Request<pb::AuthUserChangePasswordRequest>) -> Result<Header, Status> {
        let password = std::mem::take(&mut r.get_mut().password);
        let hashed = if password.is_empty() { String::new() } else { self.hash(&r, password).await? };
        r.get_mut().hashed_password = hashed;
        self.change(r, Change::UserChangePassword).await
    }

    /// Hashes for who is going to be permitted: others could keep the processors busy.
    async fn hash<T>(&self, r: &Request<T>, password: String) -> Result<String, Status> {
        let asker = self.0.identify(&Credentials::of(r)).await?;
        self.0.read_index().await?;
        self.0.shared.state.read().auth.guard(&asker).admin()?;
        self.0.shared.gate.hash(password).await
    }

    /// The answer of a change, which is a header and nothing else.
    fn changed<T>(
        &self,
        method: &'static str,
        header: Result<Header, Status>,
        response: impl FnOnce(Header) -> T,
    ) -> Result<Response<T>, Status> {
        self.0.answer(SERVICE, method, header.map(response))
    }
}

#[tonic::async_trait]
impl pb::auth_server::Auth for Auth {
    async fn authenticate(
        &self,
        r: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        let answer = self.authenticate(r.into_inner()).await;
        self.0.answer(SERVICE, "Authenticate", answer)
    }

    async fn auth_enable(&self, r: Request<pb::AuthEnableRequest>) -> Result<Response<pb::AuthEnableResponse>, Status> {
        let header = self.change(r, Change::Enable).await;
        self.changed("AuthEnable", header, |header| pb::AuthEnableResponse { header })
    }

    async fn auth_disable(
        &self,
        r: Request<pb::AuthDisableRequest>,
    ) -> Result<Response<pb::AuthDisableResponse>, Status> {
        let header = self.change(r, Change::Disable).await;
        self.changed("AuthDisable", header, |header| pb::AuthDisableResponse { header })
    }

    async fn user_add(&self, r: Request<pb::AuthUserAddRequest>) -> Result<Response<pb::AuthUserAddResponse>, Status> {
        let header = self.user_add(r).await;
        self.changed("UserAdd", header, |header| pb::AuthUserAddResponse { header })
    }

    async fn user_delete(
        &self,
        r: Request<pb::AuthUserDeleteRequest>,
    ) -> Result<Response<pb::AuthUserDeleteResponse>, Status> {
        let header = self.change(r, Change::UserDelete).await;
        self.changed("UserDelete", header, |header| pb::AuthUserDeleteResponse { header })
    }

    async fn user_change_password(
        &self,
        r: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Result<Response<pb::AuthUserChangePasswordResponse>, Status> {
        let header = self.user_change_password(r).await;
        self.changed("UserChangePassword", header, |header| pb::AuthUserChangePasswordResponse { header })
    }

    async fn user_grant_role(
        &self,
        r: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Result<Response<pb::AuthUserGrantRoleResponse>, Status> {
        let header = self.change(r, Change::UserGrantRole).await;
        self.changed("UserGrantRole", header, |header| pb::AuthUserGrantRoleResponse { header })
    }

    async fn user_revoke_role(
        &self,
        r: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Result<Response<pb::AuthUserRevokeRoleResponse>, Status> {
        let header = self.change(r, Change::UserRevokeRole).await;
        self.changed("UserRevokeRole", header, |header| pb::AuthUserRevokeRoleResponse { header })
    }

    async fn role_add(&self, r: Request<pb::AuthRoleAddRequest>) -> Result<Response<pb::AuthRoleAddResponse>, Status> {
        let header = self.change(r, Change::RoleAdd).await;
        self.changed("RoleAdd", header, |header| pb::AuthRoleAddResponse { header })
    }

    async fn role_delete(
        &self,
        r: Request<pb::AuthRoleDeleteRequest>,
    ) -> Result<Response<pb::AuthRoleDeleteResponse>, Status> {
        let header = self.change(r, Change::RoleDelete).await;
        self.changed("RoleDelete", header, |header| pb::AuthRoleDeleteResponse { header })
    }

    async fn role_grant_permission(
        &self,
        r: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<pb::AuthRoleGrantPermissionResponse>, Status> {
        let header = self.change(r, Change::RoleGrantPermission).await;
        self.changed("RoleGrantPermission", header, |header| pb::AuthRoleGrantPermissionResponse { header })
    }

    async fn role_revoke_permission(
        &self,
        r: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<pb::AuthRoleRevokePermissionResponse>, Status> {
        let header = self.change(r, Change::RoleRevokePermission).await;
        self.changed("RoleRevokePermission", header, |header| pb::AuthRoleRevokePermissionResponse { header })
    }

    async fn auth_status(&self, r: Request<pb::AuthStatusRequest>) -> Result<Response<pb::AuthStatusResponse>, Status> {
        let answer = self
            .read(
                r,
                |guard, _| guard.admin(),
                |state, _, header| {
                    let (enabled, auth_revision) = (state.auth.enabled(), state.auth.revision());
                    Ok(pb::AuthStatusResponse { header, enabled, auth_revision })
                },
            )
            .await;
        self.0.answer(SERVICE, "AuthStatus", answer)
    }

    async fn user_get(&self, r: Request<pb::AuthUserGetRequest>) -> Result<Response<pb::AuthUserGetResponse>, Status> {
        let answer = self
            .read(
                r,
                |guard, r| guard.user_get(&r.name),
                |state, r, header| Ok(pb::AuthUserGetResponse { header, roles: state.auth.roles_of(&r.name)? }),
            )
            .await;
        self.0.answer(SERVICE, "UserGet", answer)
    }

    async fn user_list(
        &self,
        r: Request<pb::AuthUserListRequest>,
    ) -> Result<Response<pb::AuthUserListResponse>, Status> {
        let answer = self
            .read(
                r,
                |guard, _| guard.admin(),
                |state, _, header| Ok(pb::AuthUserListResponse { header, users: state.auth.users() }),
            )
            .await;
        self.0.answer(SERVICE, "UserList", answer)
    }

    async fn role_get(&self, r: Request<pb::AuthRoleGetRequest>) -> Result<Response<pb::AuthRoleGetResponse>, Status> {
        let answer = self
            .read(
                r,
                |guard, r| guard.role_get(&r.role),
                |state, r, header| Ok(pb::AuthRoleGetResponse { header, perm: state.auth.permissions_of(&r.role)? }),
            )
            .await;
        self.0.answer(SERVICE, "RoleGet", answer)
    }

    async fn role_list(
        &self,
        r: Request<pb::AuthRoleListRequest>,
    ) -> Result<Response<pb::AuthRoleListResponse>, Status> {
        let answer = self
            .read(
                r,
                |guard, _| guard.admin(),
                |state, _, header| Ok(pb::AuthRoleListResponse { header, roles: state.auth.roles() }),
            )
            .await;
        self.0.answer(SERVICE, "RoleList", answer)
    }
}
