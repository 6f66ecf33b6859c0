//! The kernel held against the host library: the claims that the kernel ring and the kernel matrix check.
//!
//! Each check makes a network namespace for its thread and a pin directory of its own, and removes both. The same tables are
//! written to the maps and to memory, the same frames go through `BPF_PROG_TEST_RUN` and through the library, and verdict,
//! bytes, mark and flow table must agree.

mod agreement;
mod random;
mod times;

use std::{
    fmt::{Debug, Write},
    fs, io,
    os::fd::AsFd,
    path::PathBuf,
    process::Command,
};

use cleat_bpf::{
    Config, Counted, Facts, FactsKind, Flow, FlowKey, Hook, Iface, IfaceKind, Macs, Way,
    build::Build,
    packet::UDP,
    policy::{Clause, ClauseAction, Learn, ProtocolSet, encode},
};

pub use self::times::times;
use self::{
    agreement::{
        the_kernel_judges_ipv4_as_the_host_does, the_kernel_judges_ipv6_as_the_host_does,
        the_kernel_reads_long_policies_as_the_host_does,
    },
    random::holds,
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
    let mut text = String::new();
    for byte in bytes.iter().take(120) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
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
