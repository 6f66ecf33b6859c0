//! What nobody uses is released, what is half-done is mended, and neither too early.

use super::*;
use crate::ipam::report::agreed;

const GRACE: u64 = 900;

/// A request for a pod's addresses, which must have an endpoint.
fn pod(family: Family, host: &str, handle: &str, count: usize) -> AssignRequest {
    let mut wish = request(family, host, handle, count);
    wish.assignee.attributes = [("node", host), ("namespace", "n"), ("pod", handle)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    wish
}

fn endpoint(world: &World, workload: &str, addresses: &[IpNet]) {
    let nets: Vec<String> = addresses
        .iter()
        .map(|net| IpNet::from(net.addr()).to_string())
        .collect();
    let name = format!("a-x-{workload}-e");
    let value = json!({
        "kind": "WorkloadEndpoint", "apiVersion": "projectcalico.org/v3",
        "metadata": {"name": name, "namespace": "n"},
        "spec": {"orchestrator": "x", "workload": workload, "node": "a", "endpoint": "e",
                 "interfaceName": format!("tap{workload}"), "ipNetworks": nets},
    });
    let key = format!("/calico/resources/v3/projectcalico.org/workloadendpoints/n/{name}");
    world.kv.put(key, value.to_string());
}

fn addresses(nets: &[IpNet]) -> BTreeSet<IpAddr> {
    nets.iter().map(IpNet::addr).collect()
}

#[test]
fn an_address_of_a_pod_without_an_endpoint_is_released_when_the_grace_is_over() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        let used = now(world.ipam.assign(&pod(family, "a", "used", 2))).unwrap();
        endpoint(&world, "used", &used);
        // More than one batch.
        let leaked = now(world.ipam.assign(&pod(family, "a", "leaked", 70))).unwrap();
        let mut collector = Collector::new(GRACE);
        for (seconds, released) in [(0, 0), (GRACE - 1, 0), (1, 70), (GRACE, 0)] {
            world.pass(seconds);
            let round = now(collector.round(&world.ipam)).unwrap();
            assert_eq!(round.released.len(), released, "after {seconds} more");
        }
        for net in &leaked {
            assert_eq!(now(world.ipam.show_address(net.addr())).unwrap(), None);
        }
        assert_eq!(world.handle("leaked"), None);
        assert_eq!(now(world.ipam.show_handle("used")).unwrap().len(), 2);
        assert_eq!(now(world.ipam.check()).unwrap(), []);
    }
}

#[test]
fn an_address_that_is_assigned_anew_or_gets_its_endpoint_begins_a_new_grace() {
    let family = FAMILIES[0];
    let world = World::new();
    world.pool("pool", "10.9.0.0/32", 32, json!({}));
    let mut collector = Collector::new(GRACE);
    let given = now(world.ipam.assign(&pod(family, "a", "one", 1))).unwrap();
    now(collector.round(&world.ipam)).unwrap();
    now(world.ipam.release_handle("one", None)).unwrap();
    world.pass(GRACE);
    let again = now(world.ipam.assign(&pod(family, "a", "one", 1))).unwrap();
    assert_eq!(given, again, "there is but one address");
    let round = now(collector.round(&world.ipam)).unwrap();
    assert_eq!((round.released.len(), round.waiting.len()), (0, 1));
    endpoint(&world, "one", &again);
    world.pass(GRACE);
    let round = now(collector.round(&world.ipam)).unwrap();
    assert_eq!(round, Collected::default());
    // Its endpoint goes: it was seen leaked long ago, but not since.
    world
        .kv
        .delete("/calico/resources/v3/projectcalico.org/workloadendpoints/n/a-x-one-e");
    let round = now(collector.round(&world.ipam)).unwrap();
    assert_eq!((round.released.len(), round.waiting.len()), (0, 1));
}

