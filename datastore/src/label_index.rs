//! Which selectors match which items, kept up to date as either changes.
//!
//! An item has labels of its own and takes over those of its parents, the profiles: its own win, then
//! the first parent that has the label. Every call returns the matches that it started and stopped,
//! so that the sum of all returned changes is what a full scan would find.
//!
//! A selector that asks for a label, or for one of some values of it, is filed under those; so a change
//! of an item looks only at selectors filed under its labels, and a new selector only at the items that
//! have them. Selectors that ask for nothing (`all()`, `!has(x)`) look at everything.

use std::collections::{BTreeMap, BTreeSet};

use crate::selector::{Restriction, Selector};

/// A match that began or ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change<I, S> {
    /// The selector.
    pub selector: S,
    /// The item.
    pub item: I,
    /// Whether it matches now.
    pub matches: bool,
}

/// Items, selectors and what matches what.
#[derive(Clone, Debug)]
pub struct LabelIndex<I, S> {
    items: BTreeMap<I, Item<S>>,
    parents: BTreeMap<String, Parent<I>>,
    /// Items by what they have: label, then value.
    holders: BTreeMap<String, BTreeMap<String, BTreeSet<I>>>,
    selectors: BTreeMap<S, Filed<I>>,
    /// Selectors by what they ask for: label, then value.
    by_value: BTreeMap<String, BTreeMap<String, BTreeSet<S>>>,
    by_label: BTreeMap<String, BTreeSet<S>>,
    unrestricted: BTreeSet<S>,
    /// How often a selector was evaluated, so that tests can tell an index from a scan.
    evaluations: u64,
}

#[derive(Clone, Debug)]
struct Item<S> {
    own: BTreeMap<String, String>,
    parents: Vec<String>,
    /// Own and inherited.
    labels: BTreeMap<String, String>,
    matched: BTreeSet<S>,
}

#[derive(Clone, Debug)]
struct Parent<I> {
    labels: BTreeMap<String, String>,
    children: BTreeSet<I>,
}

#[derive(Clone, Debug)]
struct Filed<I> {
    selector: Selector,
    restriction: Option<Restriction>,
    matched: BTreeSet<I>,
}

impl<I, S> Default for LabelIndex<I, S> {
    fn default() -> Self {
        Self {
            items: BTreeMap::new(),
            parents: BTreeMap::new(),
            holders: BTreeMap::new(),
            selectors: BTreeMap::new(),
            by_value: BTreeMap::new(),
            by_label: BTreeMap::new(),
            unrestricted: BTreeSet::new(),
            evaluations: 0,
        }
    }
}

