//! The kernel held against the host library: the claims that the kernel ring and the kernel matrix check.
//!
//! Each check makes a network namespace for its thread and a pin directory of its own, and removes both. The same tables are
//! written to the maps and to [`Memory`], the same frames go through `BPF_PROG_TEST_RUN` and through [`judge`], and verdict,
//! bytes, mark and flow table must agree.

use std::{
    collections::BTreeSet, fmt::Debug, fs, io, os::fd::AsFd, path::PathBuf, process::Command,
};

use cleat_bpf::{
    Config, Counted, Facts, FactsKind, Flow, FlowKey, Hook, Iface, IfaceKind, Macs, NetKey, Way,
    WayKind,
    build::Build,
    memory::{Frame, InMemory, Memory, MemoryRoom},
    packet::{ACK, FIN, RST, SYN, TCP, UDP},
    policy::{Clause, ClauseAction, Decision, Learn, ProtocolSet, Query, encode},
    verdict::{DEFAULT_MARK, Fib, Verdict, judge},
};

use super::{AttachMode, Dataplane, Hooks, Options, monotonic, sys};
use crate::reconcile::Table;

/// Why a check failed, in words.
pub type Outcome = Result<(), String>;

/// A check: name and body.
pub type Check = (&'static str, fn() -> Outcome);

/// All checks, cheap to dear.
pub const CHECKS: &[Check] = &[
    (
        "every_program_loads_within_its_budget",
        every_program_loads_within_its_budget,
    ),
    (
        "programs_attach_and_are_replaced_in_place",
        programs_attach_and_are_replaced_in_place,
    ),
    (
        "clsact_filters_attach_and_are_replaced_in_place",
        clsact_filters_attach_and_are_replaced_in_place,
    ),
    (
        "the_kernel_judges_ipv4_as_the_host_does",
        the_kernel_judges_ipv4_as_the_host_does,
    ),
    (
        "the_kernel_judges_ipv6_as_the_host_does",
        the_kernel_judges_ipv6_as_the_host_does,
    ),
    (
        "the_kernel_reads_long_policies_as_the_host_does",
        the_kernel_reads_long_policies_as_the_host_does,
    ),
    (
        "a_second_opening_finds_maps_flows_and_blobs",
        a_second_opening_finds_maps_flows_and_blobs,
    ),
    (
        "a_full_flow_table_lets_allowed_packets_pass",
        a_full_flow_table_lets_allowed_packets_pass,
    ),
];

/// Instructions the verifier may walk for a program.
pub const CEILING: u32 = 150_000;

/// A network namespace for this thread and a pin directory, both gone when it is dropped.
struct World {
    pins: PathBuf,
}

impl World {
    fn new(name: &str) -> Result<Self, String> {
        // SAFETY: changes the network namespace of this thread alone.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return Err(format!("unshare: {}", io::Error::last_os_error()));
        }
        let pins = PathBuf::from(format!(
            "/sys/fs/bpf/cleat-check-{}-{name}",
            std::process::id()
        ));
        Ok(Self { pins })
    }

    fn open(&self, options: &Options) -> Result<Dataplane, String> {
        Dataplane::open(&self.pins, options).map_err(|error| chain(&error))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for dir in fs::read_dir(&self.pins).into_iter().flatten().flatten() {
            for pin in fs::read_dir(dir.path()).into_iter().flatten().flatten() {
                let _ = fs::remove_file(pin.path());
            }
            let _ = fs::remove_dir(dir.path());
        }
        let _ = fs::remove_dir(&self.pins);
    }
}

fn small() -> Options {
    Options {
        interfaces: 64,
        facts: 1024,
        nets: 1024,
        words: 1 << 18,
        flows4: 4096,
        flows6: 4096,
        classes: 1024,
        ..Options::default()
    }
}

fn every_program_loads_within_its_budget() -> Outcome {
    let world = World::new("load")?;
    let dataplane = world.open(&small())?;
    let mut over = Vec::new();
    for &hook in Hook::ALL {
        let verified = dataplane.verified(hook);
        // Part of what the check is for: the numbers belong into the log of every run.
        tracing::info!(%hook, verified, "verified");
        #[expect(
            clippy::print_stdout,
            reason = "the kernel ring and the matrix show these numbers"
        )]
        {
            println!("  {hook}: {verified} instructions verified");
        }
        if verified > CEILING {
            over.push(format!("{hook}: {verified} > {CEILING}"));
        }
    }
    if over.is_empty() {
        Ok(())
    } else {
        Err(over.join(", "))
    }
}

fn programs_attach_and_are_replaced_in_place() -> Outcome {
    attach_and_replace("attach", false)
}

