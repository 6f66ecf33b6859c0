//! From the plan to map entries, in an order in which no packet meets half a change.
//!
//! ```text
//! Plan -> classes (atom sets to ids), blobs (lists to words), facts and interfaces (map entries)
//! apply: class hashes -> blobs learn new classes and new blobs are written -> interfaces follow rewritten blobs
//!        -> facts take the new classes -> interfaces take their new policy -> deletes, backward
//!        -> words and classes that nothing refers to are given back
//! ```
//!
//! A change of policy takes hold list by list: until an interface's entry is flipped its old list decides, and the old list
//! knows every class an address may carry. That holds because atoms of past lists stay until [`Render::is_settled`], when the
//! owner calls [`Graph::forget`](crate::calc::Graph::forget). A change of what an address is takes hold address by address.

mod classes;
mod facts;
mod lists;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cleat_bpf::maps::{Facts, FactsKind, Iface, IfaceKind, Macs};
use cleat_datastore::Problem;
use ipnet::IpNet;

use crate::calc::{Changes, Graph, ListId, Place, PolicyList};
use crate::reconcile::{Delta, Drift, Outcome, Pair, Stage, StageReport, Table};
use classes::Classes;
use lists::Lists;

pub use facts::{FactsKey, FactsTables};
pub use lists::Arena;

/// A network interface of this host as far as programs need to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub ifindex: u32,
    /// What is behind it.
    pub kind: IfaceKind,
    /// Its own MAC address.
    pub mac: [u8; 6],
    /// The MAC address behind it, where the kernel knows one.
    pub peer_mac: Option<[u8; 6]>,
    /// Its MTU.
    pub mtu: u32,
}

/// The tables of the data path.
pub struct Tables<F, I, C, A> {
    /// Address and prefix to facts.
    pub facts: F,
    /// Ifindex to interface.
    pub ifaces: I,
    /// Class id to hash.
    pub classes: C,
    /// The words of blobs.
    pub arena: A,
}

/// What is in the tables and what should be.
pub struct Render {
    classes: Classes,
    lists: Lists,
    links: BTreeMap<String, Link>,
    /// Where every prefix lives and its class.
    placed: BTreeMap<IpNet, (Place, u32)>,
    /// Prefixes that live behind an interface.
    behind: BTreeMap<Arc<str>, BTreeSet<IpNet>>,
    interfaces: BTreeMap<String, Behind>,
    /// What each interface's entry was last made of.
    shown: BTreeMap<u32, Entry>,
    facts: Delta<FactsKey, Facts>,
    ifaces: Delta<u32, Iface>,
    hashes: Delta<u32, u64>,
}

/// Who is behind an interface, of the plan.
#[derive(Debug, Clone)]
struct Behind {
    endpoint: String,
    mac: Option<[u8; 6]>,
    ingress: (ListId, Arc<PolicyList>),
    egress: (ListId, Arc<PolicyList>),
}

/// An interface's entry before lists have a place in the arena.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    iface: Iface,
    ingress: Option<ListId>,
    egress: Option<ListId>,
}

impl Render {
    /// Takes over what the tables hold. Classes have ids up to `class_limit`.
    ///
    /// # Errors
    /// A table could not be read; nothing was changed.
    pub fn start<F, I, C, A>(
        tables: &mut Tables<F, I, C, A>,
        class_limit: u32,
    ) -> Result<Self, StageReport>
    where
        F: Table<FactsKey, Facts>,
        I: Table<u32, Iface>,
        C: Table<u32, u64>,
        A: Arena,
    {
        let (mut facts, mut ifaces, mut hashes) = (Delta::new(), Delta::new(), Delta::new());
        let failed = |stage, reason: String| StageReport {
            stage,
            done: 0,
            failed: vec![("dump".to_owned(), reason)],
        };
        facts
            .resync(&mut tables.facts)
            .map_err(|error| failed(FACTS, error.to_string()))?;
        ifaces
            .resync(&mut tables.ifaces)
            .map_err(|error| failed(IFACES, error.to_string()))?;
        hashes
            .resync(&mut tables.classes)
            .map_err(|error| failed(CLASSES, error.to_string()))?;
        let classes = Classes::new(hashes.actual().map(|(id, hash)| (*id, *hash)), class_limit);
        // What is not asked for again is removed once the rest is in order, not before.
        let kept: Vec<(u32, u64)> = hashes.actual().map(|(id, hash)| (*id, *hash)).collect();
        hashes.want_all(kept);
        let mut lists = Lists::default();
        let bases: BTreeSet<u32> = ifaces
            .actual()
            .flat_map(|(_, iface): (&u32, &Iface)| [iface.ingress, iface.egress])
            .filter(|base| *base != 0)
            .collect();
        for base in bases {
            if let Some(words) = tables.arena.adopt(base) {
                lists.adopt(base, words);
            }
        }
        Ok(Self {
            classes,
            lists,
            links: BTreeMap::new(),
            placed: BTreeMap::new(),
            behind: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            shown: BTreeMap::new(),
            facts,
            ifaces,
            hashes,
        })
    }

