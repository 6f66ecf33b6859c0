//! What a peer was told and is still to be told.
//!
//! ```text
//! changed prefixes -> dirty -> group (by attribute set, against what was sent) -> queue -> messages, as the peer reads
//! ```
//! While the queue waits for the peer, changes only collect in `dirty`: a slow peer costs no more than the table, and
//! is told the last word about each prefix.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use ipnet::IpNet;

use crate::Family;
use crate::wire::{Announcement, Attributes, Context, end_of_rib, withdraw};

/// The routes towards one peer.
#[derive(Debug, Default)]
pub(crate) struct AdjOut {
    /// What the peer knows once the queue is empty. `None`: it knows something, and asked to be told again.
    sent: BTreeMap<IpNet, Option<Arc<Attributes>>>,
    counts: [usize; 2],
    dirty: BTreeSet<IpNet>,
    queue: VecDeque<Item>,
}

#[derive(Debug)]
enum Item {
    Withdraw(Family, Vec<IpNet>),
    Announce(Family, Arc<Attributes>, Vec<IpNet>),
    EndOfRib(Family),
}

impl AdjOut {
    /// These prefixes may have to be told.
    pub(crate) fn mark(&mut self, prefixes: impl IntoIterator<Item = IpNet>) {
        self.dirty.extend(prefixes);
    }

    /// Everything that was sent may have to be told differently.
    pub(crate) fn mark_sent(&mut self) {
        self.dirty.extend(self.sent.keys().copied());
    }

    /// The peer asks for a family again.
    pub(crate) fn forget(&mut self, family: Family) {
        for (prefix, attributes) in self
            .sent
            .iter_mut()
            .filter(|(prefix, _)| Family::of(prefix) == family)
        {
            *attributes = None;
            self.dirty.insert(*prefix);
        }
    }

    /// Puts what is dirty into the queue, if that is empty. `told` is what the peer shall know about a prefix.
    pub(crate) fn group(&mut self, mut told: impl FnMut(&IpNet) -> Option<Arc<Attributes>>) {
        if !self.queue.is_empty() || self.dirty.is_empty() {
            return;
        }
        let mut withdrawn: [Vec<IpNet>; 2] = Default::default();
        let mut groups: Vec<(Family, Arc<Attributes>, Vec<IpNet>)> = Vec::new();
        let mut group_of: HashMap<(Family, *const Attributes), usize> = HashMap::new();
        for prefix in std::mem::take(&mut self.dirty) {
            let family = Family::of(&prefix);
            match told(&prefix) {
                None => {
                    if self.sent.remove(&prefix).is_some() {
                        self.counts[family as usize] -= 1;
                        withdrawn[family as usize].push(prefix);
                    }
                }
                Some(attributes) => {
                    match self.sent.insert(prefix, Some(Arc::clone(&attributes))) {
                        Some(Some(before)) if Arc::ptr_eq(&before, &attributes) => continue,
                        Some(_) => {}
                        None => self.counts[family as usize] += 1,
                    }
                    let group = *group_of
                        .entry((family, Arc::as_ptr(&attributes)))
                        .or_insert_with(|| {
                            groups.push((family, attributes, Vec::new()));
                            groups.len() - 1
                        });
                    groups[group].2.push(prefix);
                }
            }
        }
        for (family, prefixes) in Family::ALL.into_iter().zip(withdrawn) {
            if !prefixes.is_empty() {
                self.queue.push_back(Item::Withdraw(family, prefixes));
            }
        }
        let groups = groups
            .into_iter()
            .map(|(family, attributes, prefixes)| Item::Announce(family, attributes, prefixes));
        self.queue.extend(groups);
    }

    /// The initial routes of a family end here.
    pub(crate) fn end_of_rib(&mut self, family: Family) {
        self.queue.push_back(Item::EndOfRib(family));
    }

    /// Nothing is left to be told.
    pub(crate) fn is_settled(&self) -> bool {
        self.queue.is_empty() && self.dirty.is_empty()
    }

    /// The next messages: until they are `budget` octets or the queue is empty. Also how many messages these are.
    pub(crate) fn messages(&mut self, context: &Context, budget: usize) -> (Vec<u8>, u64) {
        let mut out = Vec::new();
        let mut count = 0;
        while out.len() < budget {
            let Some(item) = self.queue.pop_front() else {
                break;
            };
            match item {
                Item::EndOfRib(family) => {
                    out.extend(end_of_rib(family));
                    count += 1;
                }
                Item::Withdraw(family, mut prefixes) => {
                    let rest = prefixes.split_off(prefixes.len().min(WITHDRAWN_AT_ONCE));
                    if !rest.is_empty() {
                        self.queue.push_front(Item::Withdraw(family, rest));
                    }
                    withdraw(family, &prefixes, context, &mut out);
                    count += 1;
                }
                Item::Announce(family, attributes, prefixes) => {
                    let Ok(mut announcement) = Announcement::new(family, &attributes, context)
                    else {
                        // It cannot be told, so it must not be known in an older form either.
                        for prefix in &prefixes {
                            if self.sent.remove(prefix).is_some() {
                                self.counts[family as usize] -= 1;
                            }
                        }
                        self.queue.push_front(Item::Withdraw(family, prefixes));
                        continue;
                    };
                    let mut at = 0;
                    while at < prefixes.len() && out.len() < budget {
                        at += announcement.message(&prefixes[at..], &mut out);
                        count += 1;
                    }
                    if at < prefixes.len() {
                        self.queue.push_front(Item::Announce(
                            family,
                            attributes,
                            prefixes[at..].to_vec(),
                        ));
                    }
                }
            }
        }
        (out, count)
    }