#[test]
fn what_a_host_that_is_gone_had_is_released_with_its_blocks() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        let given = world.assign(family, "b", "some-handle", 3).unwrap();
        let mut tunnel = request(family, "b", "ipip-tunnel-addr-b", 1);
        tunnel.assignee.attributes = [("node", "b"), ("type", "ipipTunnelAddress")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        now(world.ipam.assign(&tunnel)).unwrap();
        // The attributes of `assign` name node a, which stays; those of the handle are of b.
        let cidr = given[0].trunc();
        world
            .kv
            .delete("/calico/resources/v3/projectcalico.org/nodes/b");
        let mut collector = Collector::new(GRACE);
        now(collector.round(&world.ipam)).unwrap();
        world.pass(GRACE);
        let round = now(collector.round(&world.ipam)).unwrap();
        assert_eq!(round.released.len(), 1, "the tunnel's");
        assert_eq!(round.left.len(), 3, "nobody can tell about the others");
        now(world.ipam.release_handle("some-handle", None)).unwrap();
        now(collector.round(&world.ipam)).unwrap();
        world.pass(GRACE);
        let round = now(collector.round(&world.ipam)).unwrap();
        assert!(
            matches!(&round.mended[..], [Finding::Orphaned { block, .. }] if *block == cidr),
            "{round:?}"
        );
        assert_eq!((world.block(cidr), world.affinity("b", cidr)), (None, None));
        assert_eq!(now(world.ipam.check()).unwrap(), []);
    }
}

#[test]
fn what_keeps_its_address_without_an_endpoint_is_left_alone() {
    let family = FAMILIES[0];
    let world = World::with_pool(family);
    for (handle, name) in [("vm", "vmi-name"), ("lb", "service"), ("stranger", "note")] {
        let mut wish = pod(family, "a", handle, 1);
        if name == "note" {
            wish.assignee.attributes.clear();
        }
        wish.assignee
            .attributes
            .insert(name.to_owned(), "x".to_owned());
        now(world.ipam.assign(&wish)).unwrap();
    }
    let mut tunnel = request(family, "a", "vxlan-tunnel-addr-a", 1);
    tunnel
        .assignee
        .attributes
        .insert("type".to_owned(), "vxlanTunnelAddress".to_owned());
    now(world.ipam.assign(&tunnel)).unwrap();
    let mut collector = Collector::new(0);
    let round = now(collector.round(&world.ipam)).unwrap();
    assert_eq!((round.released.len(), round.left.len()), (0, 4));
}

#[test]
fn one_look_believes_addresses_that_say_how_old_they_are() {
    let family = FAMILIES[0];
    let world = World::with_pool(family);
    let at = |seconds: u64| Timestamp((START - seconds) as i64).to_string();
    let mut old = BTreeSet::new();
    for (handle, timestamp) in [
        ("old", Some(at(GRACE))),
        ("young", Some(at(GRACE - 30))),
        ("silent", None),
    ] {
        let mut wish = pod(family, "a", handle, 1);
        wish.assignee
            .attributes
            .extend(timestamp.map(|text| ("timestamp".to_owned(), text)));
        let given = now(world.ipam.assign(&wish)).unwrap();
        if handle == "old" {
            old = addresses(&given);
        }
    }
    let mut collector = Collector::once(GRACE, 10);
    let first = now(collector.round(&world.ipam)).unwrap();
    assert_eq!((first.released.len(), first.waiting.len()), (0, 3));
    world.pass(10);
    let second = now(collector.round(&world.ipam)).unwrap();
    assert_eq!(
        second.released.iter().copied().collect::<BTreeSet<_>>(),
        old
    );
    assert_eq!(second.waiting.len(), 2);
    // Without a grace nothing is waited for.
    let all = now(Collector::once(0, 10).round(&world.ipam)).unwrap();
    assert_eq!(all.released.len(), 2);
}

