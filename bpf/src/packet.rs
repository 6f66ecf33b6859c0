//! From the bytes of a frame to a flow key: Ethernet, IPv4 with options, IPv6 with extension headers, and the first
//! bytes of TCP, UDP, UDP-Lite, SCTP, ICMP and ICMPv6.
//!
//! Later fragments have no ports and are told by their own reason, as is a chain of extension headers longer than
//! [`MAX_EXTENSIONS`]. Left out: reassembly, and a look behind encapsulations.
//!
//! RFC 791, 8200, 9293, 768, 3828, 9260, 792, 4443.

use zerocopy::{FromBytes, Immutable, IntoBytes, big_endian};

use crate::{
    family::{Family, V4, V6},
    maps::FlowKey,
    reason::Reason,
};

/// A hint for the verifier that follows a program along every path.
pub trait Opaque {
    /// `value`, of which the verifier knows nothing any more: paths that differ only in what is known of it become one.
    /// `salt` is anything the verifier does not know.
    #[inline(always)]
    fn opaque(value: u64, salt: u64) -> u64 {
        let _ = salt;
        value
    }
}

/// Access to a frame. Offsets count from the Ethernet header.
#[allow(
    clippy::len_without_is_empty,
    reason = "a frame has an Ethernet header"
)]
pub trait Packet {
    /// Reads a header at an offset known at compile time.
    fn read<T: FromBytes + Copy>(&self, offset: u32) -> Option<T>;
    /// Reads a header at an offset found in the packet, which is at most [`MAX_OFFSET`].
    fn read_at<T: FromBytes + Copy>(&self, offset: u32) -> Option<T>;
    /// Writes at an offset known at compile time.
    fn write<T: IntoBytes + Immutable>(&mut self, offset: u32, value: T) -> Option<()>;
    /// Makes the first `len` bytes readable, or the whole frame if it is shorter. A frame's headers may lie outside
    /// the memory that programs can see.
    fn pull(&mut self, len: u32);
    /// Tells the kernel that the bytes covered by a hardware checksum changed by `difference`.
    fn checksum_changed(&mut self, difference: u32);
    /// Length of the frame.
    fn len(&self) -> u32;
    /// Payload bytes of each segment if the frame stands for several, else 0.
    fn segment_size(&self) -> u32;
    /// The interface the frame comes in on or leaves by.
    fn ifindex(&self) -> u32;
    /// The mark other programs and the stack see.
    fn mark(&self) -> u32;
    /// Whether the frame was addressed to another station.
    fn is_for_another_host(&self) -> bool;
    /// Whether the frame had a VLAN tag that the device took off.
    fn has_vlan_tag(&self) -> bool;
}

/// Largest offset of [`Packet::read_at`].
pub const MAX_OFFSET: u32 = 511;
/// Length of an Ethernet header.
pub const ETHERNET: u32 = 14;
/// IPv6 extension headers that are followed.
pub const MAX_EXTENSIONS: u32 = 6;
/// Bytes made readable where a header is not where it usually is: options, extension headers, ICMP errors.
pub const PULL: u32 = 192;

/// TCP's protocol number.
pub const TCP: u8 = 6;
/// UDP's protocol number.
pub const UDP: u8 = 17;
/// SCTP's protocol number.
pub const SCTP: u8 = 132;
/// UDP-Lite's protocol number.
pub const UDPLITE: u8 = 136;

/// TCP's FIN flag.
pub const FIN: u8 = 1;
/// TCP's SYN flag.
pub const SYN: u8 = 2;
/// TCP's RST flag.
pub const RST: u8 = 4;
/// TCP's ACK flag.
pub const ACK: u8 = 16;

/// EtherTypes.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// IEEE 802.1Q customer tag.
    pub const VLAN: u16 = 0x8100;
    /// IEEE 802.1ad service tag.
    pub const SERVICE_VLAN: u16 = 0x88a8;
}

/// How a packet relates to flows.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum L4Kind {
    /// Part of a flow.
    #[default]
    Flow = 0,
    /// An ICMP error: belongs to the flow it quotes.
    Error = 1,
    /// Neighbour discovery or multicast listener discovery that no router forwards.
    Control = 2,
    /// Any other ICMP message: judged alone.
    Alone = 3,
}

