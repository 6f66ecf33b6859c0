//! How far each watch of a store has come, and whether that is far enough.
//!
//! A store replays each watch on its own, at most so many revisions at a time: what one watch has seen says
//! nothing of the other, and an answer without events nothing of the events to come. What must have been
//! told is therefore found out by listing the keys at one revision.
//!
//! Pure: requests are the business of others.

use std::collections::BTreeSet;

use super::{is_optional, request::Point};
use crate::Key;

/// The watches of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// What Calico's components share.
    Calico,
    /// What is cleat's own.
    Own,
}

impl Side {
    /// In the order in which they are asked for.
    pub(super) const ALL: [Side; 2] = [Side::Calico, Side::Own];

    pub(super) fn watch_id(self) -> i64 {
        match self {
            Side::Calico => 1,
            Side::Own => 2,
        }
    }

    pub(super) fn of_watch(id: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|side| side.watch_id() == id)
    }

    pub(super) fn of(key: &Key) -> Self {
        match key.kind() {
            Some(kind) if is_optional(&kind.prefix()) => Side::Own,
            _ => Side::Calico,
        }
    }
}

/// Whom a store means that refuses a watch: since 3.5 it gives the id -1, whatever was asked for. It answers
/// in the order in which it was asked.
pub(super) fn refused(id: i64, reason: &str, created: &[Side]) -> Option<Side> {
    if !reason.contains("permission denied") {
        return None;
    }
    let outstanding = || Side::ALL.into_iter().find(|side| !created.contains(side));
    match id {
        -1 => outstanding(),
        id => Side::of_watch(id),
    }
}

/// The revision up to which each watch has told everything, in one life of one store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) cluster: u64,
    /// Of its elections.
    pub(super) term: u64,
    revisions: [i64; 2],
}

impl Seen {
    /// All that a listing had.
    pub(super) fn listed(point: Point) -> Self {
        Self {
            cluster: point.cluster,
            term: point.term,
            revisions: [point.revision; 2],
        }
    }

    pub(super) fn revision(&self, side: Side) -> i64 {
        self.revisions[side as usize]
    }

    pub(super) fn newest(&self) -> i64 {
        self.revisions[0].max(self.revisions[1])
    }

    pub(super) fn reach(&mut self, side: Side, revision: i64) {
        let seen = &mut self.revisions[side as usize];
        *seen = revision.max(*seen);
    }
}

/// What must have been told before a reader has what the store had at a revision.
#[derive(Debug)]
pub(super) struct Goal {
    revision: i64,
    /// The last change of each side to what was still there.
    newest: [i64; 2],
    /// What was known and is not there.
    gone: BTreeSet<Key>,
}

impl Goal {
    /// The keys that are known in a state not younger than the revision; those of the listing follow.
    pub(super) fn new(revision: i64, known: BTreeSet<Key>) -> Self {
        Self {
            revision,
            newest: [0; 2],
            gone: known,
        }
    }

    /// The listing has this key, last changed at this revision.
    pub(super) fn list(&mut self, key: &Key, revision: i64) {
        self.gone.remove(key);
        let newest = &mut self.newest[Side::of(key) as usize];
        *newest = revision.max(*newest);
    }

    /// Nothing can be told of this side.
    pub(super) fn leave_out(&mut self, side: Side) {
        self.newest[side as usize] = 0;
        self.gone.retain(|key| Side::of(key) != side);
    }

    /// Whether all has been told. A side that has told its part has come as far as the listing.
    pub(super) fn is_reached(
        &mut self,
        seen: &mut Seen,
        is_known: impl Fn(&Key, u64) -> bool,
    ) -> bool {
        self.gone
            .retain(|key| is_known(key, self.revision.unsigned_abs()));
        let mut reached = true;
        for side in Side::ALL {
            let waits = seen.revision(side) < self.newest[side as usize]
                || self.gone.iter().any(|key| Side::of(key) == side);
            if waits {
                reached = false;
            } else {
                seen.reach(side, self.revision);
            }
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn a_watch_that_is_ahead_takes_none_along() {
        let mut seen = listed(10);
        let mut goal = Goal::new(9500, BTreeSet::new());
        goal.list(&policy("late"), 8999);
        goal.list(&service("s"), 9000);
        // The Service comes at once, the first thousand revisions of the policies with it.
        seen.reach(Side::Own, 9000);
        seen.reach(Side::Calico, 2000);
        assert!(!goal.is_reached(&mut seen, |_, _| true));
        // Cut off here, each is resumed from where it was.
        assert_eq!(seen.revision(Side::Calico), 2000);
        assert_eq!(seen.revision(Side::Own), 9500);
        assert_eq!(seen.newest(), 9500);
        seen.reach(Side::Calico, 8998);
        assert!(!goal.is_reached(&mut seen, |_, _| true));
        seen.reach(Side::Calico, 8999);
        assert!(goal.is_reached(&mut seen, |_, _| true));
        assert_eq!(seen.revision(Side::Calico), 9500);
    }

    #[test]
    fn a_deletion_that_is_to_come_is_waited_for() {
        let mut seen = listed(10);
        let known = BTreeSet::from([policy("kept"), policy("gone"), service("gone")]);
        let mut goal = Goal::new(30, known);
        goal.list(&policy("kept"), 5);
        assert!(!goal.is_reached(&mut seen, |_, up_to| up_to == 30));
        assert_eq!(seen.newest(), 10);
        // What was made anew later is known at a later revision, or at none: gone as it was.
        let is_service = |key: &Key, _| Side::of(key) == Side::Own;
        assert!(!goal.is_reached(&mut seen, is_service));
        assert_eq!(seen.revision(Side::Calico), 30);
        assert_eq!(seen.revision(Side::Own), 10);
        goal.leave_out(Side::Own);
        assert!(goal.is_reached(&mut seen, |_, _| true));
    }

    #[test]
    fn a_side_on_which_nothing_happened_has_come_along() {
        let mut seen = listed(10);
        let mut goal = Goal::new(7000, BTreeSet::from([policy("p")]));
        goal.list(&policy("p"), 10);
        assert!(goal.is_reached(&mut seen, |_, _| true));
        assert_eq!(Side::ALL.map(|side| seen.revision(side)), [7000, 7000]);
    }

    #[test]
    fn a_refusal_is_understood_from_old_and_new_servers() {
        let denied = "etcdserver: permission denied";
        let own = Some(Side::Own);
        assert_eq!(refused(2, denied, &[Side::Calico]), own);
        assert_eq!(refused(-1, denied, &[Side::Calico]), own);
        assert_eq!(refused(-1, denied, &[]), Some(Side::Calico));
        assert_eq!(refused(-1, denied, &Side::ALL), None);
        assert_eq!(refused(-1, "no leader", &[Side::Calico]), None);
        assert_eq!(refused(2, "no leader", &[Side::Calico]), None);
    }

    fn listed(revision: i64) -> Seen {
        Seen::listed(Point {
            cluster: 1,
            revision,
            term: 2,
        })
    }

    fn policy(name: &str) -> Key {
        Key::global(Kind::GlobalNetworkPolicy, name)
    }

    fn service(name: &str) -> Key {
        Key::namespaced(Kind::Service, "default", name)
    }
}
