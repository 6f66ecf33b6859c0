use proptest::prelude::*;

use super::*;

type Index = LabelIndex<u8, u8>;
type Labels = BTreeMap<String, String>;

#[test]
fn a_selector_with_an_equality_looks_at_its_holders_only() {
    let mut index = Index::new();
    for id in 0..100 {
        let value = if id < 3 { "web" } else { "other" };
        index.set_item(id, labels(&[("app", value)]), Vec::new());
    }
    let started = index.set_selector(1, &parse("app == 'web'"));
    assert_eq!(started.len(), 3);
    assert_eq!(index.evaluations(), 3);
}

#[test]
fn a_selector_finds_the_children_of_a_parent_with_its_label() {
    let mut index = Index::new();
    index.set_parent("web", labels(&[("app", "web")]));
    for id in 0..100 {
        let parent = if id < 3 { "web" } else { "other" };
        index.set_item(id, BTreeMap::new(), vec![parent.to_owned()]);
    }
    for (number, text) in ["app == 'web'", "has(app)"].into_iter().enumerate() {
        let before = index.evaluations();
        let started = index.set_selector(number as u8, &parse(text));
        assert_eq!(started.len(), 3, "{text}");
        assert_eq!(index.evaluations() - before, 3, "{text}");
    }
}

#[test]
fn an_item_looks_only_at_selectors_filed_under_its_labels() {
    let mut index = Index::new();
    for id in 0..100 {
        index.set_selector(id, &parse(&format!("app in {{'{id}', 'x{id}'}} && has(b)")));
    }
    let started = index.set_item(1, labels(&[("app", "x7"), ("b", "")]), Vec::new());
    assert_eq!(started, [change(7, &1, true)]);
    assert_eq!(index.evaluations(), 1);
}

#[test]
fn own_labels_win_then_the_first_parent_that_has_one() {
    let mut index = Index::new();
    index.set_parent("p1", labels(&[("a", "p1"), ("b", "p1")]));
    index.set_parent("p2", labels(&[("a", "p2"), ("b", "p2"), ("c", "p2")]));
    let parents = vec!["p1".to_owned(), "p2".to_owned()];
    index.set_item(1, labels(&[("a", "own")]), parents);
    for (number, (text, matches)) in [
        ("a == 'own'", true),
        ("b == 'p1'", true),
        ("c == 'p2'", true),
        ("a in {'p1', 'p2'} || b == 'p2'", false),
    ]
    .into_iter()
    .enumerate()
    {
        let changes = index.set_selector(number as u8, &parse(text));
        assert_eq!(!changes.is_empty(), matches, "{text}");
    }
    index.set_selector(9, &parse("b == 'p2'"));
    let changes = index.set_parent("p1", BTreeMap::new());
    assert_eq!(
        changes,
        [
            change(1, &1, false),
            change(3, &1, true),
            change(9, &1, true)
        ]
    );
}

/// A change of one label, among selectors of which most cannot be touched by it.
#[test]
fn a_change_looks_at_what_it_can_touch_however_many_there_are() {
    for (name, selector, before, after, most) in [
        (
            "that ask for nothing",
            "all() || has(x@)",
            "app=1",
            "app=2",
            0,
        ),
        ("that forbid another label", "!has(x@)", "app=1", "app=2", 0),
        (
            "that forbid the label's values",
            "app != '@'",
            "app=1",
            "app=2",
            4,
        ),
        (
            "with the same label and other values",
            "app == '@'",
            "app=1",
            "app=2",
            4,
        ),
        (
            "with the same two labels",
            "ns == 'n' && app == '@'",
            "app=1,ns=n",
            "app=2,ns=n",
            4,
        ),
        (
            "with one equality in common that begins to hold",
            "ns == 'n' && app == '@'",
            "app=1",
            "app=1,ns=n",
            2,
        ),
        (
            "with a negation and an equality",
            "!has(ns) && app == '@'",
            "app=1",
            "app=1,ns=n",
            2,
        ),
        (
            "that list values",
            "app in {'@', 'x@', 'y@'}",
            "app=1",
            "app=x2",
            4,
        ),
        (
            "that ask for other labels as well",
            "app == '@' && has(role) && ns != 'n'",
            "app=1",
            "app=2,role=r",
            4,
        ),
        (
            "that start with a text",
            "app starts with '@.'",
            "app=1.a",
            "app=2.b",
            4,
        ),
        (
            "that end with a text",
            "app ends with '.@'",
            "app=a.1",
            "app=b.2",
            4,
        ),
        (
            "that contain a text",
            "app contains '.@.'",
            "app=.1.",
            "app=.2.",
            4,
        ),
        (
            "with either of two labels",
            "app == '@' || name == '@'",
            "app=1",
            "app=1,name=5",
            4,
        ),
        (
            "whose negation is an equality",
            "!(app != '@' || ns != 'n')",
            "app=1",
            "app=1,ns=n",
            2,
        ),
    ] {
        let mut index: LabelIndex<u8, u32> = LabelIndex::new();
        for number in 0..2_000 {
            index.set_selector(number, &parse(&selector.replace('@', &number.to_string())));
        }
        index.set_item(1, pairs(before), Vec::new());
        let started = index.evaluations();
        let changes = index.set_item(1, pairs(after), Vec::new());
        let evaluations = index.evaluations() - started;
        assert!(
            evaluations <= most,
            "selectors {name}: {evaluations} evaluations"
        );
        assert_eq!(
            changes.is_empty(),
            most == 0,
            "selectors {name}: {changes:?}"
        );
    }
}

