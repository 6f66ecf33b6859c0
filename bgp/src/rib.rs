//! The routing information base: every path to every prefix, with its best ones chosen.
//!
//! Paths of all sources to a prefix lie together (Adj-RIBs-In and Loc-RIB in one), two of them without an allocation of
//! their own. Attributes are interned, so a path is 16 bytes and comparing attribute sets is comparing pointers.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;
use smallvec::SmallVec;

use crate::Family;
use crate::config::Multipath;
use crate::decision::{Candidate, Decision, Source, SourceKind, decide};
use crate::policy::Rejection;
use crate::wire::Attributes;

/// All routes.
#[derive(Debug)]
pub struct Rib {
    table: BTreeMap<IpNet, Destination>,
    sources: Vec<SourceState>,
    attributes: Interner,
    multipath: Multipath,
    changed: Changed,
}

/// A source of paths: index into the table of sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u32);

impl SourceId {
    /// What this speaker originates.
    pub const LOCAL: Self = Self(0);
}

/// The routes of one source in one family, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub received: usize,
    /// Those that import accepted.
    pub accepted: usize,
    /// Those kept because the source restarts.
    pub stale: usize,
}

/// A path to a prefix.
#[derive(Clone, Debug)]
pub struct Path {
    /// Its attributes.
    pub attributes: Arc<Attributes>,
    /// Where it comes from.
    pub source: SourceId,
    /// Why it cannot become best.
    pub rejected: Option<Rejection>,
    /// Kept because its source restarts.
    pub stale: bool,
    /// It is the best, or shares the load with it.
    pub multipath: bool,
}

/// What changed since it was last asked.
#[derive(Debug, Default)]
pub struct Changed {
    /// Prefixes whose next hops may have changed.
    pub next_hops: BTreeSet<IpNet>,
    /// Prefixes whose best path may have changed.
    pub best: BTreeSet<IpNet>,
}

#[derive(Debug, Default)]
struct Destination {
    /// In the order of sources, at most one of each.
    paths: SmallVec<[Path; 2]>,
    best: Option<u16>,
}

#[derive(Debug)]
struct SourceState {
    source: Source,
    counts: [Count; 2],
}

impl Rib {
    /// An empty table.
    pub fn new(multipath: Multipath) -> Self {
        let local = Source {
            kind: SourceKind::Local,
            router_id: Ipv4Addr::UNSPECIFIED,
            address: Ipv4Addr::UNSPECIFIED.into(),
        };
        let mut rib = Self {
            table: BTreeMap::new(),
            sources: Vec::new(),
            attributes: Interner::default(),
            multipath,
            changed: Changed::default(),
        };
        rib.add_source(local);
        rib
    }

    /// Adds a source. Sources are few and never removed; that of a removed peer is used again through
    /// [`Rib::set_source`].
    pub fn add_source(&mut self, source: Source) -> SourceId {
        self.sources.push(SourceState {
            source,
            counts: [Count::default(); 2],
        });
        SourceId(self.sources.len() as u32 - 1)
    }

    /// Changes what a source is, and decides anew where it has paths.
    pub fn set_source(&mut self, id: SourceId, source: Source) {
        if std::mem::replace(&mut self.sources[id.0 as usize].source, source) != source {
            self.redecide(|destination| destination.position(id).is_ok());
        }
    }

    /// Changes the rules of multipath.
    pub fn set_multipath(&mut self, multipath: Multipath) {
        if std::mem::replace(&mut self.multipath, multipath) != multipath {
            self.redecide(|destination| destination.paths.len() > 1);
        }
    }

    /// The one copy of an attribute set.
    pub fn intern(&mut self, attributes: Attributes) -> Arc<Attributes> {
        self.attributes.intern(attributes)
    }

    /// Adds or replaces a source's path.
    pub fn announce(
        &mut self,
        source: SourceId,
        prefix: IpNet,
        attributes: Arc<Attributes>,
        rejected: Option<Rejection>,
    ) {
        let destination = self.table.entry(prefix).or_default();
        let before = destination.next_hops(&self.sources);
        let counts = &mut self.sources[source.0 as usize].counts[Family::of(&prefix) as usize];
        let path = Path {
            attributes,
            source,
            rejected,
            stale: false,
            multipath: false,
        };
        counts.add(&path);
        // A change of attributes that leaves the same path best must be told too.
        let was_best = match destination.position(source) {
            Ok(at) => {
                counts.remove(&destination.paths[at]);
                let old = std::mem::replace(&mut destination.paths[at], path);
                let same = Arc::ptr_eq(&old.attributes, &destination.paths[at].attributes);
                destination.best == Some(at as u16) && !same
            }
            Err(at) => {
                let best = destination.best_source();
                destination.paths.insert(at, path);
                destination.best = best
                    .and_then(|best| destination.position(best).ok())
                    .map(|at| at as u16);
                false
            }
        };
        destination.settle(
            prefix,
            &before,
            was_best,
            &self.sources,
            self.multipath,
            &mut self.changed,
        );
    }

