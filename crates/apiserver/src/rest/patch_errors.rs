//! How a patch is refused: in upstream's words, which show the patch, or what it led to.

use api::field::{Error, Path};
use api::{ApiError, ErrorList};
use serde_json::Value;

/// 422 on the patch as a whole, of no kind and no name.
pub fn invalid(shown: &str, why: &str) -> ApiError {
    ApiError::invalid("", "", "", &ErrorList::from_iter([Error::invalid(&Path::new("patch"), shown, why)]))
}

/// A patch that cannot be carried out: a test that fails, a path that is not there.
pub fn rejected() -> ApiError {
    ApiError::new(422, "Invalid", "the server rejected our request due to an error in our request").without_details()
}

/// A map as Go's `%+v` prints it.
pub fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(go_text).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            let fields: Vec<String> = keys.into_iter().map(|key| format!("{key}:{}", go_text(&map[key]))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

/// A value of the wrong type, in the words of the converter that strategic merges go through: it names the kinds of Go's
/// reflection and no path.
pub fn converter_words(cause: &str) -> String {
    let Some(rest) = cause.strip_prefix("json: cannot unmarshal ") else { return cause.to_owned() };
    let (Some(found), Some((_, wanted))) = (rest.split(' ').next(), rest.rsplit_once("of type ")) else {
        return cause.to_owned();
    };
    let found = match found {
        "number" => "int64",
        "array" => "slice",
        "object" => "map",
        other => other,
    };
    match wanted {
        list if list.starts_with("[]") => format!("cannot restore slice from {found}"),
        map if map.starts_with("map[") => format!("cannot restore map from {found}"),
        of if of.contains('.') => format!("cannot restore struct from: {found}"),
        scalar => format!("unrecognized type: {scalar}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn words() {
        assert_eq!(go_text(&json!({"spec": {"b": [1, "x"], "a": null}})), "map[spec:map[a:<nil> b:[1 x]]]");
        let check = |cause: &str, expected: &str| assert_eq!(converter_words(cause), expected);
        let field = "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32";
        check(field, "unrecognized type: int32");
        check(
            "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec",
            "cannot restore struct from: slice",
        );
        check("strict decoding error: x", "strict decoding error: x");
        let error = invalid("map[a:1]", "strict decoding error: unknown field \"a\"");
        let words = r#" "" is invalid: patch: Invalid value: "map[a:1]": strict decoding error: unknown field "a""#;
        assert_eq!((error.code(), error.to_string().as_str()), (422, words));
    }
}