#[test]
fn equal_selectors_are_evaluated_once() {
    let mut index: LabelIndex<u8, u32> = LabelIndex::new();
    for number in 0..1_000 {
        let spaces = " ".repeat(number as usize % 7);
        index.set_selector(number, &parse(&format!("{spaces}app{spaces}== 'web'")));
    }
    let changes = index.set_item(1, labels(&[("app", "web")]), Vec::new());
    assert_eq!((changes.len(), index.evaluations()), (1_000, 1));
}

#[test]
fn a_parents_change_that_no_selector_mentions_looks_at_no_child() {
    let mut index: LabelIndex<u32, u8> = LabelIndex::new();
    index.set_selector(1, &parse("team == 'a' && app == '1'"));
    for id in 0..1_000 {
        let app = labels(&[("app", &(id % 10).to_string())]);
        index.set_item(id, app, vec!["ns".to_owned()]);
    }
    let before = index.evaluations();
    index.set_parent("ns", labels(&[("owner", "x"), ("team", "b")]));
    assert_eq!(
        index.set_parent("ns", labels(&[("owner", "y"), ("team", "c")])),
        []
    );
    assert_eq!(index.evaluations() - before, 0);
    // Only the hundred children with the other label that the selector needs are evaluated, before and after.
    let changes = index.set_parent("ns", labels(&[("owner", "y"), ("team", "a")]));
    assert_eq!((changes.len(), index.evaluations() - before), (100, 200));
}

#[derive(Clone, Debug)]
enum Operation {
    SetItem(u8, Labels, Vec<String>),
    RemoveItem(u8),
    SetParent(u8, Labels),
    SetSelector(u8, String),
    RemoveSelector(u8),
}

/// Items, parents and selectors as they were set, to be scanned.
#[derive(Default)]
struct Plain {
    items: BTreeMap<u8, (Labels, Vec<String>)>,
    parents: BTreeMap<String, Labels>,
    selectors: BTreeMap<u8, Selector>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_changes_add_up_to_a_full_scan(
        operations in proptest::collection::vec(operation(), 1..200)
    ) {
        let mut index = Index::new();
        let mut plain = Plain::default();
        let mut matched = BTreeSet::new();
        for operation in operations {
            let changes = apply(&mut index, &mut plain, operation);
            for Change { selector, item, matches } in changes {
                let news = if matches {
                    matched.insert((selector, item))
                } else {
                    matched.remove(&(selector, item))
                };
                prop_assert!(news, "told twice: {selector} {item} {matches}");
            }
            let scan = plain.scan();
            prop_assert_eq!(&matched, &scan);
            for id in plain.selectors.keys() {
                let of: BTreeSet<_> = index.items_of(id).map(|item| (*id, *item)).collect();
                let wanted: BTreeSet<_> =
                    scan.iter().filter(|(selector, _)| selector == id).copied().collect();
                prop_assert_eq!(of, wanted);
            }
            for id in plain.items.keys() {
                let of: Vec<_> = index.selectors_of(id).map(|s| (*s, *id)).collect();
                let wanted: Vec<_> =
                    scan.iter().filter(|(_, item)| item == id).copied().collect();
                prop_assert_eq!(of, wanted);
            }
            assert_holders(&index);
        }
        // With everything gone nothing is left behind.
        for id in 0..=u8::MAX {
            index.remove_item(&id);
            index.remove_selector(&id);
        }
        for name in plain.parents.keys() {
            index.set_parent(name, BTreeMap::new());
        }
        prop_assert_eq!(index.words.len(), 0);
        prop_assert!(index.filing.is_empty() && index.unconditional.is_empty());
        prop_assert!(index.holders.is_empty() && index.items.is_empty());
        prop_assert!(index.parents.is_empty() && index.parent_ids.is_empty());
        prop_assert!(index.classes.is_empty() && index.class_ids.is_empty());
    }
}