fn clsact_filters_attach_and_are_replaced_in_place() -> Outcome {
    attach_and_replace("clsact", true)
}

fn attach_and_replace(name: &str, clsact: bool) -> Outcome {
    let world = World::new(name)?;
    let options = Options { clsact, ..small() };
    let dataplane = world.open(&options)?;
    ip("link add w0 type veth peer name w1")?;
    ip("link add h0 type veth peer name h1")?;
    let (workload, host) = (ifindex("w0")?, ifindex("h0")?);
    let wanted = vec![(workload, Hooks::Workload), (host, Hooks::Host)];

    let mut table = dataplane.attach_table();
    let shown = |table: &mut super::AttachTable| -> Result<_, String> {
        let mut shown = table.dump().map_err(text)?;
        shown.sort_unstable();
        Ok(shown)
    };
    equal("before anything is attached", &shown(&mut table)?, &vec![])?;
    for (ifindex, hooks) in &wanted {
        table.put(ifindex, hooks).map_err(text)?;
    }
    equal("after attaching", &shown(&mut table)?, &wanted)?;
    drop(table);
    drop(dataplane);

    // Another process: what is attached is not its own, until it is replaced in place.
    let dataplane = world.open(&options)?;
    let mut table = dataplane.attach_table();
    let partial = vec![(workload, Hooks::Partial), (host, Hooks::Partial)];
    equal("after reopening", &shown(&mut table)?, &partial)?;
    for (ifindex, hooks) in &wanted {
        table.put(ifindex, hooks).map_err(text)?;
    }
    equal("after replacing", &shown(&mut table)?, &wanted)?;

    // Somebody takes one of ours off.
    if dataplane.attach_mode() == AttachMode::Tcx {
        fs::remove_file(world.pins.join("links").join(format!("{workload}-egress")))
            .map_err(text)?;
    } else {
        super::clsact::detach(workload, false).map_err(text)?;
    }
    equal(
        "after a foreign detach",
        &shown(&mut table)?,
        &vec![(workload, Hooks::Partial), (host, Hooks::Host)],
    )?;
    table.put(&workload, &Hooks::Workload).map_err(text)?;
    equal("after the repair", &shown(&mut table)?, &wanted)?;

    ip("link del h0")?;
    eventually("the link of a gone interface", || {
        Ok(shown(&mut table)? == vec![wanted[0]])
    })?;
    table.delete(&workload).map_err(text)?;
    table.delete(&host).map_err(text)?;
    equal("after detaching", &shown(&mut table)?, &vec![])
}

fn the_kernel_judges_ipv4_as_the_host_does() -> Outcome {
    agreement::<cleat_bpf::V4>("v4")
}

