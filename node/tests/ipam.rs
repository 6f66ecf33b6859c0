//! `cleat ipam` as its users see it, over a real etcd.

#![cfg(feature = "host")]
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test says what went wrong by panicking"
)]

mod common;

use std::process::Command;

use common::Etcd;
use serde_json::{Value, json};

/// A store with two pools and two nodes.
struct World {
    etcd: Etcd,
    scratch: tempfile::TempDir,
}

/// What a command came to.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn value(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

impl World {
    fn new() -> Self {
        let world = Self {
            etcd: Etcd::start(),
            scratch: tempfile::tempdir().unwrap(),
        };
        for (plural, kind, name, spec) in [
            ("nodes", "Node", "host1", json!({})),
            ("nodes", "Node", "host2", json!({})),
            (
                "ippools",
                "IPPool",
                "four",
                json!({"cidr": "10.65.0.0/24", "blockSize": 26}),
            ),
            (
                "ippools",
                "IPPool",
                "six",
                json!({"cidr": "fd00:65::/120", "blockSize": 122}),
            ),
            (
                "clusterinformations",
                "ClusterInformation",
                "default",
                json!({"clusterGUID": "c0ffee", "datastoreReady": true}),
            ),
        ] {
            let object = json!({"kind": kind, "apiVersion": "projectcalico.org/v3",
                                "metadata": {"name": name}, "spec": spec});
            world.put(&format!("{plural}/{name}"), &object);
        }
        world
    }