#[test]
fn everything_that_a_crashed_client_can_leave_is_mended_when_the_grace_is_over() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        let assigned = world.assign(family, "a", "h", 1).unwrap();
        let own = assigned[0].trunc();
        let pool: IpNet = family.pool.parse().unwrap();
        let free: Vec<IpNet> = addr::Subnets::new(pool, family.block_len)
            .map(|blocks| (0..16).filter_map(|number| blocks.at(number)).collect())
            .unwrap();
        let free: Vec<IpNet> = free.into_iter().filter(|cidr| *cidr != own).collect();
        // A claim without a block, one of a block that is another's, one being given up with an
        // empty block and one with a full one, and a block whose claim is lost.
        world.put_affinity("b", free[0], "pending");
        world.put_affinity("b", own, "pending");
        for cidr in [free[1], free[2]] {
            world.put_affinity("b", cidr, "pendingDeletion");
            let mut block = fresh(cidr, "b");
            if cidr == free[2] {
                block.take(1, &assignee("i"), &Reservations::default());
                world.kv.put(
                    keys::handle("i"),
                    json!({"block": {cidr.to_string(): 1}, "deleted": false}).to_string(),
                );
            }
            world.put_block(&block);
        }
        world.put_block(&fresh(free[3], "b"));
        // Handles that count what is not there, too much, and nothing at all.
        world.kv.put(
            keys::handle("h"),
            json!({"block": {own.to_string(): 3, free[4].to_string(): 1}, "deleted": false})
                .to_string(),
        );
        world.kv.put(
            keys::handle("j"),
            json!({"block": {free[5].to_string(): 1}, "deleted": false}).to_string(),
        );
        let mut broken = fresh(free[6], "b");
        world.put_affinity("b", free[6], "confirmed");
        broken.take(1, &assignee("lost"), &Reservations::default());
        broken.unallocated.retain(|place| *place != 7);
        broken.unallocated.insert(0, 5);
        world.put_block(&broken);

        let found = world.findings();
        assert!(found.iter().all(Finding::can_be_mended), "{found:#?}");
        assert_eq!(found.len(), 10, "{found:#?}");
        let mut collector = Collector::new(GRACE);
        let before = world.kv.dump();
        assert_eq!(now(collector.round(&world.ipam)).unwrap().mended, []);
        assert_eq!(world.kv.dump(), before);
        world.pass(GRACE);
        assert_eq!(now(collector.round(&world.ipam)).unwrap().mended.len(), 10);
        assert_eq!(world.findings(), []);
        assert_eq!(world.handle("j"), None);
        assert_eq!(world.handle("h"), Some([(own.to_string(), 1)].into()));
        assert_eq!(
            world.block(free[1]),
            None,
            "what was being given up is gone"
        );
        assert_eq!(world.block(free[2]).unwrap().affinity, None);
        assert_eq!(world.affinity("b", free[3]), Some(AffinityState::Confirmed));
        let mended = world.block(free[6]).unwrap();
        assert_eq!(mended.unallocated[0], 5, "the order of the others stays");
        assert_eq!(mended.unallocated.len(), 63);
    }
}

#[test]
fn what_has_changed_since_it_was_found_is_not_mended() {
    let family = FAMILIES[0];
    let world = World::with_pool(family);
    let given = now(world.ipam.assign(&pod(family, "a", "h", 1))).unwrap();
    let findings = now(world.ipam.check()).unwrap();
    assert!(matches!(
        &findings[..],
        [Finding::Leaked {
            leak: Leak::NoEndpoint,
            ..
        }]
    ));
    now(world.ipam.release_handle("h", None)).unwrap();
    let by_name = AddressRequest {
        owner: Owner::host("a"),
        address: given[0].addr(),
        assignee: assignee("h"),
        max_per_handle: None,
        host_reserved: None,
    };
    now(world.ipam.assign_address(&by_name)).unwrap();
    let before = world.kv.dump();
    assert!(matches!(
        now(world.ipam.mend(&findings[0])),
        Err(IpamError::BadSequenceNumber { .. })
    ));
    let cidr = given[0].trunc();
    for finding in [
        Finding::Unclaimed {
            block: cidr,
            affinity: "host:a".to_owned(),
        },
        Finding::StaleClaim {
            block: cidr,
            owner: "host:a".to_owned(),
            state: "pending".to_owned(),
        },
        Finding::HandleCount {
            handle: "h".to_owned(),
            block: cidr.to_string(),
            counted: 9,
            assigned: 1,
        },
        Finding::FreeListWrong {
            block: cidr,
            places: vec![1],
        },
        Finding::Orphaned {
            block: cidr,
            owner: "host:a".to_owned(),
        },
    ] {
        assert!(!now(world.ipam.mend(&finding)).unwrap(), "{finding:?}");
    }
    assert_eq!(world.kv.dump(), before);
}

