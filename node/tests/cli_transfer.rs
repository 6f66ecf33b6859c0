//! `export` and `import` against a real etcd and a directory.

#![cfg(feature = "host")]
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test says what went wrong by panicking"
)]

mod common;

use std::path::Path;
use std::process::Command;

use common::Etcd;

const INPUTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts/inputs");

/// What Calico's clients keep beside the resources: address management, a subnet, and a sign of life.
const BESIDE: [(&str, &str); 6] = [
    (
        "/calico/ipam/v2/config",
        r#"{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":4}"#,
    ),
    (
        "/calico/ipam/v2/assignment/ipv4/block/10.65.0.64-30",
        r#"{"cidr":"10.65.0.64/30","affinity":"host:host1","allocations":[0,null,null,null],"unallocated":[1,2,3],"attributes":[{"handle_id":"cni.c1","secondary":{"node":"host1","pod":"web"}}],"sequenceNumber":3,"sequenceNumberForAllocation":{"0":2},"deleted":false,"later":"kept"}"#,
    ),
    (
        "/calico/ipam/v2/host/host1/ipv4/block/10.65.0.64-30",
        r#"{"state":"confirmed","deleted":false}"#,
    ),
    (
        "/calico/ipam/v2/handle/cni.c1",
        r#"{"block":{"10.65.0.64/30":1},"deleted":false}"#,
    ),
    (
        "/calico/dhcp/v2/no-region/subnet/s1",
        r#"{"network_id":"n1","cidr":"10.65.0.0/24","host_routes":[],"gateway_ip":"10.65.0.1"}"#,
    ),
    (
        "/calico/felix/v2/no-region/host/host1/status",
        r#"{"time":"2026-11-22T01:17:52Z","uptime":1.5,"first_update":false}"#,
    ),
];

#[test]
fn what_was_exported_and_imported_is_exported_just_so() {
    let etcd = Etcd::start();
    let scratch = tempfile::tempdir().unwrap();
    let file = |name: &str| scratch.path().join(name).display().to_string();
    let at = [("ETCD_ENDPOINTS", etcd.endpoint())];
    fill(&etcd);
    succeed(&["export", "-o", &file("one")], &at);
    let first = std::fs::read_to_string(file("one")).unwrap();
    for kind in [
        "BGPFilter",
        "BlockAffinity",
        "ClusterInformation",
        "EndpointSlice",
        "HostEndpoint",
        "IPAMBlock",
        "IPAMConfig",
        "IPAMHandle",
        "LiveMigration",
        "Service",
        "StagedNetworkPolicy",
        "Subnet",
        "WorkloadEndpoint",
    ] {
        assert!(
            first.contains(&format!("\"kind\":\"{kind}\"")),
            "{kind} is missing"
        );
    }
    assert!(
        !first.contains("uptime"),
        "a sign of life is nothing to keep"
    );
    assert!(
        first.contains("\"later\":\"kept\""),
        "an unknown field is kept"
    );
    let before = dump(&etcd);

    etcd.clear();
    let said = succeed(&["import", &file("one")], &at);
    assert!(said.starts_with("Successfully imported "), "{said}");
    succeed(&["export", "-o", &file("two")], &at);
    same(&std::fs::read_to_string(file("two")).unwrap(), &first);
    let (before, after): (Vec<String>, Vec<String>) = (keys(&before), keys(&dump(&etcd)));
    let kept: Vec<&String> = before
        .iter()
        .filter(|key| !key.starts_with("/calico/felix/"))
        .collect();
    assert_eq!(after.iter().collect::<Vec<_>>(), kept);

    // The same again changes nothing, from standard output as well.
    same(&succeed(&["export"], &at), &first);
    let said = succeed(&["import", &file("one"), "--overwrite"], &at);
    assert!(
        said.contains(" 1 resource(s) and 0 record(s)"),
        "only the lock is written: {said}"
    );
    same(&succeed(&["export"], &at), &first);
}

