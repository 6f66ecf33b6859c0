//! Whole changes on tables that are looked at after every single write.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use cleat_bpf::maps::{Facts, Iface, IfaceKind};
use cleat_bpf::policy::{Blob, Decision, Words, evaluate};
use cleat_datastore::{Key, Kind};
use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::calc::Direction;
use crate::calc::plain::{Packet, Resources, judge};
use crate::calc::tests::{between, choices, packets, query, show, update, world};

/// What a kernel would hold.
#[derive(Default)]
struct Kernel {
    facts: BTreeMap<FactsKey, Facts>,
    ifaces: BTreeMap<u32, Iface>,
    classes: BTreeMap<u32, u64>,
    words: RefCell<Vec<u64>>,
    blobs: BTreeMap<u32, usize>,
    writes: usize,
    /// Fails the write of this number, after or before it took effect.
    fault: Option<(usize, bool)>,
    watch: Option<Watch>,
}

/// Asked after every write; what it returns is a fault found.
type Watch = Rc<dyn Fn(&Kernel) -> Option<String>>;

type Shared = Rc<RefCell<Kernel>>;

impl Words for Kernel {
    fn word(&self, index: u32) -> Option<u64> {
        self.words.borrow().get(index as usize).copied()
    }

    fn hit(&self, index: u32) {
        self.words.borrow_mut()[index as usize] += 1;
    }
}

impl Kernel {
    fn class(&self, address: IpAddr) -> Option<u32> {
        let host = IpNet::from(address);
        (0..=host.max_prefix_len()).rev().find_map(|len| {
            let net = IpNet::new(address, len).unwrap().trunc();
            self.facts.get(&FactsKey(net)).map(|facts| facts.class)
        })
    }

    fn decide(&self, ifindex: u32, direction: Direction, packet: &Packet) -> Option<Decision> {
        let iface = self.ifaces.get(&ifindex)?;
        let base = if direction == Direction::Ingress {
            iface.ingress
        } else {
            iface.egress
        };
        Some(evaluate(
            self,
            base,
            query(packet, self.class(packet.src)?, self.class(packet.dst)?),
        ))
    }

    fn allows(&self, ifindex: u32, direction: Direction, packet: &Packet) -> bool {
        matches!(
            self.decide(ifindex, direction, packet),
            Some(Decision::Allow(_))
        )
    }
}

fn write(kernel: &Shared, change: impl FnOnce(&mut Kernel)) -> Result<(), String> {
    let mut inner = kernel.borrow_mut();
    inner.writes += 1;
    let fault = inner.fault.filter(|(at, _)| *at == inner.writes);
    if fault.is_none_or(|(_, obeys)| obeys) {
        change(&mut inner);
    }
    if let Some(watch) = inner.watch.clone()
        && let Some(found) = watch(&inner)
    {
        panic!("after write {}: {found}", inner.writes);
    }
    if fault.is_some() {
        Err("told to fail".to_owned())
    } else {
        Ok(())
    }
}

macro_rules! table {
    ($name:ident, $field:ident, $key:ty, $value:ty) => {
        struct $name(Shared);

        impl Table<$key, $value> for $name {
            type Error = String;

            fn dump(&mut self) -> Result<Vec<($key, $value)>, String> {
                Ok(self
                    .0
                    .borrow()
                    .$field
                    .iter()
                    .map(|(key, value)| (*key, *value))
                    .collect())
            }

            fn put(&mut self, key: &$key, value: &$value) -> Result<(), String> {
                write(&self.0, |kernel| _ = kernel.$field.insert(*key, *value))
            }

            fn delete(&mut self, key: &$key) -> Result<(), String> {
                write(&self.0, |kernel| _ = kernel.$field.remove(key))
            }
        }
    };
}
table!(FactsTable, facts, FactsKey, Facts);
table!(IfaceTable, ifaces, u32, Iface);
table!(ClassTable, classes, u32, u64);

struct FakeArena(Shared);

impl Arena for FakeArena {
    type Error = String;

    fn adopt(&mut self, base: u32) -> Option<Vec<u64>> {
        let kernel = self.0.borrow();
        let len = *kernel.blobs.get(&base)?;
        Some(kernel.words.borrow()[base as usize..base as usize + len].to_vec())
    }

    fn store(&mut self, blob: &Blob) -> Result<u32, String> {
        let words = blob.words();
        let base = self.0.borrow().words.borrow().len().max(1);
        write(&self.0, |kernel| {
            let mut all = kernel.words.borrow_mut();
            all.resize(base, 0);
            all.extend(words);
        })?;
        self.0.borrow_mut().blobs.insert(base as u32, words.len());
        Ok(base as u32)
    }

