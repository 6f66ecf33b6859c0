//! Tables, packets and policies drawn so that they meet each other.

use cleat_bpf::{
    Config, Facts, FactsKind, Flow, FlowKey, Iface, IfaceKind, Macs, NetKey, Way, WayKind,
    build::Build,
    memory::{InMemory, Memory},
    packet::{ACK, FIN, RST, SYN, TCP, UDP},
    policy::{Clause, ClauseAction, ProtocolSet, Query, encode},
    verdict::Fib,
};

use super::LOOPBACK;
use crate::dataplane::monotonic;

/// Few addresses, so that packets meet facts and flows.
pub(super) fn address<F: InMemory>(n: u64) -> F::Addr {
    let v4 = [
        [10, 1, 0, n as u8],
        [10, 2, 0, n as u8],
        [198, 51, 100, n as u8],
        [224, 0, 0, 9],
    ];
    let mut v6 = [0u8; 16];
    match n & 7 {
        6 => v6[..2].copy_from_slice(&[0xfe, 0x80]),
        7 => v6[..2].copy_from_slice(&[0xff, 0x02]),
        _ => v6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]),
    }
    v6[15] = n as u8 + 3;
    let mut addr = F::Addr::default();
    let bytes: &[u8] = if F::VERSION == 4 {
        &v4[if n & 7 == 7 { 3 } else { n as usize % 3 }]
    } else {
        &v6
    };
    zerocopy::IntoBytes::as_mut_bytes(&mut addr).copy_from_slice(bytes);
    addr
}

pub(super) fn random_tables<F: InMemory>(random: &mut Random, out: &Way) -> Memory {
    let mut memory = Memory {
        fib: Fib::Found,
        next_hop: *out,
        ..Memory::default()
    };
    let list: Vec<Clause> = (0..12).map(|i| random_clause(random, i, 12)).collect();
    let mut bases = vec![0];
    for skip in [0, 4] {
        if let Ok(blob) = encode(&list[skip..], 1..=6, &holds) {
            bases.push(memory.add_blob(blob.words()));
        }
    }
    let allow = Clause {
        src: None,
        dst: None,
        protocols: ProtocolSet::ANY,
        l4: None,
        sport: None,
        action: ClauseAction::Allow,
        rule: 77,
    };
    if let Ok(blob) = encode(&[allow], 1..=7, &holds) {
        let base = memory.add_blob(blob.words());
        bases.extend([base; 4]);
    }
    for ifindex in [LOOPBACK, 5, 6] {
        if random.one_in(12) {
            continue;
        }
        let kind = if random.one_in(2) {
            IfaceKind::Container
        } else {
            IfaceKind::Tap
        };
        let iface = Iface {
            kind: kind as u8,
            flags: random.below(2) as u8,
            mtu: [0, 1500, 90][random.below(3) as usize],
            egress: bases[random.below(bases.len() as u64) as usize],
            ingress: bases[random.below(bases.len() as u64) as usize],
            macs: Macs::new([2, 0, 0, 0, 1, ifindex as u8], [0xee; 6]),
        };
        memory.ifaces.insert(ifindex, iface);
    }
    let mtu = [0, 1500, 90][random.below(3) as usize];
    memory.ifaces.insert(
        out.ifindex,
        Iface {
            kind: IfaceKind::Host as u8,
            mtu,
            ..Iface::default()
        },
    );
    // Kernels before 5.12 do not tell the route's MTU; the interface's stands in where it is set.
    if mtu == 0 {
        memory.ifaces.remove(&out.ifindex);
    }
    memory.config = Some(Config {
        generation: 0,
        flags: u32::from(random.one_in(6)),
    });
    let family = F::maps_mut(&mut memory);
    for n in 0..8 {
        if random.one_in(6) {
            continue;
        }
        let class = random.below(8) as u32;
        let facts = match random.below(6) {
            0..3 => Facts::local([LOOPBACK, LOOPBACK, 5, 6][random.below(4) as usize], class),
            3 => Facts::new(FactsKind::ThisHost, class),
            4 => Facts::new(FactsKind::RemoteWorkload, class),
            _ => Facts::new(FactsKind::Outside, class),
        };
        family.facts.insert(address::<F>(n), facts);
    }
    if !random.one_in(3) {
        family.nets.insert(
            NetKey::new(F::Addr::default(), 0),
            Facts::new(FactsKind::Outside, 1 + random.below(6) as u32),
        );
    }
    let now = monotonic();
    for _ in 0..random.below(12) {
        let build = random_build::<F>(random);
        let key = FlowKey {
            src: build.src,
            dst: build.dst,
            sport: build.sport.into(),
            dport: build.dport.into(),
            protocol: build.protocol,
            pad: [0; 3],
        };
        let kind = [
            WayKind::Unknown,
            WayKind::Stack,
            WayKind::Peer,
            WayKind::Redirect,
        ][random.below(4) as usize];
        let way = Way {
            since: if random.one_in(2) {
                now
            } else {
                now.saturating_sub(60_000_000_000)
            },
            generation: random.below(2) as u32,
            ifindex: 5,
            macs: Macs::new([2, 0, 0, 0, 2, 2], [2, 0, 0, 0, 3, 3]),
            mtu: [0, 1500, 80][random.below(3) as usize],
            kind: kind as u8,
            pad: 0,
        };
        let from = [LOOPBACK, Flow::FROM_FABRIC, Flow::FROM_STACK, 5][random.below(4) as usize];
        family.flows.insert(
            key,
            Flow {
                way,
                from,
                tcp_flags: SYN,
                packets: 1,
                ..Flow::default()
            },
        );
    }
    memory
}