/// What the decision needs to know about a packet. Begins as all zero.
///
/// Aligned so that the key on the program's stack is written in words.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Parsed<F: Family> {
    /// The flow as seen on this packet.
    pub key: FlowKey<F>,
    /// Where the transport header begins.
    pub l4_offset: u32,
    /// Destination port, or ICMP type << 8 | code, in host order: what a policy is asked.
    pub l4: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TCP's flags.
    pub tcp_flags: u8,
    /// Length of the transport header, where segments repeat it.
    pub l4_len: u8,
    /// How the packet relates to flows: an [`L4Kind`].
    pub kind: u8,
    /// Not 0: options or extension headers that a router must look at, which the stack does.
    pub has_options: u8,
    /// A [`Reason`] to drop the packet, or 0. The addresses are valid whatever it says, unless it is
    /// [`Reason::Malformed`] and `ttl` is 0.
    pub problem: u8,
}

impl<F: Family> Parsed<F> {
    /// Clears what the parser does not always write.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.key.sport = big_endian::U16::ZERO;
        self.key.dport = big_endian::U16::ZERO;
        self.key.pad = [0; 3];
        self.l4 = 0;
        self.ttl = 0;
        self.tcp_flags = 0;
        self.l4_len = 0;
        self.kind = 0;
        self.has_options = 0;
        self.problem = 0;
    }

    /// Makes the verifier forget which way the parser took: what follows is walked once, not once for every way.
    #[inline(always)]
    #[allow(
        clippy::many_single_char_names,
        reason = "bytes that only change their places"
    )]
    pub fn forget<O: Opaque>(&mut self, salt: u64) {
        let word = |bytes: [u8; 8]| O::opaque(u64::from_ne_bytes(bytes), salt).to_ne_bytes();
        let [a, b, c, d] = self.l4_offset.to_ne_bytes();
        let [e, f] = self.l4.to_ne_bytes();
        let [a, b, c, d, e, f, ttl, flags] = word([a, b, c, d, e, f, self.ttl, self.tcp_flags]);
        self.l4_offset = u32::from_ne_bytes([a, b, c, d]);
        self.l4 = u16::from_ne_bytes([e, f]);
        (self.ttl, self.tcp_flags) = (ttl, flags);
        let [a, b] = self.key.sport.to_bytes();
        let [c, d] = self.key.dport.to_bytes();
        let (len, kind, options) = (self.l4_len, self.kind, self.has_options);
        let [a, b, c, d, protocol, len, kind, options] =
            word([a, b, c, d, self.key.protocol, len, kind, options]);
        self.key.sport = big_endian::U16::from_bytes([a, b]);
        self.key.dport = big_endian::U16::from_bytes([c, d]);
        self.key.protocol = protocol;
        (self.l4_len, self.kind, self.has_options) = (len, kind, options);
    }
}

/// The formats of a family.
pub trait Wire: Family {
    /// EtherType in host order.
    const ETHERTYPE: u16;
    /// Bytes that an ordinary packet of a flow needs for parsing.
    const ORDINARY: u32;
    /// DHCP's ports: client, server.
    const DHCP: (u16, u16);

    /// Parses the packet at `at`; `INNER`: it is quoted by an ICMP error, so that only 8 bytes of L4 are there.
    fn parse<P: Packet, const INNER: bool>(packet: &mut P, at: u32, out: &mut Parsed<Self>);
    /// Takes one off the TTL, which is above 1.
    fn age<P: Packet>(packet: &mut P, ttl: u8) -> Option<()>;
    /// Classifies an ICMP message.
    fn icmp(kind: u8, ttl: u8) -> Icmp;
    /// Whether the address is only valid on one link.
    fn is_link_local(addr: &Self::Addr) -> bool;
    /// Whether the address names more than one station.
    fn is_multicast(addr: &Self::Addr) -> bool;
    /// Compares by words: comparing by bytes would be a library call in the programs.
    fn same(a: &Self::Addr, b: &Self::Addr) -> bool;
}

/// Kinds of ICMP messages.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Icmp {
    /// Asks; its identifier is the flow's source port.
    Request,
    /// Answers; its identifier is the flow's destination port.
    Reply,
    /// Quotes the packet it is about.
    Error,
    /// See [`L4Kind::Control`].
    Control,
    /// Anything else.
    Other,
}

#[derive(Copy, Clone, FromBytes)]
#[repr(C)]
struct Ipv4Header {
    version_ihl: u8,
    _tos: u8,
    _len: u16,
    _id: u16,
    fragment: u16,
    ttl: u8,
    protocol: u8,
    _checksum: u16,
    src: u32,
    dst: u32,
}