    fn set(&mut self, index: u32, word: u64) -> Result<(), String> {
        write(&self.0, |kernel| {
            kernel.words.borrow_mut()[index as usize] = word;
        })
    }

    fn get(&self, index: u32) -> Option<u64> {
        self.0.borrow().word(index)
    }

    fn free(&mut self, base: u32) {
        let mut kernel = self.0.borrow_mut();
        let len = kernel.blobs.remove(&base).expect("freed twice");
        // Whatever still refers to it shall notice.
        kernel.words.borrow_mut()[base as usize..base as usize + len].fill(u64::MAX);
    }
}

fn tables(kernel: &Shared) -> Tables<FactsTable, IfaceTable, ClassTable, FakeArena> {
    Tables {
        facts: FactsTable(kernel.clone()),
        ifaces: IfaceTable(kernel.clone()),
        classes: ClassTable(kernel.clone()),
        arena: FakeArena(kernel.clone()),
    }
}

fn links() -> BTreeMap<String, Link> {
    let link = |n: u32| Link {
        ifindex: 10 + n,
        kind: IfaceKind::Container,
        mac: [2; 6],
        peer_mac: None,
        mtu: 1500,
    };
    (0..4).map(|n| (format!("cali{n}"), link(n))).collect()
}

/// A node: what one process has.
struct Node {
    graph: Graph,
    render: Render,
    kernel: Shared,
    now: Duration,
}

impl Node {
    fn start(kernel: &Shared, resources: &Resources) -> Self {
        let mut graph = Graph::new("here");
        for (key, value) in resources {
            graph.update(&update(key, Some(value)));
        }
        let mut render = Render::start(&mut tables(kernel), 10_000).unwrap();
        // The arena of a new process has as taken what was adopted, and nothing else.
        let referred: BTreeSet<u32> = kernel
            .borrow()
            .ifaces
            .values()
            .flat_map(|iface| [iface.ingress, iface.egress])
            .collect();
        let lost: Vec<u32> = kernel
            .borrow()
            .blobs
            .keys()
            .copied()
            .filter(|base| !referred.contains(base))
            .collect();
        for base in lost {
            FakeArena(kernel.clone()).free(base);
        }
        render.set_links(links());
        let changes = graph.flush();
        render.update(&graph, &changes);
        Self {
            graph,
            render,
            kernel: kernel.clone(),
            now: Duration::ZERO,
        }
    }

    fn go(&mut self, from: &Resources, to: &Resources) {
        for update in between(from, to) {
            self.graph.update(&update);
        }
        let changes = self.graph.flush();
        self.render.update(&self.graph, &changes);
    }

    fn apply(&mut self) -> Outcome {
        self.now += Duration::from_secs(3);
        self.render.apply(&mut tables(&self.kernel), self.now, true)
    }

    /// Applies and gives up the past until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..20 {
            let outcome = self.apply();
            if outcome.settled {
                if self.graph.forget() {
                    let changes = self.graph.flush();
                    self.render.update(&self.graph, &changes);
                } else if !self.render.is_resting() {
                    return;
                }
            }
        }
        panic!("does not settle: {:?}", self.render.drift());
    }
}

type Verdicts = BTreeMap<(u32, Direction, usize), bool>;

fn written(graph: &Graph, resources: &Resources, packets: &[Packet]) -> Verdicts {
    let mut verdicts = Verdicts::new();
    for (name, interface) in &graph.plan().interfaces {
        for direction in [Direction::Ingress, Direction::Egress] {
            for (number, packet) in packets.iter().enumerate() {
                let allowed = judge(resources, &interface.endpoint, direction, packet).allowed;
                verdicts.insert((links()[name].ifindex, direction, number), allowed);
            }
        }
    }
    verdicts
}

fn every_place(packets: &[Packet]) -> impl Iterator<Item = (u32, Direction, usize)> {
    let count = packets.len();
    (10..14).flat_map(move |ifindex| {
        [Direction::Ingress, Direction::Egress]
            .into_iter()
            .flat_map(move |direction| (0..count).map(move |n| (ifindex, direction, n)))
    })
}

/// Watches that no packet gets a verdict that is neither the old nor the new one.
fn watch_for(
    old: Verdicts,
    new: Verdicts,
    packets: Vec<Packet>,
    skip: impl Fn(u32, &Packet) -> bool + 'static,
) -> Watch {
    Rc::new(move |kernel| {
        every_place(&packets)
            .filter(|(ifindex, _, n)| !skip(*ifindex, &packets[*n]))
            .find_map(|place| {
                let (ifindex, direction, n) = place;
                let now = kernel.allows(ifindex, direction, &packets[n]);
                let (old, new) = (
                    old.get(&place).copied().unwrap_or(false),
                    new.get(&place).copied().unwrap_or(false),
                );
                (now != old && now != new).then(|| {
                    format!(
                        "{ifindex} {direction} {:?} allowed: {now}, was {old} and will be {new}",
                        packets[n]
                    )
                })
            })
    })
}

