//! What is known of each prefix, with nested prefixes kept consistent.
//!
//! A prefix carries the atoms of its own sources and those of every prefix that covers it, so that the longest match alone
//! tells all. A change touches the prefixes under it whose answer changes, and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::atoms::{AtomId, AtomSet};

/// Where an address lives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Not in the cluster.
    Outside,
    /// A workload of this host, behind the interface of this name.
    LocalWorkload(Arc<str>),
    /// In a pool, and not here.
    RemoteWorkload,
    /// This host itself.
    ThisHost,
    /// Another node.
    OtherHost,
}

/// All that is known of the addresses under a prefix (and under no longer one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Where they live.
    pub place: Place,
    /// What may be asked of them and holds.
    pub atoms: AtomSet,
}

/// Something that gives its atoms to some prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Source {
    /// An endpoint or a network set.
    Item(u32),
    /// A rule's list of prefixes.
    Nets(AtomId),
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Nets {
    nodes: BTreeMap<Bits, Node>,
    /// How many nodes have a prefix of this length, by family and length: parents are looked up by length.
    lengths: [BTreeMap<u8, usize>; 2],
    sources: BTreeMap<Source, Given>,
    dirty: BTreeSet<Bits>,
    changed: BTreeSet<IpNet>,
    interned: HashSet<AtomSet>,
}

#[derive(Debug, Default)]
struct Given {
    prefixes: BTreeSet<IpNet>,
    atoms: BTreeSet<AtomId>,
}

#[derive(Debug, Default)]
struct Node {
    sources: BTreeSet<Source>,
    place: Option<Place>,
    /// The answer; `None` until the first refresh.
    facts: Option<Facts>,
}

impl Node {
    /// Nobody says anything about the prefix.
    fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.place.is_none()
    }
}

impl Nets {
    /// Makes `prefixes` all that `source` gives its atoms to.
    pub(crate) fn set_prefixes(&mut self, source: Source, prefixes: BTreeSet<IpNet>) {
        let before = std::mem::take(&mut self.sources.entry(source).or_default().prefixes);
        for prefix in before.difference(&prefixes) {
            self.node(*prefix, |node| {
                node.sources.remove(&source);
            });
        }
        for prefix in prefixes.difference(&before) {
            self.node(*prefix, |node| {
                node.sources.insert(source);
            });
        }
        let given = self.sources.entry(source).or_default();
        given.prefixes = prefixes;
        if given.prefixes.is_empty() && given.atoms.is_empty() {
            self.sources.remove(&source);
        }
    }

    /// Says whether an atom holds for `source`.
    pub(crate) fn set_atom(&mut self, source: Source, atom: AtomId, holds: bool) {
        let given = self.sources.entry(source).or_default();
        let changed = if holds {
            given.atoms.insert(atom)
        } else {
            given.atoms.remove(&atom)
        };
        if changed {
            self.dirty.extend(given.prefixes.iter().map(Bits::from));
        }
        if given.prefixes.is_empty() && given.atoms.is_empty() {
            self.sources.remove(&source);
        }
    }

    /// Says where the addresses of a prefix live; `None` leaves it to the covering prefixes.
    pub(crate) fn set_place(&mut self, prefix: IpNet, place: Option<Place>) {
        self.node(prefix, |node| node.place = place);
    }

    /// Brings the answers up to date and returns the prefixes where they changed.
    pub(crate) fn flush(&mut self) -> BTreeSet<IpNet> {
        // A parent sorts before what it covers, so its answer is right when its children ask.
        while let Some(prefix) = self.dirty.pop_first() {
            self.refresh(prefix);
        }
        if self.interned.len() > 64 + 4 * self.nodes.len() {
            self.interned.retain(|set| Arc::strong_count(set) > 1);
        }
        std::mem::take(&mut self.changed)
    }

    /// The answer for exactly this prefix.
    pub(crate) fn facts(&self, prefix: IpNet) -> Option<&Facts> {
        self.nodes.get(&Bits::from(&prefix))?.facts.as_ref()
    }

    /// The answer for an address: that of the longest prefix.
    pub(crate) fn lookup(&self, address: IpAddr) -> Option<&Facts> {
        let host = Bits::from(&IpNet::from(address));
        self.nodes
            .get(&host)
            .or_else(|| self.parent(host))
            .and_then(|node| node.facts.as_ref())
    }

