//! The decision process (RFC 4271 §9.1.2): which of the paths to a prefix is best, which share the load, and why.
//!
//! Each step removes from the set of candidates what is worse than another one in it. Working on the set and not on
//! pairs makes the result independent of the order of arrival even with MED, which orders only some pairs.
//! RFC 4271 §9.1.2.2, RFC 4456 §9, RFC 5065 §5.3 (length). Left out: the interior cost of a next hop, which is the same
//! for all on a host without an IGP.

use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;
use smallvec::SmallVec;

use crate::config::Multipath;
use crate::wire::Attributes;

/// A path that may become best.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its attributes.
    pub attributes: &'a Attributes,
    /// Where it comes from.
    pub source: &'a Source,
}

/// Where paths come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// By which kind of session.
    pub kind: SourceKind,
    /// The peer's BGP identifier.
    pub router_id: Ipv4Addr,
    /// The peer's address.
    pub address: IpAddr,
}

/// The kinds of sources, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceKind {
    /// Originated by this speaker.
    Local,
    /// An eBGP peer.
    External,
    /// An iBGP peer.
    Internal,
}

/// The step that separates two paths to a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// There is no other path.
    OnlyPath,
    /// One is originated here.
    Local,
    /// The higher LOCAL_PREF.
    LocalPref,
    /// The shorter AS_PATH.
    AsPathLength,
    /// The lower ORIGIN.
    Origin,
    /// The lower MULTI_EXIT_DISC from the same neighbour AS.
    Med,
    /// eBGP before iBGP.
    External,
    /// The lower BGP identifier, or ORIGINATOR_ID.
    RouterId,
    /// The shorter CLUSTER_LIST.
    ClusterListLength,
    /// The lower address of the peer.
    PeerAddress,
}

/// What was decided, by the candidates' positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The best path.
    pub best: usize,
    /// The step that left only the best.
    pub reason: Reason,
    /// For each candidate: it is the best, or shares the load with it.
    pub multipath: SmallVec<[bool; 4]>,
    /// For each candidate but the best: the step that removed it.
    pub removed_by: SmallVec<[Option<Reason>; 4]>,
}

/// Decides; `None` if there is nothing to decide about.
pub fn decide(candidates: &[Candidate<'_>], multipath: Multipath) -> Option<Decision> {
    let mut set = Set {
        candidates,
        removed_by: SmallVec::from_elem(None, candidates.len()),
        left: candidates.len(),
        reason: Reason::OnlyPath,
    };
    set.keep_least(Reason::Local, |path| path.source.kind != SourceKind::Local);
    set.keep_least(Reason::LocalPref, |path| {
        std::cmp::Reverse(local_pref(path.attributes))
    });
    set.keep_least(Reason::AsPathLength, |path| {
        path.attributes.as_path.path_len()
    });
    set.keep_least(Reason::Origin, |path| path.attributes.origin);
    set.keep_least_med();
    set.keep_least(Reason::External, |path| path.source.kind);
    // What is left is equally far away. The steps below only break ties.
    let equal: SmallVec<[bool; 4]> = set.removed_by.iter().map(Option::is_none).collect();
    set.keep_least(Reason::RouterId, |path| {
        path.attributes
            .originator_id
            .unwrap_or(path.source.router_id)
    });
    set.keep_least(Reason::ClusterListLength, |path| {
        path.attributes.cluster_list.len()
    });
    set.keep_least(Reason::PeerAddress, |path| path.source.address);

    let best = set.removed_by.iter().position(Option::is_none)?;
    Some(Decision {
        best,
        reason: set.reason,
        multipath: choose_multipath(candidates, &equal, best, multipath),
        removed_by: set.removed_by,
    })
}

/// A path's LOCAL_PREF. Routes from outside have none; everyone's default is 100.
pub fn local_pref(attributes: &Attributes) -> u32 {
    attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF)
}

