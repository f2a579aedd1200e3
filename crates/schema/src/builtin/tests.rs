use super::*;
use crate::node::{ListType, Scalar, Shape, Strategy};

fn at<'a>(schemas: &'a Schemas, kind: (&str, &str, &str), path: &str) -> &'a crate::node::Field {
    let mut node = schemas.kind(kind.0, kind.1, kind.2).expect("a known kind");
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    for part in parents.split('.').filter(|p| !p.is_empty()) {
        node = &node.field(part).expect(part).node;
        while let Some(element) = node.element() {
            node = element;
        }
    }
    node.field(last).expect(last)
}

#[test]
fn every_kind_of_the_table_is_known() {
    let schemas = Schemas::builtin();
    for row in api::table::Table::builtin().rows() {
        assert!(schemas.kind(&row.group, &row.version, &row.kind).is_some(), "{} {}", row.api_version(), row.kind);
    }
}

#[test]
fn shapes_and_merge_facts() {
    let schemas = Schemas::builtin();
    let deployment = ("apps", "v1", "Deployment");
    let replicas = at(&schemas, deployment, "spec.replicas");
    assert!(matches!(replicas.node.shape, Shape::Scalar(Scalar::Int32)) && !replicas.required);
    assert!(at(&schemas, deployment, "spec.selector").required);
    assert!(!at(&schemas, deployment, "metadata").required);

    let ports = at(&schemas, deployment, "spec.template.spec.containers.ports").merge.clone().expect("merge facts");
    assert_eq!(ports.list, Some(ListType::Map));
    assert_eq!(ports.list_keys.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["containerPort", "protocol"]);
    assert_eq!(ports.merge_key.as_deref(), Some("containerPort"));
    assert_eq!(ports.strategy, Strategy { merge: true, ..Strategy::default() });

    let selector = at(&schemas, deployment, "spec.selector");
    assert!(selector.node.object().expect("an object").atomic);
    let limits = at(&schemas, deployment, "spec.template.spec.containers.resources.limits");
    let value = limits.node.element().expect("a map").resolve();
    assert!(matches!(value.shape, Shape::Scalar(Scalar::Quantity)));
    assert!(matches!(
        at(&schemas, ("", "v1", "Secret"), "data").node.element().expect("a map").shape,
        Shape::Scalar(Scalar::Bytes)
    ));
    let definition = schemas.definition("io.k8s.api.apps.v1.DeploymentSpec").expect("a definition");
    assert_eq!((definition.short_name(), definition.go_name()), ("DeploymentSpec", "v1.DeploymentSpec"));
}

#[test]
fn every_fact_of_a_known_definition_names_a_known_field() {
    let schemas = Schemas::builtin();
    for line in include_str!("../../data/merge-facts.tsv").lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let (Some(definition), field) = (schemas.definition(columns[0]), columns[1]) else { continue };
        assert!(field.is_empty() || definition.node().field(field).is_some(), "{line}");
    }
}
