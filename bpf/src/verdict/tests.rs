//! One world, one table of cases, both families.

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

fn first_packets<F: InMemory>() {
    use Hook::{FromHost, FromWorkload, ToHost, ToWorkload};
    let drop = Verdict::Drop;
    let cases = [
        (
            "pod to VM",
            FromWorkload,
            CONTAINER,
            tcp::<F>(POD, VM, 80),
            Verdict::Redirect,
        ),
        (
            "VM to pod",
            FromWorkload,
            TAP,
            tcp::<F>(VM, POD, 80),
            Verdict::Peer,
        ),
        (
            "VM to pod, port not open",
            FromWorkload,
            TAP,
            tcp::<F>(VM, POD, 81),
            drop(Reason::Denied),
        ),
        (
            "pod to VM, egress forbids",
            FromWorkload,
            CONTAINER,
            tcp::<F>(POD, VM, 23),
            drop(Reason::Denied),
        ),
        (
            "pod to the fabric",
            FromWorkload,
            CONTAINER,
            tcp::<F>(POD, REMOTE, 443),
            Verdict::Redirect,
        ),
        (
            "pod to the world",
            FromWorkload,
            CONTAINER,
            tcp::<F>(POD, STRANGER, 443),
            Verdict::Redirect,
        ),
        (
            "pod to its host",
            FromWorkload,
            CONTAINER,
            tcp::<F>(POD, HOST, 443),
            Verdict::Stack,
        ),
        (
            "pod with the VM's address",
            FromWorkload,
            CONTAINER,
            tcp::<F>(VM, REMOTE, 443),
            drop(Reason::Spoofed),
        ),
        (
            "pod with a foreign address",
            FromWorkload,
            CONTAINER,
            tcp::<F>(CLIENT, REMOTE, 443),
            drop(Reason::Spoofed),
        ),
        (
            "no such interface",
            FromWorkload,
            99,
            tcp::<F>(POD, REMOTE, 443),
            drop(Reason::NoInterface),
        ),
        (
            "client to pod",
            FromHost,
            FABRIC,
            tcp::<F>(CLIENT, POD, 80),
            Verdict::Peer,
        ),
        (
            "client to pod, port not open",
            FromHost,
            FABRIC,
            tcp::<F>(CLIENT, POD, 81),
            drop(Reason::Denied),
        ),
        (
            "client to VM, which serves the pod",
            FromHost,
            FABRIC,
            tcp::<F>(CLIENT, VM, 80),
            drop(Reason::Denied),
        ),
        (
            "the pod's address from outside",
            FromHost,
            FABRIC,
            tcp::<F>(POD, VM, 80),
            drop(Reason::Spoofed),
        ),
        (
            "the host's address from outside",
            FromHost,
            FABRIC,
            tcp::<F>(HOST, POD, 80),
            drop(Reason::Spoofed),
        ),
        (
            "client to the host",
            FromHost,
            FABRIC,
            tcp::<F>(CLIENT, HOST, 22),
            Verdict::Pass,
        ),
        (
            "transit",
            FromHost,
            FABRIC,
            tcp::<F>(CLIENT, REMOTE, 22),
            Verdict::Pass,
        ),
        (
            "host to pod",
            ToWorkload,
            CONTAINER,
            tcp::<F>(HOST, POD, 81),
            Verdict::Pass,
        ),
        (
            "the stack forwards to the pod",
            ToWorkload,
            CONTAINER,
            tcp::<F>(CLIENT, POD, 80),
            Verdict::Pass,
        ),
        (
            "the stack forwards, port not open",
            ToWorkload,
            CONTAINER,
            tcp::<F>(CLIENT, POD, 81),
            drop(Reason::Denied),
        ),
        (
            "unjudged, between workloads",
            ToWorkload,
            CONTAINER,
            tcp::<F>(VM, POD, 80),
            drop(Reason::Unseen),
        ),
        (
            "host to the world",
            ToHost,
            FABRIC,
            tcp::<F>(HOST, CLIENT, 80),
            Verdict::Pass,
        ),
        (
            "unjudged, from a workload",
            ToHost,
            FABRIC,
            tcp::<F>(POD, CLIENT, 80),
            drop(Reason::Unseen),
        ),
    ];
    for (name, hook, ifindex, build, expected) in cases {
        let name = format!("IPv{}: {name}", F::VERSION);
        let mut memory = world::<F>();
        let (verdict, way, frame) = send(&mut memory, hook, ifindex, &build);
        assert_eq!(verdict, expected, "{name}");
        let before = build.frame();
        let ttl = 14 + if F::VERSION == 4 { 8 } else { 7 };
        let aged = matches!(verdict, Verdict::Redirect | Verdict::Peer);
        assert_eq!(
            frame.bytes[ttl],
            before[ttl] - u8::from(aged),
            "{name}: TTL"
        );
        if F::VERSION == 4 {
            assert_eq!(
                crate::build::checksum(&frame.bytes[14..34]),
                0,
                "{name}: header checksum"
            );
        }
        if verdict == Verdict::Redirect {
            let macs = if way.ifindex == TAP {
                TAP_MACS
            } else {
                NEXT_HOP
            };
            assert_eq!(
                (&frame.bytes[..6], &frame.bytes[6..12]),
                (&macs.dst()[..], &macs.src()[..]),
                "{name}: MACs"
            );
        }
        let flows = F::maps(&memory).flows.len();
        let judged = hook != ToHost
            && !(hook == FromHost && verdict == Verdict::Pass)
            && !matches!(verdict, Verdict::Drop(_));
        assert_eq!(flows, if judged { 2 } else { 0 }, "{name}: flow entries");
        if let Verdict::Drop(reason) = verdict {
            assert_eq!(
                memory.counts.borrow()[&(hook, Counted::Drop(reason))],
                1,
                "{name}: counted"
            );
        }
    }
}

