use std::collections::BTreeSet;

use crate::table::Table;

#[test]
fn every_row_is_found_both_ways_and_no_name_is_given_twice() {
    let table = Table::builtin();
    let (mut plurals, mut shorts) = (BTreeSet::new(), BTreeSet::new());
    for row in table.rows() {
        let found = table.by_plural(&row.group, &row.version, &row.plural).expect("found by plural");
        assert!(std::sync::Arc::ptr_eq(found, row));
        let found = table.by_kind(&row.group, &row.version, &row.kind).expect("found by kind");
        assert!(std::sync::Arc::ptr_eq(found, row));
        assert!(plurals.insert((row.group.clone(), row.version.clone(), row.plural.clone())), "{} twice", row.plural);
        for short in &row.short_names {
            // The same kind in another group has the same short names.
            assert!(shorts.insert((short.clone(), row.kind.clone())) || row.conversion.is_some(), "{short} twice");
        }
    }
    assert!(table.by_plural("", "v1", "deployments").is_none());
    assert!(table.by_plural("apps", "v1", "deployments").is_some());
}

#[test]
fn selectable_fields_read_as_go_prints_them() {
    let table = Table::builtin();
    let pods = table.by_plural("", "v1", "pods").expect("pods");
    let pod = serde_json::json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"nodeName": "n"}});
    let check = |field: &str, expected: Option<&str>| assert_eq!(pods.select(&pod, field).as_deref(), expected);
    check("metadata.name", Some("a"));
    check("metadata.namespace", Some("b"));
    check("spec.nodeName", Some("n"));
    check("spec.hostNetwork", Some("false"));
    check("status.podIP", Some(""));
    check("spec.image", None);
}
