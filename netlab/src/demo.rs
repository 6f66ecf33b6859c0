//! The demonstration: the steps of the end-to-end tests, told to a reader.

use std::{
    collections::BTreeMap,
    io::Write,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::{
    Expect, House, Matrix, Proto,
    host::Hits,
    house::{EXAMPLE_MATRIX, example_dir},
    matrix::Outcome,
    probe,
    router::Router,
    steady::finish,
    wait::{eventually, secs},
};

/// Runs the whole demonstration and takes everything down again.
pub fn run(out: &mut impl Write) -> Result<()> {
    let mut told = Told {
        out,
        start: Instant::now(),
        step: 0,
    };
    told.step("Two hosts behind a pair of top-of-rack routers, all in network namespaces")?;
    told.text(PICTURE)?;
    let house = House::new("demo")?;
    let result = show(&mut told, &house);
    if result.is_err() {
        house.lab.failed();
    } else {
        told.step("Everything is taken down")?;
    }
    drop(house);
    result?;
    told.text("Nothing is left: no namespace, no process, no pinned map.")
}

fn show<W: Write>(told: &mut Told<'_, W>, house: &House) -> Result<()> {
    told.step("The store gets its resources, in Calico's own format")?;
    let answer = house
        .alpha
        .cleat(&["apply", "-f", &example_dir().to_string_lossy()])?;
    told.command("alpha", "cleat apply -f examples/resources", &answer)?;
    house.put_blocks()?;

    told.step("cleat starts on both hosts: programs on the interfaces, BGP with both routers")?;
    house.start()?;
    told.command(
        "alpha",
        "cleat bgp peers",
        &house.alpha.cleat(&["bgp", "peers"])?,
    )?;
    told.command(
        "alpha",
        "cleat endpoint list",
        &house.alpha.cleat(&["endpoint", "list"])?,
    )?;
    for (name, router) in [("tor1", &house.tor1 as &dyn Router), ("tor2", &house.tor2)] {
        let routes: Vec<String> = router.routes()?.iter().map(ToString::to_string).collect();
        told.command(
            name,
            &format!("the routes of {}", router.make()),
            &routes.join("\n"),
        )?;
    }
    told.text(
        "No route leads from one router through a host to the other: a host gives no transit.",
    )?;
    let kernel = house
        .alpha
        .namespace
        .run("ip", &["route", "show", "proto", "80"])?
        + &house
            .alpha
            .namespace
            .run("ip", &["-6", "route", "show", "proto", "80"])?;
    told.command("alpha", "ip route show proto 80", &kernel)?;

    told.step("Who reaches whom, and which rule decides")?;
    let mut matrix = house.matrix(EXAMPLE_MATRIX)?;
    // The first packets may still wait for neighbours and routes.
    probe::check(&mut matrix, &house.stations(), secs(10))?;
    explain(house, &mut matrix)?;
    told.text(&matrix.to_string())?;
    ensure!(matrix.wrong() == 0, "an answer is wrong:\n{matrix}");

    told.step(
        "A policy is changed in the store, behind cleat's back: `web` opens 81 in place of 80",
    )?;
    change_policy(told, house)?;

    told.step("The daemon on alpha is killed (-9); traffic and policy go on, and it comes back")?;
    kill_daemon(told, house)?;

    told.step("The router tor1 loses its power")?;
    kill_tor(told, house)
}

/// Asks the matrix row by row and writes down whose counter rose.
fn explain(house: &House, matrix: &mut Matrix) -> Result<()> {
    let stations = house.stations();
    let mut before: BTreeMap<String, Hits> = BTreeMap::new();
    for workload in &house.workloads {
        if let (Some(host), Some(endpoint)) = (
            house.host_of(&workload.name),
            house.endpoint_of(&workload.name),
        ) {
            before.insert(workload.name.clone(), host.hits(&endpoint)?);
        }
    }
    for row in &mut matrix.rows {
        let from = stations
            .iter()
            .find(|station| station.name == row.from)
            .context("a row names a station")?;
        row.seen = Some(probe::probe(from, row.target, row.proto, BRIEFLY)?);
        let mut rules = Vec::new();
        for (name, direction) in [(&row.from, "egress"), (&row.to, "ingress")] {
            let (Some(host), Some(endpoint)) = (house.host_of(name), house.endpoint_of(name))
            else {
                continue;
            };
            let now = host.hits(&endpoint)?;
            let old = before.get(name).cloned().unwrap_or_default();
            let risen = now
                .risen_since(&old)
                .filter(|rule| rule.direction == direction);
            rules.extend(
                risen.map(|rule| {
                    format!("{direction} {} {}", rule.rule, rule.action.to_lowercase())
                }),
            );
            before.insert(name.clone(), now);
        }
        row.decided_by = Some(rules.join(", "));
    }
    Ok(())
}

fn change_policy<W: Write>(told: &mut Told<'_, W>, house: &House) -> Result<()> {
    let key = house.policy_key("web")?;
    let original = house.etcd.get(&key)?;
    let mut policy: Value = serde_json::from_str(&original).context("the stored policy is JSON")?;
    *policy
        .pointer_mut("/spec/ingress/0/destination/ports")
        .context("the policy names a port")? = json!([81]);
    told.text(&format!("$ etcdctl put {key} '{{.. \"ports\": [81] ..}}'"))?;
    let closed = [
        ("client", "web", Proto::Tcp(80), Expect::Silent),
        ("client", "web", Proto::Tcp(81), Expect::Reaches),
    ];
    let changed = Instant::now();
    house.etcd.put(&key, &policy.to_string())?;
    let (client, web) = (house.station("client")?, house.station("web")?);
    let target = web.address(true).context("web has an IPv4 address")?;
    eventually("port 81 to open", secs(5), || {
        match probe::probe(client, target, Proto::Tcp(81), Duration::from_millis(50)) {
            Ok(Outcome::Answered { .. }) => Ok(()),
            Ok(other) => Err(other.to_string()),
            Err(error) => Err(format!("{error:#}")),
        }
    })?;
    told.text(&format!(
        "port 81 answered {} ms after the put",
        changed.elapsed().as_millis()
    ))?;
    let mut matrix = house.matrix(&closed)?;
    probe::check(&mut matrix, &house.stations(), secs(5))?;
    told.text(&matrix.to_string())?;
    house.etcd.put(&key, original.trim_end())?;
    house.expect(EXAMPLE_MATRIX, secs(5))?;
    told.text("$ etcdctl put ..   (the old policy again: the whole matrix is as before)")
}

fn kill_daemon<W: Write>(told: &mut Told<'_, W>, house: &House) -> Result<()> {
    let streams = house.streams()?;
    told.text(STREAMS)?;
    let old = house.alpha.process()?;
    old.kill();
    told.text(&format!(
        "$ kill -9 {}   (cleat on alpha is gone)",
        old.pid()
    ))?;
    house.expect(EXAMPLE_MATRIX, secs(5))?;
    told.text("without it, new connections in all directions are judged as before: the whole matrix is right")?;
    house.alpha.start(&house.lab)?;
    house.alpha.wait_ready(secs(20))?;
    house.wait_sessions(secs(20))?;
    house.expect(EXAMPLE_MATRIX, secs(5))?;
    told.text("cleat is back, ready, and its sessions are established: the whole matrix is right")?;
    let report = finish(streams)?;
    told.text(&format!("the streams meanwhile: {report}"))?;
    ensure!(
        report.lost() == 0,
        "the restart lost {} packets",
        report.lost()
    );
    told.command("alpha", "cleat status", &house.alpha.cleat(&["status"])?)
}

fn kill_tor<W: Write>(told: &mut Told<'_, W>, house: &House) -> Result<()> {
    let streams = house.streams()?;
    told.text(STREAMS)?;
    house.power_off(0)?;
    told.text("tor1's processes are dead and its links are down")?;
    house.expect(EXAMPLE_MATRIX, secs(20))?;
    told.command(
        "alpha",
        "cleat bgp peers",
        &house.alpha.cleat(&["bgp", "peers"])?,
    )?;
    let kernel = house
        .alpha
        .namespace
        .run("ip", &["route", "show", "proto", "80"])?;
    told.command("alpha", "ip route show proto 80", &kernel)?;
    let report = finish(streams)?;
    told.text(&format!(
        "the streams meanwhile: {report}\nthe whole matrix is right through tor2 alone"
    ))
}

/// Where the story is written.
struct Told<'a, W> {
    out: &'a mut W,
    start: Instant,
    step: u32,
}

