//! Sets of ports and of protocols.

use std::ops::RangeInclusive;

/// A set of 16-bit numbers as ranges that ascend and do not touch.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ports(Vec<(u16, u16)>);

impl Ports {
    pub(crate) fn all() -> Self {
        Self(vec![(0, u16::MAX)])
    }

    pub(crate) fn one(port: u16) -> Self {
        Self(vec![(port, port)])
    }

    pub(crate) fn of(ranges: impl IntoIterator<Item = RangeInclusive<u16>>) -> Self {
        let mut ranges: Vec<(u16, u16)> = ranges
            .into_iter()
            .map(|range| (*range.start(), *range.end()))
            .filter(|(first, last)| first <= last)
            .collect();
        ranges.sort_unstable();
        let mut joined: Vec<(u16, u16)> = Vec::new();
        for (first, last) in ranges {
            match joined.last_mut() {
                Some((_, end)) if u32::from(first) <= u32::from(*end) + 1 => *end = last.max(*end),
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }

    pub(crate) fn without(&self, other: &Self) -> Self {
        let mut kept = Vec::new();
        for &(first, last) in &self.0 {
            let mut from = u32::from(first);
            for &(cut_first, cut_last) in &other.0 {
                if u32::from(cut_last) < from || cut_first > last {
                    continue;
                }
                if u32::from(cut_first) > from {
                    kept.push((from as u16, cut_first - 1));
                }
                from = from.max(u32::from(cut_last) + 1);
            }
            if from <= u32::from(last) {
                kept.push((from as u16, last));
            }
        }
        Self(kept)
    }

    pub(crate) fn intersect(&self, other: &Self) -> Self {
        self.without(&Self::all().without(other))
    }

    pub(crate) fn contains(&self, port: u16) -> bool {
        self.0
            .iter()
            .any(|&(first, last)| (first..=last).contains(&port))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges, or `None` for all numbers.
    pub(crate) fn restriction(&self) -> Option<Vec<RangeInclusive<u16>>> {
        (self.0 != [(0, u16::MAX)])
            .then(|| self.0.iter().map(|&(first, last)| first..=last).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranges() -> impl Strategy<Value = Vec<RangeInclusive<u16>>> {
        let edge = prop_oneof![0u16..20, Just(u16::MAX), Just(u16::MAX - 1), Just(0)];
        proptest::collection::vec(
            (edge.clone(), edge).prop_map(|(a, b)| a.min(b)..=a.max(b)),
            0..5,
        )
    }

    proptest! {
        #[test]
        fn sets_of_ranges_behave_as_sets(left in ranges(), right in ranges()) {
            let (a, b) = (Ports::of(left.clone()), Ports::of(right.clone()));
            for port in (0..25).chain(u16::MAX - 3..=u16::MAX) {
                let (in_a, in_b) = (left.iter().any(|range| range.contains(&port)), right.iter().any(|range| range.contains(&port)));
                prop_assert_eq!(a.contains(port), in_a);
                prop_assert_eq!(a.without(&b).contains(port), in_a && !in_b);
                prop_assert_eq!(a.intersect(&b).contains(port), in_a && in_b);
            }
            prop_assert_eq!(Ports::of(a.without(&b).0.iter().map(|&(first, last)| first..=last)), a.without(&b));
        }
    }
}