    /// What the peer knows.
    pub(crate) fn sent(&self) -> impl Iterator<Item = (&IpNet, &Arc<Attributes>)> {
        self.sent
            .iter()
            .filter_map(|(prefix, attributes)| Some((prefix, attributes.as_ref()?)))
    }

    /// The peer knows something about a prefix.
    pub(crate) fn knows(&self, prefix: &IpNet) -> bool {
        self.sent.contains_key(prefix)
    }

    /// Nothing has changed that is not in the queue.
    pub(crate) fn is_grouped(&self) -> bool {
        self.dirty.is_empty()
    }

    /// How many routes of a family the peer knows.
    pub(crate) fn count(&self, family: Family) -> usize {
        self.counts[family as usize]
    }
}

/// So many IPv6 host prefixes stay below 4,096 octets.
const WITHDRAWN_AT_ONCE: usize = 230;

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{AsPath, Framer, MAX_LEN, Update};

    #[test]
    fn one_update_for_each_attribute_set() {
        let mut out = AdjOut::default();
        let sets: Vec<_> = (0..10).map(attributes).collect();
        let prefixes: Vec<IpNet> = (0..1000).map(prefix).collect();
        out.mark(prefixes.iter().copied());
        out.group(|prefix| {
            let at = prefixes.iter().position(|other| other == prefix).unwrap();
            Some(Arc::clone(&sets[at / 2 % 10]))
        });
        let (_, count) = out.messages(&context(), usize::MAX);
        assert_eq!(count, 20, "ten sets in two families");
        assert_eq!(
            (
                out.count(Family::Ipv4Unicast),
                out.count(Family::Ipv6Unicast)
            ),
            (500, 500)
        );
    }

    #[test]
    fn attributes_too_long_for_the_peer_withdraw_the_route() {
        let mut out = AdjOut::default();
        let short = attributes(0);
        let mut long = (*short).clone();
        long.communities = (0..2000).collect();
        let long = Arc::new(long);
        let mut peer = Peer::default();
        for told in [short, long] {
            out.mark([prefix(0)]);
            out.group(|_| Some(Arc::clone(&told)));
            peer.hear(&out.messages(&context(), usize::MAX).0);
        }
        assert!(peer.routes.is_empty());
        assert_eq!((out.sent().count(), out.count(Family::Ipv4Unicast)), (0, 0));
    }

    proptest! {
        #[test]
        fn a_peer_that_reads_slowly_ends_with_the_last_words(
            steps in vec((vec((0u32..12, prop::option::of(0u32..4)), 0..8), 0usize..3, any::<bool>()), 1..20),
        ) {
            let sets: Vec<_> = (0..4).map(attributes).collect();
            let mut wanted: BTreeMap<IpNet, usize> = BTreeMap::new();
            let (mut out, mut peer) = (AdjOut::default(), Peer::default());
            for (changes, reads, refresh) in steps {
                for (index, set) in changes {
                    match set {
                        Some(set) => wanted.insert(prefix(index), set as usize),
                        None => wanted.remove(&prefix(index)),
                    };
                    out.mark([prefix(index)]);
                }
                let told = |prefix: &IpNet| wanted.get(prefix).map(|&set| Arc::clone(&sets[set]));
                if refresh {
                    out.forget(Family::Ipv4Unicast);
                }
                for _ in 0..reads {
                    out.group(told);
                    peer.hear(&out.messages(&context(), 1).0);
                }
            }
            while !out.is_settled() {
                out.group(|prefix| wanted.get(prefix).map(|&set| Arc::clone(&sets[set])));
                peer.hear(&out.messages(&context(), 1).0);
            }
            let known: Vec<_> = peer.routes.iter().map(|(prefix, med)| (*prefix, *med as usize)).collect();
            prop_assert_eq!(known, wanted.iter().map(|(prefix, set)| (*prefix, *set)).collect::<Vec<_>>());
            prop_assert_eq!(out.sent().count(), wanted.len());
            let counted: usize = Family::ALL.into_iter().map(|family| out.count(family)).sum();
            prop_assert_eq!(counted, wanted.len());
        }
    }

    /// What a peer makes of the messages: the MED stands for the attribute set.
    #[derive(Default)]
    struct Peer {
        routes: BTreeMap<IpNet, u32>,
    }

    impl Peer {
        fn hear(&mut self, bytes: &[u8]) {
            let mut framer = Framer::default();
            framer.push(bytes);
            while let Some(frame) = framer.next_frame().unwrap() {
                let update = Update::decode(frame.body, &context()).unwrap();
                for prefix in update.withdrawn {
                    self.routes.remove(&prefix);
                }
                for (attributes, prefixes) in update.announced {
                    self.routes.extend(
                        prefixes
                            .into_iter()
                            .map(|prefix| (prefix, attributes.med.unwrap())),
                    );
                }
            }
        }
    }

    fn prefix(index: u32) -> IpNet {
        match index % 2 {
            0 => ipnet::Ipv4Net::new((0x0a00_0000 + (index << 8)).into(), 24)
                .unwrap()
                .into(),
            _ => ipnet::Ipv6Net::new((0xfd00 << 112 | u128::from(index) << 64).into(), 64)
                .unwrap()
                .into(),
        }
    }

    /// An IPv6 next hop for both families keeps the sets few.
    fn attributes(med: u32) -> Arc<Attributes> {
        let mut attributes = Attributes::new("2001:db8::1".parse::<IpAddr>().unwrap().into());
        attributes.as_path = AsPath::sequence(&[65001]);
        attributes.med = Some(med);
        Arc::new(attributes)
    }

    fn context() -> Context {
        Context {
            families: Family::ALL.into(),
            four_octet_as: true,
            extended_next_hop: true,
            ibgp: false,
            max_len: MAX_LEN,
        }
    }
}
