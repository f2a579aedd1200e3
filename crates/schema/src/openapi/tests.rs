use super::*;

fn document(group: &str, version: &str) -> Value {
    let bytes = v3(&Schemas::builtin(), &Table::builtin(), group, version).expect("a document");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// Every `$ref` of a document.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(target) = map.get("$ref").and_then(Value::as_str) {
                found.push(target.to_owned());
            }
            map.values().for_each(|v| references(v, found));
        }
        Value::Array(items) => items.iter().for_each(|v| references(v, found)),
        _ => {}
    }
}

#[test]
fn every_reference_of_every_document_leads_somewhere() {
    let table = Table::builtin();
    let check = |document: &Value| {
        let mut found = Vec::new();
        references(document, &mut found);
        assert!(!found.is_empty());
        for target in found {
            let pointer = target.strip_prefix('#').expect("a local reference");
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
    };
    for (group, version) in table.group_versions() {
        check(&document(group, version));
    }
    check(&serde_json::from_slice(&v2(&Schemas::builtin(), &table)).expect("JSON"));
    assert!(v3(&Schemas::builtin(), &table, "apps", "v9").is_none());
    assert!(!v2_protobuf(&Schemas::builtin(), &table).is_empty());
}

#[test]
fn a_small_kind() {
    let document = document("scheduling.k8s.io", "v1");
    // Another crate of the build may make JSON objects keep the order in which they were filled.
    insta::with_settings!({sort_maps => true}, {
        insta::assert_json_snapshot!(document["components"]["schemas"]["io.k8s.api.scheduling.v1.PriorityClass"]);
        insta::assert_json_snapshot!(document["paths"]["/apis/scheduling.k8s.io/v1/priorityclasses/{name}"]["patch"]);
    });
}

#[test]
fn merge_facts_stand_where_clients_look_for_them() {
    let document = document("apps", "v1");
    let pod_spec = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"];
    let volumes = &pod_spec["properties"]["volumes"];
    assert_eq!(volumes["x-kubernetes-patch-strategy"], "merge,retainKeys");
    assert_eq!(volumes["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(volumes["x-kubernetes-list-type"], "map");
    assert_eq!(volumes["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(volumes["items"]["allOf"][0]["$ref"], "#/components/schemas/io.k8s.api.core.v1.Volume");
}

#[test]
fn the_index_names_each_document_with_its_hash() {
    let index = v3_index(&[("", "v1", "AB"), ("apps", "v1", "CD")]);
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    assert_eq!(
        index,
        json!({"paths": {
            "api/v1": {"serverRelativeURL": "/openapi/v3/api/v1?hash=AB"},
            "apis/apps/v1": {"serverRelativeURL": "/openapi/v3/apis/apps/v1?hash=CD"}}})
    );
    assert_eq!(hash(b"").len(), 128);
}
