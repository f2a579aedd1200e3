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

/// The fields of a message, which is named as its definition without `io.k8s.`, in lower case.
pub fn of(message: &str) -> &'static [(u32, Tag)] {
    messages().get(message).map_or(&[], Vec::as_slice)
}

pub fn find(message: &str, number: u32) -> Option<&'static Tag> {
    of(message).iter().find(|(n, _)| *n == number).map(|(_, tag)| tag)
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

    /// Names of messages in the fields of others, where the model has no such field: those are embedded structs, whose
    /// fields the outer object has as its own.
    #[test]
    fn only_embedded_structs_stand_for_fields_of_others() {
        let schemas = Schemas::builtin();
        let mut found: Vec<&str> = Vec::new();
        for definition in schemas.definitions() {
            let Some(object) = definition.node().object() else { continue };
            let message = definition.name.trim_start_matches("io.k8s.").to_lowercase();
            let known = |tag: &Tag| object.fields.iter().any(|f| f.name.eq_ignore_ascii_case(tag.name));
            found.extend(of(&message).iter().filter(|(_, t)| !t.message.is_empty() && !known(t)).map(|(_, t)| t.name));
        }
        found.sort_unstable();
        found.dedup();
        let embedded = [
            "ephemeralcontainercommon",
            "handler",
            "ingressrulevalue",
            "localobjectreference",
            "persistentvolumesource",
            "volumesource",
        ];
        assert_eq!(found, embedded);
    }

    /// Fields without a tag would be lost. These are behind gates that are off in 1.36, or of kinds that are not encoded.
    #[test]
    fn every_field_of_every_kind_has_a_tag() {
        let schemas = Schemas::builtin();
        let mut missing: Vec<String> = Vec::new();
        for definition in schemas.definitions() {
            let Some(object) = definition.node().object() else { continue };
            let message = definition.name.trim_start_matches("io.k8s.").to_lowercase();
            let all = with_embedded(&message);
            for field in object.fields.iter().filter(|f| !matches!(&*f.name, "apiVersion" | "kind")) {
                if !all.contains(&field.name.to_lowercase().as_str()) {
                    missing.push(format!("{message}.{}", field.name));
                }
            }
        }
        missing.retain(|field| !field.starts_with("apiextensions-apiserver."));
        let gated = [
            "api.core.v1.imagevolumestatus.imageRef",
            "api.core.v1.nodeallocatableresourceclaimstatus.containers",
            "api.core.v1.nodeallocatableresourceclaimstatus.resourceClaimName",
            "api.core.v1.nodeallocatableresourceclaimstatus.resources",
            "api.core.v1.podschedulinggroup.podGroupName",
            "api.core.v1.podspec.schedulingGroup",
            "api.core.v1.podstatus.nodeAllocatableResourceClaimStatuses",
            "api.core.v1.resourcehealth.message",
            "api.core.v1.volumemountstatus.volumeStatus",
            "api.core.v1.volumestatus.image",
            "apimachinery.pkg.apis.meta.v1.listmeta.shardInfo",
            "apimachinery.pkg.apis.meta.v1.shardinfo.selector",
        ];
        assert_eq!(missing, gated);
    }

    fn with_embedded(message: &str) -> Vec<&'static str> {
        let own = of(message).iter().map(|(_, tag)| tag);
        own.flat_map(|tag| {
            let inner = if tag.message == message { &[][..] } else { of(tag.message) };
            std::iter::once(tag.name).chain(inner.iter().map(|(_, tag)| tag.name))
        })
        .collect()
    }
}