impl<I: Ord + Clone, S: Ord + Clone> LabelIndex<I, S> {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts an item in, or changes its labels and parents.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "like the labels, it becomes the index's"
    )]
    pub fn set_item(
        &mut self,
        id: I,
        own: BTreeMap<String, String>,
        parents: Vec<String>,
    ) -> Vec<Change<I, S>> {
        let before = self.items.remove(&id);
        if let Some(item) = &before {
            self.leave_parents(&id, &item.parents);
        }
        for name in &parents {
            self.parents
                .entry(name.clone())
                .or_insert_with(|| Parent {
                    labels: BTreeMap::new(),
                    children: BTreeSet::new(),
                })
                .children
                .insert(id.clone());
        }
        let labels = self.effective(&own, &parents);
        let (old_labels, matched) = before
            .map(|item| (item.labels, item.matched))
            .unwrap_or_default();
        self.refile_holder(&id, &old_labels, &labels);
        self.items.insert(
            id.clone(),
            Item {
                own,
                parents,
                labels,
                matched,
            },
        );
        self.rematch_item(&id)
    }

    /// Takes an item out.
    pub fn remove_item(&mut self, id: &I) -> Vec<Change<I, S>> {
        let Some(item) = self.items.remove(id) else {
            return Vec::new();
        };
        self.leave_parents(id, &item.parents);
        self.refile_holder(id, &item.labels, &BTreeMap::new());
        for selector in &item.matched {
            if let Some(filed) = self.selectors.get_mut(selector) {
                filed.matched.remove(id);
            }
        }
        let stopped = item.matched.into_iter();
        stopped
            .map(|selector| change(selector, id, false))
            .collect()
    }

    /// Sets the labels that items take over from this parent; an absent parent has none.
    pub fn set_parent(
        &mut self,
        name: &str,
        labels: BTreeMap<String, String>,
    ) -> Vec<Change<I, S>> {
        if labels.is_empty() && !self.parents.contains_key(name) {
            return Vec::new();
        }
        let parent = self
            .parents
            .entry(name.to_owned())
            .or_insert_with(|| Parent {
                labels: BTreeMap::new(),
                children: BTreeSet::new(),
            });
        if parent.labels == labels {
            return Vec::new();
        }
        parent.labels = labels;
        let children = parent.children.clone();
        self.drop_parent_if_unused(name);
        let mut changes = Vec::new();
        for id in children {
            let Some(item) = self.items.get(&id) else {
                continue;
            };
            let labels = self.effective(&item.own, &item.parents);
            if labels == item.labels {
                continue;
            }
            let old_labels = item.labels.clone();
            self.refile_holder(&id, &old_labels, &labels);
            if let Some(item) = self.items.get_mut(&id) {
                item.labels = labels;
            }
            changes.append(&mut self.rematch_item(&id));
        }
        changes
    }

    /// Puts a selector in, or changes it.
    pub fn set_selector(&mut self, id: S, selector: &Selector) -> Vec<Change<I, S>> {
        let before = match self.selectors.get(&id) {
            Some(filed) if filed.selector == *selector => return Vec::new(),
            Some(filed) => {
                let restriction = filed.restriction.clone();
                let matched = filed.matched.clone();
                self.file(&id, restriction.as_ref(), false);
                matched
            }
            None => BTreeSet::new(),
        };
        let restriction = selector.expression().restriction();
        self.file(&id, restriction.as_ref(), true);

        let mut candidates = before.clone();
        candidates.extend(self.candidates(restriction.as_ref()));
        let mut matched = BTreeSet::new();
        let mut changes = Vec::new();
        for item_id in candidates {
            let Some(item) = self.items.get_mut(&item_id) else {
                continue;
            };
            self.evaluations += 1;
            let matches = selector.matches(&item.labels);
            if matches {
                matched.insert(item_id.clone());
            }
            if matches != before.contains(&item_id) {
                note(&mut item.matched, &id, matches);
                changes.push(change(id.clone(), &item_id, matches));
            }
        }
        self.selectors.insert(
            id,
            Filed {
                selector: selector.clone(),
                restriction,
                matched,
            },
        );
        changes
    }

    /// Takes a selector out.
    pub fn remove_selector(&mut self, id: &S) -> Vec<Change<I, S>> {
        let Some(filed) = self.selectors.remove(id) else {
            return Vec::new();
        };
        self.file(id, filed.restriction.as_ref(), false);
        let mut changes = Vec::new();
        for item_id in filed.matched {
            if let Some(item) = self.items.get_mut(&item_id) {
                item.matched.remove(id);
            }
            changes.push(change(id.clone(), &item_id, false));
        }
        changes
    }

    /// The items that a selector matches.
    pub fn items_of(&self, selector: &S) -> impl Iterator<Item = &I> {
        self.selectors
            .get(selector)
            .into_iter()
            .flat_map(|filed| &filed.matched)
    }

    /// The selectors that match an item.
    pub fn selectors_of(&self, item: &I) -> impl Iterator<Item = &S> {
        self.items
            .get(item)
            .into_iter()
            .flat_map(|item| &item.matched)
    }

    /// An item's labels, own and inherited.
    pub fn labels_of(&self, item: &I) -> Option<&BTreeMap<String, String>> {
        self.items.get(item).map(|item| &item.labels)
    }

    /// How often a selector was evaluated so far.
    pub fn evaluations(&self) -> u64 {
        self.evaluations
    }

    fn rematch_item(&mut self, id: &I) -> Vec<Change<I, S>> {
        let Some(item) = self.items.get_mut(id) else {
            return Vec::new();
        };
        let mut candidates = item.matched.clone();
        candidates.extend(self.unrestricted.iter().cloned());
        for (label, value) in &item.labels {
            let wanting = self
                .by_value
                .get(label)
                .and_then(|values| values.get(value));
            candidates.extend(wanting.into_iter().flatten().cloned());
            candidates.extend(self.by_label.get(label).into_iter().flatten().cloned());
        }
        let mut changes = Vec::new();
        for selector_id in candidates {
            let Some(filed) = self.selectors.get_mut(&selector_id) else {
                continue;
            };
            self.evaluations += 1;
            let matches = filed.selector.matches(&item.labels);
            if matches != item.matched.contains(&selector_id) {
                note(&mut item.matched, &selector_id, matches);
                note(&mut filed.matched, id, matches);
                changes.push(change(selector_id, id, matches));
            }
        }
        changes
    }

    fn effective(
        &self,
        own: &BTreeMap<String, String>,
        parents: &[String],
    ) -> BTreeMap<String, String> {
        let mut labels = own.clone();
        for parent in parents.iter().filter_map(|name| self.parents.get(name)) {
            for (label, value) in &parent.labels {
                labels.entry(label.clone()).or_insert_with(|| value.clone());
            }
        }
        labels
    }

    fn leave_parents(&mut self, id: &I, parents: &[String]) {
        for name in parents {
            if let Some(parent) = self.parents.get_mut(name) {
                parent.children.remove(id);
            }
            self.drop_parent_if_unused(name);
        }
    }

    fn drop_parent_if_unused(&mut self, name: &str) {
        if let Some(parent) = self.parents.get(name)
            && parent.labels.is_empty()
            && parent.children.is_empty()
        {
            self.parents.remove(name);
        }
    }

    fn refile_holder(
        &mut self,
        id: &I,
        before: &BTreeMap<String, String>,
        after: &BTreeMap<String, String>,
    ) {
        for (label, value) in before {
            if after.get(label) != Some(value) {
                remove_nested(&mut self.holders, label, value, id);
            }
        }
        for (label, value) in after {
            if before.get(label) != Some(value) {
                insert_nested(&mut self.holders, label, value, id);
            }
        }
    }

    fn file(&mut self, id: &S, restriction: Option<&Restriction>, add: bool) {
        match restriction {
            None => note(&mut self.unrestricted, id, add),
            Some(Restriction::Present(label)) => {
                let filed = self.by_label.entry(label.clone()).or_default();
                note(filed, id, add);
                if filed.is_empty() {
                    self.by_label.remove(label);
                }
            }
            Some(Restriction::OneOf(label, values)) => {
                for value in values {
                    if add {
                        insert_nested(&mut self.by_value, label, value, id);
                    } else {
                        remove_nested(&mut self.by_value, label, value, id);
                    }
                }
            }
        }
    }

    fn candidates(&self, restriction: Option<&Restriction>) -> BTreeSet<I> {
        match restriction {
            None => self.items.keys().cloned().collect(),
            Some(Restriction::Present(label)) => {
                let values = self.holders.get(label).into_iter().flatten();
                values.flat_map(|(_, ids)| ids).cloned().collect()
            }
            Some(Restriction::OneOf(label, values)) => {
                let holders = self.holders.get(label);
                values
                    .iter()
                    .filter_map(|value| holders?.get(value))
                    .flatten()
                    .cloned()
                    .collect()
            }
        }
    }
}

