//! The command line as its users see it: transcripts, each run against a directory and against a real etcd.
//!
//! A transcript is a text file of commands and what they print. `UPDATE_GOLDEN=1` writes what they print now; read the diff.

#![cfg(feature = "host")]
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test says what went wrong by panicking"
)]

mod common;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::Etcd;

/// Where resources are for one run.
struct Store {
    name: &'static str,
    environment: Vec<(&'static str, String)>,
}

#[test]
fn transcripts_hold_for_every_store() {
    let etcd = Etcd::start();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let expected = std::fs::read_to_string(&file).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let resources = scratch.path().join("resources");
        std::fs::create_dir(&resources).unwrap();
        etcd.clear();
        let stores = [
            Store {
                name: "dir",
                environment: vec![
                    ("DATASTORE_TYPE", "dir".to_owned()),
                    ("CLEAT_DATASTORE_PATH", resources.display().to_string()),
                ],
            },
            Store {
                name: "etcd",
                environment: vec![
                    ("ETCD_ENDPOINTS", etcd.endpoint()),
                    ("DATASTORE_TYPE", "etcdv3".to_owned()),
                ],
            },
        ];
        for store in stores {
            let actual = replay(&expected, &store, &directory);
            if std::env::var_os("UPDATE_GOLDEN").is_some() && store.name == "dir" {
                std::fs::write(&file, &actual).unwrap();
                continue;
            }
            let expected = std::fs::read_to_string(&file).unwrap();
            let (mut actual, mut expected) = (actual.lines(), expected.lines());
            for line in 1.. {
                let (actual, expected) = (actual.next(), expected.next());
                assert_eq!(
                    actual,
                    expected,
                    "{}, line {line}, with store {}; UPDATE_GOLDEN=1 rewrites it",
                    file.display(),
                    store.name
                );
                if actual.is_none() {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_store_and_a_daemon_that_are_away_have_exit_codes_of_their_own() {
    let away = [("ETCD_ENDPOINTS", "http://127.0.0.1:1".to_owned())];
    let (code, _, error) = cleat("get nodes", None, &away, Path::new("/"));
    assert_eq!(code, 4, "{error}");
    assert!(error.contains("ETCD_ENDPOINTS"), "{error}");
    let scratch = tempfile::tempdir().unwrap();
    let socket = [(
        "CLEAT_SOCKET",
        scratch.path().join("api.sock").display().to_string(),
    )];
    for command in [
        "status",
        "bgp peers",
        "endpoint list",
        "policy show a",
        "conntrack list",
        "show drift",
    ] {
        let (code, _, error) = cleat(command, None, &socket, Path::new("/"));
        assert_eq!(code, 3, "{command}: {error}");
        assert!(error.contains("is it running?"), "{command}: {error}");
    }
    assert_eq!(cleat("get", None, &socket, Path::new("/")).0, 2);
    assert_eq!(cleat("frobnicate", None, &socket, Path::new("/")).0, 2);
}

#[test]
fn an_object_that_changed_meanwhile_is_a_conflict() {
    let etcd = Etcd::start();
    let scratch = tempfile::tempdir().unwrap();
    let environment = [("ETCD_ENDPOINTS", etcd.endpoint())];
    let pool = |order: u32, version: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {{name: a{version}}}\nspec: {{order: {order}}}\n"
        )
    };
    let apply = |text: String| cleat("apply -f -", Some(&text), &environment, scratch.path());
    assert_eq!(apply(pool(1, "")).0, 0);
    assert_eq!(apply(pool(2, "")).0, 0);
    let (code, _, error) = apply(pool(3, ", resourceVersion: '1'"));
    assert_eq!(code, 5, "{error}");
    assert!(
        error.contains("Tier(a)") && error.contains("get it again"),
        "{error}"
    );
}

#[test]
fn a_watch_shows_what_is_there_and_every_change() {
    use std::io::BufRead as _;
    let etcd = Etcd::start();
    let scratch = tempfile::tempdir().unwrap();
    let environment = [("ETCD_ENDPOINTS", etcd.endpoint())];
    let apply = |order: u32| {
        let text = format!(
            "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {{name: a}}\nspec: {{order: {order}}}\n"
        );
        let (code, _, error) = cleat("apply -f -", Some(&text), &environment, scratch.path());
        assert_eq!(code, 0, "{error}");
    };
    apply(1);
    let mut child = Command::new(env!("CARGO_BIN_EXE_cleat"))
        .args(["get", "tiers", "--watch"])
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let _ = tell.send(line);
        }
    });
    let expect = |wanted: &str| {
        let line = told
            .recv_timeout(std::time::Duration::from_secs(20))
            .unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words.join(" "), wanted);
    };
    expect("EVENT NAME ORDER");
    expect("ADDED a 1");
    apply(2);
    expect("MODIFIED a 2");
    assert_eq!(
        cleat("delete tier a", None, &environment, scratch.path()).0,
        0
    );
    expect("DELETED a 2");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd/cleat.service");
    let scratch = tempfile::tempdir().unwrap();
    let copy = scratch.path().join("cleat.service");
    // The binary is not installed where the tests run.
    let text = std::fs::read_to_string(unit)
        .unwrap()
        .replace("/usr/bin/cleat", env!("CARGO_BIN_EXE_cleat"));
    std::fs::write(&copy, text).unwrap();
    let Ok(output) = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&copy)
        .output()
    else {
        eprintln!("no systemd-analyze here; not checked");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && !said.contains("cleat.service"),
        "{said}"
    );
}