impl<W: Write> Told<'_, W> {
    fn step(&mut self, title: &str) -> Result<()> {
        self.step += 1;
        let at = self.start.elapsed().as_secs_f64();
        writeln!(self.out, "\n{}. {title}   [{at:.1} s]\n", self.step)?;
        Ok(self.out.flush()?)
    }

    fn text(&mut self, text: &str) -> Result<()> {
        for line in text.lines() {
            writeln!(self.out, "   {line}")?;
        }
        Ok(self.out.flush()?)
    }

    fn command(&mut self, place: &str, command: &str, output: &str) -> Result<()> {
        writeln!(self.out, "   {place}$ {command}")?;
        for line in output.lines() {
            writeln!(self.out, "     {line}")?;
        }
        writeln!(self.out)?;
        Ok(self.out.flush()?)
    }
}

/// How long a question waits when its silence is expected; packets need well under a millisecond.
const BRIEFLY: Duration = Duration::from_millis(300);

const STREAMS: &str = "meanwhile 16 streams of datagrams run from web to app, and a connection for each family from client to web";

const PICTURE: &str = r"
          client   stranger
              \     /
               core             BIRD, AS 65000
              /     \
   (BIRD)  tor1      tor2  (FRR)     AS 65001 and 65002
            | \      / |
            |  \    /  |        eBGP on every link, IPv4 and IPv6 on one session
            |    \/    |
            |    /\    |
           alpha    beta        cleat, AS 65011 and 65012; etcd on a network of its own
           /  \     /  \
         web  db  app  guest    workloads
";
