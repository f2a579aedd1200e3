//! Objects in the shape that the client asked for: as they are, as a Table, or as metadata alone.

use api::table::{Column, Resource};
use api::{ApiError, meta};
use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Call;
use crate::http::accept::Shape;
use crate::http::reply::Reply;
use crate::http::request::Request;

/// Answers with one object from its served bytes.
pub fn object(call: &Call<'_>, code: StatusCode, bytes: Bytes) -> Result<Reply, ApiError> {
    let request = call.request;
    if request.accept.shape == Shape::Object {
        return Ok(Reply::bytes(code, bytes));
    }
    let value: Value = serde_json::from_slice(&bytes).map_err(ApiError::internal)?;
    Ok(Reply::json(code, &shaped(&call.kind.row, request, value)?))
}

/// One object as a Table of one row, or its metadata.
pub fn shaped(row: &Resource, request: &Request, value: Value) -> Result<Value, ApiError> {
    Ok(match request.accept.shape {
        Shape::Object => value,
        Shape::Metadata => partial(&value),
        Shape::Table => {
            let version = meta::resource_version(&value).to_owned();
            let include = Include::parse(request)?;
            table(row, json!({"resourceVersion": version}), vec![self::row(row, &value, request.now, include)])
        }
    })
}

/// What a table's rows carry of their objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    None,
    Metadata,
    Object,
}

impl Include {
    pub fn parse(request: &Request) -> Result<Self, ApiError> {
        match request.query.get("includeObject").unwrap_or_default() {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(ApiError::bad_request(format!("unrecognized includeObject value: {other:?}"))),
        }
    }
}

pub fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

pub fn row(row: &Resource, object: &Value, now: Timestamp, include: Include) -> Value {
    let mut out = json!({"cells": row.cells(object, now)});
    match include {
        Include::None => {}
        Include::Metadata => out["object"] = partial(object),
        Include::Object => out["object"] = object.clone(),
    }
    out
}

pub fn table(row: &Resource, metadata: Value, rows: Vec<Value>) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns(&row.columns()),
        "rows": rows,
    })
}

fn columns(columns: &[Column]) -> Vec<Value> {
    let one = |c: &Column| {
        json!({
            "name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority,
        })
    };
    columns.iter().map(one).collect()
}