    /// Sets the interfaces that are there, by name: of workloads and of the host.
    pub fn set_links(&mut self, links: BTreeMap<String, Link>) {
        let before = std::mem::replace(&mut self.links, links);
        let index =
            |links: &BTreeMap<String, Link>, name: &str| links.get(name).map(|link| link.ifindex);
        let moved: Vec<IpNet> = self
            .behind
            .iter()
            .filter(|(name, _)| index(&before, name) != index(&self.links, name))
            .flat_map(|(_, nets)| nets.iter().copied())
            .collect();
        for net in moved {
            self.want_facts(net);
        }
    }

    /// Takes over the changes of a flush.
    pub fn update(&mut self, graph: &Graph, changes: &Changes) {
        for &net in &changes.facts {
            let now = graph.facts(net).map(|facts| {
                let class = self
                    .classes
                    .take(&facts.atoms, || graph.class_hash(&facts.atoms).max(1));
                if class != 0 && self.hashes.wanted_at(&class).is_none() {
                    self.hashes
                        .want(class, Some(graph.class_hash(&facts.atoms).max(1)));
                }
                (facts.place.clone(), class)
            });
            let before = match now.clone() {
                Some(now) => self.placed.insert(net, now),
                None => self.placed.remove(&net),
            };
            if let Some((place, class)) = before {
                self.classes.release(class);
                if let Place::LocalWorkload(name) = place
                    && let Some(nets) = self.behind.get_mut(&name)
                {
                    nets.remove(&net);
                    if nets.is_empty() {
                        self.behind.remove(&name);
                    }
                }
            }
            if let Some((Place::LocalWorkload(name), _)) = now {
                self.behind.entry(name).or_default().insert(net);
            }
            self.want_facts(net);
        }
        for name in &changes.interfaces {
            let behind = graph.plan().interfaces.get(name).and_then(|interface| {
                let list = |id: ListId| Some((id, graph.plan().lists.get(&id)?.clone()));
                Some(Behind {
                    endpoint: interface.endpoint.to_string(),
                    mac: interface.mac.map(|mac| mac.0),
                    ingress: list(interface.ingress)?,
                    egress: list(interface.egress)?,
                })
            });
            match behind {
                Some(behind) => self.interfaces.insert(name.clone(), behind),
                None => self.interfaces.remove(name),
            };
        }
    }

    /// Makes the tables agree. `now` is the time since any fixed instant; `deletes` is false until the store is in sync.
    pub fn apply<F, I, C, A>(
        &mut self,
        tables: &mut Tables<F, I, C, A>,
        now: Duration,
        deletes: bool,
    ) -> Outcome
    where
        F: Table<FactsKey, Facts>,
        I: Table<u32, Iface>,
        C: Table<u32, u64>,
        A: Arena,
    {
        let mut outcome = Outcome::default();
        let wanted = self.entries();
        // First of all what an id means: a process that starts now must not give it to another class, which the blobs of this
        // one would take for the class they have learned.
        if !outcome.puts(&mut Pair::new(
            CLASSES,
            &mut self.hashes,
            &mut tables.classes,
        )) {
            return outcome;
        }
        if let Err(reason) = self.write_words(&mut tables.arena) {
            outcome.failed.push(StageReport {
                stage: WORDS,
                done: 0,
                failed: vec![("blobs".to_owned(), reason)],
            });
            return outcome;
        }
        // Interfaces follow blobs that moved, with the policy they had.
        self.want_entries(&self.shown.clone(), false);
        let done = outcome.puts(&mut Pair::new(IFACES, &mut self.ifaces, &mut tables.ifaces))
            && outcome.puts(&mut Pair::new(FACTS, &mut self.facts, &mut tables.facts));
        if !done {
            return outcome;
        }
        self.classes.learned();
        self.want_entries(&wanted, deletes);
        if !outcome.puts(&mut Pair::new(IFACES, &mut self.ifaces, &mut tables.ifaces)) {
            return outcome;
        }
        self.shown = wanted;
        if deletes {
            let done =
                outcome.deletes(&mut Pair::new(IFACES, &mut self.ifaces, &mut tables.ifaces))
                    && outcome.deletes(&mut Pair::new(FACTS, &mut self.facts, &mut tables.facts));
            if done {
                self.give_back(tables, now, &mut outcome);
            }
        }
        outcome.settled = outcome.failed.is_empty() && self.is_settled();
        outcome
    }