pub(super) fn random_build<F: InMemory>(random: &mut Random) -> Build<F> {
    let protocol = [TCP, TCP, UDP, UDP, F::ICMP, 132, 136, 47][random.below(8) as usize];
    let icmp = if F::VERSION == 4 {
        [0x0800, 0, 0x0300, 0x0d00]
    } else {
        [0x8000, 0x8100, 0x8700, 0x0100]
    };
    let dport = if protocol == F::ICMP {
        icmp[random.below(4) as usize]
    } else {
        [80, 443, 67, 547][random.below(4) as usize]
    };
    let sport = match dport {
        67 => 68,
        547 => 546,
        _ => [40_000, 80][random.below(2) as usize],
    };
    Build {
        src: address::<F>(random.below(8)),
        dst: address::<F>(random.below(8)),
        protocol,
        sport,
        dport,
        tcp_flags: [SYN, ACK, SYN | ACK, FIN | ACK, RST][random.below(5) as usize],
        ttl: [64, 64, 64, 1, 255, 0][random.below(6) as usize],
        payload: vec![0xa5; [8, 40, 1400][random.below(3) as usize]],
        ..Build::default()
    }
}

pub(super) fn random_frame<F: InMemory>(random: &mut Random) -> Vec<u8> {
    let mut build = random_build::<F>(random);
    if random.one_in(8) {
        build.options = 1 + random.below(7) as u8;
    }
    if random.one_in(10) {
        build.fragment = Some((random.below(3) as u16, random.one_in(2)));
    }
    if random.one_in(12) {
        build.dst_mac = [[2, 0, 0, 0, 0, 7], [0xff; 6]][random.below(2) as usize];
    }
    if random.one_in(4) {
        // An ICMP error about something that may be a flow.
        build.protocol = F::ICMP;
        build.dport = if F::VERSION == 4 { 0x0304 } else { 0x0200 };
        let mut quoted = random_build::<F>(random);
        if random.one_in(2) {
            quoted.src = build.dst;
        }
        quoted.payload.truncate(8);
        build.payload = quoted.packet();
    }
    let mut frame = build.frame();
    match random.below(12) {
        0 => {
            let at = 12 + random.below(frame.len() as u64 - 12) as usize;
            frame[at] ^= 1 << random.below(8);
        }
        // Newer kernels refuse to run a program on less than an IP header.
        1 => {
            let least = if F::VERSION == 4 { 34 } else { 54 };
            frame.truncate(least + random.below(frame.len() as u64 - least as u64) as usize);
        }
        2 => frame[12..14].copy_from_slice(
            &[[0x08, 0x06], [0x81, 0x00], [0x88, 0xa8], [0x88, 0xcc]][random.below(4) as usize],
        ),
        _ => {}
    }
    frame
}

pub(super) fn random_clause(random: &mut Random, index: u32, clauses: u32) -> Clause {
    let expression = |random: &mut Random| (!random.one_in(3)).then(|| random.below(6) as u32);
    let (src, dst) = (expression(random), expression(random));
    let protocols = match random.below(4) {
        0 => ProtocolSet::only(TCP),
        1 => ProtocolSet::only(UDP),
        2 => ProtocolSet::except(TCP),
        _ => ProtocolSet::ANY,
    };
    let ports = |random: &mut Random, one_in: u64| {
        random.one_in(one_in).then(|| {
            let low = [80, 67, 0x0300, 40_000][random.below(4) as usize];
            vec![low..=low + random.below(900) as u16]
        })
    };
    let (l4, sport) = (ports(random, 3), ports(random, 12));
    // Few enough that no list needs more rounds than the programs walk.
    let action = match random.below(if clauses > 100 { 400 } else { 12 }) {
        0 => ClauseAction::Log,
        1 => ClauseAction::Pass(index + 1 + random.below((clauses - index) as u64) as u32),
        n if n % 2 == 0 => ClauseAction::Allow,
        _ => ClauseAction::Deny,
    };
    Clause {
        src,
        dst,
        protocols,
        l4,
        sport,
        action,
        rule: 1000 + index,
    }
}

pub(super) fn random_query(random: &mut Random) -> Query {
    let protocol = [TCP, UDP, 47, 1][random.below(4) as usize];
    let ports = protocol == TCP || protocol == UDP;
    let port = |random: &mut Random| [80, 67, 0x0305, 40_001, 9][random.below(5) as usize];
    Query {
        src_class: 1 + random.below(200) as u32,
        dst_class: 1 + random.below(201) as u32,
        protocol,
        // An echo request, for which a flow is made as for ports.
        l4: if ports {
            port(random)
        } else {
            u16::from(protocol == 1) * 0x0800
        },
        sport: if ports { port(random) } else { 0 },
    }
}

/// A relation between expressions and classes that is neither empty nor full.
pub(super) fn holds(expression: u32, class: u32) -> bool {
    let mixed = expression.wrapping_mul(0x9e37_79b9) ^ class.wrapping_mul(0x85eb_ca6b);
    (mixed.wrapping_mul(0xc2b2_ae35) >> 16).is_multiple_of(4)
}

/// splitmix64: the same packets in every run and on every kernel.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
