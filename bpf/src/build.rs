//! Frames put together for tests: correct checksums, any part changed afterwards.

use crate::{
    family::Family,
    packet::{SCTP, TCP, UDP, UDPLITE, ethertype},
};

/// A packet to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build<F: Family> {
    /// Source.
    pub src: F::Addr,
    /// Destination.
    pub dst: F::Addr,
    /// Protocol.
    pub protocol: u8,
    /// Source port, or ICMP identifier.
    pub sport: u16,
    /// Destination port, or ICMP type << 8 | code.
    pub dport: u16,
    /// TCP flags.
    pub tcp_flags: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Bytes behind the transport header; an ICMP error's quotation.
    pub payload: Vec<u8>,
    /// Words of IPv4 options, or IPv6 destination options of 8 bytes.
    pub options: u8,
    /// Fragment offset in units of 8 bytes and whether more follow; `None`: not a fragment.
    pub fragment: Option<(u16, bool)>,
    /// Ethernet destination.
    pub dst_mac: [u8; 6],
}

impl<F: Family> Default for Build<F> {
    fn default() -> Self {
        Self {
            src: F::Addr::default(),
            dst: F::Addr::default(),
            protocol: TCP,
            sport: 40_000,
            dport: 80,
            tcp_flags: 2,
            ttl: 64,
            payload: Vec::new(),
            options: 0,
            fragment: None,
            dst_mac: [0; 6],
        }
    }
}

impl<F: Family> Build<F> {
    /// The frame.
    pub fn frame(&self) -> Vec<u8> {
        let kind = if F::VERSION == 4 {
            ethertype::IPV4
        } else {
            ethertype::IPV6
        };
        let mut frame = Vec::from(self.dst_mac);
        frame.extend([2, 0, 0, 0, 0, 9]);
        frame.extend(kind.to_be_bytes());
        frame.extend(self.packet());
        frame
    }

    /// The packet alone, as an ICMP error quotes it.
    pub fn packet(&self) -> Vec<u8> {
        let l4 = self.l4();
        let mut packet = Vec::new();
        if F::VERSION == 4 {
            let options = (self.options & 7) as usize * 4;
            let total = 20 + options + l4.len();
            packet.extend([0x45 + (options / 4) as u8, 0]);
            packet.extend((total as u16).to_be_bytes());
            packet.extend([0, 7]);
            let fragment = self
                .fragment
                .map_or(0, |(at, more)| at & 0x1fff | u16::from(more) << 13);
            packet.extend(fragment.to_be_bytes());
            packet.extend([self.ttl, self.protocol, 0, 0]);
            packet.extend(self.src.as_ref());
            packet.extend(self.dst.as_ref());
            packet.extend(std::iter::repeat_n(1, options));
            let sum = checksum(&packet);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            let mut extensions = Vec::new();
            let after = if self.fragment.is_some() {
                44
            } else {
                self.protocol
            };
            for i in 0..self.options {
                let next = if i + 1 == self.options { after } else { 60 };
                extensions.extend([next, 0, 1, 4, 0, 0, 0, 0]);
            }
            if let Some((at, more)) = self.fragment {
                extensions.extend([self.protocol, 0]);
                extensions.extend((at << 3 | u16::from(more)).to_be_bytes());
                extensions.extend([0, 0, 0, 7]);
            }
            let first = if self.options > 0 { 60 } else { after };
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(((extensions.len() + l4.len()) as u16).to_be_bytes());
            packet.extend([first, self.ttl]);
            packet.extend(self.src.as_ref());
            packet.extend(self.dst.as_ref());
            packet.extend(extensions);
        }
        packet.extend(l4);
        packet
    }

    fn l4(&self) -> Vec<u8> {
        let (sport, dport) = (self.sport.to_be_bytes(), self.dport.to_be_bytes());
        let mut l4 = Vec::new();
        match self.protocol {
            TCP => {
                l4.extend(sport);
                l4.extend(dport);
                l4.extend([
                    0,
                    0,
                    0,
                    1,
                    0,
                    0,
                    0,
                    2,
                    0x50,
                    self.tcp_flags,
                    0xff,
                    0xff,
                    0,
                    0,
                    0,
                    0,
                ]);
            }
            UDP | UDPLITE | SCTP => {
                l4.extend(sport);
                l4.extend(dport);
                l4.extend((8 + self.payload.len() as u16).to_be_bytes());
                l4.extend([0, 0]);
            }
            protocol if protocol == F::ICMP => {
                l4.extend(dport);
                l4.extend([0, 0]);
                l4.extend(sport);
                l4.extend([0, 1]);
            }
            _ => {}
        }
        l4.extend(&self.payload);
        l4
    }
}

/// The internet checksum (RFC 1071) of bytes whose own field is zero.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
