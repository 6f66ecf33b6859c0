//! Packets and tables in plain memory: the decision on a host, for tests, fuzzing and `policy show`.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{
    family::{Family, V4, V6},
    maps::{Config, Facts, Flow, FlowKey, Iface, NetKey, Way},
    packet::{MAX_OFFSET, Opaque, Packet, Wire},
    policy::{Query, Words, evaluate_packed},
    reason::{Counted, Hook},
    verdict::{DEFAULT_MARK, Fib, Node, Room, Scratch, Tables},
};

/// A frame with what the kernel knows about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Its bytes, from the Ethernet header on.
    pub bytes: Vec<u8>,
    /// Where it comes in or leaves.
    pub ifindex: u32,
    /// Its mark.
    pub mark: u32,
    /// Payload bytes of each segment it stands for; 0: it is one packet.
    pub segment_size: u32,
    /// Addressed to another station.
    pub for_another_host: bool,
    /// A VLAN tag was taken off.
    pub vlan_tag: bool,
}

impl Frame {
    fn get<T: FromBytes>(&self, offset: u32) -> Option<T> {
        T::read_from_prefix(self.bytes.get(offset as usize..)?)
            .ok()
            .map(|(value, _)| value)
    }
}

impl Packet for Frame {
    fn read<T: FromBytes + Copy>(&self, offset: u32) -> Option<T> {
        self.get(offset)
    }

    fn read_at<T: FromBytes + Copy>(&self, offset: u32) -> Option<T> {
        if offset > MAX_OFFSET {
            None
        } else {
            self.get(offset)
        }
    }

    fn write<T: IntoBytes + Immutable>(&mut self, offset: u32, value: T) -> Option<()> {
        let at = self
            .bytes
            .get_mut(offset as usize..offset as usize + size_of::<T>())?;
        at.copy_from_slice(value.as_bytes());
        Some(())
    }

    fn pull(&mut self, _: u32) {}

    fn checksum_changed(&mut self, _: u32) {}

    fn len(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn segment_size(&self) -> u32 {
        self.segment_size
    }

    fn ifindex(&self) -> u32 {
        self.ifindex
    }

    fn mark(&self) -> u32 {
        self.mark
    }

    fn is_for_another_host(&self) -> bool {
        self.for_another_host
    }

    fn has_vlan_tag(&self) -> bool {
        self.vlan_tag
    }
}

/// One family's maps.
#[derive(Clone, Debug)]
pub struct FamilyMaps<F: Family> {
    /// Facts by address.
    pub facts: BTreeMap<F::Addr, Facts>,
    /// Facts by prefix.
    pub nets: BTreeMap<NetKey<F>, Facts>,
    /// Flows.
    pub flows: BTreeMap<FlowKey<F>, Flow>,
}

impl<F: Family> Default for FamilyMaps<F> {
    fn default() -> Self {
        Self {
            facts: BTreeMap::new(),
            nets: BTreeMap::new(),
            flows: BTreeMap::new(),
        }
    }
}

/// All maps, and what the kernel would answer.
#[derive(Clone, Debug)]
pub struct Memory {
    /// IPv4.
    pub v4: FamilyMaps<V4>,
    /// IPv6.
    pub v6: FamilyMaps<V6>,
    /// Interfaces.
    pub ifaces: BTreeMap<u32, Iface>,
    /// The arena of policy blobs.
    pub words: RefCell<Vec<u64>>,
    /// The configuration.
    pub config: Option<Config>,
    /// The clock.
    pub now: u64,
    /// Entries a flow table has room for.
    pub room: usize,
    /// What a route lookup answers, unless it is [`Fib::Other`].
    pub next_hop: Way,
    /// The route lookup's answer.
    pub fib: Fib,
    /// Packets counted.
    pub counts: RefCell<BTreeMap<(Hook, Counted), u64>>,
    /// Policy questions asked.
    pub asked: Cell<u64>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            v4: FamilyMaps::default(),
            v6: FamilyMaps::default(),
            ifaces: BTreeMap::new(),
            words: RefCell::new(vec![0]),
            config: Some(Config::default()),
            now: 1 << 40,
            room: usize::MAX,
            next_hop: Way::default(),
            fib: Fib::Other,
            counts: RefCell::default(),
            asked: Cell::new(0),
        }
    }
}