#[test]
fn first_packets_are_judged_by_where_they_come_from_and_go() {
    first_packets::<V4>();
    first_packets::<V6>();
}

fn established<F: InMemory>() {
    let mut memory = world::<F>();
    let syn = tcp::<F>(CLIENT, POD, 80);
    assert_eq!(
        send(&mut memory, Hook::FromHost, FABRIC, &syn).0,
        Verdict::Peer
    );
    let asked = memory.asked.get();
    // The pod may not open a connection to port 40000 of its own... but it may answer, and no policy is asked.
    assert_eq!(
        send(
            &mut memory,
            Hook::FromWorkload,
            CONTAINER,
            &answer(&syn, SYN | ACK)
        )
        .0,
        Verdict::Redirect
    );
    let ack = Build {
        tcp_flags: ACK,
        ..syn.clone()
    };
    assert_eq!(
        send(&mut memory, Hook::FromHost, FABRIC, &ack).0,
        Verdict::Peer
    );
    assert_eq!(
        memory.asked.get(),
        asked,
        "an established flow asks no policy"
    );

    let flow = |memory: &Memory, build: &Build<F>| {
        let key = FlowKey {
            src: build.src,
            dst: build.dst,
            sport: build.sport.into(),
            dport: build.dport.into(),
            protocol: build.protocol,
            pad: [0; 3],
        };
        F::maps(memory).flows[&key]
    };
    let there = flow(&memory, &syn);
    assert_eq!(
        (there.packets, there.tcp_flags, there.flags),
        (2, SYN | ACK, Flow::ORIGINAL)
    );
    assert_eq!((there.ingress_rule, there.egress_rule), (3, Flow::NO_RULE));
    let back = flow(&memory, &answer(&syn, 0));
    assert_eq!(
        (back.packets, back.tcp_flags, back.from),
        (1, SYN | ACK, CONTAINER)
    );

    for flags in [FIN | ACK, RST] {
        send(
            &mut memory,
            Hook::FromHost,
            FABRIC,
            &Build {
                tcp_flags: flags,
                ..syn.clone()
            },
        );
    }
    assert_eq!(flow(&memory, &syn).tcp_flags, SYN | ACK | FIN | RST);

    // The port is closed by a new policy: old packets go on, a SYN is judged again.
    memory.ifaces.get_mut(&CONTAINER).unwrap().ingress = memory.ifaces[&TAP].ingress;
    assert_eq!(
        send(&mut memory, Hook::FromHost, FABRIC, &ack).0,
        Verdict::Peer
    );
    assert_eq!(
        send(&mut memory, Hook::FromHost, FABRIC, &syn).0,
        Verdict::Drop(Reason::Denied)
    );
    // The flow's packets from another interface are none of the flow's.
    assert_eq!(
        send(&mut memory, Hook::FromWorkload, TAP, &ack).0,
        Verdict::Drop(Reason::Spoofed)
    );
}