    /// Reads the tables again, so that what others changed there is noticed.
    pub fn resync<F, I, C, A>(&mut self, tables: &mut Tables<F, I, C, A>) -> Vec<StageReport>
    where
        F: Table<FactsKey, Facts>,
        I: Table<u32, Iface>,
        C: Table<u32, u64>,
    {
        crate::reconcile::resync(&mut [
            &mut Pair::new(CLASSES, &mut self.hashes, &mut tables.classes),
            &mut Pair::new(FACTS, &mut self.facts, &mut tables.facts),
            &mut Pair::new(IFACES, &mut self.ifaces, &mut tables.ifaces),
        ])
    }

    /// Whether the tables hold what is wanted and nothing else, as far as known.
    pub fn is_settled(&self) -> bool {
        self.facts.is_settled()
            && self.ifaces.is_settled()
            && self.hashes.is_settled()
            && self.classes.unlearned().is_empty()
    }

    /// Whether another [`apply`](Self::apply) some seconds from now has something to give back.
    pub fn is_resting(&self) -> bool {
        self.classes.are_resting()
    }

    /// How many keys of each table differ from what is wanted.
    pub fn dirty(&self) -> [(&'static str, usize); 3] {
        [
            (FACTS, self.facts.dirty()),
            (IFACES, self.ifaces.dirty()),
            (CLASSES, self.hashes.dirty()),
        ]
    }

    /// Where the tables differ: table, key, what is wanted and what was seen there.
    pub fn drift(&self) -> Vec<(&'static str, String, Option<String>, Option<String>)> {
        fn rows<K: std::fmt::Debug, V: std::fmt::Debug>(
            table: &'static str,
            key: impl Fn(&K) -> String,
            drift: &Drift<'_, K, V>,
        ) -> (&'static str, String, Option<String>, Option<String>) {
            let actual = if drift.unknown {
                Some("unknown".to_owned())
            } else {
                drift.actual.map(|value| format!("{value:?}"))
            };
            (
                table,
                key(drift.key),
                drift.wanted.map(|value| format!("{value:?}")),
                actual,
            )
        }
        let facts = self
            .facts
            .drift()
            .map(|drift| rows(FACTS, |key: &FactsKey| key.0.to_string(), &drift));
        let ifaces = self
            .ifaces
            .drift()
            .map(|drift| rows(IFACES, ToString::to_string, &drift));
        let hashes = self
            .hashes
            .drift()
            .map(|drift| rows(CLASSES, ToString::to_string, &drift));
        facts.chain(ifaces).chain(hashes).collect()
    }

    /// What cannot be rendered.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for behind in self.interfaces.values() {
            for (id, list) in [&behind.ingress, &behind.egress] {
                if let Some(error) = self.lists.refused().get(id) {
                    problems.push(Problem::new(
                        &behind.endpoint,
                        "",
                        format!("{} policy: {error}; everything drops", list.direction),
                    ));
                }
            }
        }
        if self.classes.refused() > 0 {
            problems.push(Problem::new(
                "",
                "",
                format!(
                    "no class ids left for {} sets of atoms; their addresses drop",
                    self.classes.refused()
                ),
            ));
        }
        problems
    }

    /// How often each line of an interface's list was met.
    pub fn hits<A: Arena>(&self, list: ListId, arena: &A) -> Vec<u64> {
        self.lists.hits(list, arena)
    }

    /// How many classes, prefixes and words of blobs there are.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.classes.len(), self.placed.len(), self.lists.words())
    }

    fn want_facts(&mut self, net: IpNet) {
        let facts = self.placed.get(&net).map(|(place, class)| match place {
            Place::Outside => Facts::new(FactsKind::Outside, *class),
            Place::RemoteWorkload => Facts::new(FactsKind::RemoteWorkload, *class),
            Place::ThisHost => Facts::new(FactsKind::ThisHost, *class),
            Place::OtherHost => Facts::new(FactsKind::OtherHost, *class),
            // Without the interface the address is nowhere, and packets to it drop.
            Place::LocalWorkload(name) => Facts::local(
                self.links.get(name.as_ref()).map_or(0, |link| link.ifindex),
                *class,
            ),
        });
        self.facts.want(FactsKey(net), facts);
    }

    /// What every interface's entry should be made of.
    fn entries(&self) -> BTreeMap<u32, Entry> {
        let mut entries = BTreeMap::new();
        for (name, link) in &self.links {
            let mtu = u16::try_from(link.mtu).unwrap_or(0);
            let kind = link.kind as u8;
            if link.kind == IfaceKind::Host {
                let iface = Iface {
                    kind,
                    mtu,
                    ..Iface::default()
                };
                entries.insert(
                    link.ifindex,
                    Entry {
                        iface,
                        ingress: None,
                        egress: None,
                    },
                );
            } else if let Some(behind) = self.interfaces.get(name) {
                let macs = Macs::new(behind.mac.or(link.peer_mac).unwrap_or_default(), link.mac);
                let flags = if link.kind == IfaceKind::Tap {
                    Iface::ALLOW_DHCP
                } else {
                    0
                };
                let iface = Iface {
                    kind,
                    flags,
                    mtu,
                    macs,
                    ..Iface::default()
                };
                entries.insert(
                    link.ifindex,
                    Entry {
                        iface,
                        ingress: Some(behind.ingress.0),
                        egress: Some(behind.egress.0),
                    },
                );
            }
        }
        entries
    }

    fn write_words<A: Arena>(&mut self, arena: &mut A) -> Result<(), String> {
        self.lists
            .learn(&self.classes, arena)
            .map_err(|error| error.to_string())?;
        let present = self
            .interfaces
            .iter()
            .filter(|(name, _)| self.links.contains_key(*name));
        for (id, list) in present.flat_map(|(_, behind)| [&behind.ingress, &behind.egress]) {
            self.lists
                .store(*id, list, &self.classes, arena)
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Wants these entries; what else is wanted stays unless `only`.
    fn want_entries(&mut self, entries: &BTreeMap<u32, Entry>, only: bool) {
        if only {
            let gone: Vec<u32> = self
                .ifaces
                .wanted()
                .map(|(index, _)| *index)
                .filter(|index| !entries.contains_key(index))
                .collect();
            for index in gone {
                self.ifaces.want(index, None);
            }
        }
        for (index, entry) in entries {
            let base = |list: Option<ListId>| list.map_or(0, |id| self.lists.base(id));
            let iface = Iface {
                ingress: base(entry.ingress),
                egress: base(entry.egress),
                ..entry.iface
            };
            self.ifaces.want(*index, Some(iface));
        }
    }

    fn give_back<F, I, C, A>(
        &mut self,
        tables: &mut Tables<F, I, C, A>,
        now: Duration,
        outcome: &mut Outcome,
    ) where
        C: Table<u32, u64>,
        A: Arena,
    {
        let in_order = self.facts.is_settled() && self.ifaces.is_settled();
        if !in_order {
            return;
        }
        let in_use = self
            .ifaces
            .wanted()
            .flat_map(|(_, iface)| [iface.ingress, iface.egress])
            .collect();
        self.lists.keep(&in_use, &mut tables.arena);
        self.lists.keep_refused(
            &self
                .interfaces
                .values()
                .flat_map(|behind| [behind.ingress.0, behind.egress.0])
                .collect(),
        );
        let retired = self.classes.retire(now, in_order);
        if let Err(error) = self
            .lists
            .forget(&retired, &self.classes, &mut tables.arena)
        {
            outcome.failed.push(StageReport {
                stage: WORDS,
                done: 0,
                failed: vec![("blobs".to_owned(), error.to_string())],
            });
            return;
        }
        for &id in &retired {
            self.hashes.want(id, None);
        }
        if outcome.deletes(&mut Pair::new(
            CLASSES,
            &mut self.hashes,
            &mut tables.classes,
        )) {
            for id in retired {
                self.classes.free(id);
            }
        }
    }
}

impl Outcome {
    fn puts(&mut self, stage: &mut dyn Stage) -> bool {
        self.take(stage.apply_puts())
    }

    fn deletes(&mut self, stage: &mut dyn Stage) -> bool {
        self.take(stage.apply_deletes())
    }
}

const WORDS: &str = "words";
const CLASSES: &str = "classes";
const FACTS: &str = "facts";
const IFACES: &str = "iface";