/// Which of the equal paths share the load: the best, and then others by their peer's address, so that the choice
/// among too many does not depend on their order.
fn choose_multipath(
    candidates: &[Candidate<'_>],
    equal: &[bool],
    best: usize,
    multipath: Multipath,
) -> SmallVec<[bool; 4]> {
    let mut chosen = SmallVec::from_elem(false, candidates.len());
    chosen[best] = true;
    let best_path = &candidates[best].attributes.as_path;
    let mut others: SmallVec<[usize; 4]> = (0..candidates.len())
        .filter(|&index| index != best && equal[index])
        .filter(|&index| multipath.relax || candidates[index].attributes.as_path == *best_path)
        .collect();
    let room = usize::from(multipath.max_paths.max(1)) - 1;
    if others.len() > room {
        others.sort_by_key(|&index| candidates[index].source.address);
        others.truncate(room);
    }
    for index in others {
        chosen[index] = true;
    }
    chosen
}

struct Set<'a> {
    candidates: &'a [Candidate<'a>],
    removed_by: SmallVec<[Option<Reason>; 4]>,
    left: usize,
    reason: Reason,
}

impl Set<'_> {
    fn keep_least<K: Ord>(&mut self, reason: Reason, key: impl Fn(&Candidate<'_>) -> K) {
        if self.left < 2 {
            return;
        }
        let Some(least) = self
            .remaining()
            .map(|index| key(&self.candidates[index]))
            .min()
        else {
            return;
        };
        self.remove_where(reason, |set, index| key(&set.candidates[index]) > least);
    }

    /// Removes what another remaining path from the same neighbour AS beats (RFC 4271 §9.1.2.2 c).
    fn keep_least_med(&mut self) {
        if self.left < 2 {
            return;
        }
        let key = |path: &Candidate<'_>| {
            (
                path.attributes.as_path.first_as(),
                path.attributes.med.unwrap_or(0),
            )
        };
        let keys: SmallVec<[_; 4]> = self
            .remaining()
            .map(|index| key(&self.candidates[index]))
            .collect();
        self.remove_where(Reason::Med, |set, index| {
            let (neighbour, med) = key(&set.candidates[index]);
            keys.iter()
                .any(|&(other, other_med)| other == neighbour && other_med < med)
        });
    }

    fn remove_where(&mut self, reason: Reason, worse: impl Fn(&Self, usize) -> bool) {
        let losers: SmallVec<[usize; 4]> = self
            .remaining()
            .filter(|&index| worse(self, index))
            .collect();
        for index in losers {
            self.removed_by[index] = Some(reason);
            self.left -= 1;
            self.reason = reason;
        }
    }

    fn remaining(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.candidates.len()).filter(|&index| self.removed_by[index].is_none())
    }
}

