//! `netlab`: the lab from the command line.

use std::io::{self, Write as _};

use anyhow::Result;
use clap::{Parser, Subcommand};
use netlab::{House, demo};

/// Two hosts with cleat behind a pair of routers, in network namespaces of this machine. Needs root.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Shows policy and BGP at work, step by step, and takes everything down.
    Demo,
    /// Builds the lab without starting cleat, prints how to enter it, and keeps it until standard input closes.
    Up {
        /// Applies the examples and starts cleat on both hosts.
        #[arg(long)]
        run: bool,
    },
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Task::Demo => demo::run(&mut io::stdout().lock()),
        Task::Up { run } => up(run),
    }
}

fn up(run: bool) -> Result<()> {
    let house = if run {
        House::running("up")?
    } else {
        House::new("up")?
    };
    let mut out = io::stdout().lock();
    writeln!(out, "namespaces, each for `ip netns exec NAME COMMAND`:")?;
    for namespace in house.lab.namespaces() {
        writeln!(out, "  {}", namespace.name())?;
    }
    writeln!(out, "end of input (Ctrl-D) or Ctrl-C takes all down")?;
    out.flush()?;
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}