/// Runs the commands of a transcript and writes it anew.
fn replay(transcript: &str, store: &Store, directory: &Path) -> String {
    let mut out = String::new();
    for line in transcript.lines() {
        if line.starts_with('#') {
            let _ = writeln!(out, "{line}");
            continue;
        }
        let Some(command) = line.strip_prefix("$ cleat ") else {
            continue;
        };
        let (code, stdout, stderr) = cleat(command, None, &store.environment, directory);
        let _ = writeln!(out, "{line}");
        out.push_str(&mask(&stdout));
        for line in mask(&stderr).lines() {
            let _ = writeln!(out, "! {line}");
        }
        if code != 0 {
            let _ = writeln!(out, "exit {code}");
        }
        out.push('\n');
    }
    out
}

/// Takes out what differs from run to run.
fn mask(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let field = ["uid", "creationTimestamp", "resourceVersion"]
            .iter()
            .find(|field| {
                line.trim_start()
                    .trim_start_matches('"')
                    .starts_with(*field)
            });
        match field {
            Some(field) => {
                let indent = &line[..line.len() - line.trim_start().len()];
                let _ = writeln!(out, "{indent}{field}: (masked)");
            }
            None => {
                let _ = writeln!(out, "{}", mask_words(line));
            }
        }
    }
    out
}

/// Takes out revisions and the cluster's id inside a line.
fn mask_words(line: &str) -> String {
    let mut out = String::new();
    let mut after = "";
    for word in line.split_inclusive(' ') {
        let core = word.trim_end_matches([' ', ',', ';']);
        let revision = after == "resourceVersion" && core.bytes().all(|byte| byte.is_ascii_digit());
        let id = core.len() == 32 && core.bytes().all(|byte| byte.is_ascii_hexdigit());
        if revision || id {
            out.push_str("(masked)");
            out.push_str(&word[core.len()..]);
        } else {
            out.push_str(word);
        }
        after = core;
    }
    out
}

fn cleat(
    command: &str,
    input: Option<&str>,
    environment: &[(&'static str, String)],
    directory: &Path,
) -> (i32, String, String) {
    use std::io::Write as _;
    let mut child = Command::new(env!("CARGO_BIN_EXE_cleat"))
        .args(command.split_whitespace())
        .current_dir(directory)
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if let Some(input) = input {
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}
