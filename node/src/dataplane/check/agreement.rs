//! Random tables and frames through the kernel and the library: verdict, bytes, mark and flows must agree; and long policies.

use std::collections::BTreeSet;

use cleat_bpf::{
    Config, Facts, FactsKind, Flow, FlowKey, Hook, Iface, IfaceKind, NetKey, Way,
    build::Build,
    memory::{Frame, InMemory, Memory, MemoryRoom},
    packet::SYN,
    policy::{Clause, Decision, encode},
    verdict::{DEFAULT_MARK, Verdict, judge},
};

use super::{
    LOOPBACK, Outcome, World, equal, fabric, hex,
    random::{Random, holds, random_clause, random_frame, random_query, random_tables},
    rounds, small, text,
};
use crate::{
    dataplane::{Dataplane, Flows, HashTable, Options, TrieTable, monotonic, sys},
    reconcile::Table,
};

pub(super) fn the_kernel_judges_ipv4_as_the_host_does() -> Outcome {
    agreement::<cleat_bpf::V4>("v4")
}

pub(super) fn the_kernel_judges_ipv6_as_the_host_does() -> Outcome {
    agreement::<cleat_bpf::V6>("v6")
}

/// Random tables and packets through every hook.
fn agreement<F: InMemory>(name: &str) -> Outcome {
    let world = World::new(name)?;
    let dataplane = world.open(&small())?;
    let out = fabric()?;
    let mut random = Random(0x5eed + F::VERSION as u64);
    let mut seen = BTreeSet::new();
    for round in 0..rounds(60) {
        let mut host = random_tables::<F>(&mut random, &out);
        let mut maps = Maps::<F>::write(&dataplane, &mut host)?;
        for step in 0..40 {
            let hook = Hook::ALL[random.below(4) as usize];
            let frame = random_frame::<F>(&mut random);
            let mark = if random.one_in(5) {
                DEFAULT_MARK | 7
            } else {
                7
            };
            let told =
                compare(&dataplane, &mut host, &mut maps, hook, &frame, mark).map_err(|error| {
                    format!(
                        "round {round}, step {step}, {hook}: {error}\nframe {}",
                        hex(&frame)
                    )
                })?;
            seen.insert(format!("{told:?}"));
        }
        maps.clear()?;
    }
    // The property is worth nothing if the packets do not reach the decision's corners.
    for verdict in [
        "Peer",
        "Redirect",
        "Stack",
        "Pass",
        "Drop(Denied)",
        "Drop(Spoofed)",
        "Drop(Fragment)",
        "Drop(NoFacts)",
        "Drop(Unseen)",
    ] {
        if !seen.contains(verdict) {
            return Err(format!("no packet came to {verdict}: {seen:?}"));
        }
    }
    Ok(())
}

/// Runs one frame through both and compares all that can be seen.
fn compare<F: InMemory>(
    dataplane: &Dataplane,
    host: &mut Memory,
    maps: &mut Maps<F>,
    hook: Hook,
    frame: &[u8],
    mark: u32,
) -> Result<Verdict, String> {
    host.now = monotonic();
    let mut packet = Frame {
        bytes: frame.to_vec(),
        ifindex: LOOPBACK,
        mark,
        // In a test run the station is the loopback device, whose address is zero.
        for_another_host: frame[..6] != [0; 6] && frame[0] & 1 == 0,
        ..Frame::default()
    };
    let mut way = Way::default();
    let verdict = judge(
        hook,
        &mut packet,
        host,
        &mut MemoryRoom::default(),
        &mut way,
    );
    let kernel = sys::test_run(dataplane.program(hook), frame, LOOPBACK, mark, 1).map_err(text)?;

    let expected = match verdict {
        Verdict::Pass | Verdict::Stack => -1,
        Verdict::Drop(_) => 2,
        Verdict::Peer | Verdict::Redirect | Verdict::Neigh => 7,
    };
    let about = || format!("host says {verdict:?} by {way:?}");
    equal(&format!("verdict, {}", about()), &kernel.verdict, &expected)?;
    equal(&format!("bytes, {}", about()), &kernel.frame, &packet.bytes)?;
    let mark = match verdict {
        Verdict::Pass => mark & !DEFAULT_MARK,
        Verdict::Stack | Verdict::Redirect | Verdict::Neigh => mark | DEFAULT_MARK,
        Verdict::Peer | Verdict::Drop(_) => mark,
    };
    equal(&format!("mark, {}", about()), &kernel.mark, &mark)?;
    let mut theirs = maps.flows.list().map_err(text)?;
    theirs.sort_unstable_by_key(|(key, _)| *key);
    let timeless = |(key, mut flow): (FlowKey<F>, Flow)| {
        (flow.last_seen, flow.created, flow.way.since) = (0, 0, 0);
        (key, flow)
    };
    let theirs: Vec<_> = theirs.into_iter().map(timeless).collect();
    let ours: Vec<_> = F::maps(host)
        .flows
        .iter()
        .map(|(key, flow)| timeless((*key, *flow)))
        .collect();
    if theirs != ours {
        let only = |a: &[(FlowKey<F>, Flow)], b: &[(FlowKey<F>, Flow)]| -> Vec<_> {
            a.iter()
                .filter(|entry| !b.contains(entry))
                .copied()
                .collect()
        };
        return Err(format!(
            "flows, {}:\n in the kernel {:?}\n on the host {:?}",
            about(),
            only(&theirs, &ours),
            only(&ours, &theirs)
        ));
    }
    Ok(verdict)
}