    /// Removes a source's path, if there is one.
    pub fn withdraw(&mut self, source: SourceId, prefix: &IpNet) {
        let Some(destination) = self.table.get_mut(prefix) else {
            return;
        };
        let Ok(at) = destination.position(source) else {
            return;
        };
        let before = destination.next_hops(&self.sources);
        let path = destination.remove(at);
        self.sources[source.0 as usize].counts[Family::of(prefix) as usize].remove(&path);
        destination.settle(
            *prefix,
            &before,
            false,
            &self.sources,
            self.multipath,
            &mut self.changed,
        );
        if destination.paths.is_empty() {
            self.table.remove(prefix);
        }
    }

    /// Removes a source's paths of a family: all, or those that are stale.
    pub fn flush(&mut self, source: SourceId, family: Family, only_stale: bool) {
        let doomed = |path: &Path| path.source == source && (!only_stale || path.stale);
        let count = self.count(source, family);
        if count.received == 0 || only_stale && count.stale == 0 {
            return;
        }
        let (sources, multipath, changed) = (&mut self.sources, self.multipath, &mut self.changed);
        self.table.retain(|prefix, destination| {
            if Family::of(prefix) != family {
                return true;
            }
            let Some(at) = destination.paths.iter().position(doomed) else {
                return true;
            };
            let before = destination.next_hops(sources);
            let path = destination.remove(at);
            sources[source.0 as usize].counts[family as usize].remove(&path);
            destination.settle(*prefix, &before, false, sources, multipath, changed);
            !destination.paths.is_empty()
        });
    }

    /// Marks a source's paths of a family as kept only because it restarts (RFC 4724 §4.2).
    pub fn mark_stale(&mut self, source: SourceId, family: Family) {
        let mut stale = 0;
        for (prefix, destination) in &mut self.table {
            if Family::of(prefix) == family
                && let Ok(at) = destination.position(source)
            {
                destination.paths[at].stale = true;
                stale += 1;
            }
        }
        self.sources[source.0 as usize].counts[family as usize].stale = stale;
    }

    /// Judges a source's paths anew.
    pub fn rejudge(
        &mut self,
        source: SourceId,
        judge: impl Fn(&IpNet, &Attributes) -> Option<Rejection>,
    ) {
        let (sources, multipath, changed) = (&mut self.sources, self.multipath, &mut self.changed);
        for (prefix, destination) in &mut self.table {
            let Ok(at) = destination.position(source) else {
                continue;
            };
            let before = destination.next_hops(sources);
            let counts = &mut sources[source.0 as usize].counts[Family::of(prefix) as usize];
            let path = &mut destination.paths[at];
            counts.remove(path);
            path.rejected = judge(prefix, &path.attributes);
            counts.add(path);
            destination.settle(*prefix, &before, false, sources, multipath, changed);
        }
    }

    /// What changed since the last call.
    pub fn take_changed(&mut self) -> Changed {
        std::mem::take(&mut self.changed)
    }

    /// The addresses by which a prefix is reached, sorted; none if it is unknown or our own.
    pub fn next_hops(&self, prefix: &IpNet) -> Vec<IpAddr> {
        let destination = self.table.get(prefix);
        destination.map_or_else(Vec::new, |destination| {
            destination.next_hops(&self.sources).into_vec()
        })
    }

    /// The best path to a prefix.
    pub fn best(&self, prefix: &IpNet) -> Option<&Path> {
        let destination = self.table.get(prefix)?;
        destination.paths.get(usize::from(destination.best?))
    }

    /// What a source is.
    pub fn source(&self, id: SourceId) -> &Source {
        &self.sources[id.0 as usize].source
    }

    /// How many routes a source has in a family.
    pub fn count(&self, id: SourceId, family: Family) -> Count {
        self.sources[id.0 as usize].counts[family as usize]
    }

    /// How many prefixes are known.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// No prefix is known.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// How many distinct attribute sets are in memory.
    pub fn attribute_sets(&self) -> usize {
        self.attributes.sets.len()
    }

