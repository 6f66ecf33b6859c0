//! What kinds of packets cost.

use std::io;

use cleat_bpf::{
    Facts, FactsKind, Flow, FlowKey, Hook, Iface, IfaceKind, Way,
    build::Build,
    memory::{InMemory, Memory},
    packet::{ACK, SYN, TCP, UDP},
    policy::{Clause, ClauseAction, ProtocolSet, encode},
};

use super::{LOOPBACK, Outcome, World, agreement::Maps, fabric, random::address, small, text};
use crate::dataplane::{Dataplane, sys};

/// Nanoseconds of a test run by kind of packet, the cost of an empty run included. Not a check: machines differ.
pub fn times() -> Result<Vec<(String, u32)>, String> {
    let world = World::new("times")?;
    let dataplane = world.open(&small())?;
    let out = fabric()?;
    let mut times = Vec::new();
    let arp = [vec![0; 12], vec![8, 6], vec![0; 46]].concat();
    let run = |frame: &[u8], hook| -> Result<u32, String> {
        // A run is repeated on one and the same frame, which dies of old age after 255 hops.
        let runs =
            (0..2000).map(|_| sys::test_run(dataplane.program(hook), frame, LOOPBACK, 0, 200));
        let mut times: Vec<u32> = runs
            .map(|run| run.map(|run| run.duration))
            .collect::<io::Result<_>>()
            .map_err(text)?;
        times.sort_unstable();
        Ok(times[times.len() / 4])
    };
    times.push(("ARP".to_owned(), run(&arp, Hook::FromWorkload)?));
    time_family::<cleat_bpf::V4>(&dataplane, &out, &run, &mut times)?;
    time_family::<cleat_bpf::V6>(&dataplane, &out, &run, &mut times)?;
    Ok(times)
}

/// Times a frame at a hook.
type Run<'a> = &'a dyn Fn(&[u8], Hook) -> Result<u32, String>;

fn time_family<F: InMemory>(
    dataplane: &Dataplane,
    out: &Way,
    run: Run<'_>,
    times: &mut Vec<(String, u32)>,
) -> Outcome {
    let mut memory = Memory::default();
    let list: Vec<Clause> = (0..10)
        .map(|i| Clause {
            src: Some(0),
            dst: None,
            protocols: ProtocolSet::only(TCP),
            l4: Some(vec![i..=i]),
            sport: None,
            action: ClauseAction::Deny,
            rule: u32::from(i),
        })
        .chain([Clause {
            src: None,
            dst: None,
            protocols: ProtocolSet::only(UDP),
            l4: None,
            sport: None,
            action: ClauseAction::Allow,
            rule: 10,
        }])
        .collect();
    let base = memory.add_blob(encode(&list, 1..=2, &|_, _| true).map_err(text)?.words());
    let iface = Iface {
        kind: IfaceKind::Tap as u8,
        egress: base,
        ingress: base,
        ..Iface::default()
    };
    memory.ifaces.insert(LOOPBACK, iface);
    memory.ifaces.insert(
        out.ifindex,
        Iface {
            kind: IfaceKind::Host as u8,
            ..Iface::default()
        },
    );
    let (src, dst) = (address::<F>(1), address::<F>(2));
    F::maps_mut(&mut memory)
        .facts
        .insert(src, Facts::local(LOOPBACK, 1));
    F::maps_mut(&mut memory)
        .facts
        .insert(dst, Facts::new(FactsKind::RemoteWorkload, 2));
    let maps = Maps::<F>::write(dataplane, &mut memory)?;
    for (name, protocol) in [("TCP", TCP), ("UDP", UDP)] {
        let key = FlowKey {
            src,
            dst,
            sport: 40_000.into(),
            dport: 80.into(),
            protocol,
            pad: [0; 3],
        };
        maps.flows
            .put(
                &key,
                &Flow {
                    from: LOOPBACK,
                    tcp_flags: 0xff,
                    ..Flow::default()
                },
            )
            .map_err(text)?;
        let build = Build::<F> {
            src,
            dst,
            protocol,
            tcp_flags: ACK,
            ttl: 255,
            payload: vec![0; 64],
            ..Build::default()
        };
        times.push((
            format!("IPv{} {name}, established", F::VERSION),
            run(&build.frame(), Hook::FromWorkload)?,
        ));
        if protocol == TCP {
            let syn = Build {
                tcp_flags: SYN,
                sport: 50_000,
                ..build
            };
            times.push((
                format!("IPv{} {name}, first", F::VERSION),
                run(&syn.frame(), Hook::FromWorkload)?,
            ));
        }
    }
    Ok(())
}