fn is_policy(key: &Key) -> bool {
    matches!(
        key.kind(),
        Some(Kind::NetworkPolicy | Kind::GlobalNetworkPolicy | Kind::Tier)
    )
}

fn check_final(node: &Node, resources: &Resources, packets: &[Packet]) {
    let written = written(&node.graph, resources, packets);
    let kernel = node.kernel.borrow();
    for place in every_place(packets) {
        let (ifindex, direction, n) = place;
        let wanted = written.get(&place).copied().unwrap_or(false);
        assert_eq!(
            kernel.allows(ifindex, direction, &packets[n]),
            wanted,
            "{place:?} {:?} {}",
            packets[n],
            show(resources)
        );
    }
}

/// No more is kept than what is in use.
fn check_tidy(node: &Node) {
    let kernel = node.kernel.borrow();
    let classes: BTreeSet<u32> = kernel.facts.values().map(|facts| facts.class).collect();
    assert_eq!(
        kernel.classes.keys().copied().collect::<BTreeSet<_>>(),
        classes
    );
    let bases: BTreeSet<u32> = kernel
        .ifaces
        .values()
        .flat_map(|iface| [iface.ingress, iface.egress])
        .collect();
    assert_eq!(kernel.blobs.keys().copied().collect::<BTreeSet<_>>(), bases);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn at_every_write_of_a_policy_change_a_packet_meets_the_old_or_the_new_policy(first in choices(), second in choices(), packets in packets()) {
        let before = world(first);
        let after: Resources = before.iter().filter(|(key, _)| !is_policy(key)).map(|(key, value)| (key.clone(), value.clone()))
            .chain(world(second).into_iter().filter(|(key, _)| is_policy(key))).collect();
        let kernel = Shared::default();
        let mut node = Node::start(&kernel, &before);
        node.settle();
        check_final(&node, &before, &packets);
        let old = written(&node.graph, &before, &packets);
        node.go(&before, &after);
        let new = written(&node.graph, &after, &packets);
        kernel.borrow_mut().watch = Some(watch_for(old, new, packets.clone(), |_, _| false));
        node.settle();
        check_final(&node, &after, &packets);
        check_tidy(&node);
    }

    #[test]
    fn at_every_write_of_a_change_of_addresses_a_packet_meets_the_old_or_the_new_policy(first in choices(), second in choices(), packets in packets()) {
        let before = world(first);
        let changed = world(second).into_iter().find(|(key, _)| matches!(key.kind(), Some(Kind::WorkloadEndpoint | Kind::NetworkSet | Kind::GlobalNetworkSet)));
        let Some((key, value)) = changed else { return Ok(()) };
        let mut after = before.clone();
        after.insert(key.clone(), value);
        let kernel = Shared::default();
        let mut node = Node::start(&kernel, &before);
        node.settle();
        let old = written(&node.graph, &before, &packets);
        let old_owners: BTreeMap<u32, Key> = node.graph.plan().interfaces.iter().map(|(name, interface)| (links()[name].ifindex, interface.endpoint.clone())).collect();
        let told = |graph: &Graph| -> Vec<(IpNet, Vec<String>)> { graph.all_facts().map(|(net, facts)| (net, graph.spell(&facts.atoms))).collect() };
        let facts = told(&node.graph);
        node.go(&before, &after);
        let new = written(&node.graph, &after, &packets);
        let new_owners: BTreeMap<u32, Key> = node.graph.plan().interfaces.iter().map(|(name, interface)| (links()[name].ifindex, interface.endpoint.clone())).collect();
        let later = told(&node.graph);
        let lookup = |facts: &[(IpNet, Vec<String>)], address: IpAddr| {
            facts.iter().filter(|(net, _)| net.contains(&address)).max_by_key(|(net, _)| net.prefix_len()).map(|(_, atoms)| atoms.clone())
        };
        let changes: BTreeSet<IpAddr> = packets.iter().flat_map(|packet| [packet.src, packet.dst]).filter(|address| lookup(&facts, *address) != lookup(&later, *address)).collect();
        // What an address is changes address by address; and an endpoint that changes has another policy besides.
        let skip = move |ifindex: u32, packet: &Packet| {
            (changes.contains(&packet.src) && changes.contains(&packet.dst))
                || old_owners.get(&ifindex) != new_owners.get(&ifindex)
                || old_owners.get(&ifindex) == Some(&key)
        };
        kernel.borrow_mut().watch = Some(watch_for(old, new, packets.clone(), skip));
        node.settle();
        check_final(&node, &after, &packets);
        check_tidy(&node);
    }

    #[test]
    fn a_failed_write_or_a_restart_in_the_midst_never_allows_what_both_policies_deny(
        first in choices(), second in choices(), packets in packets(), at in 1usize..40, obeys in any::<bool>(), restart in any::<bool>()
    ) {
        let before = world(first);
        let after: Resources = before.iter().filter(|(key, _)| !is_policy(key)).map(|(key, value)| (key.clone(), value.clone()))
            .chain(world(second).into_iter().filter(|(key, _)| is_policy(key))).collect();
        let kernel = Shared::default();
        let mut node = Node::start(&kernel, &before);
        node.settle();
        let old = written(&node.graph, &before, &packets);
        node.go(&before, &after);
        let new = written(&node.graph, &after, &packets);
        let both = packets.clone();
        let watch: Watch = Rc::new(move |kernel| {
            every_place(&both).find_map(|place| {
                let (ifindex, direction, n) = place;
                let denied = !old.get(&place).copied().unwrap_or(false) && !new.get(&place).copied().unwrap_or(false);
                (denied && kernel.allows(ifindex, direction, &both[n])).then(|| format!("{place:?} {:?} is allowed", both[n]))
            })
        });
        {
            let mut inner = kernel.borrow_mut();
            inner.watch = Some(watch);
            inner.fault = Some((inner.writes + at, obeys));
        }
        if restart {
            node.apply();
            node = Node::start(&kernel, &after);
        }
        node.settle();
        check_final(&node, &after, &packets);
        check_tidy(&node);
    }

    #[test]
    fn a_restart_with_nothing_changed_writes_nothing(first in choices(), second in choices()) {
        let (first, second) = (world(first), world(second));
        let kernel = Shared::default();
        let mut node = Node::start(&kernel, &second);
        node.settle();
        let mut node = Node::start(&kernel, &second);
        let writes = kernel.borrow().writes;
        node.settle();
        prop_assert_eq!(kernel.borrow().writes, writes);
        // After a change the classes' ids and the blobs are others than a new process would choose; it takes them as they are,
        // and at most writes blobs again.
        node.go(&second, &first);
        node.settle();
        let before = kernel.borrow().facts.clone();
        let mut node = Node::start(&kernel, &first);
        node.settle();
        prop_assert_eq!(&kernel.borrow().facts, &before);
    }
}