#[test]
fn a_flow_answers_for_itself_and_a_syn_is_judged_again() {
    established::<V4>();
    established::<V6>();
}

fn ways<F: InMemory>() {
    let mut memory = world::<F>();
    let syn = tcp::<F>(POD, REMOTE, 443);
    let ack = Build {
        tcp_flags: ACK,
        ..syn.clone()
    };
    assert_eq!(
        send(&mut memory, Hook::FromWorkload, CONTAINER, &syn).0,
        Verdict::Redirect
    );
    // The next hop dies: the cached way holds for a second, or until the generation is raised.
    memory.fib = Fib::Other;
    assert_eq!(
        send(&mut memory, Hook::FromWorkload, CONTAINER, &ack).0,
        Verdict::Redirect
    );
    memory.now += WAY_LIFETIME;
    assert_eq!(
        send(&mut memory, Hook::FromWorkload, CONTAINER, &ack).0,
        Verdict::Stack
    );
    memory.fib = Fib::Found;
    assert_eq!(
        send(&mut memory, Hook::FromWorkload, CONTAINER, &ack).0,
        Verdict::Stack
    );
    memory.config.as_mut().unwrap().generation += 1;
    assert_eq!(
        send(&mut memory, Hook::FromWorkload, CONTAINER, &ack).0,
        Verdict::Redirect
    );
    // An unresolved neighbour is asked for with every packet.
    memory.fib = Fib::NoNeighbour;
    memory.now += WAY_LIFETIME;
    assert_eq!(
        send(&mut memory, Hook::FromWorkload, CONTAINER, &ack).0,
        Verdict::Neigh
    );
    memory.fib = Fib::Found;
    assert_eq!(
        send(&mut memory, Hook::FromWorkload, CONTAINER, &ack).0,
        Verdict::Redirect
    );

    let slow = [
        (
            "the last hop",
            Build {
                ttl: 1,
                ..ack.clone()
            },
            Verdict::Stack,
        ),
        (
            "options",
            Build {
                options: 1,
                ..ack.clone()
            },
            if F::VERSION == 4 {
                Verdict::Stack
            } else {
                Verdict::Redirect
            },
        ),
        (
            "too big",
            Build {
                payload: vec![0; 1500],
                ..ack.clone()
            },
            Verdict::Stack,
        ),
        (
            "just fits",
            Build {
                payload: vec![0; if F::VERSION == 4 { 1460 } else { 1440 }],
                ..ack.clone()
            },
            Verdict::Redirect,
        ),
    ];
    for (name, build, expected) in slow {
        assert_eq!(
            send(&mut memory, Hook::FromWorkload, CONTAINER, &build).0,
            expected,
            "IPv{}: {name}",
            F::VERSION
        );
    }
    let mut segments = Frame {
        bytes: Build {
            payload: vec![0; 9000],
            ..ack
        }
        .frame(),
        ifindex: CONTAINER,
        segment_size: 1400,
        ..Frame::default()
    };
    let verdict = judge(
        Hook::FromWorkload,
        &mut segments,
        &mut memory,
        &mut MemoryRoom::default(),
        &mut Way::default(),
    );
    assert_eq!(verdict, Verdict::Redirect, "segments fit one by one");
    // A way out by an interface that is not ours is the stack's.
    memory.ifaces.remove(&FABRIC);
    assert_eq!(
        send(
            &mut memory,
            Hook::FromWorkload,
            CONTAINER,
            &tcp::<F>(POD, REMOTE, 444)
        )
        .0,
        Verdict::Stack
    );
}

