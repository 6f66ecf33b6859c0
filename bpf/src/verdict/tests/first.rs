//! First packets, and those to and from the host.

use super::*;

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