#[test]
fn hits_are_counted_by_line() {
    let value = serde_json::json!({"kind": "WorkloadEndpoint", "metadata": {"name": "e", "namespace": "a"},
        "spec": {"orchestrator": "k8s", "node": "here", "workload": "w", "endpoint": "eth0", "interfaceName": "cali0", "ipNetworks": ["10.0.0.1/32"], "profiles": ["projectcalico-default-allow"]}});
    let kernel = Shared::default();
    let mut node = Node::start(&kernel, &[crate::calc::tests::resource(&value)].into());
    node.settle();
    let packet = Packet {
        src: "10.9.9.9".parse().unwrap(),
        dst: "10.0.0.1".parse().unwrap(),
        protocol: 6,
        sport: 1,
        dport: 80,
        icmp: (0, 0),
    };
    for _ in 0..3 {
        assert!(kernel.borrow().allows(10, Direction::Ingress, &packet));
    }
    let list = node.graph.plan().interfaces["cali0"].ingress;
    assert_eq!(node.render.hits(list, &FakeArena(kernel)), [3, 0]);
}

#[test]
fn an_interface_that_comes_later_gets_its_policy_and_its_addresses() {
    let value = serde_json::json!({"kind": "WorkloadEndpoint", "metadata": {"name": "e", "namespace": "a"},
        "spec": {"orchestrator": "k8s", "node": "here", "workload": "w", "endpoint": "eth0", "interfaceName": "cali0", "ipNetworks": ["10.0.0.1/32", "fd00::1/128"], "profiles": []}});
    let kernel = Shared::default();
    let mut node = Node::start(&kernel, &[crate::calc::tests::resource(&value)].into());
    node.render.set_links(BTreeMap::new());
    node.settle();
    let key = |net: &str| FactsKey(net.parse().unwrap());
    assert!(kernel.borrow().ifaces.is_empty());
    assert_eq!(kernel.borrow().facts[&key("fd00::1/128")].ifindex, 0);
    node.render.set_links(links());
    node.settle();
    assert_ne!(kernel.borrow().ifaces[&10].ingress, 0);
    for net in ["10.0.0.1/32", "fd00::1/128"] {
        assert_eq!(kernel.borrow().facts[&key(net)].ifindex, 10);
    }
}