    fn put(&self, path: &str, object: &Value) {
        let key = format!("/calico/resources/v3/projectcalico.org/{path}");
        assert!(self.etcd.etcdctl(&["put", &key, &object.to_string()]).0);
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_cleat"))
            .arg("ipam")
            .args(arguments)
            .env_clear()
            .env("ETCD_ENDPOINTS", self.etcd.endpoint())
            .env("DATASTORE_TYPE", "etcdv3")
            .env("NODENAME", "host1")
            .current_dir(self.scratch.path())
            .output()
            .unwrap();
        Ran {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs what must succeed.
    fn ok(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}{}", ran.out, ran.err);
        ran.out
    }
}

#[test]
fn addresses_are_assigned_shown_and_released() {
    let world = World::new();
    let given = world.ok(&[
        "assign",
        "--ipv4=2",
        "--ipv6=1",
        "--handle=web",
        "--attr",
        "pod=web",
        "--attr",
        "namespace=shop",
    ]);
    let given: Vec<&str> = given
        .lines()
        .map(|net| net.split('/').next().unwrap())
        .collect();
    assert_eq!(given.len(), 3);
    let shown = world.ok(&["show", "--ip", given[0]]);
    assert!(
        shown.starts_with(&format!("IP {} is in use\nHandle ID: web\n", given[0])),
        "{shown}"
    );
    assert!(
        shown.ends_with("Active Owner Attributes:\n  namespace: shop\n  node: host1\n  pod: web\n"),
        "{shown}"
    );
    let value = world.run(&["show", "--handle=web", "-o", "json"]).value();
    assert_eq!(value.as_array().unwrap().len(), 3);
    let table = world.ok(&["show"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(
        lines[0]
            .split("   ")
            .map(str::trim)
            .filter(|head| !head.is_empty())
            .collect::<Vec<_>>(),
        [
            "GROUPING",
            "CIDR",
            "IPS TOTAL",
            "IPS IN USE",
            "IPS RESERVED",
            "IPS FREE",
            "IPS COOLING"
        ]
    );
    assert!(
        lines[1]
            .split_whitespace()
            .eq("IP Pool 10.65.0.0/24 256 2 (1%) 0 (0%) 254 (99%) 0 (0%)".split(' ')),
        "{table}"
    );
    assert_eq!(lines.len(), 3, "{table}");
    assert_eq!(world.ok(&["show", "--show-blocks"]).lines().count(), 5);

    let one = format!("--ip={}", given[0]);
    assert_eq!(
        world.ok(&["release", &one]),
        format!("Successfully released IP address {}\n", given[0])
    );
    let again = world.run(&["release", &one]);
    assert_eq!((again.code, again.out.as_str()), (1, ""));
    assert!(
        again
            .err
            .contains(&format!("IP address {} is not assigned", given[0])),
        "{}",
        again.err
    );
    assert_eq!(
        world.ok(&["show", &one]),
        format!("{} is not assigned\n", given[0])
    );
    assert_eq!(world.ok(&["release", "--handle=web"]).lines().count(), 2);
    assert_eq!(world.run(&["release", "--handle=web"]).code, 1);

    // By name, once.
    let by_name = ["assign", "--ip=10.65.0.200", "--handle=router"];
    assert_eq!(world.ok(&by_name), "10.65.0.200/26\n");
    let taken = world.run(&by_name);
    assert_eq!(taken.code, 5, "{}", taken.err);
    assert!(taken.err.contains("10.65.0.200 is in use"), "{}", taken.err);
}

#[test]
fn settings_borrowing_and_splits() {
    let world = World::new();
    let shown = world.ok(&["configure", "show"]);
    assert!(
        shown
            .lines()
            .any(|line| line.split_whitespace().eq(["StrictAffinity", "false"]))
    );
    assert_eq!(shown, world.ok(&["show", "--show-configuration"]));
    // All four blocks are host1's, so that host2 borrows.
    let all = world.ok(&["assign", "--ipv4=200", "--handle=many"]);
    assert_eq!(all.lines().count(), 200);
    let lent = world.ok(&[
        "assign",
        "--ipv4=1",
        "--handle=b",
        "--node=host2",
        "--attr",
        "pod=b",
        "--attr",
        "namespace=n",
    ]);
    let lent = lent.split('/').next().unwrap();
    let borrowed = world.ok(&["show", "--show-borrowed"]);
    let row: Vec<&str> = borrowed
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(
        (row[0], row[1], row[3], row[4], row[5]),
        (lent, "host2", "host1", "pod", "n/b")
    );
    let value = world.run(&["show", "--show-borrowed", "-o", "yaml"]);
    assert!(value.out.contains("allocatedTo: n/b"), "{}", value.out);

    let refused = world.run(&["configure", "--max-blocks-per-host=2"]);
    assert_eq!(refused.code, 1, "{}", refused.out);
    assert!(refused.err.contains("strict_affinity"), "{}", refused.err);
    assert_eq!(
        world.ok(&[
            "configure",
            "set",
            "--strictaffinity=true",
            "--max-blocks-per-host=2"
        ]),
        "Successfully set StrictAffinity to: true\nSuccessfully set MaxBlocksPerHost to: 2\n"
    );
    assert_eq!(world.run(&["configure"]).code, 2);
    let full = world.run(&["assign", "--ipv4=60", "--handle=more"]);
    assert_eq!(full.code, 1);
    assert!(full.err.contains("limit"), "{}", full.err);

    assert_eq!(
        world.ok(&["split", "--cidr=10.65.0.0/24", "2"]),
        "IP Pool four was successfully split into 2 smaller pools.\n\
         Created split-four-0 with CIDR 10.65.0.0/25.\nCreated split-four-1 with CIDR 10.65.0.128/25.\n"
    );
    assert_eq!(world.run(&["split", "--name=six", "3"]).code, 1);
    assert_eq!(world.run(&["split", "--cidr=10.99.0.0/24", "2"]).code, 1);
    assert_eq!(
        world.run(&["show", "--ip=10.65.0.1", "--show-blocks"]).code,
        2
    );
}

#[test]
fn leaks_are_found_reported_and_released() {
    let world = World::new();
    let note = ["--attr", "pod=p", "--attr", "namespace=n"];
    let used = world.ok(&[&["assign", "--ipv4=1", "--handle=used"][..], &note].concat());
    let used = used.split('/').next().unwrap();
    world.put(
        "workloadendpoints/n/host1-x-p-e",
        &json!({"kind": "WorkloadEndpoint", "apiVersion": "projectcalico.org/v3",
                "metadata": {"name": "host1-x-p-e", "namespace": "n"},
                "spec": {"orchestrator": "x", "workload": "p", "node": "host1", "endpoint": "e",
                         "interfaceName": "tap1", "ipNetworks": [format!("{used}/32")]}}),
    );
    let clean = world.ok(&["check"]);
    assert!(
        clean.ends_with("Check complete; found 0 problems.\n"),
        "{clean}"
    );

    let leaked = world.ok(&[&["assign", "--ipv4=1", "--handle=leaked"][..], &note].concat());
    let leaked = leaked.split('/').next().unwrap();
    let check = world.run(&["check", "--show-problem-ips", "--report=one.json"]);
    assert_eq!(check.code, 1);
    assert!(
        check.out.contains(&format!(
            "{leaked} leaked: its pod has no endpoint (handle leaked, node host1)"
        )),
        "{}",
        check.out
    );
    assert!(
        check
            .out
            .contains("Found 1 IPs that are assigned but not in use."),
        "{}",
        check.out
    );
    let report = world.run(&["check", "-o", "json"]).value();
    assert_eq!(report["clusterGUID"], "c0ffee");
    assert_eq!(report["allocations"][leaked][0]["inUse"], false);
    assert_eq!(report["allocations"][used][0]["inUse"], true);
    assert!(
        world
            .ok_or_findings(&["check", "--show-all-ips"])
            .contains("used by WorkloadEndpoint(n/host1-x-p-e)")
    );

    // A single report is not believed, a foreign one never, two are.
    let single = world.run(&["release", "--from-report=one.json"]);
    assert_eq!(single.code, 6, "{}", single.err);
    let path = world.scratch.path().join("one.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        world.scratch.path().join("foreign.json"),
        text.replace("c0ffee", "0"),
    )
    .unwrap();
    let foreign = world.run(&["release", "--from-report=foreign.json", "--force"]);
    assert_eq!(foreign.code, 6, "{}", foreign.err);
    world.run(&["check", "--report=two.json"]);
    let released = world.ok(&[
        "release",
        "--from-report=one.json",
        "--from-report=two.json",
    ]);
    assert!(
        released.starts_with("Released 1 IPs; 0 had already"),
        "{released}"
    );
    assert!(
        world
            .ok(&["show", "--ip", leaked])
            .contains("is not assigned")
    );
    assert_eq!(world.run(&["check"]).code, 0);
    assert_eq!(world.run(&["release", "--from-report=none.json"]).code, 1);

    // What nobody uses is collected; what is used stays.
    world.ok(&[&["assign", "--ipv4=3", "--handle=leaked"][..], &note].concat());
    let dry = world.ok(&["gc", "--dry-run"]);
    assert_eq!(dry.matches("would mend: ").count(), 3, "{dry}");
    let young = world.ok(&["gc", "--settle=0s"]);
    assert!(young.contains("Released 0 IPs"), "{young}");
    let done = world.run(&["gc", "--grace=0s", "-o", "json"]).value();
    assert_eq!(done["released"].as_array().unwrap().len(), 3, "{done}");
    assert_eq!(world.run(&["check"]).code, 0);
    assert!(world.ok(&["show", "--ip", used]).contains("is in use"));
}

#[test]
fn an_applied_ipamconfiguration_is_what_every_client_goes_by() {
    let world = World::new();
    let command = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_cleat"))
            .args(arguments)
            .env_clear()
            .env("ETCD_ENDPOINTS", world.etcd.endpoint())
            .current_dir(world.scratch.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), text + &error)
    };
    let key = || {
        world
            .etcd
            .etcdctl(&["get", "--print-value-only", "/calico/ipam/v2/config"])
            .1
    };
    let apply = |spec: &str| {
        let manifest = format!(
            "apiVersion: projectcalico.org/v3\nkind: IPAMConfiguration\nmetadata: {{name: default}}\nspec: {spec}\n"
        );
        std::fs::write(world.scratch.path().join("ipam.yaml"), manifest).unwrap();
        command(&["apply", "-f", "ipam.yaml"])
    };
    let (code, said) = apply("{strictAffinity: true, autoAllocateBlocks: false}");
    assert_eq!(code, 0, "{said}");
    let config: Value = serde_json::from_str(&key()).unwrap();
    assert_eq!(
        (&config["strict_affinity"], &config["auto_allocate_blocks"]),
        (&json!(true), &json!(false))
    );
    assert_ne!(world.run(&["assign", "--ipv4=1", "--handle=h"]).code, 0);

    // What `configure` sets is shown as a resource, too.
    world.ok(&["configure", "--max-blocks-per-host=7"]);
    let (_, shown) = command(&["get", "ipamconfiguration", "default", "-o", "json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["spec"]["maxBlocksPerHost"], json!(7), "{shown}");

    // What contradicts itself is refused before it is stored.
    let before = key();
    let (code, said) = apply("{strictAffinity: false, maxBlocksPerHost: 3}");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("IPAMConfiguration(default)"), "{said}");
    assert_eq!(key(), before);

    let patch = r#"{"spec":{"autoAllocateBlocks":true}}"#;
    let (code, said) = command(&["patch", "ipamconfiguration", "default", "-p", patch]);
    assert_eq!(code, 0, "{said}");
    world.ok(&["assign", "--ipv4=1", "--handle=h"]);
    let (code, said) = command(&["delete", "ipamconfiguration", "default"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(key().trim(), "");
}

impl World {
    /// Runs a check that may find something.
    fn ok_or_findings(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert!([0, 1].contains(&ran.code), "{}", ran.err);
        ran.out
    }
}

#[test]
fn a_store_without_transactions_is_refused_in_one_sentence_and_one_that_is_away_is_told() {
    let scratch = tempfile::tempdir().unwrap();
    let run = |environment: &[(&str, &str)]| {
        let output = Command::new(env!("CARGO_BIN_EXE_cleat"))
            .args(["ipam", "show"])
            .env_clear()
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let directory = scratch.path().to_str().unwrap();
    let (code, error) = run(&[
        ("DATASTORE_TYPE", "dir"),
        ("CLEAT_DATASTORE_PATH", directory),
    ]);
    assert_eq!(code, Some(2), "{error}");
    assert!(
        error.contains("addresses are managed in etcd alone"),
        "{error}"
    );
    let (code, error) = run(&[
        ("DATASTORE_TYPE", "etcdv3"),
        ("ETCD_ENDPOINTS", "http://127.0.0.1:9"),
    ]);
    assert_eq!(code, Some(4), "{error}");
}
