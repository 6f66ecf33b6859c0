//! What the fuzzer runs. `cargo test` replays its corpus through the same function.

use crate::{
    family::V6,
    maps::{Facts, FactsKind, Iface, IfaceKind, NetKey, Way},
    memory::{Frame, InMemory, Memory, MemoryRoom},
    policy::{Clause, ClauseAction, ProtocolSet, encode},
    reason::Hook,
    verdict::{Fib, Verdict, judge},
};

/// Judges a frame at every hook, twice, so that the second time meets the flows of the first. The first byte chooses
/// what the interface is; the rest is the frame.
pub fn packet_into_verdict(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else {
        return;
    };
    let mut memory = world(choice);
    for &hook in Hook::ALL.iter().chain(Hook::ALL) {
        let mut frame = Frame {
            bytes: bytes.to_vec(),
            ifindex: 1,
            ..Frame::default()
        };
        let mut way = Way::default();
        let verdict = judge(
            hook,
            &mut frame,
            &mut memory,
            &mut MemoryRoom::default(),
            &mut way,
        );
        assert_eq!(
            frame.bytes.len(),
            bytes.len(),
            "a verdict changes no length"
        );
        let forwards = matches!(verdict, Verdict::Peer | Verdict::Redirect | Verdict::Neigh);
        if forwards {
            assert_ne!(way.ifindex, 0, "a packet is sent somewhere");
        } else {
            assert_eq!(frame.bytes, bytes, "what is not forwarded is not changed");
        }
        if matches!(hook, Hook::ToWorkload | Hook::ToHost) {
            assert!(!forwards, "egress hooks do not forward");
        }
    }
    check_flows::<crate::V4>(&memory);
    check_flows::<V6>(&memory);
}

/// Whatever came in, flows come in pairs.
fn check_flows<F: InMemory>(memory: &Memory) {
    let flows = &F::maps(memory).flows;
    for key in flows.keys() {
        assert!(
            flows.contains_key(&key.reversed()),
            "{key:?} has no answers"
        );
    }
}

fn world(choice: u8) -> Memory {
    let mut memory = Memory {
        fib: [Fib::Found, Fib::NoNeighbour, Fib::Other][choice as usize % 3],
        next_hop: Way {
            ifindex: 2,
            mtu: 1500,
            ..Way::default()
        },
        ..Memory::default()
    };
    let clause = |protocols, action, rule| Clause {
        src: None,
        dst: None,
        protocols,
        l4: None,
        sport: None,
        action,
        rule,
    };
    let list = [
        clause(ProtocolSet::only(47), ClauseAction::Deny, 1),
        clause(ProtocolSet::ANY, ClauseAction::Allow, 2),
    ];
    if let Ok(blob) = encode(&list, 1..=3, &|_, _| true) {
        let base = memory.add_blob(blob.words());
        let kind = if choice & 4 == 0 {
            IfaceKind::Container
        } else {
            IfaceKind::Tap
        };
        let iface = Iface {
            kind: kind as u8,
            flags: choice >> 3 & 1,
            mtu: 1500,
            egress: base,
            ingress: base,
            ..Iface::default()
        };
        memory.ifaces.insert(1, iface);
    }
    memory.ifaces.insert(
        2,
        Iface {
            kind: IfaceKind::Host as u8,
            ..Iface::default()
        },
    );
    fill::<crate::V4>(&mut memory, choice);
    fill::<V6>(&mut memory, choice);
    memory
}

/// The lower half of the addresses is the workload's, the rest is outside; or the other way round.
fn fill<F: InMemory>(memory: &mut Memory, choice: u8) {
    let mut upper = F::Addr::default();
    zerocopy::IntoBytes::as_mut_bytes(&mut upper)[0] = 0x80;
    let nets = &mut F::maps_mut(memory).nets;
    let outside = if choice & 32 == 0 {
        FactsKind::Outside
    } else {
        FactsKind::ThisHost
    };
    let (low, high) = (Facts::local(1, 1), Facts::new(outside, 2));
    let (low, high) = if choice & 16 == 0 {
        (low, high)
    } else {
        (high, low)
    };
    nets.insert(NetKey::new(F::Addr::default(), 0), low);
    nets.insert(NetKey::new(upper, 1), high);
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use proptest::prelude::*;

    use super::*;
    use crate::{build::Build, family::V4, packet::UDP};

    #[test]
    fn the_corpus_is_judged_without_a_panic() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/packet_into_verdict");
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            for (name, bytes) in seeds() {
                fs::write(dir.join(name), bytes).unwrap();
            }
        }
        let inputs: Vec<_> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(inputs.len() >= seeds().len(), "the corpus is missing");
        for input in inputs {
            packet_into_verdict(&fs::read(input).unwrap());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(data in prop::collection::vec(any::<u8>(), 0..200)) {
            packet_into_verdict(&data);
        }

        #[test]
        fn damaged_packets_are_judged_without_a_panic(
            seed in any::<prop::sample::Index>(),
            choice in any::<u8>(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let seeds = seeds();
            let mut bytes = seeds[seed.index(seeds.len())].1.clone();
            bytes[0] = choice;
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let cut = bytes.len() - cut.index(bytes.len().min(30));
            packet_into_verdict(&bytes[..cut]);
        }
    }

    /// One packet of each shape and family.
    fn seeds() -> Vec<(String, Vec<u8>)> {
        let mut seeds = family::<V4>([10, 0, 0, 1], [192, 0, 2, 1]);
        let (mut low, mut high) = ([0; 16], [0; 16]);
        (low[0], high[0]) = (0x20, 0xfd);
        seeds.extend(family::<V6>(low, high));
        seeds
    }

    fn family<F: InMemory>(src: F::Addr, dst: F::Addr) -> Vec<(String, Vec<u8>)> {
        let plain = Build::<F> {
            src,
            dst,
            ..Build::default()
        };
        let quoted = Build {
            src: dst,
            dst: src,
            ..plain.clone()
        }
        .packet();
        let error = if F::VERSION == 4 { 0x0304 } else { 0x0200 };
        let builds = [
            ("tcp", plain.clone()),
            (
                "udp",
                Build {
                    protocol: UDP,
                    payload: vec![1; 9],
                    ..plain.clone()
                },
            ),
            (
                "sctp",
                Build {
                    protocol: 132,
                    payload: vec![1; 9],
                    ..plain.clone()
                },
            ),
            (
                "echo",
                Build {
                    protocol: F::ICMP,
                    dport: if F::VERSION == 4 { 0x0800 } else { 0x8000 },
                    ..plain.clone()
                },
            ),
            (
                "error",
                Build {
                    protocol: F::ICMP,
                    dport: error,
                    payload: quoted,
                    ..plain.clone()
                },
            ),
            (
                "options",
                Build {
                    options: 3,
                    ..plain.clone()
                },
            ),
            (
                "many-options",
                Build {
                    options: 7,
                    ..plain.clone()
                },
            ),
            (
                "first-fragment",
                Build {
                    fragment: Some((0, true)),
                    ..plain.clone()
                },
            ),
            (
                "later-fragment",
                Build {
                    fragment: Some((9, false)),
                    ..plain.clone()
                },
            ),
            (
                "gre",
                Build {
                    protocol: 47,
                    ..plain.clone()
                },
            ),
            ("last-hop", Build { ttl: 1, ..plain }),
        ];
        let named = |(name, build): (&str, Build<F>)| {
            (
                format!("v{}-{name}", F::VERSION),
                [vec![0], build.frame()].concat(),
            )
        };
        builds.into_iter().map(named).collect()
    }
}