    /// Every prefix with its answer.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (IpNet, &Facts)> {
        self.nodes
            .iter()
            .filter_map(|(bits, node)| Some((bits.net(), node.facts.as_ref()?)))
    }

    fn node(&mut self, prefix: IpNet, change: impl FnOnce(&mut Node)) {
        let bits = Bits::from(&prefix);
        let lengths = &mut self.lengths[usize::from(bits.v6)];
        let node = self.nodes.entry(bits).or_insert_with(|| {
            *lengths.entry(bits.len).or_default() += 1;
            Node::default()
        });
        change(node);
        self.dirty.insert(bits);
    }

    fn refresh(&mut self, top: Bits) {
        let base = self
            .parent(top)
            .and_then(|node| node.facts.clone())
            .unwrap_or_else(nothing);
        if self.nodes.get(&top).is_some_and(Node::is_empty) {
            let had = self
                .nodes
                .remove(&top)
                .is_some_and(|node| node.facts.is_some());
            let lengths = &mut self.lengths[usize::from(top.v6)];
            if let Some(count) = lengths.get_mut(&top.len) {
                *count -= 1;
                if *count == 0 {
                    lengths.remove(&top.len);
                }
            }
            if had {
                self.changed.insert(top.net());
                self.refresh_under(top, &base);
            }
        } else if self.nodes.contains_key(&top)
            && let Some(facts) = self.answer(top, &base)
        {
            self.refresh_under(top, &facts);
        }
    }

    /// Brings everything strictly under `top` up to date, given what covers it. A prefix whose answer stays ends the descent.
    fn refresh_under(&mut self, top: Bits, base: &Facts) {
        let mut covering: Vec<(Bits, Facts)> = vec![(top, base.clone())];
        let mut from = std::ops::Bound::Excluded(top);
        while let Some((&bits, _)) = self
            .nodes
            .range((from, std::ops::Bound::Included(top.last())))
            .next()
        {
            while covering
                .last()
                .is_some_and(|(cover, _)| !cover.covers(bits))
            {
                covering.pop();
            }
            let base = covering
                .last()
                .map_or_else(|| base.clone(), |(_, facts)| facts.clone());
            if self.nodes.get(&bits).is_some_and(Node::is_empty) {
                // It is dirty and about to go.
                from = std::ops::Bound::Excluded(bits);
                continue;
            }
            from = match self.answer(bits, &base) {
                Some(facts) => {
                    covering.push((bits, facts));
                    std::ops::Bound::Excluded(bits)
                }
                None => std::ops::Bound::Excluded(bits.last()),
            };
        }
    }

    /// Computes a node's answer; returns it if it is another one now.
    fn answer(&mut self, bits: Bits, base: &Facts) -> Option<Facts> {
        let node = self.nodes.get(&bits)?;
        let own = node.sources.iter().filter_map(|source| match source {
            Source::Item(_) => self
                .sources
                .get(source)
                .map(|given| Own::Many(&given.atoms)),
            Source::Nets(atom) => Some(Own::One(*atom)),
        });
        let mut atoms: Option<BTreeSet<AtomId>> = None;
        for own in own {
            let mut add = |atom: AtomId| {
                if base.atoms.binary_search(&atom).is_err() {
                    atoms
                        .get_or_insert_with(|| base.atoms.iter().copied().collect())
                        .insert(atom);
                }
            };
            match own {
                Own::One(atom) => add(atom),
                Own::Many(set) => set.iter().copied().for_each(&mut add),
            }
        }
        let place = node.place.clone().unwrap_or_else(|| base.place.clone());
        let atoms = match atoms {
            None => base.atoms.clone(),
            Some(atoms) => self.intern(&atoms),
        };
        let facts = Facts { place, atoms };
        let node = self.nodes.get_mut(&bits)?;
        if node.facts.as_ref() == Some(&facts) {
            return None;
        }
        node.facts = Some(facts.clone());
        self.changed.insert(bits.net());
        Some(facts)
    }

    fn intern(&mut self, atoms: &BTreeSet<AtomId>) -> AtomSet {
        let list: Vec<AtomId> = atoms.iter().copied().collect();
        if let Some(set) = self.interned.get(list.as_slice()) {
            return set.clone();
        }
        let set: AtomSet = list.into();
        self.interned.insert(set.clone());
        set
    }

    fn parent(&self, of: Bits) -> Option<&Node> {
        self.lengths[usize::from(of.v6)]
            .range(..of.len)
            .rev()
            .find_map(|(&len, _)| self.nodes.get(&of.cut(len)))
    }
}