fn apply(index: &mut Index, plain: &mut Plain, operation: Operation) -> Vec<Change<u8, u8>> {
    match operation {
        Operation::SetItem(id, own, of) => {
            plain.items.insert(id, (own.clone(), of.clone()));
            index.set_item(id, own, of)
        }
        Operation::RemoveItem(id) => {
            plain.items.remove(&id);
            index.remove_item(&id)
        }
        Operation::SetParent(id, labels) => {
            plain.parents.insert(format!("p{id}"), labels.clone());
            index.set_parent(&format!("p{id}"), labels)
        }
        Operation::SetSelector(id, text) => {
            plain.selectors.insert(id, parse(&text));
            index.set_selector(id, &parse(&text))
        }
        Operation::RemoveSelector(id) => {
            plain.selectors.remove(&id);
            index.remove_selector(&id)
        }
    }
}

impl Plain {
    fn scan(&self) -> BTreeSet<(u8, u8)> {
        let mut found = BTreeSet::new();
        for (item, (own, of)) in &self.items {
            let mut effective = BTreeMap::new();
            for source in of.iter().rev().filter_map(|name| self.parents.get(name)) {
                effective.extend(source.clone());
            }
            effective.extend(own.clone());
            for (id, selector) in &self.selectors {
                if selector.matches(&effective) {
                    found.insert((*id, *item));
                }
            }
        }
        found
    }
}

/// The files hold exactly what there is: nothing stale to look at, nothing that leaks.
fn assert_holders(index: &Index) {
    let mut holders: BTreeMap<Pair, Holders> = BTreeMap::new();
    for (number, item) in &index.items {
        for pair in &item.own {
            holders
                .entry(*pair)
                .or_default()
                .items
                .insert(number as ItemId);
        }
        for parent in &item.parents {
            assert!(
                index.parents[*parent as usize]
                    .children
                    .contains(&(number as ItemId))
            );
        }
    }
    for (number, parent) in &index.parents {
        for pair in &parent.labels {
            holders
                .entry(*pair)
                .or_default()
                .parents
                .insert(number as ParentId);
        }
        for child in &parent.children {
            assert!(
                index.items[*child as usize]
                    .parents
                    .contains(&(number as ParentId))
            );
        }
        assert!(!parent.labels.is_empty() || !parent.children.is_empty());
    }
    assert_eq!(index.holders, holders);
}

fn operation() -> impl Strategy<Value = Operation> {
    let labels = || proptest::collection::btree_map("[abc]", "[012]{0,4}|[01]", 0..4);
    let parents = proptest::collection::vec("p[012]", 0..3);
    prop_oneof![
        3 => (0..8u8, labels(), parents).prop_map(|(id, own, of)| Operation::SetItem(id, own, of)),
        1 => (0..8u8).prop_map(Operation::RemoveItem),
        2 => (0..3u8, labels()).prop_map(|(id, labels)| Operation::SetParent(id, labels)),
        4 => (0..40u8, expression()).prop_map(|(id, text)| Operation::SetSelector(id, text)),
        1 => (0..40u8).prop_map(Operation::RemoveSelector),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("all()".to_owned()),
        "has\\([abc]\\)",
        "[abc] (==|!=|contains|starts with|ends with) '([01]|[012]{0,4})'",
        "[abc] (in|not in) \\{('[01]'(, '[012]{1,2}'){0,3})?\\}",
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| format!("!({inner})")),
            proptest::collection::vec(inner.clone(), 2..4)
                .prop_map(|of| format!("({})", of.join(" && "))),
            proptest::collection::vec(inner, 2..4).prop_map(|of| format!("({})", of.join(" || "))),
        ]
    })
}

fn parse(text: &str) -> Selector {
    Selector::parse(text).unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// Labels written as `a=b,c=d`.
fn pairs(text: &str) -> Labels {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    labels(&pairs.collect::<Vec<_>>())
}
