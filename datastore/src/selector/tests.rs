use proptest::prelude::*;
use serde_json::Value;

use super::*;

#[test]
fn selectors_match_and_reject_as_in_calico() {
    let mut sets = 0;
    for case in vectors("selectors") {
        let text = case["selector"].as_str().unwrap();
        let selector = Selector::parse(text).unwrap();
        for (field, expected) in [("matches", true), ("rejects", false)] {
            for set in case[field].as_array().unwrap() {
                let labels: BTreeMap<String, String> = serde_json::from_value(set.clone()).unwrap();
                assert_eq!(selector.matches(&labels), expected, "{text} on {set}");
                sets += 1;
            }
        }
    }
    assert!(sets >= 59, "{sets} label sets");
}

#[test]
fn what_is_no_selector_is_refused() {
    for case in vectors("invalid") {
        let text = case.as_str().unwrap();
        assert!(Selector::parse(text).is_err(), "{text}");
    }
}

#[test]
fn canonical_forms_and_uids_are_those_of_calico() {
    for case in vectors("canonical") {
        let text = case["selector"].as_str().unwrap();
        let canonical = case["canonical"].as_str().unwrap();
        let selector = Selector::parse(text).unwrap();
        assert_eq!(selector.canonical(), canonical, "{text}");
        let again = Selector::parse(canonical).unwrap();
        assert_eq!(again.canonical(), canonical);
        assert_eq!(again.uid(), selector.uid());
        if let Some(uid) = case["uid"].as_str() {
            assert_eq!(selector.uid(), uid, "{text}");
        }
    }
}

#[test]
fn words_are_operators_only_after_a_label() {
    for (text, canonical) in [
        ("in in {'a'}", "in in {\"a\"}"),
        ("contains contains 'a'", "contains contains \"a\""),
        ("not not in {'a',}", "not not in {\"a\"}"),
        ("a notin{'b'}", "a not in {\"b\"}"),
        ("all == 'a'", "all == \"a\""),
        ("has == 'a'", "has == \"a\""),
        ("a in {}", "a in {}"),
        ("!(!(a == 'b'))", "a == \"b\""),
        ("!(!!(!(!has(a))))", "!has(a)"),
        ("has(calico/k8s_ns/role)", "has(calico/k8s_ns/role)"),
        ("a=='b'&&c=='d'", "(a == \"b\" && c == \"d\")"),
        (
            "a == 'b' || c == 'd' && e == 'f'",
            "(a == \"b\" || (c == \"d\" && e == \"f\"))",
        ),
        ("\ta\t==\t'b'\t", "a == \"b\""),
    ] {
        assert_eq!(
            Selector::parse(text).unwrap().canonical(),
            canonical,
            "{text}"
        );
    }
}

#[test]
fn an_error_tells_where() {
    for (text, offset, reason) in [
        ("a == b", 5, "expected a string"),
        ("a == 'b' ||", 11, "expected an expression"),
        ("a == 'b", 5, "string is not closed"),
        ("a % 'b'", 2, "unexpected '%'"),
        ("a == 'b' c", 9, "expected the end"),
        ("a\n== 'b'", 1, "unexpected '\\n'"),
    ] {
        let error = Selector::parse(text).unwrap_err();
        assert_eq!(
            (error.offset, error.reason.as_str()),
            (offset, reason),
            "{text}"
        );
    }
}

#[test]
fn length_and_depth_are_bounded() {
    let fits = format!("a == '{}'", "x".repeat(MAX_LEN - 7));
    assert_eq!(fits.len(), MAX_LEN);
    assert!(Selector::parse(&fits).is_ok());
    assert!(Selector::parse(&format!("{fits} ")).is_err());
    let nested = |depth: usize| format!("{}a == 'b'{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Selector::parse(&nested(100)).is_ok());
    assert!(Selector::parse(&nested(400)).is_err());
    assert!(Selector::parse(&"!".repeat(MAX_LEN)).is_err());
    assert!(Selector::parse(&format!("{}has(a)", "!".repeat(1001))).is_ok());
    assert!(Selector::parse(&format!("has({})", "a".repeat(513))).is_err());
    assert!(Selector::parse(&format!("{} == 'a'", "a".repeat(513))).is_err());
}

proptest! {
    #[test]
    fn any_text_parses_or_not_but_never_panics(text in "\\PC{0,60}") {
        let _ = Selector::parse(&text);
    }

    #[test]
    fn near_selectors_round_trip_if_they_parse(
        parts in proptest::collection::vec(part(), 0..12),
        label in "[ab]", value in "[xy]",
    ) {
        if let Ok(selector) = Selector::parse(&parts.join(" ")) {
            let again = Selector::parse(selector.canonical()).unwrap();
            prop_assert_eq!(again.canonical(), selector.canonical());
            let labels = BTreeMap::from([(label, value)]);
            prop_assert_eq!(again.matches(&labels), selector.matches(&labels));
        }
    }

    #[test]
    fn what_is_parsed_printed_and_parsed_is_the_same(
        text in tree(),
        labels in proptest::collection::btree_map("[ab]", "[xyz\"]{0,2}", 0..3),
    ) {
        let selector = Selector::parse(&text).unwrap();
        let again = Selector::parse(selector.canonical()).unwrap();
        prop_assert_eq!(again.canonical(), selector.canonical());
        prop_assert_eq!(again.uid(), selector.uid());
        prop_assert_eq!(again.expression(), selector.expression());
        prop_assert_eq!(again.matches(&labels), selector.matches(&labels));
        // Spelled with other quotes, blanks and parentheses it is the same selector.
        let spelled = format!(" ( {} ) ", text.replace(" == ", "=="));
        let spelled = Selector::parse(&spelled).unwrap();
        prop_assert_eq!(spelled.uid(), selector.uid());
        let negated = Selector::parse(&format!("!({text})")).unwrap();
        prop_assert_ne!(negated.matches(&labels), selector.matches(&labels));
        let twice = Selector::parse(&format!("!(!({text}))")).unwrap();
        prop_assert_eq!(twice.uid(), selector.uid());
    }
}

/// Selectors of every form.
fn tree() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("all()".to_owned()),
        Just("global()".to_owned()),
        "has\\([ab]\\)",
        "[ab] (==|!=|contains|starts with|ends with) ('[xy\"]{0,2}'|\"[xy']{0,2}\")",
        "[ab] (in|not in) \\{('[xyz]{1,2}'(, \"[xy']{0,2}\"){0,3})?\\}",
    ];
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| format!("!{inner}")),
            inner.clone().prop_map(|inner| format!("!({inner})")),
            proptest::collection::vec(inner.clone(), 2..4)
                .prop_map(|of| format!("({})", of.join(" && "))),
            proptest::collection::vec(inner, 2..4).prop_map(|of| format!("({})", of.join(" || "))),
        ]
    })
}

fn part() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "a",
        "b",
        "==",
        "!=",
        "'x'",
        "\"y\"",
        "in",
        "not in",
        "{'x', 'y'}",
        "contains",
        "has(a)",
        "all()",
        "global()",
        "!",
        "(",
        ")",
        "&&",
        "||",
        "starts with",
        "a == 'x'",
        "b != 'y'",
    ])
}

fn vectors(list: &str) -> Vec<Value> {
    let text = include_str!("../../tests/vectors/selectors.json");
    let file: Value = serde_json::from_str(text).unwrap();
    file[list].as_array().unwrap().clone()
}