/// What LOCAL_PREF is where nothing says otherwise.
pub const DEFAULT_LOCAL_PREF: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{AsPath, OriginCode};

    #[test]
    fn each_step_decides_when_all_before_it_are_equal() {
        // Each row makes the second path better than the first one in exactly this step, worse in all later ones.
        type Change = fn(&mut Attributes, &mut Source);
        let steps: [(Reason, Change); 9] = [
            (Reason::Local, |_, source| source.kind = SourceKind::Local),
            (Reason::LocalPref, |attributes, _| {
                attributes.local_pref = Some(101);
            }),
            (Reason::AsPathLength, |attributes, _| {
                attributes.as_path = AsPath::sequence(&[65001]);
            }),
            (Reason::Origin, |attributes, _| {
                attributes.origin = OriginCode::Igp;
            }),
            (Reason::Med, |attributes, _| attributes.med = Some(9)),
            (Reason::External, |_, source| {
                source.kind = SourceKind::External;
            }),
            (Reason::RouterId, |_, source| {
                source.router_id = Ipv4Addr::new(1, 1, 1, 1);
            }),
            (Reason::ClusterListLength, |attributes, _| {
                attributes.cluster_list = Box::default();
            }),
            (Reason::PeerAddress, |_, source| {
                source.address = [192, 0, 2, 1].into();
            }),
        ];
        for (step, (reason, _)) in steps.iter().enumerate() {
            let (mut good, mut good_source) = path();
            let (mut bad, mut bad_source) = path();
            for (later, (_, improve)) in steps.iter().enumerate() {
                match later.cmp(&step) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => improve(&mut good, &mut good_source),
                    std::cmp::Ordering::Greater => improve(&mut bad, &mut bad_source),
                }
            }
            if *reason == Reason::Local {
                bad_source.kind = SourceKind::External;
            }
            let candidates = [
                Candidate {
                    attributes: &bad,
                    source: &bad_source,
                },
                Candidate {
                    attributes: &good,
                    source: &good_source,
                },
            ];
            let decision = decide(&candidates, Multipath::default()).unwrap();
            assert_eq!((decision.best, decision.reason), (1, *reason));
            assert_eq!(decision.removed_by[..], [Some(*reason), None]);
            let ties = [
                Reason::RouterId,
                Reason::ClusterListLength,
                Reason::PeerAddress,
            ];
            assert_eq!(
                decision.multipath[0],
                ties.contains(reason),
                "{reason:?}: only ties share the load"
            );
        }
    }

    #[test]
    fn med_is_compared_only_between_paths_of_one_neighbour() {
        // Pairwise, A beats B (id), B beats C (id), C beats A (MED): only the set has a best.
        let make = |neighbour: u32, med: u32, id: u8| {
            let (mut attributes, mut source) = path();
            attributes.as_path = AsPath::sequence(&[neighbour, 7]);
            attributes.med = Some(med);
            source.router_id = Ipv4Addr::new(id, 0, 0, 0);
            source.address = [192, 0, 2, id].into();
            (attributes, source)
        };
        let paths = [make(1, 20, 1), make(2, 0, 2), make(1, 10, 3)];
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let candidates = order.map(|index| Candidate {
                attributes: &paths[index].0,
                source: &paths[index].1,
            });
            let decision = decide(&candidates, Multipath::default()).unwrap();
            assert_eq!(order[decision.best], 1, "{order:?}");
            assert_eq!(decision.reason, Reason::RouterId);
        }
    }

    #[test]
    fn different_paths_of_equal_length_share_the_load_only_when_relaxed() {
        let (mut one, one_source) = path();
        let (mut two, mut two_source) = path();
        two_source.address = [192, 0, 2, 10].into();
        one.as_path = AsPath::sequence(&[65001, 7]);
        two.as_path = AsPath::sequence(&[65002, 7]);
        let candidates = [
            Candidate {
                attributes: &one,
                source: &one_source,
            },
            Candidate {
                attributes: &two,
                source: &two_source,
            },
        ];
        for (relax, max_paths, expected) in [
            (true, 16, true),
            (false, 16, false),
            (true, 1, false),
            (true, 0, false),
        ] {
            let decision = decide(&candidates, Multipath { max_paths, relax }).unwrap();
            assert_eq!(decision.best, 0);
            assert_eq!(decision.multipath[1], expected, "{relax} {max_paths}");
        }
        two.as_path = AsPath::sequence(&[65001, 7]);
        let candidates = [
            Candidate {
                attributes: &one,
                source: &one_source,
            },
            Candidate {
                attributes: &two,
                source: &two_source,
            },
        ];
        assert!(
            decide(
                &candidates,
                Multipath {
                    max_paths: 2,
                    relax: false
                }
            )
            .unwrap()
            .multipath[1]
        );
    }

    fn path() -> (Attributes, Source) {
        let mut attributes = Attributes::new(IpAddr::from([192, 0, 2, 9]).into());
        attributes.as_path = AsPath::sequence(&[65001, 7]);
        attributes.origin = OriginCode::Incomplete;
        attributes.med = Some(10);
        attributes.cluster_list = [Ipv4Addr::new(1, 2, 3, 4)].into();
        let source = Source {
            kind: SourceKind::Internal,
            router_id: Ipv4Addr::new(9, 9, 9, 9),
            address: [192, 0, 2, 9].into(),
        };
        (attributes, source)
    }
}
