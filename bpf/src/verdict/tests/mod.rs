//! One world, one table of cases, both families.

mod first;
mod flows;
mod icmp;
mod odd;

use super::*;
use crate::{
    build::Build,
    maps::{FactsKind, Macs},
    memory::{Frame, InMemory, Memory, MemoryRoom},
    packet::{FIN, RST},
    policy::{Clause, ClauseAction, ProtocolSet, encode},
};

const CONTAINER: u32 = 10;
const TAP: u32 = 11;
const FABRIC: u32 = 2;
const NEXT_HOP: Macs = Macs::new([2, 0, 0, 0, 0, 0xf2], [2, 0, 0, 0, 0, 0xf0]);
const TAP_MACS: Macs = Macs::new([2, 0, 0, 0, 0, 11], [0xee; 6]);

const POD: u8 = 1;
const VM: u8 = 2;
const HOST: u8 = 3;
const REMOTE: u8 = 4;
const CLIENT: u8 = 5;
const STRANGER: u8 = 9;

fn addr<F: Family>(n: u8) -> F::Addr {
    let mut addr = F::Addr::default();
    let bytes = zerocopy::IntoBytes::as_mut_bytes(&mut addr);
    bytes[0] = if F::VERSION == 4 { 10 } else { 0x20 };
    bytes[F::BITS as usize / 8 - 1] = n;
    addr
}

fn clause(action: ClauseAction, rule: u32) -> Clause {
    Clause {
        src: None,
        dst: None,
        protocols: ProtocolSet::ANY,
        l4: None,
        sport: None,
        action,
        rule,
    }
}

/// Workloads may send anything but to port 23; they receive port 80 and echo requests, the VM from the pod only.
fn world<F: InMemory>() -> Memory {
    let mut memory = Memory {
        fib: Fib::Found,
        next_hop: Way {
            ifindex: FABRIC,
            macs: NEXT_HOP,
            mtu: 1500,
            ..Way::default()
        },
        ..Memory::default()
    };
    let egress = [
        Clause {
            protocols: ProtocolSet::only(6),
            l4: Some(vec![23..=23]),
            ..clause(ClauseAction::Deny, 1)
        },
        clause(ClauseAction::Allow, 2),
    ];
    let echo = if F::VERSION == 4 { 0x0800 } else { 0x8000 };
    let ingress = |src| {
        [
            Clause {
                src,
                protocols: ProtocolSet::only(6),
                l4: Some(vec![80..=80]),
                ..clause(ClauseAction::Allow, 3)
            },
            Clause {
                src,
                protocols: ProtocolSet::only(UDP),
                l4: Some(vec![80..=80]),
                ..clause(ClauseAction::Allow, 4)
            },
            Clause {
                protocols: ProtocolSet::only(F::ICMP),
                l4: Some(vec![echo..=echo]),
                ..clause(ClauseAction::Allow, 5)
            },
            clause(ClauseAction::Deny, 6),
        ]
    };
    let is = |expression, class| expression == class;
    let blob = |clauses: &[Clause]| encode(clauses, 1..=9, &is).unwrap();
    let egress = memory.add_blob(blob(&egress).words());
    let open = memory.add_blob(blob(&ingress(None)).words());
    let from_pod = memory.add_blob(blob(&ingress(Some(POD as u32))).words());
    let iface = |kind: IfaceKind, ingress| Iface {
        kind: kind as u8,
        flags: Iface::ALLOW_DHCP,
        mtu: 1500,
        egress,
        ingress,
        macs: TAP_MACS,
    };
    memory
        .ifaces
        .insert(CONTAINER, iface(IfaceKind::Container, open));
    memory.ifaces.insert(TAP, iface(IfaceKind::Tap, from_pod));
    memory.ifaces.insert(
        FABRIC,
        Iface {
            kind: IfaceKind::Host as u8,
            mtu: 1500,
            ..Iface::default()
        },
    );
    let family = F::maps_mut(&mut memory);
    for (n, facts) in [
        (POD, Facts::local(CONTAINER, POD as u32)),
        (VM, Facts::local(TAP, VM as u32)),
        (HOST, Facts::new(FactsKind::ThisHost, HOST as u32)),
        (REMOTE, Facts::new(FactsKind::RemoteWorkload, REMOTE as u32)),
    ] {
        family.facts.insert(addr::<F>(n), facts);
    }
    family.nets.insert(
        NetKey::new(F::Addr::default(), 0),
        Facts::new(FactsKind::Outside, 8),
    );
    memory
}

fn send<F: InMemory>(
    memory: &mut Memory,
    hook: Hook,
    ifindex: u32,
    build: &Build<F>,
) -> (Verdict, Way, Frame) {
    let mut frame = Frame {
        bytes: build.frame(),
        ifindex,
        ..Frame::default()
    };
    let mut way = Way::default();
    let verdict = judge(
        hook,
        &mut frame,
        memory,
        &mut MemoryRoom::default(),
        &mut way,
    );
    (verdict, way, frame)
}

fn tcp<F: Family>(src: u8, dst: u8, dport: u16) -> Build<F> {
    Build {
        src: addr::<F>(src),
        dst: addr::<F>(dst),
        dport,
        ..Build::default()
    }
}

fn answer<F: Family>(build: &Build<F>, tcp_flags: u8) -> Build<F> {
    Build {
        src: build.dst,
        dst: build.src,
        sport: build.dport,
        dport: build.sport,
        tcp_flags,
        ..build.clone()
    }
}