fn change<I: Clone, S>(selector: S, item: &I, matches: bool) -> Change<I, S> {
    Change {
        selector,
        item: item.clone(),
        matches,
    }
}

fn note<T: Ord + Clone>(set: &mut BTreeSet<T>, member: &T, present: bool) {
    if present {
        set.insert(member.clone());
    } else {
        set.remove(member);
    }
}

type Nested<T> = BTreeMap<String, BTreeMap<String, BTreeSet<T>>>;

fn insert_nested<T: Ord + Clone>(nested: &mut Nested<T>, label: &str, value: &str, member: &T) {
    nested
        .entry(label.to_owned())
        .or_default()
        .entry(value.to_owned())
        .or_default()
        .insert(member.clone());
}

fn remove_nested<T: Ord>(nested: &mut Nested<T>, label: &str, value: &str, member: &T) {
    let Some(values) = nested.get_mut(label) else {
        return;
    };
    if let Some(members) = values.get_mut(value) {
        members.remove(member);
        if members.is_empty() {
            values.remove(value);
        }
    }
    if values.is_empty() {
        nested.remove(label);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Index = LabelIndex<u8, u8>;

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
        index.set_item(
            1,
            labels(&[("a", "own")]),
            vec!["p1".to_owned(), "p2".to_owned()],
        );
        let expected = labels(&[("a", "own"), ("b", "p1"), ("c", "p2")]);
        assert_eq!(index.labels_of(&1), Some(&expected));
        index.set_selector(1, &parse("b == 'p2'"));
        let changes = index.set_parent("p1", BTreeMap::new());
        assert_eq!(changes, [change(1, &1, true)]);
    }

    #[derive(Clone, Debug)]
    enum Operation {
        SetItem(u8, BTreeMap<String, String>, Vec<String>),
        RemoveItem(u8),
        SetParent(u8, BTreeMap<String, String>),
        SetSelector(u8, usize),
        RemoveSelector(u8),
    }

    const SELECTORS: [&str; 16] = [
        "all()",
        "a == '0'",
        "a != '0'",
        "has(a)",
        "!has(a)",
        "a in {'0', '1'}",
        "a not in {'0', '1'}",
        "a == '0' && b == '1'",
        "a == '0' || b == '1'",
        "a == '0' || a == '2'",
        "a == '0' || has(a)",
        "!(a == '0')",
        "b starts with '1' && has(a)",
        "has(c) && (a == '1' || a contains '2')",
        "a in {}",
        "global()",
    ];

    proptest! {
        #[test]
        fn the_changes_add_up_to_a_full_scan(
            operations in proptest::collection::vec(operation(), 1..60)
        ) {
            let mut index = Index::new();
            let mut items = BTreeMap::new();
            let mut parents: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
            let mut selectors = BTreeMap::new();
            let mut matched = BTreeSet::new();
            for operation in operations {
                let changes = match operation {
                    Operation::SetItem(id, own, of) => {
                        items.insert(id, (own.clone(), of.clone()));
                        index.set_item(id, own, of)
                    }
                    Operation::RemoveItem(id) => {
                        items.remove(&id);
                        index.remove_item(&id)
                    }
                    Operation::SetParent(id, labels) => {
                        parents.insert(format!("p{id}"), labels.clone());
                        index.set_parent(&format!("p{id}"), labels)
                    }
                    Operation::SetSelector(id, which) => {
                        selectors.insert(id, parse(SELECTORS[which]));
                        index.set_selector(id, &parse(SELECTORS[which]))
                    }
                    Operation::RemoveSelector(id) => {
                        selectors.remove(&id);
                        index.remove_selector(&id)
                    }
                };
                for Change { selector, item, matches } in changes {
                    let news = if matches {
                        matched.insert((selector, item))
                    } else {
                        matched.remove(&(selector, item))
                    };
                    prop_assert!(news, "told twice: {selector} {item} {matches}");
                }
                assert_filed(&index);
                let scan = scan(&items, &parents, &selectors);
                prop_assert_eq!(&matched, &scan);
                for id in selectors.keys() {
                    let of: BTreeSet<_> = index.items_of(id).map(|item| (*id, *item)).collect();
                    let wanted: BTreeSet<_> =
                        scan.iter().filter(|(selector, _)| selector == id).copied().collect();
                    prop_assert_eq!(of, wanted);
                }
                for id in items.keys() {
                    let of: BTreeSet<_> = index.selectors_of(id).map(|s| (*s, *id)).collect();
                    let wanted: BTreeSet<_> =
                        scan.iter().filter(|(_, item)| item == id).copied().collect();
                    prop_assert_eq!(of, wanted);
                }
            }
        }
    }

    /// The files hold exactly what there is: nothing stale to look at, nothing that leaks.
    fn assert_filed(index: &Index) {
        let mut holders = Nested::new();
        for (id, item) in &index.items {
            for (label, value) in &item.labels {
                insert_nested(&mut holders, label, value, id);
            }
        }
        assert_eq!(index.holders, holders);
        let mut fresh = Index::new();
        for (id, filed) in &index.selectors {
            fresh.file(id, filed.restriction.as_ref(), true);
        }
        assert_eq!(index.by_value, fresh.by_value);
        assert_eq!(index.by_label, fresh.by_label);
        assert_eq!(index.unrestricted, fresh.unrestricted);
        for (name, parent) in &index.parents {
            assert!(
                !parent.labels.is_empty() || !parent.children.is_empty(),
                "{name}"
            );
        }
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let labels = || proptest::collection::btree_map("[abc]", "[012]", 0..3);
        let parents = proptest::collection::vec("p[012]", 0..3);
        prop_oneof![
            (0..5u8, labels(), parents).prop_map(|(id, own, of)| Operation::SetItem(id, own, of)),
            (0..5u8).prop_map(Operation::RemoveItem),
            (0..3u8, labels()).prop_map(|(id, labels)| Operation::SetParent(id, labels)),
            (0..5u8, 0..SELECTORS.len()).prop_map(|(id, s)| Operation::SetSelector(id, s)),
            (0..5u8).prop_map(Operation::RemoveSelector),
        ]
    }

    fn scan(
        items: &BTreeMap<u8, (BTreeMap<String, String>, Vec<String>)>,
        parents: &BTreeMap<String, BTreeMap<String, String>>,
        selectors: &BTreeMap<u8, Selector>,
    ) -> BTreeSet<(u8, u8)> {
        let mut found = BTreeSet::new();
        for (item, (own, of)) in items {
            let mut effective = BTreeMap::new();
            for source in of.iter().rev().filter_map(|name| parents.get(name)) {
                effective.extend(source.clone());
            }
            effective.extend(own.clone());
            for (id, selector) in selectors {
                if selector.matches(&effective) {
                    found.insert((*id, *item));
                }
            }
        }
        found
    }

    fn parse(text: &str) -> Selector {
        Selector::parse(text).unwrap()
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }
}
