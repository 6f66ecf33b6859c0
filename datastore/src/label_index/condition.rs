//! A selector over numbered words: whether it holds, what it looks at, what a match must have.

use std::collections::BTreeSet;

use super::words::{Word, Words};
use crate::selector::Expression;

/// A label and its value.
pub(super) type Pair = (Word, Word);

/// Something about labels that is true or not, and that a selector may look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Fact {
    /// The label's value contains the text.
    Contains(Word, Word),
    /// The label's value ends with the text.
    EndsWith(Word, Word),
    /// The label has the value.
    Is(Word, Word),
    /// The label is there.
    Present(Word),
    /// The label's value starts with the text.
    StartsWith(Word, Word),
}

/// The tree of a selector. Negative operators are a negation of the positive one.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    All,
    And(Vec<Condition>),
    Fact(Fact),
    In(Word, Vec<Word>),
    Not(Box<Condition>),
    Or(Vec<Condition>),
}

/// What a match must have at least one of, and what it costs to look there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) facts: Vec<Fact>,
    cost: usize,
}

impl Condition {
    /// The condition of an expression, whose words are taken.
    pub(super) fn new(expression: &Expression, words: &mut Words) -> Self {
        let pair = |fact: fn(Word, Word) -> Fact, label: &str, text: &str, words: &mut Words| {
            Condition::Fact(fact(words.take(label), words.take(text)))
        };
        match expression {
            Expression::All | Expression::Global => Condition::All,
            Expression::And(operands) => Condition::And(many(operands, words)),
            Expression::Or(operands) => Condition::Or(many(operands, words)),
            Expression::Contains(label, text) => pair(Fact::Contains, label, text, words),
            Expression::EndsWith(label, text) => pair(Fact::EndsWith, label, text, words),
            Expression::Equal(label, text) => pair(Fact::Is, label, text, words),
            Expression::StartsWith(label, text) => pair(Fact::StartsWith, label, text, words),
            Expression::Has(label) => Condition::Fact(Fact::Present(words.take(label))),
            Expression::In(label, set) => one_of(label, set, words),
            Expression::Not(operand) => Condition::new(operand, words).negated(),
            Expression::NotEqual(label, text) => pair(Fact::Is, label, text, words).negated(),
            Expression::NotIn(label, set) => one_of(label, set, words).negated(),
        }
    }

    /// Gives back the words that were taken.
    pub(super) fn release(&self, words: &mut Words) {
        match self {
            Condition::All => {}
            Condition::And(operands) | Condition::Or(operands) => {
                for operand in operands {
                    operand.release(words);
                }
            }
            Condition::Fact(fact) => {
                let (label, text) = fact.words();
                words.release(label);
                if let Some(text) = text {
                    words.release(text);
                }
            }
            Condition::In(label, values) => {
                words.release(*label);
                for value in values {
                    words.release(*value);
                }
            }
            Condition::Not(operand) => operand.release(words),
        }
    }

    /// Whether it holds for labels, which are sorted.
    pub(super) fn holds(&self, labels: &[Pair], words: &Words) -> bool {
        match self {
            Condition::All => true,
            Condition::And(operands) => operands.iter().all(|of| of.holds(labels, words)),
            Condition::Fact(fact) => fact.holds(labels, words),
            Condition::In(label, values) => {
                value_of(labels, *label).is_some_and(|value| values.binary_search(&value).is_ok())
            }
            Condition::Not(operand) => !operand.holds(labels, words),
            Condition::Or(operands) => operands.iter().any(|of| of.holds(labels, words)),
        }
    }

    /// Everything it looks at: while none of these changes, it does not either.
    pub(super) fn facts(&self) -> BTreeSet<Fact> {
        fn collect(condition: &Condition, facts: &mut BTreeSet<Fact>) {
            match condition {
                Condition::All => {}
                Condition::And(operands) | Condition::Or(operands) => {
                    for of in operands {
                        collect(of, facts);
                    }
                }
                Condition::Fact(fact) => drop(facts.insert(*fact)),
                Condition::In(label, values) => {
                    facts.extend(values.iter().map(|value| Fact::Is(*label, *value)));
                }
                Condition::Not(operand) => collect(operand, facts),
            }
        }
        let mut facts = BTreeSet::new();
        collect(self, &mut facts);
        facts
    }