#[test]
fn a_way_out_is_trusted_for_a_second_and_a_generation() {
    ways::<V4>();
    ways::<V6>();
}

fn icmp<F: InMemory>() {
    let mut memory = world::<F>();
    let (request, reply) = if F::VERSION == 4 {
        (0x0800, 0)
    } else {
        (0x8000, 0x8100)
    };
    let ping = Build {
        protocol: F::ICMP,
        sport: 7,
        dport: request,
        ..tcp::<F>(CLIENT, POD, 0)
    };
    assert_eq!(
        send(&mut memory, Hook::FromHost, FABRIC, &ping).0,
        Verdict::Peer
    );
    let pong = Build {
        src: ping.dst,
        dst: ping.src,
        dport: reply,
        ..ping.clone()
    };
    let asked = memory.asked.get();
    assert_eq!(
        send(&mut memory, Hook::FromWorkload, CONTAINER, &pong).0,
        Verdict::Redirect
    );
    assert_eq!(memory.asked.get(), asked);
    // An answer nobody asked for.
    let stray = Build {
        src: addr::<F>(CLIENT),
        dst: addr::<F>(POD),
        sport: 8,
        ..pong
    };
    assert_eq!(
        send(&mut memory, Hook::FromHost, FABRIC, &stray).0,
        Verdict::Drop(Reason::Denied)
    );

    // A router says that the pod's packet is too big; the router's address does not matter, the quoted flow does.
    let syn = tcp::<F>(POD, CLIENT, 443);
    assert_eq!(
        send(&mut memory, Hook::FromWorkload, CONTAINER, &syn).0,
        Verdict::Redirect
    );
    let too_big = if F::VERSION == 4 { 0x0304 } else { 0x0200 };
    let quote = |quoted: &Build<F>| {
        let mut packet = quoted.packet();
        packet.truncate(if F::VERSION == 4 { 28 } else { 48 });
        Build {
            protocol: F::ICMP,
            dport: too_big,
            payload: packet,
            ..tcp::<F>(STRANGER, POD, 0)
        }
    };
    let error = |build: &Build<F>| Build {
        dport: too_big,
        ..quote(build)
    };
    assert_eq!(
        send(&mut memory, Hook::FromHost, FABRIC, &error(&syn)).0,
        Verdict::Peer
    );
    let unrelated = Build {
        sport: 41_000,
        ..syn.clone()
    };
    assert_eq!(
        send(&mut memory, Hook::FromHost, FABRIC, &error(&unrelated)).0,
        Verdict::Drop(Reason::Denied)
    );
    let elsewhere = Build {
        dst: addr::<F>(VM),
        ..error(&syn)
    };
    assert_eq!(
        send(&mut memory, Hook::FromHost, FABRIC, &elsewhere).0,
        Verdict::Drop(Reason::Denied)
    );
}

#[test]
fn icmp_follows_the_flow_it_belongs_to() {
    icmp::<V4>();
    icmp::<V6>();
}

fn to_the_host<F: InMemory>() {
    let mut memory = world::<F>();
    let syn = tcp::<F>(HOST, POD, 8080);
    assert_eq!(
        send(&mut memory, Hook::ToWorkload, CONTAINER, &syn).0,
        Verdict::Pass
    );
    memory.config.as_mut().unwrap().flags = Config::ENDPOINT_TO_HOST_DROP;
    let reply = answer(&syn, SYN | ACK);
    assert_eq!(
        send(&mut memory, Hook::FromWorkload, CONTAINER, &reply).0,
        Verdict::Stack,
        "the answer passes"
    );
    let own = tcp::<F>(POD, HOST, 53);
    assert_eq!(
        send(&mut memory, Hook::FromWorkload, CONTAINER, &own).0,
        Verdict::Drop(Reason::EndpointToHost)
    );
    let dhcp = Build {
        protocol: UDP,
        sport: F::DHCP.0,
        payload: vec![0; 20],
        ..tcp::<F>(POD, HOST, F::DHCP.1)
    };
    assert_eq!(
        send(&mut memory, Hook::FromWorkload, CONTAINER, &dhcp).0,
        Verdict::Pass,
        "DHCP"
    );
    memory.ifaces.get_mut(&CONTAINER).unwrap().flags = 0;
    assert_eq!(
        send(&mut memory, Hook::FromWorkload, CONTAINER, &dhcp).0,
        Verdict::Drop(Reason::EndpointToHost)
    );
}

