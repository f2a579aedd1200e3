//! TokenReview and SelfSubjectReview.

use api::ApiError;
use http::StatusCode;
use serde_json::{Value, json};

use super::User;
use crate::http::reply::Reply;
use crate::rest::options::WriteOptions;
use crate::rest::{Call, decode, present};

pub async fn token(call: &Call<'_>) -> Result<Reply, ApiError> {
    let mut review = review(call).await?;
    let token = review["spec"]["token"].as_str().unwrap_or_default().to_owned();
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences: Vec<String> = strings(&review["spec"]["audiences"]);
    review["status"] = match call.api.tokens.authenticate(&token, &audiences).await {
        Ok(found) => {
            let mut user = found.user;
            user.groups.push(super::AUTHENTICATED.to_owned());
            json!({"authenticated": true, "user": user_info(&user), "audiences": found.audiences})
        }
        Err(error) => json!({"user": {}, "error": format!("[invalid bearer token, {error}]")}),
    };
    created(call, review)
}

pub async fn myself(call: &Call<'_>) -> Result<Reply, ApiError> {
    let mut review = review(call).await?;
    review["status"] = json!({"userInfo": user_info(&call.request.user)});
    created(call, review)
}

/// The review as it was sent.
pub async fn review(call: &Call<'_>) -> Result<Value, ApiError> {
    let Call { api, kind, request } = call;
    let options = WriteOptions::parse(&request.query, "CreateOptions")?;
    decode::object(&api.catalog, request, &kind.row, options.field_validation).await
}

/// The review with its answer.
pub fn created(call: &Call<'_>, mut review: Value) -> Result<Reply, ApiError> {
    if review["metadata"].is_null() {
        review["metadata"] = json!({"creationTimestamp": null});
    }
    let bytes = serde_json::to_vec(&review).map_err(ApiError::internal)?;
    present::object(call, StatusCode::CREATED, bytes.into())
}

pub fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

pub fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
