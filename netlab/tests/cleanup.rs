//! Whatever happens to the lab's process, nothing stays behind.
#![cfg(feature = "lab")]

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

use netlab::{eventually, secs};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn a_killed_lab_leaves_nothing_behind() {
    for signal in [Signal::INT, Signal::KILL] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_netlab"))
            .arg("up")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let id = format!("lab{}x0", child.id());
        let output = BufReader::new(child.stdout.take().unwrap());
        assert!(
            output
                .lines()
                .any(|line| line.unwrap().starts_with("end of input")),
            "it never came up"
        );
        let left = || {
            let mut left = Vec::new();
            for place in [
                "/run/netns",
                "/sys/fs/bpf",
                &*std::env::temp_dir().to_string_lossy(),
            ] {
                let entries = std::fs::read_dir(place)
                    .unwrap()
                    .map(|entry| entry.unwrap().path().display().to_string());
                left.extend(entries.filter(|path| path.contains(&id)));
            }
            let processes = std::fs::read_dir("/proc")
                .unwrap()
                .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
            left.extend(
                processes
                    .map(|line| String::from_utf8_lossy(&line).into_owned())
                    .filter(|line| line.contains(&id)),
            );
            left
        };
        assert!(left().len() > 10, "{:?}", left());
        kill_process(Pid::from_child(&child), signal).unwrap();
        child.wait().unwrap();
        eventually("nothing to be left", secs(20), || match left() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{} things", left.len())),
        })
        .unwrap();
    }
}
