//! Errors, discovery and what comes before an address.

use super::*;

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