#[test]
fn the_host_is_reached_as_the_configuration_says_and_reaches_its_workloads() {
    to_the_host::<V4>();
    to_the_host::<V6>();
}

#[test]
fn dhcp_discovery_needs_no_address_of_its_own() {
    let mut memory = world::<V4>();
    let discover = Build::<V4> {
        dst: [255; 4],
        protocol: UDP,
        sport: 68,
        dport: 67,
        payload: vec![0; 240],
        ..Build::default()
    };
    assert_eq!(
        send(&mut memory, Hook::FromWorkload, TAP, &discover).0,
        Verdict::Pass
    );
    let other = Build {
        dport: 68,
        ..discover
    };
    assert_eq!(
        send(&mut memory, Hook::FromWorkload, TAP, &other).0,
        Verdict::Drop(Reason::Spoofed)
    );
}

#[test]
fn neighbour_discovery_passes_on_its_own_link_only() {
    let mut link_local = [0; 16];
    link_local[..2].copy_from_slice(&[0xfe, 0x80]);
    let solicit = Build::<V6> {
        src: link_local,
        dst: addr::<V6>(HOST),
        protocol: 58,
        dport: 135 << 8,
        ttl: 255,
        payload: vec![0; 24],
        ..Build::default()
    };
    let mut memory = world::<V6>();
    assert_eq!(
        send(&mut memory, Hook::FromWorkload, TAP, &solicit).0,
        Verdict::Pass
    );
    assert_eq!(
        send(&mut memory, Hook::ToWorkload, TAP, &solicit).0,
        Verdict::Pass
    );
    // Forwarded by a router: a way around the policy.
    let forwarded = Build {
        ttl: 254,
        src: addr::<V6>(CLIENT),
        dst: addr::<V6>(POD),
        ..solicit
    };
    assert_eq!(
        send(&mut memory, Hook::ToWorkload, CONTAINER, &forwarded).0,
        Verdict::Drop(Reason::Denied)
    );
}

fn fragments<F: InMemory>() {
    let mut memory = world::<F>();
    let first = Build {
        protocol: UDP,
        fragment: Some((0, true)),
        payload: vec![0; 32],
        ..tcp::<F>(CLIENT, POD, 80)
    };
    let later = Build {
        fragment: Some((4, false)),
        ..first.clone()
    };
    assert!(matches!(
        send(&mut memory, Hook::FromHost, FABRIC, &first).0,
        Verdict::Peer | Verdict::Stack
    ));
    assert_eq!(
        send(&mut memory, Hook::FromHost, FABRIC, &later).0,
        Verdict::Drop(Reason::Fragment)
    );
    let to_host = Build {
        dst: addr::<F>(HOST),
        ..later.clone()
    };
    assert_eq!(
        send(&mut memory, Hook::FromHost, FABRIC, &to_host).0,
        Verdict::Pass,
        "the host's own fragments"
    );
    let from_host = Build {
        src: addr::<F>(HOST),
        ..later
    };
    assert_eq!(
        send(&mut memory, Hook::ToWorkload, CONTAINER, &from_host).0,
        Verdict::Pass
    );
}

#[test]
fn later_fragments_drop_with_a_reason_of_their_own() {
    fragments::<V4>();
    fragments::<V6>();
}

fn full<F: InMemory>() {
    let mut memory = Memory {
        room: 1,
        ..world::<F>()
    };
    let syn = tcp::<F>(CLIENT, POD, 80);
    for _ in 0..2 {
        assert_eq!(
            send(&mut memory, Hook::FromHost, FABRIC, &syn).0,
            Verdict::Peer
        );
    }
    assert_eq!(
        memory.counts.borrow()[&(Hook::FromHost, Counted::Note(Note::FlowTableFull))],
        2
    );
}

