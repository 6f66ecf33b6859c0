//! Which selectors match which items, kept up to date as either changes.
//!
//! An item has labels of its own and takes over those of its parents, the profiles: its own win, then
//! the first parent that has the label. Every call returns the matches that it started and stopped, so that the sum of
//! all returned changes is what a full scan would find.
//!
//! What matches is not kept but evaluated when it is asked for, so the index takes room for labels and selectors alone,
//! however many matches there are. What is kept is what makes evaluations few:
//!
//! - A selector is filed under every fact that it looks at (a label's value, its presence, a text in it) together
//!   with what a match needs (`filing`). A change of an item's labels looks at the selectors filed under what changed,
//!   and of those only at the ones whose need the item has or had. `all()` looks at nothing and is never looked at.
//! - What an item without labels matches is known of each selector: a new item matches that too, whatever it has.
//! - Items and parents are filed under their labels, so that a new selector looks at those only that have what it needs.
//! - Equal selectors are one, labels and values are numbers.

mod condition;
mod filing;
mod words;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use slab::Slab;

use crate::selector::Selector;
use condition::{Condition, Fact, Pair};
use filing::{ClassId, Filing, Places};
use words::{Word, Words};

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
    words: Words,
    ids: BTreeMap<I, ItemId>,
    items: Slab<Item<I>>,
    parent_ids: HashMap<String, ParentId>,
    parents: Slab<Parent>,
    /// Who has a label with a value of its own.
    holders: BTreeMap<Pair, Holders>,
    selectors: BTreeMap<S, ClassId>,
    class_ids: HashMap<Selector, ClassId>,
    classes: Slab<Class<S>>,
    /// The classes that match what has no labels.
    unconditional: BTreeSet<ClassId>,
    filing: Filing,
    /// How often a selector was evaluated for a change, so that tests can tell an index from a scan.
    evaluations: u64,
}

type ItemId = u32;
type ParentId = u32;

#[derive(Clone, Debug)]
struct Item<I> {
    id: I,
    own: Box<[Pair]>,
    parents: Box<[ParentId]>,
}

#[derive(Clone, Debug)]
struct Parent {
    name: String,
    labels: Box<[Pair]>,
    children: BTreeSet<ItemId>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Holders {
    items: BTreeSet<ItemId>,
    parents: BTreeSet<ParentId>,
}

/// Equal selectors.
#[derive(Clone, Debug)]
struct Class<S> {
    selector: Selector,
    condition: Condition,
    places: Places,
    members: BTreeSet<S>,
}

impl<I, S> Default for LabelIndex<I, S> {
    fn default() -> Self {
        Self {
            words: Words::default(),
            ids: BTreeMap::new(),
            items: Slab::new(),
            parent_ids: HashMap::new(),
            parents: Slab::new(),
            holders: BTreeMap::new(),
            selectors: BTreeMap::new(),
            class_ids: HashMap::new(),
            classes: Slab::new(),
            unconditional: BTreeSet::new(),
            filing: Filing::default(),
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
        reason = "what an item is made of becomes the index's"
    )]
    pub fn set_item(
        &mut self,
        id: I,
        own: BTreeMap<String, String>,
        parents: Vec<String>,
    ) -> Vec<Change<I, S>> {
        let own = self.take_labels(&own);
        let parents = parents.iter().map(|name| self.parent(name)).collect();
        let known = self.ids.get(&id).copied();
        let before = known.map(|number| self.labels(&self.items[number as usize]));
        let item = Item {
            id: id.clone(),
            own,
            parents,
        };
        let after = self.labels(&item);
        let changes = self.compare(&id, before.as_deref(), Some(&after));

        let number = known.unwrap_or_else(|| self.items.vacant_key() as ItemId);
        for pair in &item.own {
            self.holders.entry(*pair).or_default().items.insert(number);
        }
        for parent in &item.parents {
            self.parents[*parent as usize].children.insert(number);
        }
        if known.is_some() {
            let old = std::mem::replace(&mut self.items[number as usize], item);
            self.let_go(number, &old);
        } else {
            self.items.insert(item);
            self.ids.insert(id, number);
        }
        changes
    }

    /// Takes an item out.
    pub fn remove_item(&mut self, id: &I) -> Vec<Change<I, S>> {
        let Some(number) = self.ids.remove(id) else {
            return Vec::new();
        };
        let before = self.labels(&self.items[number as usize]);
        let changes = self.compare(id, Some(&before), None);
        let item = self.items.remove(number as usize);
        self.let_go(number, &item);
        changes
    }

