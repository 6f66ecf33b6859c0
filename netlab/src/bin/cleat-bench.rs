//! The data path benchmark: `cleat-bench run` compares data planes, `cleat-bench load` is the load it puts on them.
#![allow(clippy::print_stdout, reason = "this is a command")]

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use netlab::bench::{self, Plan, Plane, Test, load, report};

#[derive(Parser)]
#[command(
    about = "Compares data planes by CPU time per operation, interleaved, in network namespaces of its own (needs root)"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set up the data planes, run the tests around them, print medians and ratios to the first.
    Run(RunArguments),
    /// One server or client (used by `run`).
    Load(LoadArguments),
}

#[derive(Args)]
struct RunArguments {
    /// Data planes: plain, kube-proxy:services=N, calico:rules=N, iptables:services=N,rules=N (both), cleat:rules=N.
    #[arg(long = "dataplane", value_name = "PLANE", default_values = ["plain", "iptables:services=1000,rules=10", "cleat:rules=10"])]
    planes: Vec<Plane>,
    /// Tests: crr (connect, request, close), rr (request and answer), udp, stream; to pod, local or ext; 6 for IPv6.
    #[arg(long, value_delimiter = ',', default_values = ["crr-pod", "rr-pod", "udp-pod", "crr-pod6", "rr-pod6", "udp-pod6", "stream-pod"])]
    tests: Vec<Test>,
    /// How often each test runs on each data plane.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Length of a run.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// The cleat program.
    #[arg(long, default_value = "target/release/cleat")]
    cleat: PathBuf,
    /// Fail when the CPU ratio of cleat to plain in a test is above this: TEST=RATIO.
    #[arg(long, value_delimiter = ',', value_name = "TEST=RATIO")]
    at_most: Vec<String>,
    /// Also write every run, one JSON line each.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Args)]
struct LoadArguments {
    /// serve, crr, rr, udp or stream.
    mode: String,
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    #[arg(long, default_value_t = 8080)]
    port: u16,
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// Bytes of an answer.
    #[arg(long, default_value_t = 1)]
    answer: u32,
    /// The file with the server's counters.
    #[arg(long)]
    shared: PathBuf,
}

fn main() -> ExitCode {
    match act() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cleat-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act() -> Result<()> {
    match Arguments::parse().command {
        Command::Run(arguments) => run(arguments),
        Command::Load(arguments) if arguments.mode == "serve" => {
            load::serve(arguments.port, arguments.cpu, &arguments.shared)
        }
        Command::Load(arguments) => {
            let mode = <load::Mode as clap::ValueEnum>::from_str(&arguments.mode, true)
                .map_err(anyhow::Error::msg)?;
            let sample = load::run(&load::Job {
                mode,
                host: arguments.host,
                port: arguments.port,
                duration: Duration::from_secs_f64(arguments.seconds),
                cpu: arguments.cpu,
                answer: arguments.answer,
                shared: arguments.shared,
            })?;
            println!("{}", serde_json::to_string(&sample)?);
            Ok(())
        }
    }
}

fn run(arguments: RunArguments) -> Result<()> {
    let cleat = arguments.cleat.canonicalize().with_context(|| {
        format!(
            "no program {}: build it with `cargo build --release -p cleat`",
            arguments.cleat.display()
        )
    })?;
    let plan = Plan {
        planes: arguments.planes,
        tests: arguments.tests,
        rounds: arguments.rounds,
        seconds: arguments.seconds,
        cleat,
    };
    let directory = std::env::temp_dir().join(format!("cleat-bench-{}", std::process::id()));
    let mut lines = String::new();
    let total = plan.planes.len() * plan.tests.len() * plan.rounds;
    let mut done = 0;
    let outcome = bench::run(&plan, &directory, |row| {
        done += 1;
        let figure = row
            .outcome
            .as_ref()
            .map_or_else(ToString::to_string, |sample| {
                format!("{:.0} ns", sample.cpu_ns)
            });
        eprintln!("{done}/{total} {} {} {figure}", row.test, row.dataplane);
        lines += &(serde_json::to_string(row).unwrap_or_default() + "\n");
    });
    if outcome.is_ok() {
        let _ = std::fs::remove_dir_all(&directory);
    }
    let rows = outcome.with_context(|| format!("logs are in {}", directory.display()))?;
    if let Some(path) = &arguments.output {
        std::fs::write(path, lines).with_context(|| format!("write {}", path.display()))?;
    }
    let names = |items: &[Plane]| items.iter().map(ToString::to_string).collect::<Vec<_>>();
    let tests: Vec<String> = plan.tests.iter().map(ToString::to_string).collect();
    print!("{}", report::render(&rows, &names(&plan.planes), &tests));
    judge(&rows, &names(&plan.planes), &arguments.at_most)
}

fn judge(rows: &[report::Row], planes: &[String], limits: &[String]) -> Result<()> {
    let mut missed = Vec::new();
    for limit in limits {
        let (test, most) = limit.split_once('=').context("a limit is TEST=RATIO")?;
        let most: f64 = most
            .parse()
            .with_context(|| format!("{limit}: not a number"))?;
        let base = planes.first().context("no data plane")?;
        for plane in planes.iter().filter(|plane| plane.starts_with("cleat")) {
            let ratio = report::cpu_ratio(rows, test, plane, base)
                .with_context(|| format!("no figure for {plane} in {test}"))?;
            println!(
                "{} {plane} {test}: {ratio:.3} of {base}, goal {most}",
                if ratio <= most { "met " } else { "MISSED" }
            );
            if ratio > most {
                missed.push(format!("{test} {ratio:.3}"));
            }
        }
    }
    if missed.is_empty() {
        Ok(())
    } else {
        bail!("goals missed: {}", missed.join(", "))
    }
}
