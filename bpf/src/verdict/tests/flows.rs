//! Packets of flows that are known.

use super::*;

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
