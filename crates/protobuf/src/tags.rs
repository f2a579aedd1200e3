//! Which tag is which field: `data/tags-1.35.txt`, a message a line, names in lower case without the case that the
//! schema model restores: `api.core.v1.pod 1:metadata 2:spec>api.core.v1.podspec`. What stands behind `>` is the
//! message of a field, needed where Go embeds a struct: its fields are the outer object's own in JSON.

use std::collections::HashMap;
use std::sync::OnceLock;

const TAGS: &str = include_str!("../data/tags-1.35.txt");

pub struct Tag {
    pub name: &'static str,
    pub message: &'static str,
}

type Messages = HashMap<&'static str, Vec<(u32, Tag)>>;

fn messages() -> &'static Messages {
    static MESSAGES: OnceLock<Messages> = OnceLock::new();
    MESSAGES.get_or_init(|| TAGS.lines().filter_map(message).collect())
}

fn message(line: &'static str) -> Option<(&'static str, Vec<(u32, Tag)>)> {
    let (name, fields) = line.split_once(' ')?;
    Some((name, fields.split(' ').filter_map(field).collect()))
}

fn field(text: &'static str) -> Option<(u32, Tag)> {
    let (number, rest) = text.split_once(':')?;
    let (name, message) = rest.split_once('>').unwrap_or((rest, ""));
    Some((number.parse().ok()?, Tag { name, message }))
}

/// The field of a message; `message` is its definition's name without `io.k8s.`, in lower case.
pub fn find(message: &str, number: u32) -> Option<&'static Tag> {
    messages().get(message)?.iter().find(|(n, _)| *n == number).map(|(_, tag)| tag)
}

#[cfg(test)]
mod tests {
    use schema::Schemas;

    use super::*;

    #[test]
    fn every_field_of_the_common_kinds_is_known() {
        let schemas = Schemas::builtin();
        let check = |definition: &str| {
            let found = schemas.definition(&format!("io.k8s.{definition}")).expect("a definition");
            let object = found.node().object().expect("an object");
            let tags = &messages()[definition.to_lowercase().as_str()];
            for field in object.fields.iter().filter(|f| !matches!(&*f.name, "apiVersion" | "kind")) {
                let name = field.name.to_lowercase();
                assert!(tags.iter().any(|(_, tag)| tag.name == name), "{definition}.{name}");
            }
        };
        check("api.core.v1.Namespace");
        check("api.core.v1.Container");
        check("api.core.v1.Service");
        check("api.core.v1.ServiceSpec");
        check("api.apps.v1.DeploymentSpec");
        check("api.rbac.v1.PolicyRule");
        check("apimachinery.pkg.apis.meta.v1.ObjectMeta");
        check("apimachinery.pkg.apis.meta.v1.DeleteOptions");
    }
}