    /// Every prefix in its order.
    pub fn prefixes(&self) -> impl Iterator<Item = &IpNet> {
        self.table.keys()
    }

    /// Every prefix with its paths and, for those that may become best, the decision about them.
    pub fn explain<'a>(&'a self, prefix: &IpNet) -> (&'a [Path], Option<Decision>) {
        let Some(destination) = self.table.get(prefix) else {
            return (&[], None);
        };
        let (_, candidates) = destination.candidates(&self.sources);
        (&destination.paths, decide(&candidates, self.multipath))
    }

    fn redecide(&mut self, concerns: impl Fn(&Destination) -> bool) {
        let (sources, multipath, changed) = (&self.sources, self.multipath, &mut self.changed);
        for (prefix, destination) in &mut self.table {
            if concerns(destination) {
                let before = destination.next_hops(sources);
                destination.settle(*prefix, &before, true, sources, multipath, changed);
            }
        }
    }
}

impl Destination {
    fn position(&self, source: SourceId) -> Result<usize, usize> {
        self.paths.binary_search_by_key(&source, |path| path.source)
    }

    fn best_source(&self) -> Option<SourceId> {
        self.best.map(|best| self.paths[usize::from(best)].source)
    }

    /// Removes a path, keeping `best` on the path it was on; if that is the removed one, there is none.
    fn remove(&mut self, at: usize) -> Path {
        let best = self.best_source();
        let path = self.paths.remove(at);
        self.best = best
            .and_then(|best| self.position(best).ok())
            .map(|at| at as u16);
        path
    }

    fn candidates<'a>(
        &'a self,
        sources: &'a [SourceState],
    ) -> (SmallVec<[u16; 4]>, SmallVec<[Candidate<'a>; 4]>) {
        let eligible = self
            .paths
            .iter()
            .enumerate()
            .filter(|(_, path)| path.rejected.is_none());
        eligible
            .map(|(at, path)| {
                let candidate = Candidate {
                    attributes: &path.attributes,
                    source: &sources[path.source.0 as usize].source,
                };
                (at as u16, candidate)
            })
            .unzip()
    }

    /// Decides anew and notes what that changed against `before`. `best_changed`: the best path is not what it was,
    /// even if it is the same source's.
    fn settle(
        &mut self,
        prefix: IpNet,
        before: &[IpAddr],
        best_changed: bool,
        sources: &[SourceState],
        multipath: Multipath,
        changed: &mut Changed,
    ) {
        let old_best = self.best_source();
        let (positions, decision) = {
            let (positions, candidates) = self.candidates(sources);
            (positions, decide(&candidates, multipath))
        };
        for path in &mut self.paths {
            path.multipath = false;
        }
        self.best = None;
        if let Some(decision) = decision {
            self.best = Some(positions[decision.best]);
            for (&at, &chosen) in positions.iter().zip(&decision.multipath) {
                self.paths[usize::from(at)].multipath = chosen;
            }
        }
        // `old_best` is none also when the best path was just removed: then there is something to tell either way.
        if best_changed || old_best != self.best_source() || old_best.is_none() {
            changed.best.insert(prefix);
        }
        if before != &self.next_hops(sources)[..] {
            changed.next_hops.insert(prefix);
        }
    }

    fn next_hops(&self, sources: &[SourceState]) -> SmallVec<[IpAddr; 4]> {
        let mut next_hops: SmallVec<[IpAddr; 4]> = self
            .paths
            .iter()
            .filter(|path| {
                path.multipath && sources[path.source.0 as usize].source.kind != SourceKind::Local
            })
            .map(|path| path.attributes.next_hop.address)
            .collect();
        next_hops.sort_unstable();
        next_hops.dedup();
        next_hops
    }
}

impl Count {
    fn add(&mut self, path: &Path) {
        self.received += 1;
        self.accepted += usize::from(path.rejected.is_none());
        self.stale += usize::from(path.stale);
    }

    fn remove(&mut self, path: &Path) {
        self.received -= 1;
        self.accepted -= usize::from(path.rejected.is_none());
        self.stale -= usize::from(path.stale);
    }
}

/// Keeps each attribute set once. Sets that nobody uses any more go when the table has doubled.
#[derive(Debug, Default)]
struct Interner {
    sets: HashSet<Arc<Attributes>>,
    used_at_last_sweep: usize,
}

