//! Content negotiation: which encoding and which shape of the answer a client wants.

use api::ApiError;
use http::{HeaderMap, header};

use super::query::Query;

/// What this server can write.
const MEDIA_TYPES: &[&str] = &["application/json", "application/yaml", protobuf::MEDIA_TYPE];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    #[default]
    Json,
    Yaml,
    Protobuf,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    #[default]
    Object,
    Table,
    /// `PartialObjectMetadata`, and its list for lists.
    Metadata,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    pub shape: Shape,
    pub encoding: Encoding,
    pub pretty: bool,
    pub gzip: bool,
}

impl Accept {
    pub fn parse(headers: &HeaderMap, query: &Query) -> Result<Self, ApiError> {
        let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let (shape, encoding) = choose(accept).ok_or_else(|| ApiError::not_acceptable(MEDIA_TYPES))?;
        let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let by_hand = ["curl", "Wget", "Mozilla/5.0"].iter().any(|a| agent.starts_with(a));
        let pretty = if query.get("pretty").is_some() { query.truthy("pretty") } else { by_hand };
        let encodings = headers.get(header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let gzip = encodings.split(',').any(|e| e.split(';').next().is_some_and(|e| e.trim() == "gzip"));
        Ok(Self { shape, encoding, pretty, gzip })
    }
}

/// The first acceptable clause wins among those of the highest quality.
fn choose(accept: &str) -> Option<(Shape, Encoding)> {
    if accept.trim().is_empty() {
        return Some((Shape::Object, Encoding::Json));
    }
    let mut best: Option<(f32, (Shape, Encoding))> = None;
    for clause in accept.split(',') {
        let mut parts = clause.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let encoding = match media {
            "application/json" | "application/*" | "*/*" => Encoding::Json,
            "application/yaml" => Encoding::Yaml,
            protobuf::MEDIA_TYPE => Encoding::Protobuf,
            _ => continue,
        };
        let (mut shape, mut quality, mut version) = (Some(Shape::Object), 1.0, "v1");
        for (key, value) in parts.filter_map(|p| p.split_once('=')) {
            match key.trim() {
                "as" => shape = named(value.trim()),
                "v" => version = value.trim(),
                "q" => quality = value.trim().parse().unwrap_or(0.0),
                _ => {}
            }
        }
        let Some(shape) = shape.filter(|s| *s == Shape::Object || version == "v1") else { continue };
        // The cells of a table are of any type, which protobuf has not.
        if (shape, encoding) == (Shape::Table, Encoding::Protobuf) {
            continue;
        }
        if best.is_none_or(|(q, _)| quality > q) {
            best = Some((quality, (shape, encoding)));
        }
    }
    best.map(|(_, chosen)| chosen)
}

fn named(shape: &str) -> Option<Shape> {
    match shape {
        "Table" => Some(Shape::Table),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Some(Shape::Metadata),
        // Discovery has its own shapes and looks at the header itself.
        "APIGroupDiscoveryList" => Some(Shape::Object),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, expected: Option<(Shape, Encoding)>) {
        assert_eq!(choose(accept), expected, "{accept}");
    }

    #[test]
    fn clauses() {
        check("", Some((Shape::Object, Encoding::Json)));
        check("application/vnd.kubernetes.protobuf,application/json", Some((Shape::Object, Encoding::Protobuf)));
        check("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Some((Shape::Table, Encoding::Json)));
        check(
            "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
            Some((Shape::Object, Encoding::Json)),
        );
        let table = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json";
        check(table, Some((Shape::Object, Encoding::Json)));
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        check(metadata, Some((Shape::Metadata, Encoding::Protobuf)));
        check("text/html, application/yaml;q=0.9, */*;q=0.8", Some((Shape::Object, Encoding::Yaml)));
        check("text/html", None);
    }
}
