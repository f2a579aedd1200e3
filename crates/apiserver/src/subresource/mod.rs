//! The subresources, chosen by the row's `Sub` and never by the kind.

pub mod binding;
mod connect;
mod ephemeral_containers;
mod eviction;
mod finalize;
mod scale;
mod status;
mod token;

use api::ApiError;
use api::table::Sub;

use crate::http::reply::Reply;
use crate::rest::Call;

pub async fn handle(call: &Call<'_>) -> Result<Reply, ApiError> {
    let info = &call.request.info;
    let Some(sub) = call.kind.row.subresource(&info.subresource) else { return Ok(Reply::not_found()) };
    let streams = matches!(sub, Sub::Exec | Sub::Attach | Sub::PortForward | Sub::Proxy);
    if !streams && !info.rest.is_empty() {
        return Ok(Reply::not_found());
    }
    if !sub.verbs().contains(&info.verb.as_str()) && sub != Sub::Proxy && !(sub == Sub::Status && info.verb == "get") {
        return Err(ApiError::method_not_allowed());
    }
    match sub {
        Sub::Status | Sub::Approval => status::handle(call).await,
        Sub::Scale => scale::handle(call).await,
        Sub::Binding => binding::handle(call).await,
        Sub::Eviction => eviction::handle(call).await,
        Sub::EphemeralContainers => ephemeral_containers::handle(call).await,
        Sub::Resize => status::resize(call).await,
        Sub::Finalize => finalize::handle(call).await,
        Sub::Token => token::handle(call).await,
        Sub::Log => connect::log(call).await,
        Sub::Exec | Sub::Attach => connect::exec(call, sub).await,
        Sub::PortForward => connect::port_forward(call).await,
        Sub::Proxy => connect::proxy(call).await,
    }
}
