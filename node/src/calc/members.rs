//! Who belongs to what rules ask for: endpoints and network sets against selectors and named ports.
//!
//! Items with labels meet the selectors of active rules; what starts or stops to hold goes to [`Nets`] as atoms of the item.
//! Named ports follow the same matches: a port's value is known as soon as one selected endpoint has it, and whoever asked for
//! the name is told when the set of values changes.

use std::collections::{BTreeMap, BTreeSet};

use cleat_datastore::Key;
use cleat_datastore::label_index::{Change, LabelIndex};
use cleat_datastore::selector::Selector;

use super::atoms::{Atom, AtomId, AtomSet, Atoms};
use super::nets::{Nets, Source};

/// The number of an item.
pub(crate) type ItemId = u32;

/// A port with a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NamedPort {
    pub(crate) name: String,
    pub(crate) protocol: u8,
    pub(crate) port: u16,
}

/// A policy or a profile, by key: whoever compiles rules.
pub(crate) type Asker = Key;

#[derive(Default)]
pub(crate) struct Members {
    index: LabelIndex<ItemId, Selector>,
    atoms: Atoms,
    /// The named ports of every item.
    items: BTreeMap<ItemId, BTreeSet<NamedPort>>,
    selectors: BTreeMap<Selector, Selected>,
    /// Askers whose named ports have other values now.
    told: BTreeSet<Asker>,
}

/// A selector that somebody asks for.
#[derive(Default)]
struct Selected {
    atom: Option<AtomId>,
    names: BTreeMap<String, Watched>,
}

/// A port name asked for among a selector's items.
#[derive(Default)]
struct Watched {
    askers: BTreeSet<Asker>,
    values: BTreeMap<(u8, u16), Value>,
}

#[derive(Default)]
struct Value {
    atom: Option<AtomId>,
    items: BTreeSet<ItemId>,
}

impl Members {
    /// Adds or changes an item.
    pub(crate) fn set_item(
        &mut self,
        id: ItemId,
        labels: BTreeMap<String, String>,
        parents: Vec<String>,
        ports: &BTreeSet<NamedPort>,
        nets: &mut Nets,
    ) {
        if self.items.get(&id).is_none_or(|before| before != ports) {
            let selecting: Vec<Selector> = self.index.selectors_of(&id).cloned().collect();
            let before = self.items.insert(id, ports.clone()).unwrap_or_default();
            for selector in &selecting {
                self.change_ports(selector, id, &before, false, nets);
                self.change_ports(selector, id, ports, true, nets);
            }
        }
        let changes = self.index.set_item(id, labels, parents);
        self.follow(changes, nets);
    }

    /// Removes an item.
    pub(crate) fn remove_item(&mut self, id: ItemId, nets: &mut Nets) {
        let changes = self.index.remove_item(&id);
        self.follow(changes, nets);
        self.items.remove(&id);
    }

    /// Sets the labels that a profile gives to its items.
    pub(crate) fn set_parent(
        &mut self,
        name: &str,
        labels: BTreeMap<String, String>,
        nets: &mut Nets,
    ) {
        let changes = self.index.set_parent(name, labels);
        self.follow(changes, nets);
    }

    /// The askers whose named ports have other values since the last call.
    pub(crate) fn told(&mut self) -> BTreeSet<Asker> {
        std::mem::take(&mut self.told)
    }

    /// The number of an atom, which lives until it is released and [`forget`](Self::forget) was called.
    pub(crate) fn take(&mut self, atom: &Atom, nets: &mut Nets) -> AtomId {
        let (id, new) = self.atoms.take(atom);
        if new {
            match atom {
                Atom::Selector(selector) => {
                    self.watch(selector, nets);
                    if let Some(selected) = self.selectors.get_mut(selector) {
                        selected.atom = Some(id);
                    }
                    for item in self.index.items_of(selector) {
                        nets.set_atom(Source::Item(*item), id, true);
                    }
                }
                Atom::Nets(prefixes) => nets.set_prefixes(Source::Nets(id), prefixes.clone()),
                Atom::NamedPort {
                    selector,
                    name,
                    protocol,
                    port,
                } => {
                    self.watch(selector, nets);
                    let watched = self
                        .selectors
                        .entry(selector.clone())
                        .or_default()
                        .names
                        .entry(name.clone())
                        .or_default();
                    let value = watched.values.entry((*protocol, *port)).or_default();
                    value.atom = Some(id);
                    for item in &value.items {
                        nets.set_atom(Source::Item(*item), id, true);
                    }
                }
            }
        }
        id
    }

    /// One user less of an atom.
    pub(crate) fn release(&mut self, id: AtomId) {
        self.atoms.release(id);
    }