#[test]
fn a_directory_gives_and_takes_resources() {
    let scratch = tempfile::tempdir().unwrap();
    let store = |name: &str| {
        let path = scratch.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        [
            ("DATASTORE_TYPE", "dir".to_owned()),
            ("CLEAT_DATASTORE_PATH", path.display().to_string()),
        ]
    };
    let file = scratch.path().join("file").display().to_string();
    for input in ["all.yaml", "more.yaml"] {
        succeed(
            &["apply", "-f", &format!("{INPUTS}/{input}")],
            &store("one"),
        );
    }
    succeed(&["export", "-o", &file], &store("one"));
    succeed(&["import", &file], &store("two"));
    let first = std::fs::read_to_string(&file).unwrap();
    same(&succeed(&["export"], &store("two")), &first);
    // Addresses have no place there, and that is said.
    let etcd = Etcd::start();
    fill(&etcd);
    succeed(
        &["export", "-o", &file],
        &[("ETCD_ENDPOINTS", etcd.endpoint())],
    );
    let (code, _, error) = cleat(&["import", &file, "--merge"], &store("three"));
    assert!(
        error.contains("4 records of address management are left out"),
        "{error}"
    );
    assert_eq!(code, 0, "{error}");
}

#[test]
fn a_file_that_is_not_whole_is_refused_and_nothing_is_written() {
    let etcd = Etcd::start();
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("file").display().to_string();
    let at = [("ETCD_ENDPOINTS", etcd.endpoint())];
    fill(&etcd);
    let whole = succeed(&["export"], &at);
    etcd.clear();
    let lines: Vec<&str> = whole.lines().collect();
    let without = |from: usize| lines[..from].join("\n") + "\n";
    let middle = lines.len() / 2;
    let cases = [
        ("cut between two lines", without(middle), "was cut off"),
        (
            "cut before the end",
            without(lines.len() - 1),
            "was cut off",
        ),
        (
            "cut in a line",
            whole[..whole.len() * 2 / 3].to_owned(),
            "was cut off",
        ),
        (
            "cut in the end",
            whole[..whole.len() - 20].to_owned(),
            "was cut off",
        ),
        ("head alone", without(1), "was cut off: 0 of "),
        (
            "a letter changed",
            whole.replacen("host1", "host2", 1),
            "its checksum is wrong",
        ),
        (
            "a line lost",
            whole.replacen(&format!("{}\n", lines[middle]), "", 1),
            "its checksum is wrong",
        ),
        (
            "more than the end",
            format!("{whole}{{}}\n"),
            "something comes after its end",
        ),
        (
            "no JSON inside",
            whole.replacen(lines[middle], "{", 1),
            &format!("line {} is no JSON", middle + 1),
        ),
        (
            "a later format",
            whole.replacen("\"format\":1", "\"format\":2", 1),
            "has format 2",
        ),
        (
            "a manifest",
            std::fs::read_to_string(format!("{INPUTS}/all.yaml")).unwrap(),
            "is neither what",
        ),
        ("nothing", String::new(), "is neither what"),
    ];
    for (case, text, said) in cases {
        std::fs::write(&file, text).unwrap();
        let (code, out, error) = cleat(&["import", &file], &at);
        assert_eq!(code, 1, "{case}: {out}{error}");
        assert!(error.contains(said), "{case}: {error}");
        assert_eq!(dump(&etcd), "", "{case}");
    }
    // What no store would take is named with its line, all of it.
    let bad = "{\"kind\":\"CleatExport\",\"format\":1,\"cleat\":\"0\",\"objects\":2,\"counts\":{}}\n\
               {\"apiVersion\":\"projectcalico.org/v3\",\"kind\":\"IPPool\",\"metadata\":{\"name\":\"a\"},\"spec\":{\"cidr\":\"x\"}}\n\
               {\"apiVersion\":\"projectcalico.org/v3\",\"kind\":\"Tier\",\"metadata\":{\"name\":\"b\"},\"spec\":{\"order\":\"y\"}}\n";
    std::fs::write(&file, bad).unwrap();
    let sum = Command::new("sha256sum")
        .arg(&file)
        .output()
        .unwrap()
        .stdout;
    let sum = String::from_utf8_lossy(&sum[..64]).into_owned();
    let end = format!("{{\"kind\":\"CleatExportEnd\",\"objects\":2,\"sha256\":\"{sum}\"}}\n");
    std::fs::write(&file, format!("{bad}{end}")).unwrap();
    let (code, _, error) = cleat(&["import", &file], &at);
    assert_eq!(code, 1, "{error}");
    assert!(
        error.contains("line 2: IPPool(a)") && error.contains("line 3: Tier(b)"),
        "{error}"
    );
    assert_eq!(dump(&etcd), "");
}

