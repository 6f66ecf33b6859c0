//! Everything out as documents and in again.

use super::*;

/// A world with something under every kind of key.
fn full_world() -> World {
    let world = World::new();
    for family in FAMILIES {
        world.pool(family.name(), family.pool, family.block_len, json!({}));
        world.assign(family, "a", "workload", 70).unwrap();
        world.assign(family, "b", "Other.Workload", 1).unwrap();
    }
    world.configure(|config| config.ip_cooldown_seconds = 7);
    world
        .kv
        .put(keys::host(&Owner::host("a")), br#"{"note":"kept"}"#);
    // What Calico before 3.0.7 wrote, and what it writes for load balancers.
    let (old, virtual_block) = (
        "10.8.3.0/26".parse().unwrap(),
        "10.8.3.64/26".parse().unwrap(),
    );
    world.kv.put(keys::affinity(&Owner::host("b"), old), "");
    world.put_block(&fresh(old, "b"));
    let owner = Owner::Virtual("load-balancer".to_owned());
    world.kv.put(
        keys::affinity(&owner, virtual_block),
        r#"{"state":"confirmed","deleted":false,"later":1}"#,
    );
    let mut block = fresh(virtual_block, "b");
    block.affinity = Some(owner.to_string());
    block.extra.insert("later".to_owned(), json!([1, 2]));
    world.put_block(&block);
    world
}

fn ipam_keys(world: &World) -> BTreeMap<String, Vec<u8>> {
    world
        .kv
        .dump()
        .into_iter()
        .filter(|entry| entry.key.starts_with(keys::ROOT))
        .map(|entry| (entry.key, entry.value))
        .collect()
}

#[test]
fn what_is_dumped_is_restored_byte_for_byte_and_once_is_enough() {
    let world = full_world();
    let dump = now(world.ipam.dump()).unwrap();
    assert_eq!(dump.left_out, []);
    assert!(
        dump.documents
            .iter()
            .all(crate::ipam::documents::is_document)
    );
    let mut wanted = ipam_keys(&world);
    assert_eq!(dump.documents.len(), wanted.len());
    // A claim from before there were states is restored with its state.
    for value in wanted.values_mut().filter(|value| value.is_empty()) {
        *value = br#"{"state":"confirmed","deleted":false}"#.to_vec();
    }

    let other = World::new();
    let restored = now(other.ipam.restore(&dump.documents, false)).unwrap();
    assert_eq!((restored.written, restored.unchanged), (wanted.len(), 0));
    assert_eq!(ipam_keys(&other), wanted);
    let again = now(other.ipam.restore(&dump.documents, false)).unwrap();
    assert_eq!((again.written, again.unchanged), (0, wanted.len()));
    // The world they came from holds the same already, in whatever spelling.
    let back = now(world.ipam.restore(&dump.documents, false)).unwrap();
    assert_eq!((back.written, back.unchanged), (0, wanted.len()));
}

#[test]
fn documents_have_the_fields_of_calicos_resources() {
    let world = full_world();
    let documents = now(world.ipam.dump()).unwrap().documents;
    let fields = |kind: &str| -> BTreeSet<String> {
        documents
            .iter()
            .filter(|document| document["kind"] == kind)
            .flat_map(|document| document["spec"].as_object().unwrap().keys().cloned())
            .collect()
    };
    for (kind, wanted) in [
        (
            "IPAMBlock",
            "affinity affinityClaimTime allocations attributes cidr deleted later sequenceNumber \
             sequenceNumberForAllocation unallocated",
        ),
        ("BlockAffinity", "cidr deleted later node state type"),
        ("IPAMHandle", "block deleted handleID"),
        (
            "IPAMConfig",
            "autoAllocateBlocks ipCooldownSeconds maxBlocksPerHost strictAffinity",
        ),
        ("IPAMHost", "node note type"),
    ] {
        let wanted: BTreeSet<String> = wanted.split_whitespace().map(str::to_owned).collect();
        assert_eq!(fields(kind), wanted, "{kind}");
    }
    let ids: BTreeSet<&str> = documents
        .iter()
        .filter_map(|document| document["spec"]["handleID"].as_str())
        .collect();
    assert_eq!(ids, ["Other.Workload", "workload"].into());
}

#[test]
fn nothing_is_restored_over_something_else_unless_that_is_wanted() {
    let world = full_world();
    let documents = now(world.ipam.dump()).unwrap().documents;
    let other = World::new();
    other.configure(|config| config.ip_cooldown_seconds = 9);
    let error = now(other.ipam.restore(&documents, false)).unwrap_err();
    assert!(matches!(error, IpamError::Exists(key) if key == keys::CONFIG));
    now(other.ipam.restore(&documents, true)).unwrap();
    assert_eq!(now(other.ipam.config()).unwrap().ip_cooldown_seconds, 7);
    // A larger block over those that are there would give their addresses again.
    let mut overlapping = fresh("10.8.0.0/22".parse().unwrap(), "c");
    overlapping.affinity = None;
    let document = json!({"kind": "IPAMBlock", "metadata": {"name": "x"}, "spec": overlapping});
    let error = now(other.ipam.restore(&[document], true)).unwrap_err();
    assert!(matches!(error, IpamError::Overlaps { .. }), "{error}");
}

#[test]
fn one_bad_document_restores_none_and_every_bad_one_is_told() {
    let world = World::new();
    let before = world.kv.dump();
    let good = json!({"kind": "IPAMHandle", "metadata": {"name": "h"},
        "spec": {"handleID": "h", "block": {}, "deleted": false}});
    let with =
        |kind: &str, spec: Value| json!({"kind": kind, "metadata": {"name": "x"}, "spec": spec});
    let bad = [
        with("IPAMBlock", json!({"cidr": "10.0.0.1/26"})),
        with(
            "IPAMBlock",
            json!({"cidr": "10.0.0.0/26", "allocations": [], "unallocated": []}),
        ),
        with(
            "BlockAffinity",
            json!({"cidr": "10.0.0.0/26", "node": "a", "type": "other", "state": "confirmed"}),
        ),
        with(
            "BlockAffinity",
            json!({"cidr": "10.0.0.0/26", "node": "a", "state": "lost"}),
        ),
        with("IPAMHandle", json!({"handleID": "a/b", "block": {}})),
        with(
            "IPAMConfig",
            json!({"strictAffinity": false, "autoAllocateBlocks": false}),
        ),
        with("IPPool", json!({})),
        json!({"kind": "IPAMHost"}),
    ];
    for document in &bad {
        let both = [good.clone(), document.clone()];
        let error = now(world.ipam.restore(&both, true)).unwrap_err();
        assert!(
            matches!(&error, IpamError::BadDocuments(problems) if problems.len() == 1),
            "{document}: {error}"
        );
    }
    let error = now(world.ipam.restore(&bad, true)).unwrap_err();
    assert!(matches!(error, IpamError::BadDocuments(problems) if problems.len() == bad.len()));
    let twice = now(world.ipam.restore(&[good.clone(), good], true));
    assert!(matches!(twice, Err(IpamError::BadDocuments(_))));
    assert_eq!(world.kv.dump(), before);
}

#[test]
fn a_host_affinity_of_old_is_read_as_an_affinity() {
    let world = World::new();
    let cidr: IpNet = "10.8.0.0/30".parse().unwrap();
    let value = json!({"cidr": cidr, "hostAffinity": "b", "affinity": null,
        "allocations": [null, null, null, null], "unallocated": [0, 1, 2, 3], "attributes": null,
        "sequenceNumber": 1, "sequenceNumberForAllocation": null, "deleted": false});
    world.kv.put(keys::block(cidr), value.to_string());
    let block = world.block(cidr).unwrap();
    assert_eq!(block.owner(), Some(Owner::host("b")));
    assert!(
        !serde_json::to_string(&block)
            .unwrap()
            .contains("hostAffinity")
    );
}