    /// The values that ports of this name have among the selector's items. `asker` is told when they change, until it
    /// [leaves](Self::leave).
    pub(crate) fn named_ports(
        &mut self,
        selector: &Selector,
        name: &str,
        asker: &Asker,
        nets: &mut Nets,
    ) -> BTreeSet<(u8, u16)> {
        self.watch(selector, nets);
        let selected = self.selectors.entry(selector.clone()).or_default();
        if !selected.names.contains_key(name) {
            let mut values: BTreeMap<(u8, u16), Value> = BTreeMap::new();
            for id in self.index.items_of(selector) {
                for port in self
                    .items
                    .get(id)
                    .into_iter()
                    .flatten()
                    .filter(|port| port.name == name)
                {
                    values
                        .entry((port.protocol, port.port))
                        .or_default()
                        .items
                        .insert(*id);
                }
            }
            selected.names.insert(
                name.to_owned(),
                Watched {
                    askers: BTreeSet::new(),
                    values,
                },
            );
        }
        let watched = selected.names.entry(name.to_owned()).or_default();
        watched.askers.insert(asker.clone());
        watched
            .values
            .iter()
            .filter(|(_, value)| !value.items.is_empty())
            .map(|(value, _)| *value)
            .collect()
    }

    /// `asker` no longer wants to be told of this name.
    pub(crate) fn leave(&mut self, selector: &Selector, name: &str, asker: &Asker) {
        let Some(selected) = self.selectors.get_mut(selector) else {
            return;
        };
        if let Some(watched) = selected.names.get_mut(name) {
            watched.askers.remove(asker);
        }
        self.tidy(selector);
    }

    /// Removes atoms that nobody asks for any more; says whether there were any.
    pub(crate) fn forget(&mut self, nets: &mut Nets) -> bool {
        let gone = self.atoms.forget();
        for (id, atom) in &gone {
            match atom {
                Atom::Selector(selector) => {
                    if let Some(selected) = self.selectors.get_mut(selector) {
                        selected.atom = None;
                    }
                    for item in self.index.items_of(selector) {
                        nets.set_atom(Source::Item(*item), *id, false);
                    }
                    self.tidy(selector);
                }
                Atom::Nets(_) => nets.set_prefixes(Source::Nets(*id), BTreeSet::new()),
                Atom::NamedPort {
                    selector,
                    name,
                    protocol,
                    port,
                } => {
                    let watched = self
                        .selectors
                        .get_mut(selector)
                        .and_then(|selected| selected.names.get_mut(name));
                    if let Some(value) =
                        watched.and_then(|watched| watched.values.get_mut(&(*protocol, *port)))
                    {
                        value.atom = None;
                        for item in &value.items {
                            nets.set_atom(Source::Item(*item), *id, false);
                        }
                    }
                    self.tidy(selector);
                }
            }
        }
        !gone.is_empty()
    }

    /// Whether [`forget`](Self::forget) would find something.
    pub(crate) fn has_unused(&self) -> bool {
        self.atoms.has_unused()
    }

    /// The spellings of a set of atoms, sorted: the same in every process.
    pub(crate) fn spell(&self, atoms: &AtomSet) -> Vec<String> {
        let mut spelled: Vec<String> = atoms
            .iter()
            .filter_map(|&id| self.atoms.get(id))
            .map(ToString::to_string)
            .collect();
        spelled.sort_unstable();
        spelled
    }

    /// How many atoms there are.
    pub(crate) fn atoms(&self) -> usize {
        self.atoms.len()
    }

    fn watch(&mut self, selector: &Selector, nets: &mut Nets) {
        if !self.selectors.contains_key(selector) {
            self.selectors.insert(selector.clone(), Selected::default());
            let changes = self.index.set_selector(selector.clone(), selector);
            self.follow(changes, nets);
        }
    }

    fn follow(&mut self, changes: Vec<Change<ItemId, Selector>>, nets: &mut Nets) {
        for Change {
            selector,
            item,
            matches,
        } in changes
        {
            let Some(selected) = self.selectors.get(&selector) else {
                continue;
            };
            if let Some(atom) = selected.atom {
                nets.set_atom(Source::Item(item), atom, matches);
            }
            if !selected.names.is_empty()
                && let Some(ports) = self.items.get(&item).cloned()
            {
                self.change_ports(&selector, item, &ports, matches, nets);
            }
        }
    }

    /// Drops what of a selector nobody needs.
    fn tidy(&mut self, selector: &Selector) {
        let Some(selected) = self.selectors.get_mut(selector) else {
            return;
        };
        selected.names.retain(|_, watched| {
            watched
                .values
                .retain(|_, value| value.atom.is_some() || !value.items.is_empty());
            !watched.askers.is_empty() || watched.values.values().any(|value| value.atom.is_some())
        });
        if selected.atom.is_none() && selected.names.is_empty() {
            self.selectors.remove(selector);
            self.index.remove_selector(selector);
        }
    }

    /// An item with these ports starts or stops to count among a selector's.
    fn change_ports(
        &mut self,
        selector: &Selector,
        id: ItemId,
        ports: &BTreeSet<NamedPort>,
        counts: bool,
        nets: &mut Nets,
    ) {
        let Some(selected) = self.selectors.get_mut(selector) else {
            return;
        };
        for port in ports {
            let Some(watched) = selected.names.get_mut(&port.name) else {
                continue;
            };
            let value = watched
                .values
                .entry((port.protocol, port.port))
                .or_default();
            let was_empty = value.items.is_empty();
            let changed = if counts {
                value.items.insert(id)
            } else {
                value.items.remove(&id)
            };
            if was_empty != value.items.is_empty() {
                self.told.extend(watched.askers.iter().cloned());
            }
            if changed && let Some(atom) = value.atom {
                nets.set_atom(Source::Item(id), atom, counts);
            }
        }
    }
}
