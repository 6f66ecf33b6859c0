//! Keys and values of the BPF maps.
//!
//! Every type here is `#[repr(C)]` without padding, which the derived zerocopy traits prove at compile time. Addresses
//! and ports are stored as on the wire, all else in host order. Small enums are stored as bytes and read through
//! accessors, so that every bit pattern in a map is a value.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, big_endian, native_endian};

use crate::family::Family;

/// What kind of place an address lives in.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FactsKind {
    /// Beyond the fabric, or anything nobody said more about.
    Outside = 0,
    /// A workload behind the interface [`Facts::ifindex`] of this host.
    LocalWorkload = 1,
    /// In a pool, but not here.
    RemoteWorkload = 2,
    /// An address of this host itself.
    ThisHost = 3,
    /// An address of another host of the cluster.
    OtherHost = 4,
}

/// All that is known about an address: value of `facts4`, `facts6` (exact) and `nets4`, `nets6` (longest prefix).
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Facts {
    /// The interned set of atoms that hold for the address; 0 is no class: it drops.
    pub class: u32,
    /// The host-side interface of a local workload, else 0.
    pub ifindex: u32,
    /// A [`FactsKind`]; what is not one of its values counts as `Outside`.
    pub kind: u8,
    /// No flag is defined yet; write 0.
    pub flags: u8,
    /// Explicit padding; always 0.
    pub pad: [u8; 2],
}

impl Facts {
    /// Facts of an address that has no interface here.
    pub const fn new(kind: FactsKind, class: u32) -> Self {
        Self {
            class,
            ifindex: 0,
            kind: kind as u8,
            flags: 0,
            pad: [0; 2],
        }
    }

    /// Facts of a workload behind `ifindex`.
    pub const fn local(ifindex: u32, class: u32) -> Self {
        Self {
            class,
            ifindex,
            kind: FactsKind::LocalWorkload as u8,
            flags: 0,
            pad: [0; 2],
        }
    }

    /// The kind as an enum.
    pub const fn kind(&self) -> FactsKind {
        match self.kind {
            1 => FactsKind::LocalWorkload,
            2 => FactsKind::RemoteWorkload,
            3 => FactsKind::ThisHost,
            4 => FactsKind::OtherHost,
            _ => FactsKind::Outside,
        }
    }

    /// Whether the address is a workload behind an interface of this host.
    #[inline(always)]
    pub const fn is_local(&self) -> bool {
        self.kind == FactsKind::LocalWorkload as u8
    }

    /// Whether the address is this host's own.
    #[inline(always)]
    pub const fn is_this_host(&self) -> bool {
        self.kind == FactsKind::ThisHost as u8
    }
}

/// How packets enter what is behind an interface.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum IfaceKind {
    /// An interface of the host towards the fabric.
    Host = 1,
    /// One end of a veth pair whose other end is in another network namespace: `bpf_redirect_peer` reaches it.
    Container = 2,
    /// A tap, or a veth whose peer shares our namespace: MACs are rewritten and the packet is sent out.
    Tap = 3,
}

/// Value of `iface`, by ifindex.
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Iface {
    /// An [`IfaceKind`]; 0 is none.
    pub kind: u8,
    /// [`Iface::ALLOW_DHCP`].
    pub flags: u8,
    /// Largest IP packet the interface sends; 0: not known, any size goes.
    pub mtu: u16,
    /// Where in `words` the policy for what the workload sends begins; 0: none, everything drops.
    pub egress: u32,
    /// Where in `words` the policy for what the workload receives begins; 0: none, everything drops.
    pub ingress: u32,
    /// Addresses of a frame sent to the workload: to its MAC, from the host side's.
    pub macs: Macs,
}

impl Iface {
    /// DHCP requests of the workload go to the host unjudged.
    pub const ALLOW_DHCP: u8 = 1;

    /// The kind as an enum; `None`: not an interface of ours.
    pub const fn kind(&self) -> Option<IfaceKind> {
        match self.kind {
            1 => Some(IfaceKind::Host),
            2 => Some(IfaceKind::Container),
            3 => Some(IfaceKind::Tap),
            _ => None,
        }
    }
}

/// Destination and source MAC in the order of an Ethernet header. Words, since the programs copy it with three stores.
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Macs(pub [u32; 3]);

impl Macs {
    /// Puts the two addresses together.
    pub const fn new(dst: [u8; 6], src: [u8; 6]) -> Self {
        Self([
            u32::from_ne_bytes([dst[0], dst[1], dst[2], dst[3]]),
            u32::from_ne_bytes([dst[4], dst[5], src[0], src[1]]),
            u32::from_ne_bytes([src[2], src[3], src[4], src[5]]),
        ])
    }

    /// The destination.
    pub const fn dst(&self) -> [u8; 6] {
        let (a, b) = (self.0[0].to_ne_bytes(), self.0[1].to_ne_bytes());
        [a[0], a[1], a[2], a[3], b[0], b[1]]
    }

    /// The source.
    pub const fn src(&self) -> [u8; 6] {
        let (b, c) = (self.0[1].to_ne_bytes(), self.0[2].to_ne_bytes());
        [b[2], b[3], c[0], c[1], c[2], c[3]]
    }
}

