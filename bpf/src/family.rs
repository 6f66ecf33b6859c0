//! The address family as a type parameter: one body of code, two instances.

use core::{fmt::Debug, hash::Hash};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What differs between IPv4 and IPv6 in map layouts. The packet formats differ in
/// [`Wire`](crate::packet::Wire).
pub trait Family:
    Copy + Clone + Debug + Default + PartialEq + Eq + PartialOrd + Ord + Hash + 'static
{
    /// An address, bytes as on the wire.
    type Addr: Copy
        + Debug
        + Default
        + Eq
        + Ord
        + Hash
        + AsRef<[u8]>
        + FromBytes
        + IntoBytes
        + Immutable
        + KnownLayout
        + Unaligned
        + 'static;
    /// 4 or 6.
    const VERSION: u8;
    /// Bits of an address.
    const BITS: u32;
    /// The address family number of sockets and the kernel's route lookup.
    const AF: u8;
    /// ICMP's protocol number in this family.
    const ICMP: u8;
}

/// IPv4.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V4;

/// IPv6.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V6;

impl Family for V4 {
    type Addr = [u8; 4];
    const VERSION: u8 = 4;
    const BITS: u32 = 32;
    const AF: u8 = 2;
    const ICMP: u8 = 1;
}

impl Family for V6 {
    type Addr = [u8; 16];
    const VERSION: u8 = 6;
    const BITS: u32 = 128;
    const AF: u8 = 10;
    const ICMP: u8 = 58;
}