#[test]
fn a_store_that_holds_something_wants_to_be_asked() {
    let etcd = Etcd::start();
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("file").display().to_string();
    let at = [("ETCD_ENDPOINTS", etcd.endpoint())];
    fill(&etcd);
    succeed(&["export", "-o", &file], &at);
    // Something changed, something new, something gone.
    succeed(
        &["patch", "tier", "front", "-p", r#"{"spec":{"order":7}}"#],
        &at,
    );
    succeed(&["label", "node", "host1", "new=one"], &at);
    succeed(&["delete", "gnetset", "office"], &at);
    let extra = "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: extra}\n";
    let input = scratch.path().join("extra.yaml");
    std::fs::write(&input, extra).unwrap();
    succeed(&["apply", "-f", input.to_str().unwrap()], &at);
    etcd.etcdctl(&[
        "put",
        "/calico/ipam/v2/handle/other",
        r#"{"block":{},"deleted":false}"#,
    ]);
    etcd.etcdctl(&["del", "/calico/ipam/v2/handle/cni.c1"]);
    let before = dump(&etcd);

    let (code, _, error) = cleat(&["import", &file], &at);
    assert_eq!(code, 6, "{error}");
    assert!(
        error.contains("the datastore is not empty: it holds 1 BGPConfiguration"),
        "{error}"
    );
    for mode in ["--merge", "--overwrite"] {
        let said = succeed(&["import", &file, mode, "--dry-run"], &at);
        assert!(
            said.contains("create GlobalNetworkSet(office)\n"),
            "{mode}: {said}"
        );
        assert!(
            said.contains("write /calico/ipam/v2/handle/cni.c1\n"),
            "{mode}: {said}"
        );
        assert_eq!(
            said.contains("replace Tier(front)\n"),
            mode == "--overwrite",
            "{said}"
        );
        assert_eq!(
            said.contains("delete Tier(extra)\n"),
            mode == "--overwrite",
            "{said}"
        );
        assert_eq!(
            said.contains("delete /calico/ipam/v2/handle/other\n"),
            mode == "--overwrite",
            "{said}"
        );
        assert!(said.ends_with("Nothing was done.\n"), "{said}");
    }
    assert_eq!(dump(&etcd), before, "a dry run does nothing");

    succeed(&["import", &file, "--merge"], &at);
    assert_eq!(
        tiers(&at),
        "back:400 default:1000000 extra:- front:7",
        "what is there stays"
    );
    assert!(dump(&etcd).contains("globalnetworksets/office"));
    succeed(&["import", &file, "--overwrite"], &at);
    same(
        &succeed(&["export"], &at),
        &std::fs::read_to_string(&file).unwrap(),
    );
}

#[test]
fn what_calicoctl_exports_is_imported() {
    let etcd = Etcd::start();
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("file").display().to_string();
    let at = [("ETCD_ENDPOINTS", etcd.endpoint())];
    let text = r#"apiVersion: projectcalico.org/v3
items:
- apiVersion: projectcalico.org/v3
  kind: IPPool
  metadata: {creationTimestamp: null, name: pool}
  spec: {blockSize: 30, cidr: 10.65.0.0/16, ipipMode: Never, nodeSelector: all(), vxlanMode: Never}
kind: IPPoolList
metadata: {resourceVersion: "7"}
---
apiVersion: projectcalico.org/v3
items: []
kind: BGPPeerList
metadata: {resourceVersion: "7"}
---
apiVersion: projectcalico.org/v3
items:
- apiVersion: projectcalico.org/v3
  kind: Node
  metadata: {creationTimestamp: null, name: host1}
  spec: {orchRefs: [{nodeName: host1, orchestrator: k8s}]}
kind: NodeList
metadata: {resourceVersion: "7"}
---
===
{
  "kind": "ClusterInformation",
  "apiVersion": "projectcalico.org/v3",
  "metadata": {"name": "default", "uid": "6f7a7d53-8d43-4d5f-a9c4-7d7c1d9a2f00", "creationTimestamp": "2026-11-22T01:17:52Z"},
  "spec": {"clusterGUID": "0123456789abcdef0123456789abcdef", "calicoVersion": "v3.33", "datastoreReady": false}
}
===
{
  "block_affinities": [
    {"Key": "/calico/ipam/v2/host/host1/ipv4/block/10.65.0.64-30", "Value": {"state": "confirmed", "deleted": false}, "TTL": 0}
  ],
  "blocks": [
    {"Key": "/calico/ipam/v2/assignment/ipv4/block/10.65.0.64-30", "Value": {"cidr": "10.65.0.64/30", "affinity": "host:host1", "allocations": [0, null, null, null], "unallocated": [1, 2, 3], "attributes": [{"handle_id": "cni.c1", "secondary": {"node": "host1"}}], "sequenceNumber": 3, "deleted": false}, "TTL": 0}
  ],
  "handles": [
    {"Key": "/calico/ipam/v2/handle/cni.c1", "Value": {"block": {"10.65.0.64/30": 1}, "deleted": false}, "TTL": 0}
  ],
  "config": {"Key": "/calico/ipam/v2/config", "Value": {"strict_affinity": true, "auto_allocate_blocks": true}, "TTL": 0}
}
"#;
    std::fs::write(&file, text).unwrap();
    let (code, out, error) = cleat(&["import", &file], &at);
    assert_eq!(code, 0, "{error}");
    assert_eq!(
        out,
        "Successfully imported 3 resource(s) and 4 record(s) of address management\n"
    );
    assert!(
        error.contains("the datastore is locked; `cleat store unlock`"),
        "{error}"
    );
    let stored = dump(&etcd);
    for key in [
        "/calico/ipam/v2/assignment/ipv4/block/10.65.0.64-30",
        "/calico/ipam/v2/config",
        "/calico/ipam/v2/handle/cni.c1",
        "/calico/ipam/v2/host/host1/ipv4/block/10.65.0.64-30",
        "/calico/resources/v3/projectcalico.org/ippools/pool",
        "/calico/resources/v3/projectcalico.org/nodes/host1",
    ] {
        assert!(stored.lines().any(|line| line == key), "{key}:\n{stored}");
    }
    let ready = [
        "get",
        "clusterinfo",
        "default",
        "-o",
        "custom-columns=CLUSTERGUID,DATASTOREREADY",
        "--no-headers",
    ];
    assert_eq!(
        succeed(&ready, &at),
        "0123456789abcdef0123456789abcdef   false\n"
    );
    assert_eq!(succeed(&["store", "unlock"], &at), "Datastore unlocked.\n");
    assert_eq!(
        succeed(&ready, &at),
        "0123456789abcdef0123456789abcdef   true\n"
    );
    assert_eq!(succeed(&["store", "lock"], &at), "Datastore locked.\n");
    assert_eq!(
        succeed(&ready, &at),
        "0123456789abcdef0123456789abcdef   false\n"
    );
    // Its parts are held to the same rules as others.
    std::fs::write(&file, text.replace("10.65.0.0/16", "10.65.0.0/33")).unwrap();
    let (code, _, error) = cleat(&["import", &file, "--overwrite"], &at);
    assert_eq!(code, 1);
    assert!(error.contains("IPPool(pool): spec.cidr"), "{error}");
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_exported() {
    let etcd = Etcd::start();
    let at = [("ETCD_ENDPOINTS", etcd.endpoint())];
    fill(&etcd);
    etcd.etcdctl(&[
        "put",
        "/calico/resources/v3/projectcalico.org/tiers/broken",
        "{\"spec\":{\"order\":\"x\"}}",
    ]);
    let (code, out, error) = cleat(&["export"], &at);
    assert_eq!(code, 1, "{error}");
    assert!(
        error.contains("and 1 were not") && error.contains("Tier(broken): spec.order"),
        "{error}"
    );
    assert!(
        out.contains("\"kind\":\"CleatExportEnd\"") && out.contains("\"front\""),
        "{out}"
    );
}

#[test]
fn deleting_a_node_or_a_pool_takes_its_addresses_along() {
    let etcd = Etcd::start();
    let at = [("ETCD_ENDPOINTS", etcd.endpoint())];
    fill(&etcd);
    let other = [
        (
            "/calico/ipam/v2/assignment/ipv4/block/10.65.0.128-30",
            r#"{"cidr":"10.65.0.128/30","affinity":"host:host2","allocations":[0,null,null,null],"unallocated":[1,2,3],"attributes":[{"handle_id":"cni.c2","secondary":{"node":"host2"}}],"sequenceNumber":3,"deleted":false}"#,
        ),
        (
            "/calico/ipam/v2/host/host2/ipv4/block/10.65.0.128-30",
            r#"{"state":"confirmed","deleted":false}"#,
        ),
        (
            "/calico/ipam/v2/handle/cni.c2",
            r#"{"block":{"10.65.0.128/30":1},"deleted":false}"#,
        ),
        // The endpoint's address, in the node's block.
        (
            "/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-30",
            r#"{"cidr":"10.65.0.0/30","affinity":"host:host1","allocations":[null,null,0,null],"unallocated":[0,1,3],"attributes":[{"handle_id":"cni.c0","secondary":{"node":"host1"}}],"sequenceNumber":3,"deleted":false}"#,
        ),
        (
            "/calico/ipam/v2/host/host1/ipv4/block/10.65.0.0-30",
            r#"{"state":"confirmed","deleted":false}"#,
        ),
        (
            "/calico/ipam/v2/handle/cni.c0",
            r#"{"block":{"10.65.0.0/30":1},"deleted":false}"#,
        ),
    ];
    for (key, value) in other {
        assert!(etcd.etcdctl(&["put", key, value]).0);
    }
    succeed(&["delete", "node", "host1"], &at);
    let left = dump(&etcd);
    for gone in [
        "nodes/host1",
        "workloadendpoints",
        "hostendpoints",
        "felixconfigurations/node.host1",
        "host/host1/",
        "handle/cni.c0",
        "block/10.65.0.0-30",
    ] {
        let ours: Vec<&str> = left
            .lines()
            .filter(|line| line.contains(gone) && !line.contains("/felix/"))
            .collect();
        assert!(ours.is_empty(), "{gone}: {ours:?}");
    }
    assert!(
        left.contains("host/host2/ipv4") && left.contains("handle/cni.c2"),
        "another host's stays: {left}"
    );
    // A pool cannot be made anew over blocks of another size, nor change under them.
    succeed(&["delete", "ippool", "v4"], &at);
    let left = dump(&etcd);
    assert!(
        !left.contains("ippools/v4") && !left.contains("host/host2/ipv4"),
        "claims on its blocks are given up: {left}"
    );
    assert!(
        left.contains("block/10.65.0.128-30"),
        "an address that is assigned stays assigned: {left}"
    );
    let (code, _, error) = cleat(&["apply", "-f", &format!("{INPUTS}/all.yaml")], &at);
    assert_eq!(code, 1, "{error}");
    assert!(
        error.contains(
            "IPPool(v4): spec.blockSize: is 26, but addresses are assigned in block 10.65.0.128/30"
        ),
        "{error}"
    );
}

/// Puts one of everything into a store.
fn fill(etcd: &Etcd) {
    let at = [("ETCD_ENDPOINTS", etcd.endpoint())];
    for input in ["all.yaml", "more.yaml", "changes/tiers.json"] {
        succeed(&["apply", "-f", &format!("{INPUTS}/{input}")], &at);
    }
    for (key, value) in BESIDE {
        assert!(etcd.etcdctl(&["put", key, value]).0, "{key}");
    }
}

fn tiers(at: &[(&str, String)]) -> String {
    let table = succeed(
        &[
            "get",
            "tiers",
            "-o",
            "custom-columns=NAME,ORDER",
            "--no-headers",
        ],
        at,
    );
    let mut tiers: Vec<String> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(":"))
        .filter(|tier| !tier.starts_with("kube-"))
        .collect();
    tiers.sort();
    tiers.join(" ")
}

/// Compares line by line, and shows the first that differs.
fn same(actual: &str, expected: &str) {
    for (line, (actual, expected)) in actual.lines().zip(expected.lines()).enumerate() {
        assert_eq!(actual, expected, "line {}", line + 1);
    }
    assert_eq!(actual.len(), expected.len());
}

fn dump(etcd: &Etcd) -> String {
    etcd.etcdctl(&["get", "", "--prefix"]).1
}

fn keys(dump: &str) -> Vec<String> {
    let keys = dump.lines().filter(|line| line.starts_with('/'));
    keys.map(str::to_owned).collect()
}

fn succeed(arguments: &[&str], environment: &[(&str, String)]) -> String {
    let (code, out, error) = cleat(arguments, environment);
    assert_eq!(code, 0, "{arguments:?}: {out}{error}");
    out
}

fn cleat(arguments: &[&str], environment: &[(&str, String)]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cleat"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .current_dir(Path::new("/"))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}