impl Memory {
    /// Puts a blob into the arena and returns its base.
    pub fn add_blob(&mut self, words: &[u64]) -> u32 {
        let arena = self.words.get_mut();
        let base = arena.len() as u32;
        arena.extend(words);
        base
    }
}

impl Words for Memory {
    fn word(&self, index: u32) -> Option<u64> {
        self.words.borrow().get(index as usize).copied()
    }

    fn hit(&self, index: u32) {
        if let Some(word) = self.words.borrow_mut().get_mut(index as usize) {
            *word = word.wrapping_add(1);
        }
    }
}

impl Opaque for Memory {}

impl Node for Memory {
    fn now(&self) -> u64 {
        self.now
    }

    fn mark(&self) -> u32 {
        DEFAULT_MARK
    }

    fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    fn iface(&self, ifindex: u32) -> Option<&Iface> {
        self.ifaces.get(&ifindex)
    }

    fn evaluate(&self, base: u32, query: &Query) -> u64 {
        self.asked.set(self.asked.get() + 1);
        evaluate_packed(self, base, query)
    }

    fn count(&self, hook: Hook, counted: Counted) {
        *self.counts.borrow_mut().entry((hook, counted)).or_default() += 1;
    }
}

/// Which maps belong to a family.
pub trait InMemory: Wire {
    /// Its maps.
    fn maps(memory: &Memory) -> &FamilyMaps<Self>;
    /// Its maps, to be changed.
    fn maps_mut(memory: &mut Memory) -> &mut FamilyMaps<Self>;
}

impl InMemory for V4 {
    fn maps(memory: &Memory) -> &FamilyMaps<Self> {
        &memory.v4
    }

    fn maps_mut(memory: &mut Memory) -> &mut FamilyMaps<Self> {
        &mut memory.v4
    }
}

impl InMemory for V6 {
    fn maps(memory: &Memory) -> &FamilyMaps<Self> {
        &memory.v6
    }

    fn maps_mut(memory: &mut Memory) -> &mut FamilyMaps<Self> {
        &mut memory.v6
    }
}

impl<F: InMemory> Tables<F> for Memory {
    fn facts(&self, addr: &F::Addr) -> Option<&Facts> {
        F::maps(self).facts.get(addr)
    }

    fn net(&self, key: &NetKey<F>) -> Option<&Facts> {
        let covers = |net: &NetKey<F>| {
            let bits = net.prefix_len.get() as usize;
            let same = |i: usize| {
                let bit = |addr: &F::Addr| addr.as_ref()[i / 8] >> (7 - i % 8) & 1;
                bit(&net.addr) == bit(&key.addr)
            };
            (0..bits).all(same)
        };
        let nets = F::maps(self).nets.iter().filter(|(net, _)| covers(net));
        nets.max_by_key(|(net, _)| net.prefix_len.get())
            .map(|(_, facts)| facts)
    }

    fn flow(&mut self, key: &FlowKey<F>) -> Option<&mut Flow> {
        F::maps_mut(self).flows.get_mut(key)
    }

    fn put_flow(&mut self, key: &FlowKey<F>, flow: &Flow) -> bool {
        let room = self.room;
        let flows = &mut F::maps_mut(self).flows;
        let fits = flows.contains_key(key) || flows.len() < room;
        if fits {
            flows.insert(*key, *flow);
        }
        fits
    }

    fn next_hop(&self, _: &FlowKey<F>, ifindex: u32, way: &mut Way) -> Fib {
        way.ifindex = ifindex;
        way.mtu = 0;
        way.macs = crate::maps::Macs::default();
        if self.fib != Fib::Other {
            way.ifindex = self.next_hop.ifindex;
        }
        if self.fib == Fib::Found {
            (way.macs, way.mtu) = (self.next_hop.macs, self.next_hop.mtu);
        }
        self.fib
    }
}

/// Scratch in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryRoom {
    v4: Scratch<V4>,
    v6: Scratch<V6>,
}

impl Room<V4> for MemoryRoom {
    fn scratch(&mut self) -> Option<&mut Scratch<V4>> {
        Some(&mut self.v4)
    }
}

impl Room<V6> for MemoryRoom {
    fn scratch(&mut self) -> Option<&mut Scratch<V6>> {
        Some(&mut self.v6)
    }
}