enum Own<'a> {
    One(AtomId),
    Many(&'a BTreeSet<AtomId>),
}

fn nothing() -> Facts {
    Facts {
        place: Place::Outside,
        atoms: Arc::from([]),
    }
}

/// A prefix of either family as left-aligned bits: everything under it is one range of keys, itself the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Bits {
    v6: bool,
    addr: u128,
    len: u8,
}

impl Bits {
    fn mask(len: u8) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
    }

    fn cut(self, len: u8) -> Self {
        Self {
            addr: self.addr & Self::mask(len),
            len,
            ..self
        }
    }

    fn last(self) -> Self {
        Self {
            addr: self.addr | !Self::mask(self.len),
            len: 128,
            ..self
        }
    }

    fn covers(self, other: Self) -> bool {
        self.v6 == other.v6 && self.len <= other.len && other.cut(self.len).addr == self.addr
    }

    fn net(self) -> IpNet {
        if self.v6 {
            Ipv6Net::new(Ipv6Addr::from_bits(self.addr), self.len).map(IpNet::V6)
        } else {
            Ipv4Net::new(Ipv4Addr::from_bits((self.addr >> 96) as u32), self.len).map(IpNet::V4)
        }
        .expect("the length came from a prefix of this family")
    }
}

impl From<&IpNet> for Bits {
    fn from(net: &IpNet) -> Self {
        let (v6, bits) = match net.addr() {
            IpAddr::V4(address) => (false, u128::from(address.to_bits()) << 96),
            IpAddr::V6(address) => (true, address.to_bits()),
        };
        let len = net.prefix_len();
        Self {
            v6,
            addr: bits & Self::mask(len),
            len,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn atoms(nets: &Nets, address: &str) -> Vec<AtomId> {
        nets.lookup(address.parse().unwrap())
            .map(|facts| facts.atoms.to_vec())
            .unwrap_or_default()
    }

    #[test]
    fn a_prefix_carries_the_atoms_of_all_that_cover_it() {
        for (wide, narrow, host, other) in [
            ("10.0.0.0/8", "10.1.0.0/16", "10.1.0.1", "10.2.0.1"),
            ("fd00::/8", "fd00:1::/32", "fd00:1::1", "fd00:2::1"),
        ] {
            let mut nets = Nets::default();
            nets.set_prefixes(
                Source::Item(1),
                [IpNet::from(host.parse::<IpAddr>().unwrap())].into(),
            );
            nets.set_atom(Source::Item(1), 7, true);
            nets.set_prefixes(Source::Nets(9), [net(wide)].into());
            nets.set_prefixes(Source::Nets(8), [net(narrow)].into());
            assert_eq!(nets.flush().len(), 3);
            assert_eq!(atoms(&nets, host), [7, 8, 9]);
            assert_eq!(atoms(&nets, other), [9]);
            nets.set_prefixes(Source::Nets(9), [].into());
            assert_eq!(nets.flush().len(), 3);
            assert_eq!(atoms(&nets, host), [7, 8]);
            assert_eq!(atoms(&nets, other), [] as [AtomId; 0]);
        }
    }

    #[test]
    fn one_member_of_a_great_set_touches_only_itself() {
        let mut nets = Nets::default();
        let members: BTreeSet<IpNet> = (0..100_000u32)
            .map(|n| IpNet::from(IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + 2 * n))))
            .collect();
        nets.set_prefixes(Source::Item(1), members.clone());
        nets.set_atom(Source::Item(1), 1, true);
        assert_eq!(nets.flush().len(), 100_000);
        let mut more = members;
        more.insert(net("10.0.0.1/32"));
        nets.set_prefixes(Source::Item(1), more);
        assert_eq!(nets.flush(), [net("10.0.0.1/32")].into());
        nets.set_prefixes(Source::Item(2), [net("10.0.0.0/30")].into());
        nets.set_atom(Source::Item(2), 2, true);
        assert_eq!(
            nets.flush(),
            ["10.0.0.0/30", "10.0.0.0/32", "10.0.0.1/32", "10.0.0.2/32"]
                .map(net)
                .into()
        );
    }