    /// Sets the labels that items take over from this parent; an absent parent has none.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "like those of an item, the labels become the index's"
    )]
    pub fn set_parent(
        &mut self,
        name: &str,
        labels: BTreeMap<String, String>,
    ) -> Vec<Change<I, S>> {
        if labels.is_empty() && !self.parent_ids.contains_key(name) {
            return Vec::new();
        }
        let number = self.parent(name);
        let labels = self.take_labels(&labels);
        let old = self.parents[number as usize].labels.clone();
        let touches = self.filing.touches_any(&old, &labels, &self.words);
        for pair in &old {
            self.drop_holder(*pair, |holders| holders.parents.remove(&number));
        }
        for pair in &labels {
            self.holders
                .entry(*pair)
                .or_default()
                .parents
                .insert(number);
        }
        self.parents[number as usize].labels = labels;

        let mut changes = Vec::new();
        if touches {
            let children = std::mem::take(&mut self.parents[number as usize].children);
            for child in &children {
                let item = &self.items[*child as usize];
                let parents = item.parents.iter().map(|of| {
                    if *of == number {
                        &*old
                    } else {
                        &*self.parents[*of as usize].labels
                    }
                });
                let mut before = Vec::new();
                effective_into(&item.own, parents, &mut before);
                let after = self.labels(item);
                if before != after {
                    let id = item.id.clone();
                    changes.append(&mut self.compare(&id, Some(&before), Some(&after)));
                }
            }
            self.parents[number as usize].children = children;
        }
        self.release_labels(&old);
        self.drop_parent_if_unused(number);
        changes
    }

    /// Puts a selector in, or changes it.
    pub fn set_selector(&mut self, id: S, selector: &Selector) -> Vec<Change<I, S>> {
        let old = self.selectors.get(&id).copied();
        if old.is_some_and(|old| self.classes[old as usize].selector == *selector) {
            return Vec::new();
        }
        let class = self.class(selector);
        let before = old.map(|old| self.evaluate_items(old)).unwrap_or_default();
        let after = self.evaluate_items(class);
        let mut changes: Vec<Change<I, S>> = Vec::with_capacity(after.len());
        let mut tell = |items: &[ItemId], other: &[ItemId], matches| {
            let news = items
                .iter()
                .filter(|item| other.binary_search(item).is_err());
            changes.extend(
                news.map(|item| change(id.clone(), &self.items[*item as usize].id, matches)),
            );
        };
        tell(&before, &after, false);
        tell(&after, &before, true);
        changes.sort_unstable();
        if let Some(old) = old {
            self.leave(&id, old);
        }
        self.classes[class as usize].members.insert(id.clone());
        self.selectors.insert(id, class);
        changes
    }

    /// Takes a selector out.
    pub fn remove_selector(&mut self, id: &S) -> Vec<Change<I, S>> {
        let Some(class) = self.selectors.remove(id) else {
            return Vec::new();
        };
        let items = self.evaluate_items(class);
        let items = items.iter().map(|item| &self.items[*item as usize].id);
        let mut changes: Vec<Change<I, S>> =
            items.map(|item| change(id.clone(), item, false)).collect();
        changes.sort_unstable();
        self.leave(id, class);
        changes
    }

    /// The items that a selector matches, each evaluated when it is asked for.
    pub fn items_of(&self, selector: &S) -> impl Iterator<Item = &I> {
        let class = self.selectors.get(selector);
        let condition = class.map(|class| &self.classes[*class as usize].condition);
        let candidates = condition.map(|condition| self.candidates(condition));
        let mut labels = Vec::new();
        candidates
            .into_iter()
            .flatten()
            .filter(move |number| {
                let item = &self.items[*number as usize];
                self.labels_into(item, &mut labels);
                condition.is_some_and(|condition| condition.holds(&labels, &self.words))
            })
            .map(|number| &self.items[number as usize].id)
    }

    /// The selectors that match an item, in order.
    pub fn selectors_of(&self, item: &I) -> impl Iterator<Item = &S> {
        let number = self.ids.get(item);
        let labels = number.map(|number| self.labels(&self.items[*number as usize]));
        let classes = labels.map(|labels| self.matching(&labels).0);
        let classes = classes.into_iter().flatten();
        let members = classes.flat_map(|class| &self.classes[class as usize].members);
        let mut selectors: Vec<&S> = members.collect();
        selectors.sort_unstable();
        selectors.into_iter()
    }

    /// How often a selector was evaluated for a change so far.
    pub fn evaluations(&self) -> u64 {
        self.evaluations
    }

    /// What changes for an item whose labels were these, if it was there, and are those, if it still is.
    fn compare(
        &mut self,
        id: &I,
        before: Option<&[Pair]>,
        after: Option<&[Pair]>,
    ) -> Vec<Change<I, S>> {
        let mut classes: Vec<(ClassId, bool)> = Vec::new();
        match (before, after) {
            (Some(before), Some(after)) => {
                for class in self.filing.touched(before, after, &self.words) {
                    let condition = &self.classes[class as usize].condition;
                    let [was, is] = [before, after].map(|of| condition.holds(of, &self.words));
                    self.evaluations += 2;
                    if was != is {
                        classes.push((class, is));
                    }
                }
            }
            (Some(labels), None) | (None, Some(labels)) => {
                let (matching, evaluations) = self.matching(labels);
                self.evaluations += evaluations;
                let is = after.is_some();
                classes.extend(matching.into_iter().map(|class| (class, is)));
            }
            (None, None) => {}
        }
        let mut changes = Vec::with_capacity(classes.len());
        for (class, matches) in classes {
            let members = self.classes[class as usize].members.iter();
            changes.extend(members.map(|selector| change(selector.clone(), id, matches)));
        }
        changes.sort_unstable();
        changes
    }

    /// The classes that match labels, and how many were evaluated for that.
    fn matching(&self, labels: &[Pair]) -> (Vec<ClassId>, u64) {
        let touched = self.filing.touched(&[], labels, &self.words);
        let untouched = self.unconditional.iter().copied();
        let mut matching: Vec<ClassId> = untouched
            .filter(|class| touched.binary_search(class).is_err())
            .collect();
        let holds = |class: &ClassId| {
            let condition = &self.classes[*class as usize].condition;
            condition.holds(labels, &self.words)
        };
        let evaluations = touched.len() as u64;
        matching.extend(touched.into_iter().filter(holds));
        (matching, evaluations)
    }

    /// The items that a class matches, sorted.
    fn evaluate_items(&mut self, class: ClassId) -> Vec<ItemId> {
        let condition = &self.classes[class as usize].condition;
        let mut labels = Vec::new();
        let mut evaluations = 0;
        let mut items: Vec<ItemId> = self
            .candidates(condition)
            .filter(|number| {
                evaluations += 1;
                self.labels_into(&self.items[*number as usize], &mut labels);
                condition.holds(&labels, &self.words)
            })
            .collect();
        items.sort_unstable();
        self.evaluations += evaluations;
        items
    }

    /// The items that a condition can match: those that have what it needs.
    fn candidates(&self, condition: &Condition) -> Box<dyn Iterator<Item = ItemId> + '_> {
        let needs = condition.needs(usize::MAX, &|fact| self.holders_of(fact));
        match needs.filter(|needs| needs.cost() < self.items.len()) {
            None => Box::new(self.ids.values().copied()),
            Some(needs) => {
                let mut items: Vec<ItemId> = Vec::new();
                for fact in &needs.facts {
                    for (_, holders) in self.holders.range(pairs_of(*fact)) {
                        items.extend(&holders.items);
                        for parent in &holders.parents {
                            items.extend(&self.parents[*parent as usize].children);
                        }
                    }
                }
                items.sort_unstable();
                items.dedup();
                Box::new(items.into_iter())
            }
        }
    }

    /// About how many items have what a fact says.
    fn holders_of(&self, fact: Fact) -> usize {
        let mut pairs = self.holders.range(pairs_of(fact));
        let mut count = 0;
        for (_, holders) in pairs.by_ref().take(MAX_COUNTED) {
            let parents = holders.parents.iter();
            let children = parents.map(|parent| self.parents[*parent as usize].children.len());
            count += holders.items.len() + children.sum::<usize>();
        }
        // What has so many values is as good as everywhere.
        if pairs.next().is_some() {
            self.items.len()
        } else {
            count
        }
    }

    fn labels(&self, item: &Item<I>) -> Vec<Pair> {
        let mut labels = Vec::new();
        self.labels_into(item, &mut labels);
        labels
    }

    fn labels_into(&self, item: &Item<I>, labels: &mut Vec<Pair>) {
        let parents = item
            .parents
            .iter()
            .map(|of| &*self.parents[*of as usize].labels);
        effective_into(&item.own, parents, labels);
    }

    fn take_labels(&mut self, labels: &BTreeMap<String, String>) -> Box<[Pair]> {
        let taken = labels
            .iter()
            .map(|(label, value)| (self.words.take(label), self.words.take(value)));
        let mut taken: Vec<Pair> = taken.collect();
        taken.sort_unstable();
        taken.into()
    }

    fn release_labels(&mut self, labels: &[Pair]) {
        for (label, value) in labels {
            self.words.release(*label);
            self.words.release(*value);
        }
    }

    fn parent(&mut self, name: &str) -> ParentId {
        if let Some(number) = self.parent_ids.get(name) {
            return *number;
        }
        let parent = Parent {
            name: name.to_owned(),
            labels: Box::default(),
            children: BTreeSet::new(),
        };
        let number = self.parents.insert(parent) as ParentId;
        self.parent_ids.insert(name.to_owned(), number);
        number
    }

    /// Forgets what an item was, as far as it is not that any more.
    fn let_go(&mut self, number: ItemId, old: &Item<I>) {
        let now = self.items.get(number as usize);
        let own = now.map(|item| item.own.clone()).unwrap_or_default();
        let parents = now.map(|item| item.parents.clone()).unwrap_or_default();
        for pair in old
            .own
            .iter()
            .filter(|pair| own.binary_search(pair).is_err())
        {
            self.drop_holder(*pair, |holders| holders.items.remove(&number));
        }
        for parent in old
            .parents
            .iter()
            .filter(|parent| !parents.contains(parent))
        {
            if let Some(parent) = self.parents.get_mut(*parent as usize) {
                parent.children.remove(&number);
            }
            self.drop_parent_if_unused(*parent);
        }
        self.release_labels(&old.own);
    }

    fn drop_holder(&mut self, pair: Pair, remove: impl FnOnce(&mut Holders) -> bool) {
        if let Some(holders) = self.holders.get_mut(&pair) {
            remove(holders);
            if *holders == Holders::default() {
                self.holders.remove(&pair);
            }
        }
    }

    fn drop_parent_if_unused(&mut self, number: ParentId) {
        if let Some(parent) = self.parents.get(number as usize)
            && parent.labels.is_empty()
            && parent.children.is_empty()
        {
            let parent = self.parents.remove(number as usize);
            self.parent_ids.remove(&parent.name);
        }
    }

    /// The class of a selector, made if there is none.
    fn class(&mut self, selector: &Selector) -> ClassId {
        if let Some(class) = self.class_ids.get(selector) {
            return *class;
        }
        let class = self.classes.vacant_key() as ClassId;
        let condition = Condition::new(selector.expression(), &mut self.words);
        if condition.holds(&[], &self.words) {
            self.unconditional.insert(class);
        }
        let places = self.filing.add(class, &condition);
        self.classes.insert(Class {
            selector: selector.clone(),
            condition,
            places,
            members: BTreeSet::new(),
        });
        self.class_ids.insert(selector.clone(), class);
        class
    }

    /// A selector is of a class no more; a class without selectors is none.
    fn leave(&mut self, id: &S, number: ClassId) {
        let class = &mut self.classes[number as usize];
        class.members.remove(id);
        if class.members.is_empty() {
            let class = self.classes.remove(number as usize);
            self.class_ids.remove(&class.selector);
            self.unconditional.remove(&number);
            self.filing.remove(number, &class.condition, &class.places);
            class.condition.release(&mut self.words);
        }
    }
}

/// The labels of an item and its parents, sorted: its own win, then the first parent's.
fn effective_into<'a>(
    own: &[Pair],
    parents: impl Iterator<Item = &'a [Pair]>,
    labels: &mut Vec<Pair>,
) {
    labels.clear();
    labels.extend_from_slice(own);
    for parent in parents {
        labels.extend_from_slice(parent);
    }
    if labels.len() > own.len() {
        // Equal labels stay in this order, so the first of them is the one that wins.
        labels.sort_by_key(|(label, _)| *label);
        labels.dedup_by_key(|(label, _)| *label);
    }
}

fn pairs_of(fact: Fact) -> std::ops::RangeInclusive<Pair> {
    match fact.words() {
        (label, Some(value)) => (label, value)..=(label, value),
        (label, None) => (label, 0)..=(label, Word::MAX),
    }
}

fn change<I: Clone, S>(selector: S, item: &I, matches: bool) -> Change<I, S> {
    Change {
        selector,
        item: item.clone(),
        matches,
    }
}

/// How many values of a label are looked through to count its holders.
const MAX_COUNTED: usize = if cfg!(test) { 2 } else { 256 };

#[cfg(test)]
mod tests;