impl Interner {
    fn intern(&mut self, attributes: Attributes) -> Arc<Attributes> {
        if let Some(known) = self.sets.get(&attributes) {
            return Arc::clone(known);
        }
        if self.sets.len() > 2 * self.used_at_last_sweep + 1024 {
            self.sets.retain(|set| Arc::strong_count(set) > 1);
            self.used_at_last_sweep = self.sets.len();
        }
        let new = Arc::new(attributes);
        self.sets.insert(Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{AsPath, OriginCode};

    #[test]
    fn a_path_and_a_destination_stay_small() {
        assert_eq!(size_of::<Path>(), 16);
        assert!(
            size_of::<Destination>() <= 56,
            "{}",
            size_of::<Destination>()
        );
        assert!(
            size_of::<Attributes>() <= 256,
            "{}",
            size_of::<Attributes>()
        );
    }

    #[test]
    fn what_is_originated_here_is_never_installed_whoever_else_tells_it() {
        for text in ["10.1.0.0/26", "fd00:1::/122"] {
            let (mut rib, peers) = rib(1);
            let prefix: IpNet = text.parse().unwrap();
            let path = rib.intern(attributes(2, 1, 0, OriginCode::Igp, 100));
            rib.announce(peers[0], prefix, Arc::clone(&path), None);
            assert_eq!(rib.next_hops(&prefix).len(), 1);
            rib.announce(SourceId::LOCAL, prefix, path, None);
            assert_eq!(rib.next_hops(&prefix), [] as [IpAddr; 0]);
            assert!(rib.take_changed().next_hops.contains(&prefix));
            rib.withdraw(SourceId::LOCAL, &prefix);
            assert_eq!(rib.next_hops(&prefix).len(), 1);
        }
    }

    #[test]
    fn rejected_paths_are_kept_but_never_chosen() {
        let (mut rib, peers) = rib(2);
        let prefix: IpNet = "10.0.0.0/8".parse().unwrap();
        let path = rib.intern(attributes(1, 1, 0, OriginCode::Igp, 100));
        rib.announce(peers[0], prefix, Arc::clone(&path), Some(Rejection::OwnAs));
        assert!(rib.best(&prefix).is_none());
        let count = rib.count(peers[0], Family::Ipv4Unicast);
        assert_eq!((count.received, count.accepted), (1, 0));
        let other = rib.intern(attributes(2, 1, 0, OriginCode::Igp, 100));
        rib.announce(peers[1], prefix, other, None);
        assert_eq!(rib.best(&prefix).unwrap().source, peers[1]);
        rib.rejudge(peers[0], |_, _| None);
        assert_eq!(rib.next_hops(&prefix).len(), 2);
    }

    #[test]
    fn stale_paths_stay_in_use_until_they_are_swept() {
        let (mut rib, peers) = rib(1);
        let (old, new): (IpNet, IpNet) =
            ("10.0.0.0/8".parse().unwrap(), "11.0.0.0/8".parse().unwrap());
        let path = rib.intern(attributes(1, 1, 0, OriginCode::Igp, 100));
        for prefix in [old, new] {
            rib.announce(peers[0], prefix, Arc::clone(&path), None);
        }
        rib.mark_stale(peers[0], Family::Ipv4Unicast);
        assert_eq!(rib.next_hops(&old).len(), 1);
        assert_eq!(rib.count(peers[0], Family::Ipv4Unicast).stale, 2);
        rib.announce(peers[0], new, path, None);
        rib.flush(peers[0], Family::Ipv4Unicast, true);
        assert_eq!(
            (rib.next_hops(&old).len(), rib.next_hops(&new).len()),
            (0, 1)
        );
        assert_eq!(
            rib.count(peers[0], Family::Ipv4Unicast),
            Count {
                received: 1,
                accepted: 1,
                stale: 0
            }
        );
    }

    #[test]
    fn unused_attribute_sets_are_forgotten() {
        let (mut rib, peers) = rib(1);
        let prefix: IpNet = "10.0.0.0/8".parse().unwrap();
        for med in 0..10_000 {
            let path = rib.intern(attributes(1, 1, med, OriginCode::Igp, 100));
            rib.announce(peers[0], prefix, path, None);
        }
        assert!(rib.attribute_sets() <= 1100, "{}", rib.attribute_sets());
    }

    proptest! {
        #[test]
        fn the_best_path_depends_on_last_words_only(
            operations in vec((0usize..4, 0u32..3, prop::option::of((1u32..3, 1usize..3, 0u32..3, 99u32..101))), 1..40),
            order in any::<u64>(),
        ) {
            // As told, against the last word of each peer about each prefix in some other order.
            let (mut told, peers) = rib(4);
            let mut last = BTreeMap::new();
            for (peer, prefix, path) in &operations {
                apply(&mut told, peers[*peer], *prefix, *path);
                last.insert((*peer, *prefix), *path);
            }
            let mut words: Vec<_> = last.into_iter().collect();
            let mut state = order;
            for at in (1..words.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                words.swap(at, (state >> 33) as usize % (at + 1));
            }
            let (mut fresh, _) = rib(4);
            for ((peer, prefix), path) in words {
                apply(&mut fresh, peers[peer], prefix, path);
            }
            prop_assert_eq!(told.prefixes().collect::<Vec<_>>(), fresh.prefixes().collect::<Vec<_>>());
            for prefix in told.prefixes() {
                prop_assert_eq!(told.next_hops(prefix), fresh.next_hops(prefix));
                prop_assert_eq!(told.best(prefix).map(|path| path.source), fresh.best(prefix).map(|path| path.source));
            }
            for &peer in &peers {
                for family in Family::ALL {
                    prop_assert_eq!(told.count(peer, family), fresh.count(peer, family));
                }
            }
        }

        #[test]
        fn whoever_follows_the_changes_knows_the_table(
            operations in vec((0usize..4, 0u32..3, prop::option::of((1u32..3, 1usize..3, 0u32..3, 99u32..101))), 1..40),
        ) {
            let (mut rib, peers) = rib(4);
            let mut next_hops: BTreeMap<IpNet, Vec<IpAddr>> = BTreeMap::new();
            let mut best: BTreeMap<IpNet, (SourceId, Arc<Attributes>)> = BTreeMap::new();
            for (peer, prefix, path) in operations {
                apply(&mut rib, peers[peer], prefix, path);
                let changed = rib.take_changed();
                for prefix in changed.next_hops {
                    next_hops.insert(prefix, rib.next_hops(&prefix));
                }
                for prefix in changed.best {
                    match rib.best(&prefix) {
                        Some(path) => best.insert(prefix, (path.source, Arc::clone(&path.attributes))),
                        None => best.remove(&prefix),
                    };
                }
            }
            for index in 0..3 {
                let prefix = prefix(index);
                prop_assert_eq!(next_hops.get(&prefix).cloned().unwrap_or_default(), rib.next_hops(&prefix));
                let known = best.get(&prefix).cloned();
                prop_assert_eq!(known, rib.best(&prefix).map(|path| (path.source, Arc::clone(&path.attributes))));
            }
        }
    }

    type Word = Option<(u32, usize, u32, u32)>;

    fn apply(rib: &mut Rib, peer: SourceId, index: u32, path: Word) {
        match path {
            Some((neighbour, len, med, local_pref)) => {
                let mut path = attributes(neighbour, len, med, OriginCode::Igp, local_pref);
                path.next_hop = rib.source(peer).address.into();
                let path = rib.intern(path);
                rib.announce(peer, prefix(index), path, None);
            }
            None => rib.withdraw(peer, &prefix(index)),
        }
    }

    fn prefix(index: u32) -> IpNet {
        match index % 2 {
            0 => ipnet::Ipv4Net::new((0x0a00_0000 + (index << 16)).into(), 16)
                .unwrap()
                .into(),
            _ => ipnet::Ipv6Net::new((0xfd00 << 112 | u128::from(index) << 64).into(), 64)
                .unwrap()
                .into(),
        }
    }

    fn attributes(
        neighbour: u32,
        len: usize,
        med: u32,
        origin: OriginCode,
        local_pref: u32,
    ) -> Attributes {
        let mut attributes = Attributes::new(IpAddr::from([192, 0, 2, neighbour as u8]).into());
        attributes.as_path = AsPath::sequence(&vec![neighbour; len]);
        attributes.med = Some(med);
        attributes.origin = origin;
        attributes.local_pref = Some(local_pref);
        attributes
    }

    fn rib(peers: u8) -> (Rib, Vec<SourceId>) {
        let mut rib = Rib::new(Multipath::default());
        let add = |index: u8| Source {
            kind: if index.is_multiple_of(2) {
                SourceKind::External
            } else {
                SourceKind::Internal
            },
            router_id: Ipv4Addr::new(10, 0, 0, index / 2),
            address: [192, 0, 2, 100 + index].into(),
        };
        let ids = (0..peers)
            .map(|index| rib.add_source(add(index * if peers == 2 { 2 } else { 1 })))
            .collect();
        (rib, ids)
    }
}
