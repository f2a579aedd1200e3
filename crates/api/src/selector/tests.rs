use serde_json::json;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect()
}

#[test]
fn selectors_match_and_are_written_back() {
    let check = |text: &str, written: &str, yes: &[&[(&str, &str)]], no: &[&[(&str, &str)]]| {
        let selector = Selector::parse(text).expect("a selector");
        assert_eq!(selector.to_string(), written);
        for set in yes {
            assert!(selector.matches(&labels(set)), "{text} matches {set:?}");
        }
        for set in no {
            assert!(!selector.matches(&labels(set)), "{text} does not match {set:?}");
        }
    };
    check("", "", &[&[], &[("a", "b")]], &[]);
    check("a=b", "a=b", &[&[("a", "b"), ("c", "d")]], &[&[], &[("a", "c")]]);
    check("a==b", "a==b", &[&[("a", "b")]], &[&[]]);
    check("a!=b", "a!=b", &[&[], &[("a", "c")]], &[&[("a", "b")]]);
    check("a=", "a=", &[&[("a", "")]], &[&[], &[("a", "b")]]);
    check("c,!b", "!b,c", &[&[("c", "")]], &[&[], &[("b", ""), ("c", "")]]);
    check(" a in ( y , x ) ", "a in (x,y)", &[&[("a", "x")], &[("a", "y")]], &[&[], &[("a", "z")]]);
    check("a notin (x)", "a notin (x)", &[&[], &[("a", "z")]], &[&[("a", "x")]]);
    check("a in (,b)", "a in (,b)", &[&[("a", "")], &[("a", "b")]], &[&[]]);
    check("n>1,n<3", "n>1,n<3", &[&[("n", "2")]], &[&[], &[("n", "1")], &[("n", "3")], &[("n", "x")]]);
    check("in in (in)", "in in (in)", &[&[("in", "in")]], &[&[]]);
    check("x.y/z=1", "x.y/z=1", &[&[("x.y/z", "1")]], &[&[]]);
}

#[test]
fn selectors_refused() {
    let check = |text: &str, expected: &str| {
        let error = Selector::parse(text).expect_err("not a selector");
        assert_eq!(error.to_string(), format!("unable to parse requirement: {expected}"), "{text}");
    };
    check("a b", "found 'b', expected: in, notin, =, ==, !=, gt, lt");
    check(",a", "found ',', expected: !, identifier, or 'end of string'");
    check("a,", "found '', expected: identifier after ','");
    check("a in x", "found 'x', expected: '('");
    check("a in (x", "found '', expected: ',' or ')'");
    check("a=b=c", "found '=', expected: ',' or 'end of string'");
    check("!", "found '', expected: identifier");
    check("a in ()", "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty");
    check("a>x", r#"values[0]: Invalid value: "x": for 'Gt', 'Lt' operators, the value must be an integer"#);
    check("/a=b", r#"<nil>: Invalid value: "/a": prefix part must be non-empty"#);
    check(
        "a=b_",
        "values[0][a]: Invalid value: \"b_\": a valid label must be an empty string or consist of alphanumeric \
         characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
         'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
    );
}

#[test]
fn label_selector_objects() {
    let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [
        {"key": "c", "operator": "In", "values": ["y", "x"]}, {"key": "d", "operator": "DoesNotExist"}]});
    assert_eq!(Selector::from_value(&selector).expect("valid").to_string(), "a=b,c in (x,y),!d");
    assert!(Selector::from_value(&Value::Null).expect("valid").is_nothing());
    assert!(!Selector::nothing().matches(&BTreeMap::new()));
    assert!(Selector::from_value(&json!({})).expect("valid").is_everything());
    let bad = json!({"matchExpressions": [{"key": "c", "operator": "Like"}]});
    let error = Selector::from_value(&bad).expect_err("no such operator");
    assert_eq!(error.to_string(), r#""Like" is not a valid label selector operator"#);
}

#[test]
fn field_selectors() {
    let get = |field: &str| match field {
        "metadata.name" => Some("web".to_owned()),
        "status.phase" => Some("Running".to_owned()),
        _ => None,
    };
    let check = |text: &str, expected: Result<bool, &str>| {
        let found = FieldSelector::parse(text).map(|s| s.matches(get)).map_err(|e| e.to_string());
        assert_eq!(found, expected.map_err(str::to_owned), "{text}");
    };
    check("", Ok(true));
    check("metadata.name=web", Ok(true));
    check("metadata.name==web,status.phase!=Failed", Ok(true));
    check("metadata.name!=web", Ok(false));
    check("spec.nodeName=", Ok(true));
    check("metadata.name", Err("invalid selector: 'metadata.name'; can't understand 'metadata.name'"));
    check(r"a=\x", Err(r#"invalid field selector: invalid escape sequence: "\\x""#));
    check("a=b=c", Err("invalid field selector: unescaped character in value: '='"));
    let escaped = FieldSelector::parse(r"a=b\,c\=d").expect("valid");
    assert_eq!(escaped.exact("a"), Some("b,c=d"));
    assert_eq!(escaped.to_string(), r"a=b\,c\=d");
    let error = escaped.check(|field| field == "metadata.name").expect_err("a is not known");
    assert_eq!(error.to_string(), "field label not supported: a");
}

#[test]
fn fields_that_a_kind_does_not_have() {
    let table = crate::table::Table::builtin();
    let check = |plural: &str, selector: &str, expected: Result<(), &str>| {
        let row = table.by_plural("", "v1", plural).expect("a known kind");
        let found = FieldSelector::parse(selector).expect("a selector").check_for(row).map_err(|e| e.to_string());
        assert_eq!(found, expected.map_err(str::to_owned));
    };
    check("pods", "spec.nodeName=n,metadata.name=a", Ok(()));
    check("pods", "spec.x=n", Err("field label not supported: spec.x"));
    check("configmaps", "metadata.namespace=n", Ok(()));
    let known = r#"only "metadata.name", "metadata.namespace""#;
    check("configmaps", "data.x=n", Err(&format!(r#""data.x" is not a known field selector: {known}"#)));
}