/// A family's maps in the kernel, filled from memory.
pub(super) struct Maps<F: InMemory> {
    pub(super) flows: Flows<F>,
    facts: HashTable<F::Addr, Facts>,
    nets: TrieTable<NetKey<F>, Facts>,
    ifaces: HashTable<u32, Iface>,
}

impl<F: InMemory> Maps<F> {
    pub(super) fn write(dataplane: &Dataplane, host: &mut Memory) -> Result<Self, String> {
        let mut maps = Self {
            flows: dataplane.flows().map_err(text)?,
            facts: dataplane.facts_table::<F>().map_err(text)?,
            nets: dataplane.nets_table::<F>().map_err(text)?,
            ifaces: dataplane.iface_table().map_err(text)?,
        };
        let arena = dataplane.words().map_err(text)?;
        let words: Vec<(u32, u64)> = (0..).zip(host.words.borrow().iter().copied()).collect();
        arena.patch(0, &words);
        let family = F::maps(host);
        for (key, value) in &family.facts {
            maps.facts.put(key, value).map_err(text)?;
        }
        for (key, value) in &family.nets {
            maps.nets.put(key, value).map_err(text)?;
        }
        for (key, flow) in &family.flows {
            maps.flows.put(key, flow).map_err(text)?;
        }
        for (ifindex, iface) in &host.ifaces {
            maps.ifaces.put(ifindex, iface).map_err(text)?;
        }
        let config = host.config.unwrap_or_default();
        dataplane
            .set_endpoint_to_host_drop(config.flags != 0)
            .map_err(text)?;
        // The kernel's generation is where earlier rounds left it; ours follows.
        let generation = dataplane.config().map_err(text)?.generation;
        host.config = Some(Config {
            generation,
            ..config
        });
        Ok(maps)
    }

    pub(super) fn clear(&mut self) -> Outcome {
        for (key, _) in self.facts.dump().map_err(text)? {
            self.facts.delete(&key).map_err(text)?;
        }
        for (key, _) in self.nets.dump().map_err(text)? {
            self.nets.delete(&key).map_err(text)?;
        }
        for (key, _) in self.ifaces.dump().map_err(text)? {
            self.ifaces.delete(&key).map_err(text)?;
        }
        for (key, _) in self.flows.list().map_err(text)? {
            self.flows.map.delete(&key).map_err(text)?;
        }
        Ok(())
    }
}

pub(super) fn the_kernel_reads_long_policies_as_the_host_does() -> Outcome {
    let world = World::new("policy")?;
    let dataplane = world.open(&Options {
        words: 1 << 21,
        ..small()
    })?;
    let mut random = Random(0xb10b);
    let mut arena = dataplane.words().map_err(text)?;
    for clauses in [1, 63, 64, 65, 700, 4097] {
        let list: Vec<Clause> = (0..clauses)
            .map(|i| random_clause(&mut random, i, clauses))
            .collect();
        let blob = encode(&list, 1..=200, &holds).map_err(text)?;
        let base = arena.write(&blob, monotonic()).map_err(text)?;
        // The whole path: a workload's packet to the outside, of which only the policy decides.
        let iface = Iface {
            kind: IfaceKind::Tap as u8,
            egress: base,
            ..Iface::default()
        };
        let mut ifaces = dataplane.iface_table().map_err(text)?;
        let mut facts = dataplane.facts_table::<cleat_bpf::V4>().map_err(text)?;
        ifaces.put(&LOOPBACK, &iface).map_err(text)?;
        for _ in 0..rounds(60) {
            let query = random_query(&mut random);
            facts
                .put(&[10, 0, 0, 1], &Facts::local(LOOPBACK, query.src_class))
                .map_err(text)?;
            facts
                .put(
                    &[10, 0, 0, 2],
                    &Facts::new(FactsKind::ThisHost, query.dst_class),
                )
                .map_err(text)?;
            let frame = Build::<cleat_bpf::V4> {
                src: [10, 0, 0, 1],
                dst: [10, 0, 0, 2],
                protocol: query.protocol,
                sport: query.sport,
                dport: query.l4,
                // A reset would be no new flow; a SYN is judged every time.
                tcp_flags: SYN,
                payload: vec![0; 20],
                ..Build::default()
            }
            .frame();
            for (key, _) in dataplane
                .flows::<cleat_bpf::V4>()
                .map_err(text)?
                .list()
                .map_err(text)?
            {
                dataplane
                    .flows::<cleat_bpf::V4>()
                    .map_err(text)?
                    .map
                    .delete(&key)
                    .map_err(text)?;
            }
            let hits: Vec<u64> = (0..clauses)
                .map(|i| arena.read(base + blob.hit_index(i)))
                .collect();
            let ran = sys::test_run(
                dataplane.program(Hook::FromWorkload),
                &frame,
                LOOPBACK,
                0,
                1,
            )
            .map_err(text)?;
            let answer = blob.ask(query);
            let expected = if matches!(answer, Decision::Allow(_)) {
                -1
            } else {
                2
            };
            equal(
                &format!("{clauses} clauses, {query:?} -> {answer:?}"),
                &ran.verdict,
                &expected,
            )?;
            let hit: Vec<u32> = (0..clauses)
                .filter(|&i| arena.read(base + blob.hit_index(i)) != hits[i as usize])
                .collect();
            let decided = match answer {
                Decision::Allow(rule) | Decision::Drop(_, rule) => rule,
            };
            let last = hit
                .last()
                .map_or(Decision::NO_RULE, |&i| list[i as usize].rule);
            if answer != Decision::Drop(cleat_bpf::Reason::NoRule, Decision::NO_RULE) {
                equal("the deciding clause counted its hit", &last, &decided)?;
            }
        }
        arena.free(base, monotonic());
    }
    Ok(())
}