    /// Facts of which every match has at least one, and at the lowest cost that is easily told; `None` if there are
    /// no such facts, or if they would be more than `most` of them. They are of the kinds `Is` and `Present` only.
    pub(super) fn needs(&self, most: usize, cost: &dyn Fn(Fact) -> usize) -> Option<Needs> {
        self.needs_if(true, most, cost)
    }

    /// What the condition needs for being true, or for being false.
    fn needs_if(&self, wanted: bool, most: usize, cost: &dyn Fn(Fact) -> usize) -> Option<Needs> {
        let any = |facts: Vec<Fact>| Needs::any(facts, most, cost);
        match (self, wanted) {
            (Condition::All, true) | (Condition::Fact(_) | Condition::In(..), false) => None,
            (Condition::All, false) => any(Vec::new()),
            (Condition::Fact(fact), true) => any(vec![fact.indexed()]),
            (Condition::In(label, values), true) => any(values
                .iter()
                .map(|value| Fact::Is(*label, *value))
                .collect()),
            (Condition::Not(operand), wanted) => operand.needs_if(!wanted, most, cost),
            (Condition::And(operands), true) | (Condition::Or(operands), false) => operands
                .iter()
                .filter_map(|of| of.needs_if(wanted, most, cost))
                .min_by_key(|needs| needs.cost),
            (Condition::And(operands), false) | (Condition::Or(operands), true) => {
                let mut facts = Vec::new();
                for of in operands {
                    facts.append(&mut of.needs_if(wanted, most, cost)?.facts);
                }
                any(facts)
            }
        }
    }

    fn negated(self) -> Self {
        Condition::Not(Box::new(self))
    }
}

impl Needs {
    fn any(mut facts: Vec<Fact>, most: usize, cost: &dyn Fn(Fact) -> usize) -> Option<Self> {
        facts.sort_unstable();
        facts.dedup();
        if facts.len() > most {
            for fact in &mut facts {
                *fact = Fact::Present(fact.words().0);
            }
            facts.dedup();
        }
        let total = facts
            .iter()
            .fold(0, |sum: usize, fact| sum.saturating_add(cost(*fact)));
        (facts.len() <= most).then_some(Needs { facts, cost: total })
    }

    /// What it costs to look at everything that has what is needed.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }
}

impl Fact {
    /// Whether it is true of labels.
    pub(super) fn holds(self, labels: &[Pair], words: &Words) -> bool {
        let (label, text) = self.words();
        let (Some(value), text) = (value_of(labels, label), text.unwrap_or(label)) else {
            return false;
        };
        match self {
            Fact::Is(..) => value == text,
            Fact::Present(_) => true,
            Fact::Contains(..) | Fact::EndsWith(..) | Fact::StartsWith(..) => {
                self.fits(words.text(value), words.text(text))
            }
        }
    }

    /// Whether a value fits the text of a fact of this kind.
    pub(super) fn fits(self, value: &str, text: &str) -> bool {
        match self {
            Fact::Contains(..) => value.contains(text),
            Fact::EndsWith(..) => value.ends_with(text),
            Fact::Is(..) => value == text,
            Fact::Present(_) => true,
            Fact::StartsWith(..) => value.starts_with(text),
        }
    }

    /// The label, and the value or text.
    pub(super) fn words(self) -> (Word, Option<Word>) {
        match self {
            Fact::Contains(label, text)
            | Fact::EndsWith(label, text)
            | Fact::Is(label, text)
            | Fact::StartsWith(label, text) => (label, Some(text)),
            Fact::Present(label) => (label, None),
        }
    }

    /// The fact itself if items can be found by it, or the widest one that it implies.
    fn indexed(self) -> Self {
        match self {
            Fact::Is(..) | Fact::Present(_) => self,
            Fact::Contains(label, _) | Fact::EndsWith(label, _) | Fact::StartsWith(label, _) => {
                Fact::Present(label)
            }
        }
    }
}

/// The value of a label among sorted ones.
pub(super) fn value_of(labels: &[Pair], label: Word) -> Option<Word> {
    let at = labels.binary_search_by_key(&label, |(label, _)| *label);
    at.ok().map(|at| labels[at].1)
}

fn many(operands: &[Expression], words: &mut Words) -> Vec<Condition> {
    let operands = operands.iter();
    operands.map(|of| Condition::new(of, words)).collect()
}

fn one_of(label: &str, set: &BTreeSet<String>, words: &mut Words) -> Condition {
    let mut values: Vec<Word> = set.iter().map(|value| words.take(value)).collect();
    values.sort_unstable();
    Condition::In(words.take(label), values)
}