#[test]
fn two_reports_agree_on_what_is_leaked_and_on_nothing_that_changed_between_them() {
    let family = FAMILIES[0];
    let world = World::with_pool(family);
    world.resource(
        "clusterinformations",
        "ClusterInformation",
        "default",
        json!({}),
        json!({"clusterGUID": "c0ffee", "clusterType": "bgp", "datastoreReady": false}),
    );
    let used = now(world.ipam.assign(&pod(family, "a", "used", 1))).unwrap();
    endpoint(&world, "used", &used);
    let leaked = now(world.ipam.assign(&pod(family, "a", "leaked", 1))).unwrap();
    let moved = now(world.ipam.assign(&pod(family, "a", "moved", 1))).unwrap();
    for id in ["empty", "busy"] {
        world
            .kv
            .put(keys::handle(id), r#"{"block":{},"deleted":false}"#);
    }
    let first = now(world.ipam.report()).unwrap();
    assert_eq!(
        (
            first.cluster_guid.as_str(),
            first.cluster_type.as_str(),
            first.datastore_locked
        ),
        ("c0ffee", "bgp", true)
    );
    let of = |net: &IpNet| first.allocations[&net.addr().to_string()][0].clone();
    assert!(of(&used[0]).in_use && of(&used[0]).owners.len() == 1);
    assert_eq!(
        (of(&leaked[0]).pod, of(&leaked[0]).in_use),
        ("leaked".to_owned(), false)
    );
    // It is released and assigned again, to the same pod even.
    now(world.ipam.release(&[moved[0].addr().into()])).unwrap();
    now(world.ipam.assign_address(&AddressRequest {
        owner: Owner::host("a"),
        address: moved[0].addr(),
        assignee: pod(family, "a", "moved", 1).assignee,
        max_per_handle: None,
        host_reserved: None,
    }))
    .unwrap();
    world
        .kv
        .put(keys::handle("busy"), r#"{"block":{},"deleted":false}"#);
    let second = now(world.ipam.report()).unwrap();
    let text = serde_json::to_string(&second).unwrap();
    let second: Report = serde_json::from_str(&text).unwrap();
    let agreed = agreed(&[first, second]);
    let found: Vec<IpAddr> = agreed
        .addresses
        .iter()
        .map(|request| request.address)
        .collect();
    assert_eq!(found, [leaked[0].addr()]);
    let ids: Vec<&str> = agreed
        .handles
        .iter()
        .map(|handle| handle.id.as_str())
        .collect();
    assert_eq!(ids, ["empty"]);
    assert!(now(world.ipam.delete_handle(&agreed.handles[0])).unwrap());
    assert!(!now(world.ipam.delete_handle(&agreed.handles[0])).unwrap());
    assert_eq!(
        now(world.ipam.release(&agreed.addresses)).unwrap().released,
        found
    );
}

#[test]
fn a_report_has_the_fields_of_calicoctls() {
    let family = FAMILIES[0];
    let world = World::with_pool(family);
    let given = now(world.ipam.assign(&pod(family, "a", "h", 1))).unwrap();
    let report = serde_json::to_value(now(world.ipam.report()).unwrap()).unwrap();
    for field in [
        "version",
        "clusterGUID",
        "datastoreLocked",
        "clusterInformationRevision",
        "clusterType",
        "allocations",
    ] {
        assert!(!report[field].is_null(), "{field}");
    }
    let allocation = &report["allocations"][given[0].addr().to_string()][0];
    for (field, wanted) in [
        ("ip", json!(given[0].addr().to_string())),
        ("handle", json!("h")),
        ("pod", json!("h")),
        ("namespace", json!("n")),
        ("node", json!("a")),
        ("inUse", json!(false)),
        ("owners", json!([])),
    ] {
        assert_eq!(allocation[field], wanted, "{field}");
    }
    // As calicoctl writes one: owners that were never listed are null.
    let theirs = json!({"version": "v3.33.0", "clusterGUID": "g", "datastoreLocked": true,
        "clusterInformationRevision": "7", "clusterType": "k8s",
        "allocations": {"10.0.0.1": [{"ip": "10.0.0.1", "handle": "h", "sequenceNumber": 3,
                                      "inUse": false, "owners": null}]},
        "leakedHandles": [{"ID": "x", "UID": null, "Revision": "9"}]});
    let theirs: Report = serde_json::from_value(theirs).unwrap();
    assert_eq!(agreed(&[theirs]).addresses[0].sequence_number, Some(3));
}
