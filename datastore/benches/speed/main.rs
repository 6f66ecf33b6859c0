//! The datastore's figures: `cargo bench -p cleat-datastore`, or `make bench-datastore`.
//!
//! Every figure that has a goal is held to it, and the run fails when one is missed. Arguments name the sections to
//! run: `index`, `decode`, `snapshot`, `etcd`; without any, all run.
//!
//! Times are the CPU time of one thread, which waits for nothing, so that a busy machine does not disturb them: of what is
//! done often, median and 99th percentile. Only what waits for a disk or for etcd is told by the clock on the wall.

#![allow(clippy::print_stdout, reason = "this is a command")]

mod cluster;
mod decode;
mod etcd;
mod index;
mod measure;
mod snapshot;

use std::process::ExitCode;

use measure::Report;

type Section = fn(&mut Report);

fn main() -> ExitCode {
    // `cargo bench` passes `--bench`.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    if let [command, endpoint] = arguments.as_slice()
        && command == etcd::FOLLOW
    {
        etcd::follow(endpoint);
        return ExitCode::SUCCESS;
    }
    let sections: [(&str, Section); 4] = [
        ("index", index::run),
        ("decode", decode::run),
        ("snapshot", snapshot::run),
        ("etcd", etcd::run),
    ];
    if let Some(unknown) = arguments
        .iter()
        .find(|name| sections.iter().all(|(known, _)| known != name))
    {
        println!("no section {unknown:?}; there are index, decode, snapshot and etcd");
        return ExitCode::FAILURE;
    }
    let mut report = Report::default();
    for (name, run) in sections {
        if arguments.is_empty() || arguments.iter().any(|wanted| wanted == name) {
            run(&mut report);
        }
    }
    report.close()
}