#[derive(Copy, Clone, FromBytes)]
#[repr(C)]
struct Ipv6Header {
    version: u8,
    _class_label: [u8; 3],
    _len: u16,
    next: u8,
    hop_limit: u8,
    src: [u32; 4],
    dst: [u32; 4],
}

impl Wire for V4 {
    const ETHERTYPE: u16 = ethertype::IPV4;
    const ORDINARY: u32 = ETHERNET + 20 + 20;
    const DHCP: (u16, u16) = (68, 67);

    #[inline(always)]
    fn parse<P: Packet, const INNER: bool>(packet: &mut P, at: u32, out: &mut Parsed<Self>) {
        out.problem = Reason::Malformed as u8;
        let header = if INNER {
            packet.read_at(at)
        } else {
            packet.read(ETHERNET)
        };
        let Some(header): Option<Ipv4Header> = header else {
            return;
        };
        let ihl = (header.version_ihl & 15) as u32 * 4;
        if header.version_ihl >> 4 != 4 || ihl < 20 || header.ttl == 0 {
            return;
        }
        out.ttl = header.ttl;
        out.key.src = header.src.to_ne_bytes();
        out.key.dst = header.dst.to_ne_bytes();
        out.key.protocol = header.protocol;
        out.l4_offset = at + ihl;
        if ihl > 20 {
            out.has_options = 1;
            if !INNER {
                packet.pull(PULL);
            }
        }
        if u16::from_be(header.fragment) & 0x1fff != 0 {
            out.problem = Reason::Fragment as u8;
            return;
        }
        parse_l4::<Self, P, INNER>(packet, out);
    }

    #[inline(always)]
    fn age<P: Packet>(packet: &mut P, ttl: u8) -> Option<()> {
        // RFC 1141 §1: one less in the TTL's byte, one more there in the checksum.
        let sum = u16::from_be(packet.read(ETHERNET + 10)?) as u32 + 0x0100;
        let sum = (sum + u32::from(sum >= 0xffff)) as u16;
        packet.write(ETHERNET + 8, ttl.wrapping_sub(1))?;
        packet.write(ETHERNET + 10, sum.to_be())
    }

    #[inline(always)]
    fn icmp(kind: u8, _: u8) -> Icmp {
        match kind {
            // Echo, timestamp, information, address mask.
            8 | 13 | 15 | 17 => Icmp::Request,
            0 | 14 | 16 | 18 => Icmp::Reply,
            // Unreachable (packet too big among them), time exceeded, parameter problem.
            3 | 11 | 12 => Icmp::Error,
            _ => Icmp::Other,
        }
    }

    #[inline(always)]
    fn is_link_local(_: &[u8; 4]) -> bool {
        // 169.254.0.0/16 is routed like any other network here: it carries metadata services.
        false
    }

    #[inline(always)]
    fn is_multicast(addr: &[u8; 4]) -> bool {
        // Includes the limited broadcast address.
        addr[0] >= 224
    }

    #[inline(always)]
    fn same(a: &[u8; 4], b: &[u8; 4]) -> bool {
        u32::from_ne_bytes(*a) == u32::from_ne_bytes(*b)
    }
}

impl Wire for V6 {
    const ETHERTYPE: u16 = ethertype::IPV6;
    const ORDINARY: u32 = ETHERNET + 40 + 20;
    const DHCP: (u16, u16) = (546, 547);

    #[inline(always)]
    fn parse<P: Packet, const INNER: bool>(packet: &mut P, at: u32, out: &mut Parsed<Self>) {
        out.problem = Reason::Malformed as u8;
        let header = if INNER {
            packet.read_at(at)
        } else {
            packet.read(ETHERNET)
        };
        let Some(header): Option<Ipv6Header> = header else {
            return;
        };
        if header.version >> 4 != 6 || header.hop_limit == 0 {
            return;
        }
        out.ttl = header.hop_limit;
        out.key.src = zerocopy::transmute!(header.src);
        out.key.dst = zerocopy::transmute!(header.dst);
        out.l4_offset = at + 40;
        let mut next = header.next;
        if is_extension(next) {
            if !INNER {
                packet.pull(PULL);
            }
            let mut left = MAX_EXTENSIONS;
            // Tested at the end: kernels before 5.16 refuse a loop that is entered in its middle.
            loop {
                if left == 0 || out.l4_offset > MAX_OFFSET - 32 {
                    out.problem = Reason::ExtensionHeaders as u8;
                    return;
                }
                left -= 1;
                let Some(extension) = packet.read_at::<[u8; 4]>(out.l4_offset) else {
                    return;
                };
                if next == FRAGMENT {
                    if (extension[2] as u32) << 8 | (extension[3] & 0xf8) as u32 != 0 {
                        out.problem = Reason::Fragment as u8;
                        return;
                    }
                    out.l4_offset += 8;
                } else {
                    out.has_options |= u8::from(next != DESTINATION_OPTIONS);
                    out.l4_offset += 8 + extension[1] as u32 * 8;
                }
                next = extension[0];
                if !is_extension(next) {
                    break;
                }
            }
        }
        out.key.protocol = next;
        parse_l4::<Self, P, INNER>(packet, out);
    }

