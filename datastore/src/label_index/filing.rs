//! Which selectors look at what, so that a change of labels finds those that it can touch.
//!
//! A selector is filed under every fact that it looks at, and there under what its matches need. When a fact of an item
//! changes, the selectors to look at are those filed under the fact whose need the item has, or had.

use std::{
    collections::{BTreeSet, HashMap},
    ops::RangeInclusive,
};

use super::{
    condition::{Condition, Fact, Pair, value_of},
    words::{Word, Words},
};

/// The number of a selector.
pub(super) type ClassId = u32;

/// Selectors by what they look at.
#[derive(Clone, Debug, Default)]
pub(super) struct Filing {
    /// By fact, then by need; a selector with several needs is here for each.
    filed: BTreeSet<(Fact, Option<Fact>, ClassId)>,
    /// How many selectors need a fact.
    needed: HashMap<Fact, usize>,
}

/// By which needs a selector is filed under the facts about each label; by none if there are none.
pub(super) type Places = Vec<(Word, Vec<Fact>)>;

impl Filing {
    /// Files a selector, and returns where.
    pub(super) fn add(&mut self, id: ClassId, condition: &Condition) -> Places {
        let facts = condition.facts();
        let mut places = Places::new();
        for label in facts.iter().map(|fact| fact.words().0) {
            if places.iter().all(|(known, _)| *known != label) {
                places.push((label, self.best_needs(label, condition)));
            }
        }
        for (fact, need) in entries(&facts, &places) {
            self.filed.insert((fact, need, id));
        }
        for need in places.iter().flat_map(|(_, needs)| needs) {
            *self.needed.entry(*need).or_default() += 1;
        }
        places
    }

    /// Takes a selector out of where it was filed.
    pub(super) fn remove(&mut self, id: ClassId, condition: &Condition, places: &Places) {
        for (fact, need) in entries(&condition.facts(), places) {
            self.filed.remove(&(fact, need, id));
        }
        for need in places.iter().flat_map(|(_, needs)| needs) {
            if let Some(count) = self.needed.get_mut(need) {
                *count -= 1;
                if *count == 0 {
                    self.needed.remove(need);
                }
            }
        }
    }

    /// The needs to file a condition by under facts about a label: where fewest others are. Needs of the label itself
    /// are of no use, since a fact about it that changed means that it is or was there.
    fn best_needs(&self, label: Word, condition: &Condition) -> Vec<Fact> {
        let cost = |fact: Fact| {
            let others = self.needed.get(&fact).copied().unwrap_or_default();
            match fact {
                fact if fact.words().0 == label => USELESS,
                // Many items have a label, few of them with one value.
                Fact::Present(_) => PRESENT_COST * (1 + others),
                Fact::Contains(..) | Fact::EndsWith(..) | Fact::Is(..) | Fact::StartsWith(..) => {
                    1 + others
                }
            }
        };
        let needs = condition.needs(MAX_NEEDS, &cost);
        let needs = needs.filter(|needs| needs.cost() < USELESS);
        needs.map(|needs| needs.facts).unwrap_or_default()
    }

    /// The selectors that might match the labels of before and not those of after, or the reverse.
    pub(super) fn touched(&self, before: &[Pair], after: &[Pair], words: &Words) -> Vec<ClassId> {
        let mut touched = Vec::new();
        for (label, was, is) in differences(before, after) {
            for value in [was, is].into_iter().flatten() {
                self.under(Fact::Is(label, value), before, after, &mut touched);
            }
            if was.is_some() != is.is_some() {
                self.under(Fact::Present(label), before, after, &mut touched);
            }
            for kind in TEXTUAL {
                for fact in self.flipped(kind, label, was, is, words) {
                    self.under(fact, before, after, &mut touched);
                }
            }
        }
        touched.sort_unstable();
        touched.dedup();
        touched
    }

    /// Whether the difference between two parents' labels can touch any selector of a child.
    pub(super) fn touches_any(&self, before: &[Pair], after: &[Pair], words: &Words) -> bool {
        differences(before, after).any(|(label, was, is)| match (was, is) {
            (Some(was), Some(is)) => {
                [was, is]
                    .iter()
                    .any(|value| self.holds_any(Fact::Is(label, *value)))
                    || TEXTUAL.iter().any(|kind| {
                        !self
                            .flipped(*kind, label, Some(was), Some(is), words)
                            .is_empty()
                    })
            }
            // Another parent may have the label too, with a value of which nothing is known here.
            _ => self.mentions(label),
        })
    }

    /// Adds the selectors filed under a fact whose need is in the labels of before or after.
    fn under(&self, fact: Fact, before: &[Pair], after: &[Pair], found: &mut Vec<ClassId>) {
        let start = found.len();
        let mut entries = self.filed.range(all_under(fact));
        for (_, need, id) in entries.by_ref().take(FEW) {
            if need.is_none_or(|need| has(before, need) || has(after, need)) {
                found.push(*id);
            }
        }
        if entries.next().is_some() {
            // Too many to go through: ask for each need that the labels have.
            found.truncate(start);
            self.under_needs(fact, before, after, found);
        }
    }

    fn under_needs(&self, fact: Fact, before: &[Pair], after: &[Pair], found: &mut Vec<ClassId>) {
        let labels = before.iter().chain(after);
        let needs = labels.flat_map(|(label, value)| {
            [Some(Fact::Is(*label, *value)), Some(Fact::Present(*label))]
        });
        for need in std::iter::once(None).chain(needs) {
            let ids = self
                .filed
                .range((fact, need, 0)..=(fact, need, ClassId::MAX));
            found.extend(ids.map(|(_, _, id)| *id));
        }
    }