/// Key of `ct4` and `ct6`: a flow as seen on the packet.
#[derive(
    Copy,
    Clone,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct FlowKey<F: Family> {
    /// Source address.
    pub src: F::Addr,
    /// Destination address.
    pub dst: F::Addr,
    /// Source port; the identifier of an ICMP echo request.
    pub sport: big_endian::U16,
    /// Destination port; the identifier of an ICMP echo reply.
    pub dport: big_endian::U16,
    /// Protocol number.
    pub protocol: u8,
    /// Explicit padding; always 0.
    pub pad: [u8; 3],
}

impl<F: Family> FlowKey<F> {
    /// The key of the answers.
    #[must_use]
    pub fn reversed(&self) -> Self {
        let mut key = Self::default();
        self.reverse_into(&mut key);
        key
    }

    /// Writes the key of the answers.
    #[inline(always)]
    pub fn reverse_into(&self, key: &mut Self) {
        key.src = self.dst;
        key.dst = self.src;
        key.sport = self.dport;
        key.dport = self.sport;
        key.protocol = self.protocol;
        key.pad = [0; 3];
    }
}

/// How a packet leaves.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum WayKind {
    /// Not looked up yet.
    Unknown = 0,
    /// To this host's stack.
    Stack = 1,
    /// Into a container through its veth.
    Peer = 2,
    /// Out of an interface with the MACs of [`Way::macs`]: a tap, or a resolved next hop on the fabric.
    Redirect = 3,
    /// Out of an interface whose next hop is not resolved: the kernel finds the neighbour.
    Neigh = 4,
}

/// A cached way out, part of a [`Flow`].
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Way {
    /// When it was looked up, ns since boot.
    pub since: u64,
    /// [`Config::generation`] it was looked up under.
    pub generation: u32,
    /// Where to.
    pub ifindex: u32,
    /// The frame's new addresses.
    pub macs: Macs,
    /// Largest IP packet that may go this way; 0: any.
    pub mtu: u16,
    /// A [`WayKind`].
    pub kind: u8,
    /// Explicit padding; always 0.
    pub pad: u8,
}

impl Way {
    /// The kind as an enum.
    pub const fn kind(&self) -> WayKind {
        match self.kind {
            1 => WayKind::Stack,
            2 => WayKind::Peer,
            3 => WayKind::Redirect,
            4 => WayKind::Neigh,
            _ => WayKind::Unknown,
        }
    }
}

/// Value of `ct4` and `ct6`: one direction of a flow.
///
/// Counters are added to without locking: two processors that handle one direction at the same instant may lose a count,
/// which is not worth the price of an atomic instruction for every packet.
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Flow {
    /// When the last packet passed, ns since boot.
    pub last_seen: u64,
    /// When the flow was allowed, ns since boot.
    pub created: u64,
    /// Packets in this direction.
    pub packets: u64,
    /// Bytes in this direction, Ethernet headers included.
    pub bytes: u64,
    /// How packets of this direction leave.
    pub way: Way,
    /// Where packets of this direction come in: an ifindex, [`Flow::FROM_FABRIC`] or [`Flow::FROM_STACK`].
    pub from: u32,
    /// The rule that let the flow leave its workload; [`Flow::NO_RULE`]: none was asked.
    pub egress_rule: u32,
    /// The rule that let the flow into its workload; [`Flow::NO_RULE`]: none was asked.
    pub ingress_rule: u32,
    /// TCP flags seen in this direction, or-ed together.
    pub tcp_flags: u8,
    /// [`Flow::ORIGINAL`].
    pub flags: u8,
    /// Explicit padding; always 0.
    pub pad: [u8; 2],
}

impl Flow {
    /// [`Flow::from`]: any interface of the host.
    pub const FROM_FABRIC: u32 = u32::MAX;
    /// [`Flow::from`]: the host's own stack.
    pub const FROM_STACK: u32 = u32::MAX - 1;
    /// No rule was asked.
    pub const NO_RULE: u32 = u32::MAX;
    /// This direction opened the flow.
    pub const ORIGINAL: u8 = 1;
}

/// Key of `nets4` and `nets6`.
#[derive(
    Copy,
    Clone,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct NetKey<F: Family> {
    /// Bits of the prefix.
    pub prefix_len: native_endian::U32,
    /// The prefix, host bits zero.
    pub addr: F::Addr,
}

impl<F: Family> NetKey<F> {
    /// A prefix; the caller has cleared the host bits.
    pub fn new(addr: F::Addr, prefix_len: u32) -> Self {
        Self {
            prefix_len: native_endian::U32::new(prefix_len),
            addr,
        }
    }
}

/// The one value of `config`.
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Config {
    /// Raised when routes, neighbours or interfaces changed: every cached way out is looked up again.
    pub generation: u32,
    /// [`Config::ENDPOINT_TO_HOST_DROP`].
    pub flags: u32,
}

impl Config {
    /// What a workload sends to its own host is dropped after its egress policy allowed it.
    pub const ENDPOINT_TO_HOST_DROP: u32 = 1;
}