    #[inline(always)]
    fn age<P: Packet>(packet: &mut P, ttl: u8) -> Option<()> {
        packet.write(ETHERNET + 7, ttl.wrapping_sub(1))?;
        // The hop limit is the low byte of its 16-bit word on the wire; no checksum inside the packet covers it.
        packet.checksum_changed(!(1u16.to_be() as u32));
        Some(())
    }

    #[inline(always)]
    fn icmp(kind: u8, ttl: u8) -> Icmp {
        match kind {
            128 => Icmp::Request,
            129 => Icmp::Reply,
            1..=4 => Icmp::Error,
            // Neighbour discovery: a hop limit of 255 proves that no router forwarded it (RFC 4861 §6.1).
            133..=136 if ttl == 255 => Icmp::Control,
            // Multicast listener discovery is sent with a hop limit of 1 (RFC 3810 §5).
            130..=132 | 143 if ttl == 1 => Icmp::Control,
            _ => Icmp::Other,
        }
    }

    #[inline(always)]
    fn is_link_local(addr: &[u8; 16]) -> bool {
        addr[0] == 0xfe && addr[1] & 0xc0 == 0x80
    }

    #[inline(always)]
    fn is_multicast(addr: &[u8; 16]) -> bool {
        addr[0] == 0xff
    }

    #[inline(always)]
    fn same(a: &[u8; 16], b: &[u8; 16]) -> bool {
        let (a, b): ([u32; 4], [u32; 4]) = (zerocopy::transmute!(*a), zerocopy::transmute!(*b));
        (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) == 0
    }
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
}

/// Fills the ports and clears the problem, if the header is there.
#[inline(always)]
fn parse_l4<F: Wire, P: Packet, const INNER: bool>(packet: &mut P, out: &mut Parsed<F>) {
    match out.key.protocol {
        TCP if !INNER => {
            let Some(header) = packet.read_at::<[u32; 5]>(out.l4_offset) else {
                return;
            };
            ports(out, header[0]);
            let offset_flags = header[3].to_ne_bytes();
            out.l4_len = offset_flags[0] >> 4 << 2;
            out.tcp_flags = offset_flags[1];
            if out.l4_len < 20 {
                return;
            }
        }
        TCP | UDP | UDPLITE | SCTP => {
            let Some(header) = packet.read_at::<[u32; 2]>(out.l4_offset) else {
                return;
            };
            ports(out, header[0]);
            out.l4_len = 8;
        }
        protocol if protocol == F::ICMP => {
            let Some(header) = packet.read_at::<[u32; 2]>(out.l4_offset) else {
                return;
            };
            let (first, second) = (header[0].to_ne_bytes(), header[1].to_ne_bytes());
            let id = big_endian::U16::from_bytes([second[0], second[1]]);
            out.l4 = (first[0] as u16) << 8 | first[1] as u16;
            match F::icmp(first[0], out.ttl) {
                Icmp::Request => out.key.sport = id,
                Icmp::Reply => out.key.dport = id,
                Icmp::Error => out.kind = L4Kind::Error as u8,
                Icmp::Control => out.kind = L4Kind::Control as u8,
                Icmp::Other => out.kind = L4Kind::Alone as u8,
            }
        }
        _ => {}
    }
    out.problem = 0;
}

#[inline(always)]
fn ports<F: Wire>(out: &mut Parsed<F>, word: u32) {
    let [a, b, c, d] = word.to_ne_bytes();
    out.key.sport = big_endian::U16::from_bytes([a, b]);
    out.key.dport = big_endian::U16::from_bytes([c, d]);
    out.l4 = (c as u16) << 8 | d as u16;
}
