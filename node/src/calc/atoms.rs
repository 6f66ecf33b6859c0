//! Atoms: whatever a rule may ask of an address.
//!
//! An atom lives from the first rule that asks for it until [`Atoms::forget`] after the last one is gone: while a policy that
//! asks is still in the kernel, its addresses keep the atom, so that no packet meets old policy with new membership.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cleat_datastore::selector::Selector;
use ipnet::IpNet;

/// The number of an atom in this process; never given twice.
pub type AtomId = u32;

/// The atoms of an address, ascending.
pub type AtomSet = Arc<[AtomId]>;

/// What a rule may ask of an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    /// It belongs to an endpoint or to a network set that this selects.
    Selector(Selector),
    /// One of these prefixes contains it.
    Nets(BTreeSet<IpNet>),
    /// An endpoint that the selector selects has this address, and a port of this name, which is that protocol's and number.
    NamedPort {
        /// Which endpoints count.
        selector: Selector,
        /// The port's name.
        name: String,
        /// Its IP protocol.
        protocol: u8,
        /// Its number.
        port: u16,
    },
}

/// A conjunction over the atoms of one address.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expr {
    /// Atoms that must hold, ascending.
    pub all: Vec<AtomId>,
    /// Atoms that must not, ascending.
    pub none: Vec<AtomId>,
}

impl Expr {
    /// Whether it holds for an address with these atoms.
    pub fn holds(&self, atoms: &[AtomId]) -> bool {
        self.all
            .iter()
            .all(|atom| atoms.binary_search(atom).is_ok())
            && self
                .none
                .iter()
                .all(|atom| atoms.binary_search(atom).is_err())
    }

    /// Whether it asks nothing.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && self.none.is_empty()
    }

    /// Adds what must hold.
    #[must_use]
    pub fn and(mut self, atom: AtomId, holds: bool) -> Self {
        let list = if holds { &mut self.all } else { &mut self.none };
        if let Err(place) = list.binary_search(&atom) {
            list.insert(place, atom);
        }
        self
    }

    /// All atoms it asks for.
    pub fn atoms(&self) -> impl Iterator<Item = AtomId> {
        self.all.iter().chain(&self.none).copied()
    }
}

/// The atoms that rules ask for, with their users counted.
#[derive(Debug, Default)]
pub(crate) struct Atoms {
    ids: BTreeMap<Atom, AtomId>,
    known: BTreeMap<AtomId, Known>,
    unused: BTreeSet<AtomId>,
    next: AtomId,
}

#[derive(Debug)]
struct Known {
    atom: Atom,
    users: usize,
}

impl Atoms {
    /// The id of `atom` for one more user, and whether it is new.
    pub(crate) fn take(&mut self, atom: &Atom) -> (AtomId, bool) {
        if let Some(&id) = self.ids.get(atom) {
            if let Some(known) = self.known.get_mut(&id) {
                known.users += 1;
            }
            self.unused.remove(&id);
            return (id, false);
        }
        let id = self.next;
        self.next += 1;
        self.ids.insert(atom.clone(), id);
        self.known.insert(
            id,
            Known {
                atom: atom.clone(),
                users: 1,
            },
        );
        (id, true)
    }

    /// One user less. The atom stays until [`forget`](Self::forget).
    pub(crate) fn release(&mut self, id: AtomId) {
        if let Some(known) = self.known.get_mut(&id) {
            known.users = known.users.saturating_sub(1);
            if known.users == 0 {
                self.unused.insert(id);
            }
        }
    }

    /// Removes the atoms nobody asks for any more and returns them.
    pub(crate) fn forget(&mut self) -> Vec<(AtomId, Atom)> {
        let mut gone = Vec::new();
        while let Some(id) = self.unused.pop_first() {
            if let Some(known) = self.known.remove(&id) {
                self.ids.remove(&known.atom);
                gone.push((id, known.atom));
            }
        }
        gone
    }

    /// Whether there is anything to forget.
    pub(crate) fn has_unused(&self) -> bool {
        !self.unused.is_empty()
    }

    pub(crate) fn get(&self, id: AtomId) -> Option<&Atom> {
        self.known.get(&id).map(|known| &known.atom)
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}

impl std::fmt::Display for Atom {
    /// One spelling for one atom, in every process: names of classes are made of it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Selector(selector) => f.write_str(selector.canonical()),
            Self::Nets(nets) => {
                let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
                f.write_str(&nets.join(","))
            }
            Self::NamedPort {
                selector,
                name,
                protocol,
                port,
            } => write!(
                f,
                "port {name} = {protocol}:{port} of {}",
                selector.canonical()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_atom_outlives_its_last_user_until_it_is_forgotten() {
        let mut atoms = Atoms::default();
        let atom = Atom::Nets(["10.0.0.0/8".parse().unwrap()].into());
        let (first, new) = atoms.take(&atom);
        assert!(new);
        assert_eq!(atoms.take(&atom), (first, false));
        atoms.release(first);
        assert!(atoms.forget().is_empty(), "one user is left");
        atoms.release(first);
        assert_eq!(
            atoms.take(&atom),
            (first, false),
            "taken again before it was forgotten"
        );
        atoms.release(first);
        assert_eq!(atoms.forget(), [(first, atom.clone())]);
        assert_ne!(atoms.take(&atom).0, first, "ids are not given twice");
    }

    #[test]
    fn an_expression_wants_all_of_these_and_none_of_those() {
        let expr = Expr::default().and(3, true).and(1, true).and(2, false);
        for (atoms, holds) in [
            (&[1, 3][..], true),
            (&[1, 3, 9], true),
            (&[1, 2, 3], false),
            (&[1], false),
            (&[], false),
        ] {
            assert_eq!(expr.holds(atoms), holds, "{atoms:?}");
        }
        assert!(Expr::default().holds(&[]));
    }
}