#[test]
fn a_full_flow_table_lets_allowed_packets_pass() {
    full::<V4>();
    full::<V6>();
}

#[test]
fn frames_that_are_not_ip_pass_or_drop_by_where_they_are() {
    let frame = |kind: [u8; 2]| {
        let mut bytes = vec![0; 60];
        bytes[12..14].copy_from_slice(&kind);
        bytes
    };
    let cases = [
        (
            "ARP from a workload",
            Hook::FromWorkload,
            [0x08, 0x06],
            false,
            Verdict::Pass,
        ),
        (
            "ARP from the fabric",
            Hook::FromHost,
            [0x08, 0x06],
            false,
            Verdict::Pass,
        ),
        (
            "LLDP from a workload",
            Hook::FromWorkload,
            [0x88, 0xcc],
            false,
            Verdict::Drop(Reason::NotIp),
        ),
        (
            "LLDP from the fabric",
            Hook::FromHost,
            [0x88, 0xcc],
            false,
            Verdict::Pass,
        ),
        (
            "a tagged frame of a workload",
            Hook::FromWorkload,
            [0x81, 0],
            false,
            Verdict::Drop(Reason::Vlan),
        ),
        (
            "a doubly tagged frame of a workload",
            Hook::FromWorkload,
            [0x88, 0xa8],
            false,
            Verdict::Drop(Reason::Vlan),
        ),
        (
            "a frame whose tag was taken off",
            Hook::FromWorkload,
            [0x08, 0],
            true,
            Verdict::Drop(Reason::Vlan),
        ),
        (
            "a tagged frame from the fabric",
            Hook::FromHost,
            [0x81, 0],
            false,
            Verdict::Pass,
        ),
    ];
    for (name, hook, kind, vlan_tag, expected) in cases {
        let mut packet = Frame {
            bytes: frame(kind),
            vlan_tag,
            ifindex: TAP,
            ..Frame::default()
        };
        let mut memory = world::<V4>();
        let verdict = judge(
            hook,
            &mut packet,
            &mut memory,
            &mut MemoryRoom::default(),
            &mut Way::default(),
        );
        assert_eq!(verdict, expected, "{name}");
    }
}

#[test]
fn a_judged_packet_is_not_judged_again() {
    for hook in [Hook::ToWorkload, Hook::ToHost] {
        let mut memory = world::<V4>();
        let mut packet = Frame {
            bytes: tcp::<V4>(POD, VM, 23).frame(),
            ifindex: TAP,
            mark: DEFAULT_MARK,
            ..Frame::default()
        };
        let verdict = judge(
            hook,
            &mut packet,
            &mut memory,
            &mut MemoryRoom::default(),
            &mut Way::default(),
        );
        assert_eq!(verdict, Verdict::Stack);
        assert_eq!(memory.asked.get(), 0);
    }
    // A mark on what comes in is worth nothing.
    let mut memory = world::<V4>();
    let mut packet = Frame {
        bytes: tcp::<V4>(POD, VM, 23).frame(),
        ifindex: CONTAINER,
        mark: DEFAULT_MARK,
        ..Frame::default()
    };
    let verdict = judge(
        Hook::FromWorkload,
        &mut packet,
        &mut memory,
        &mut MemoryRoom::default(),
        &mut Way::default(),
    );
    assert_eq!(verdict, Verdict::Drop(Reason::Denied));
}

#[test]
fn without_configuration_everything_drops() {
    let mut memory = Memory {
        config: None,
        ..world::<V4>()
    };
    for &hook in Hook::ALL {
        let mut packet = Frame {
            bytes: tcp::<V4>(CLIENT, POD, 80).frame(),
            ..Frame::default()
        };
        let verdict = judge(
            hook,
            &mut packet,
            &mut memory,
            &mut MemoryRoom::default(),
            &mut Way::default(),
        );
        assert_eq!(verdict, Verdict::Drop(Reason::NoConfig));
    }
}
