//! Fragments, frames that are not IP, and a world without configuration.

use super::*;

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