    /// The facts of one kind about a label's text that hold for one of two values only.
    fn flipped(
        &self,
        kind: fn(Word, Word) -> Fact,
        label: Word,
        was: Option<Word>,
        is: Option<Word>,
        words: &Words,
    ) -> Vec<Fact> {
        let values = [was, is].map(|value| value.map(|value| words.text(value)));
        let flips = |fact: &Fact| {
            let text = fact.words().1.map_or("", |text| words.text(text));
            let [was, is] = values.map(|value| value.is_some_and(|value| fact.fits(value, text)));
            was != is
        };
        let mut facts: Vec<Fact> = self.texts(kind, label).take(FEW).collect();
        if facts.len() < FEW {
            facts.retain(flips);
        } else if values.iter().flatten().all(|value| value.len() <= SHORT) {
            let pieces = values
                .iter()
                .flatten()
                .flat_map(|value| pieces(kind(0, 0), value));
            let known = pieces.filter_map(|piece| words.find(piece));
            facts = known.map(|text| kind(label, text)).filter(flips).collect();
            facts.sort_unstable();
            facts.dedup();
        } else {
            facts = self.texts(kind, label).filter(flips).collect();
        }
        facts
    }

    /// The facts of one kind about a label that any selector is filed under.
    fn texts(&self, kind: fn(Word, Word) -> Fact, label: Word) -> impl Iterator<Item = Fact> {
        let last = kind(label, Word::MAX);
        let mut next = Some(kind(label, 0));
        std::iter::from_fn(move || {
            let range = (next?, None, 0)..=(last, Some(LAST), ClassId::MAX);
            let (fact, _, _) = self.filed.range(range).next()?;
            let following = fact.words().1.and_then(|text| text.checked_add(1));
            next = following.map(|text| kind(label, text));
            Some(*fact)
        })
    }

    fn mentions(&self, label: Word) -> bool {
        let is =
            (Fact::Is(label, 0), None, 0)..=(Fact::Is(label, Word::MAX), Some(LAST), ClassId::MAX);
        self.filed.range(is).next().is_some()
            || self.holds_any(Fact::Present(label))
            || TEXTUAL
                .iter()
                .any(|kind| self.texts(*kind, label).next().is_some())
    }

    fn holds_any(&self, fact: Fact) -> bool {
        self.filed.range(all_under(fact)).next().is_some()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.filed.is_empty() && self.needed.is_empty()
    }
}

/// Under which fact and by which need a condition is filed.
fn entries(facts: &BTreeSet<Fact>, places: &Places) -> impl Iterator<Item = (Fact, Option<Fact>)> {
    facts.iter().flat_map(|fact| {
        let of_label = places.iter().find(|(label, _)| *label == fact.words().0);
        let needs = of_label
            .map(|(_, needs)| needs.as_slice())
            .unwrap_or_default();
        let unconditional = needs.is_empty().then_some((*fact, None));
        let conditional = needs.iter().map(|need| (*fact, Some(*need)));
        unconditional.into_iter().chain(conditional)
    })
}

fn all_under(fact: Fact) -> RangeInclusive<(Fact, Option<Fact>, ClassId)> {
    (fact, None, 0)..=(fact, Some(LAST), ClassId::MAX)
}

/// Whether labels have what is needed.
fn has(labels: &[Pair], need: Fact) -> bool {
    let (label, value) = need.words();
    value_of(labels, label).is_some_and(|is| value.is_none_or(|value| value == is))
}

/// The labels whose value is not the same in both, with their values.
fn differences(
    before: &[Pair],
    after: &[Pair],
) -> impl Iterator<Item = (Word, Option<Word>, Option<Word>)> {
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    std::iter::from_fn(move || {
        loop {
            let label = match (before.peek(), after.peek()) {
                (Some((was, _)), Some((is, _))) => *was.min(is),
                (Some((label, _)), None) | (None, Some((label, _))) => *label,
                (None, None) => return None,
            };
            let was = before
                .next_if(|(other, _)| *other == label)
                .map(|pair| pair.1);
            let is = after
                .next_if(|(other, _)| *other == label)
                .map(|pair| pair.1);
            if was != is {
                return Some((label, was, is));
            }
        }
    })
}

/// The texts that a value contains, starts with or ends with.
fn pieces(kind: Fact, value: &str) -> Vec<&str> {
    let ends = || value.char_indices().map(|(at, _)| at).chain([value.len()]);
    match kind {
        Fact::StartsWith(..) => ends().map(|end| &value[..end]).collect(),
        Fact::EndsWith(..) => ends().map(|start| &value[start..]).collect(),
        Fact::Contains(..) => ends()
            .flat_map(|start| {
                let ends = ends().filter(move |end| *end >= start);
                ends.map(move |end| &value[start..end])
            })
            .collect(),
        Fact::Is(..) | Fact::Present(_) => vec![value],
    }
}

const TEXTUAL: [fn(Word, Word) -> Fact; 3] = [Fact::Contains, Fact::EndsWith, Fact::StartsWith];
/// No fact is after this one.
const LAST: Fact = Fact::StartsWith(Word::MAX, Word::MAX);
/// How many selectors are filed by each of their needs. One that needs any of more is filed by their labels, or by none:
/// a selector takes room for each need under each of its facts.
const MAX_NEEDS: usize = if cfg!(test) { 2 } else { 8 };
/// How many selectors with one value are as bad to be among as one that asks for the label alone.
const PRESENT_COST: usize = 16;
/// The cost of a need that excludes nothing.
const USELESS: usize = 1 << 40;
/// Up to how many entries are gone through one by one. Few under test, so that small cases go both ways.
const FEW: usize = if cfg!(test) { 3 } else { 32 };
/// Up to what length a value is cut in all possible ways, to find which of many texts are in it.
const SHORT: usize = if cfg!(test) { 3 } else { 80 };