    #[test]
    fn the_longest_prefix_that_says_where_decides() {
        let mut nets = Nets::default();
        nets.set_place(net("0.0.0.0/0"), Some(Place::Outside));
        nets.set_place(net("10.0.0.0/16"), Some(Place::RemoteWorkload));
        nets.set_prefixes(
            Source::Nets(1),
            [net("10.0.1.0/24"), net("10.0.0.0/8")].into(),
        );
        nets.flush();
        let place = |address: &str| nets.lookup(address.parse().unwrap()).unwrap().place.clone();
        assert_eq!(place("10.0.1.1"), Place::RemoteWorkload);
        assert_eq!(place("10.1.0.1"), Place::Outside);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Prefixes(u32, Vec<(u8, u8)>),
        Atom(u32, AtomId, bool),
        Nets(AtomId, Vec<(u8, u8)>),
        Place(u8, u8, bool),
        Flush,
    }

    fn prefix((byte, len): (u8, u8)) -> IpNet {
        Ipv4Net::new(Ipv4Addr::new(10, byte, byte, byte), len)
            .unwrap()
            .trunc()
            .into()
    }

    fn step() -> impl Strategy<Value = Step> {
        let prefixes =
            || proptest::collection::vec((0u8..4, prop_oneof![Just(0), Just(8), 9u8..=32]), 0..5);
        prop_oneof![
            (0u32..4, prefixes()).prop_map(|(item, list)| Step::Prefixes(item, list)),
            (0u32..4, 0u32..4, any::<bool>())
                .prop_map(|(item, atom, holds)| Step::Atom(item, atom, holds)),
            (4u32..6, prefixes()).prop_map(|(atom, list)| Step::Nets(atom, list)),
            (0u8..4, 0u8..=32, any::<bool>())
                .prop_map(|(byte, len, there)| Step::Place(byte, len, there)),
            Just(Step::Flush),
        ]
    }

    proptest! {
        #[test]
        fn every_answer_is_that_of_a_table_built_at_once(steps in proptest::collection::vec(step(), 0..40)) {
            let mut nets = Nets::default();
            let mut given: BTreeMap<Source, (BTreeSet<IpNet>, BTreeSet<AtomId>)> = BTreeMap::new();
            let mut places: BTreeMap<IpNet, Place> = BTreeMap::new();
            let mut followed: BTreeMap<IpNet, Facts> = BTreeMap::new();
            for step in steps.into_iter().chain([Step::Flush]) {
                match step {
                    Step::Prefixes(item, list) => {
                        let list: BTreeSet<IpNet> = list.into_iter().map(prefix).collect();
                        given.entry(Source::Item(item)).or_default().0 = list.clone();
                        nets.set_prefixes(Source::Item(item), list);
                    }
                    Step::Atom(item, atom, holds) => {
                        let set = &mut given.entry(Source::Item(item)).or_default().1;
                        if holds { set.insert(atom); } else { set.remove(&atom); }
                        nets.set_atom(Source::Item(item), atom, holds);
                    }
                    Step::Nets(atom, list) => {
                        let list: BTreeSet<IpNet> = list.into_iter().map(prefix).collect();
                        given.insert(Source::Nets(atom), (list.clone(), [atom].into()));
                        nets.set_prefixes(Source::Nets(atom), list);
                    }
                    Step::Place(byte, len, there) => {
                        let (net, place) = (prefix((byte, len)), there.then_some(Place::ThisHost));
                        match &place { Some(place) => { places.insert(net, place.clone()); } None => { places.remove(&net); } }
                        nets.set_place(net, place);
                    }
                    Step::Flush => {
                        for net in nets.flush() {
                            match nets.facts(net) {
                                Some(facts) => { prop_assert_ne!(followed.insert(net, facts.clone()), Some(facts.clone())); }
                                None => { prop_assert!(followed.remove(&net).is_some()); }
                            }
                        }
                        let all: BTreeSet<IpNet> = given.values().flat_map(|(prefixes, _)| prefixes).chain(places.keys()).copied().collect();
                        let naive: BTreeMap<IpNet, Facts> = all.into_iter().map(|net| {
                            let atoms: BTreeSet<AtomId> = given.values().filter(|(prefixes, _)| prefixes.iter().any(|prefix| prefix.contains(&net)))
                                .flat_map(|(_, atoms)| atoms.iter().copied()).collect();
                            let place = places.iter().filter(|(prefix, _)| prefix.contains(&net)).max_by_key(|(prefix, _)| prefix.prefix_len());
                            (net, Facts { place: place.map_or(Place::Outside, |(_, place)| place.clone()), atoms: atoms.into_iter().collect() })
                        }).collect();
                        prop_assert_eq!(&followed, &naive);
                    }
                }
            }
        }
    }
}