fn the_kernel_judges_ipv6_as_the_host_does() -> Outcome {
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
struct Maps<F: InMemory> {
    flows: super::Flows<F>,
    facts: super::HashTable<F::Addr, Facts>,
    nets: super::TrieTable<NetKey<F>, Facts>,
    ifaces: super::HashTable<u32, Iface>,
}

impl<F: InMemory> Maps<F> {
    fn write(dataplane: &Dataplane, host: &mut Memory) -> Result<Self, String> {
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

    fn clear(&mut self) -> Outcome {
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

fn the_kernel_reads_long_policies_as_the_host_does() -> Outcome {
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

fn a_second_opening_finds_maps_flows_and_blobs() -> Outcome {
    let world = World::new("adopt")?;
    let options = small();
    let dataplane = world.open(&options)?;
    let mut arena = dataplane.words().map_err(text)?;
    let allow = Clause {
        src: None,
        dst: None,
        protocols: ProtocolSet::ANY,
        l4: None,
        sport: None,
        action: ClauseAction::Allow,
        rule: 1,
    };
    let mut blob = encode(&[allow], 1..=3, &holds).map_err(text)?;
    let base = arena.write(&blob, monotonic()).map_err(text)?;
    let Learn::InPlace(words) = blob.learn(4, &holds) else {
        return Err("class 4 needs a new row".into());
    };
    arena.patch(base, &words);
    let iface = Iface {
        egress: base,
        ..Iface::default()
    };
    dataplane
        .iface_table()
        .map_err(text)?
        .put(&9, &iface)
        .map_err(text)?;
    let key = FlowKey::<cleat_bpf::V6> {
        protocol: UDP,
        ..FlowKey::default()
    };
    let flow = Flow {
        packets: 3,
        last_seen: monotonic(),
        ..Flow::default()
    };
    dataplane
        .flows()
        .map_err(text)?
        .put(&key, &flow)
        .map_err(text)?;
    dataplane
        .classes_table()
        .map_err(text)?
        .put(&4, &0xabcd)
        .map_err(text)?;
    let generation = dataplane.bump_generation().map_err(text)?;
    drop((arena, dataplane));

    let dataplane = world.open(&options)?;
    let arena = dataplane.words().map_err(text)?;
    let found = super::Found {
        base,
        hash: blob.hash(),
        len: blob.words().len() as u32,
    };
    equal("blobs", &arena.found(), &vec![found])?;
    equal(
        "interfaces",
        &dataplane
            .iface_table()
            .map_err(text)?
            .dump()
            .map_err(text)?,
        &vec![(9, iface)],
    )?;
    equal(
        "flows",
        &dataplane.flows().map_err(text)?.list().map_err(text)?,
        &vec![(key, flow)],
    )?;
    equal(
        "classes",
        &dataplane
            .classes_table()
            .map_err(text)?
            .dump()
            .map_err(text)?,
        &vec![(4, 0xabcd)],
    )?;
    equal(
        "generation",
        &dataplane.config().map_err(text)?.generation,
        &generation,
    )?;

    // Another layout leaves them alone, until it is told that it took over.
    let other = world.open(&Options {
        facts: 2048,
        ..options
    })?;
    equal(
        "another layout begins empty",
        &other.iface_table().map_err(text)?.dump().map_err(text)?,
        &vec![],
    )?;
    equal(
        "the first layout is still there",
        &dataplane.iface_table().is_ok(),
        &true,
    )?;
    other.retire_others().map_err(text)?;
    equal(
        "the first layout is gone",
        &dataplane.iface_table().is_err(),
        &true,
    )?;

    // A stranger's map under our name is not trusted.
    let path = fs::read_dir(&world.pins)
        .map_err(text)?
        .flatten()
        .map(|e| e.path())
        .find(|p| !p.ends_with("links"));
    let pin = path.ok_or("no layout")?.join("config");
    fs::remove_file(&pin).map_err(text)?;
    let shape = sys::MapShape {
        kind: 2,
        key: 4,
        value: 64,
        entries: 3,
        flags: 0,
    };
    let stranger = sys::create("stranger", &shape).map_err(text)?;
    sys::pin(stranger.as_fd(), &pin).map_err(text)?;
    let again = world.open(&Options {
        facts: 2048,
        ..options
    })?;
    equal(
        "a stranger's map was replaced",
        &again.config().map_err(text)?,
        &Config::default(),
    )
}

fn a_full_flow_table_lets_allowed_packets_pass() -> Outcome {
    let world = World::new("full")?;
    let dataplane = world.open(&Options {
        flows4: 64,
        ..small()
    })?;
    let mut arena = dataplane.words().map_err(text)?;
    let clause = Clause {
        src: None,
        dst: None,
        protocols: ProtocolSet::ANY,
        l4: None,
        sport: None,
        action: ClauseAction::Allow,
        rule: 1,
    };
    let base = arena
        .write(
            &encode(&[clause], 1..=2, &holds).map_err(text)?,
            monotonic(),
        )
        .map_err(text)?;
    let iface = Iface {
        kind: IfaceKind::Tap as u8,
        egress: base,
        ..Iface::default()
    };
    dataplane
        .iface_table()
        .map_err(text)?
        .put(&LOOPBACK, &iface)
        .map_err(text)?;
    let mut facts = dataplane.facts_table::<cleat_bpf::V4>().map_err(text)?;
    facts
        .put(&[10, 0, 0, 1], &Facts::local(LOOPBACK, 1))
        .map_err(text)?;
    facts
        .put(&[10, 0, 0, 2], &Facts::new(FactsKind::ThisHost, 2))
        .map_err(text)?;
    for sport in 1..200 {
        let frame = Build::<cleat_bpf::V4> {
            src: [10, 0, 0, 1],
            dst: [10, 0, 0, 2],
            sport,
            protocol: UDP,
            payload: vec![0; 9],
            ..Build::default()
        }
        .frame();
        let ran = sys::test_run(
            dataplane.program(Hook::FromWorkload),
            &frame,
            LOOPBACK,
            0,
            1,
        )
        .map_err(text)?;
        equal(&format!("packet {sport}"), &ran.verdict, &-1)?;
    }
    let counters = dataplane.counters().map_err(text)?;
    let full = Counted::Note(cleat_bpf::Note::FlowTableFull);
    let counted = counters
        .iter()
        .find(|(hook, counted, _)| *hook == Hook::FromWorkload && *counted == full);
    if counted.is_none_or(|(_, _, packets)| *packets < 100) {
        return Err(format!("the table was not full: {counted:?}"));
    }
    // Under pressure even young flows are due.
    let later = monotonic() + 10_000_000_000;
    let expired = dataplane
        .flows::<cleat_bpf::V4>()
        .map_err(text)?
        .expire(&super::Timeouts::default(), later)
        .map_err(text)?;
    equal("expiry makes room", &(expired.removed > 0), &true)
}

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

fn time_family<F: InMemory>(
    dataplane: &Dataplane,
    out: &Way,
    run: &dyn Fn(&[u8], Hook) -> Result<u32, String>,
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
    Ok(())
}

/// The interface of test runs.
const LOOPBACK: u32 = 1;

/// A way to the outside: a veth with a resolved next hop for everything.
fn fabric() -> Result<Way, String> {
    ip("link set lo up")?;
    ip("link add f0 address 02:00:00:00:00:f0 type veth peer name f1")?;
    ip("link set f0 up")?;
    ip("link set f1 up")?;
    for (file, value) in [
        ("ipv4/conf/all/forwarding", "1"),
        ("ipv6/conf/all/forwarding", "1"),
        ("ipv6/conf/f0/accept_dad", "0"),
    ] {
        fs::write(format!("/proc/sys/net/{file}"), value)
            .map_err(|error| format!("{file}: {error}"))?;
    }
    for command in [
        "addr add 192.0.2.1/24 dev f0",
        "-6 addr add 2001:db8:ffff::1/64 dev f0 nodad",
        "neigh add 192.0.2.2 lladdr 02:00:00:00:00:f2 dev f0 nud permanent",
        "-6 neigh add 2001:db8:ffff::2 lladdr 02:00:00:00:00:f2 dev f0 nud permanent",
        "route add default via 192.0.2.2",
        "-6 route add default via 2001:db8:ffff::2",
    ] {
        ip(command)?;
    }
    Ok(Way {
        ifindex: ifindex("f0")?,
        macs: Macs::new([2, 0, 0, 0, 0, 0xf2], [2, 0, 0, 0, 0, 0xf0]),
        mtu: 1500,
        ..Way::default()
    })
}

/// Few addresses, so that packets meet facts and flows.
fn address<F: InMemory>(n: u64) -> F::Addr {
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

fn random_tables<F: InMemory>(random: &mut Random, out: &Way) -> Memory {
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

fn random_build<F: InMemory>(random: &mut Random) -> Build<F> {
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

fn random_frame<F: InMemory>(random: &mut Random) -> Vec<u8> {
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

fn random_clause(random: &mut Random, index: u32, clauses: u32) -> Clause {
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

fn random_query(random: &mut Random) -> Query {
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
fn holds(expression: u32, class: u32) -> bool {
    (expression.wrapping_mul(0x9e37_79b9) ^ class.wrapping_mul(0x85eb_ca6b))
        .wrapping_mul(0xc2b2_ae35)
        >> 16
        & 3
        == 0
}

/// splitmix64: the same packets in every run and on every kernel.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Rounds of a random check; `CLEAT_CHECK_ROUNDS` multiplies them.
fn rounds(usual: u32) -> u32 {
    let factor = std::env::var("CLEAT_CHECK_ROUNDS")
        .ok()
        .and_then(|text| text.parse::<u32>().ok());
    usual * factor.unwrap_or(1)
}

fn eventually(what: &str, mut done: impl FnMut() -> Result<bool, String>) -> Outcome {
    let deadline = monotonic() + 5_000_000_000;
    loop {
        if done()? {
            return Ok(());
        }
        if monotonic() > deadline {
            return Err(format!("{what}: not within 5 s"));
        }
        std::thread::yield_now();
    }
}

fn equal<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) -> Outcome {
    if found == expected {
        Ok(())
    } else {
        Err(format!(
            "{what}:\n found    {found:?}\n expected {expected:?}"
        ))
    }
}

fn ip(arguments: &str) -> Outcome {
    run("ip", arguments)
}

fn run(program: &str, arguments: &str) -> Outcome {
    let output = Command::new(program)
        .args(arguments.split(' '))
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

fn ifindex(name: &str) -> Result<u32, String> {
    let name = std::ffi::CString::new(name).map_err(text)?;
    // SAFETY: the name outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(format!("no interface {name:?}")),
        index => Ok(index),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take(120)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

/// Runs every check in a thread of its own and tells each outcome.
pub fn run_all(tell: &mut dyn FnMut(&str, &Outcome)) -> bool {
    let mut good = true;
    for (name, check) in CHECKS {
        let outcome = std::thread::spawn(check)
            .join()
            .unwrap_or_else(|_| Err("panicked".into()));
        good &= outcome.is_ok();
        tell(name, &outcome);
    }
    good
}
