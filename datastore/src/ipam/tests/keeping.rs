//! Addresses and blocks are given back, and everything is kept in order.

use super::*;

#[test]
fn released_addresses_go_to_the_end_of_the_queue() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        let assigned = world.assign(family, "a", "h", 2).unwrap();
        let cidr = assigned[0].trunc();
        let before = world.block(cidr).unwrap().sequence_number;
        let request = [ReleaseRequest::from(assigned[0].addr())];
        let released = now(world.ipam.release(&request)).unwrap();
        assert_eq!(released.released, [assigned[0].addr()]);
        let block = world.block(cidr).unwrap();
        assert_eq!(block.unallocated.last(), Some(&0));
        assert_eq!(block.sequence_number, before + 1);
        assert_eq!(
            world.handle("h"),
            Some(BTreeMap::from([(cidr.to_string(), 1)]))
        );
        let again = now(world.ipam.release(&request)).unwrap();
        assert_eq!(again.not_assigned, [assigned[0].addr()]);
        assert_eq!(
            now(world.ipam.release_handle("h", None)).unwrap(),
            [assigned[1].addr()]
        );
        assert_eq!(world.handle("h"), None);
        let block = world.block(cidr).unwrap();
        assert!(block.is_empty() && block.attributes.is_empty());
        assert!(matches!(
            now(world.ipam.release_handle("h", None)),
            Err(IpamError::UnknownHandle(_))
        ));
        assert_eq!(world.findings(), []);
    }
}

#[test]
fn a_release_that_is_out_of_date_does_nothing() {
    let family = FAMILIES[1];
    let world = World::with_pool(family);
    let address = world.assign(family, "a", "h", 1).unwrap()[0].addr();
    let before = world.kv.dump();
    let mut request = ReleaseRequest {
        address,
        handle: Some("other".to_owned()),
        sequence_number: None,
    };
    assert!(matches!(
        now(world.ipam.release(std::slice::from_ref(&request))),
        Err(IpamError::BadHandle { .. })
    ));
    request.handle = Some("h".to_owned());
    request.sequence_number = Some(1);
    assert!(matches!(
        now(world.ipam.release(std::slice::from_ref(&request))),
        Err(IpamError::BadSequenceNumber { expected: 1, .. })
    ));
    assert_eq!(
        now(world.ipam.release_handle("h", Some(1))).unwrap(),
        [] as [IpAddr; 0]
    );
    assert_eq!(world.kv.dump(), before);
    let info = now(world.ipam.show_address(address)).unwrap().unwrap();
    request.sequence_number = Some(info.sequence_number);
    assert_eq!(
        now(world.ipam.release(&[request])).unwrap().released,
        [address]
    );
}

#[test]
fn an_address_cools_down_before_it_is_given_again() {
    for family in FAMILIES {
        let world = World::new();
        world.pool("pool", family.small, family.host_len() - 1, json!({}));
        world.configure(|config| config.ip_cooldown_seconds = 30);
        world.assign(family, "a", "h", 4).unwrap();
        let released = now(world.ipam.release_handle("h", None)).unwrap();
        assert_eq!(released.len(), 4);
        assert_eq!(world.handle("h"), None);
        world.pass(29);
        assert!(matches!(
            world.assign(family, "a", "i", 1),
            Err(IpamError::PoolsFull { missing: 1, .. })
        ));
        let again = ReleaseRequest::from(released[0]);
        assert_eq!(
            now(world.ipam.release(&[again])).unwrap().not_assigned,
            [released[0]]
        );
        world.pass(1);
        world.assign(family, "a", "i", 1).unwrap();
        let cidr = now(world.ipam.show()).unwrap().0[0]
            .blocks
            .iter()
            .find(|block| block.cooling > 0)
            .unwrap()
            .cidr;
        assert!(now(world.ipam.collect_block(cidr)).unwrap());
        assert!(!now(world.ipam.collect_block(cidr)).unwrap());
        assert_eq!(world.findings(), []);
    }
}

#[test]
fn an_empty_block_is_taken_over_once_its_owner_has_had_it_for_a_minute() {
    for family in FAMILIES {
        let world = World::new();
        let net: IpNet = family.pool.parse().unwrap();
        let cidr = IpNet::new(net.addr(), family.block_len).unwrap();
        world.pool("pool", &cidr.to_string(), family.block_len, json!({}));
        world.configure(|config| config.strict_affinity = true);
        world.assign(family, "a", "h", 1).unwrap();
        now(world.ipam.release_handle("h", None)).unwrap();
        let number = world.block(cidr).unwrap().sequence_number;
        world.pass(59);
        assert!(world.assign(family, "b", "i", 1).is_err());
        world.pass(1);
        world.assign(family, "b", "i", 1).unwrap();
        assert_eq!(world.affinity("a", cidr), None);
        assert_eq!(world.affinity("b", cidr), Some(AffinityState::Confirmed));
        assert!(world.block(cidr).unwrap().sequence_number > number);
        assert_eq!(world.findings(), []);
    }
}

#[test]
fn what_other_clients_left_half_done_is_mended_by_the_next_assignment() {
    for family in FAMILIES {
        let cidr = family.block();
        // The claim's state, whose the block is, and whether the claim is good in the end.
        for (state, block_of, good) in [
            ("pending", None, true),
            ("pending", Some("a"), true),
            ("pending", Some("b"), false),
            ("pendingDeletion", None, true),
            ("pendingDeletion", Some("a"), true),
            ("pendingDeletion", Some("b"), false),
            ("confirmed", None, true),
            ("confirmed", Some("b"), false),
            ("", Some("a"), true),
        ] {
            let name = format!("{state} {block_of:?} {family:?}");
            let world = World::with_pool(family);
            world.put_affinity("a", cidr, state);
            if state.is_empty() {
                let key = keys::affinity(&Owner::host("a"), cidr);
                world.kv.put(key, "");
            }
            if let Some(host) = block_of {
                world.put_block(&fresh(cidr, host));
                if host != "a" {
                    world.put_affinity(host, cidr, "confirmed");
                }
            }
            let assigned = world.assign(family, "a", "h", 1).unwrap();
            assert_eq!(assigned[0].trunc() == cidr, good, "{name}");
            let expected = good.then_some(AffinityState::Confirmed);
            assert_eq!(world.affinity("a", cidr), expected, "{name}");
            assert_eq!(world.findings(), [], "{name}");
        }
    }
}

#[test]
fn a_handle_that_counts_too_much_is_mended_by_its_release() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        let assigned = world.assign(family, "a", "h", 1).unwrap();
        let cidr = assigned[0].trunc();
        let other = IpNet::new(
            addr::address_at(cidr.supernet().unwrap(), 0).unwrap(),
            family.block_len,
        )
        .unwrap();
        let value = json!({"block": {cidr.to_string(): 2, other.to_string(): 1, "junk": 1}, "deleted": false});
        world.kv.put(keys::handle("h"), value.to_string());
        let counts = world.findings();
        assert!(
            counts
                .iter()
                .all(|finding| matches!(finding, Finding::HandleCount { .. }))
                && !counts.is_empty(),
            "{counts:?}"
        );
        assert_eq!(
            now(world.ipam.release_handle("h", None)).unwrap(),
            [assigned[0].addr()]
        );
        assert_eq!(world.findings(), []);
    }
}

#[test]
fn a_handle_of_many_blocks_is_released_in_groups() {
    let family = FAMILIES[0];
    let world = World::new();
    world.pool("pool", "10.8.0.0/24", 32, json!({}));
    let mut wish = request(family, "a", "h", 55);
    wish.max_blocks = Some(1_000);
    now(world.ipam.assign(&wish)).unwrap();
    now(world.ipam.assign(&wish)).unwrap();
    assert!(matches!(
        now(world.ipam.assign(&AssignRequest {
            v4: 100,
            ..wish.clone()
        })),
        Err(IpamError::TooMuchAtOnce)
    ));
    assert_eq!(
        now(world.ipam.release_handle("h", None)).unwrap().len(),
        110
    );
    assert_eq!(world.handle("h"), None);
    assert_eq!(world.findings(), []);
}

#[test]
fn claims_are_given_up_with_their_empty_blocks_and_leave_full_ones_to_nobody() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        let owner = Owner::host("a");
        let cidr = world.assign(family, "a", "h", 1).unwrap()[0].trunc();
        assert_eq!(
            now(world.ipam.give_up(&owner, cidr, true)).unwrap(),
            GivenUp::NotEmpty
        );
        assert_eq!(
            now(world.ipam.remove_owner(&owner)).unwrap(),
            [(cidr, GivenUp::BlockKept)]
        );
        let block = world.block(cidr).unwrap();
        assert_eq!((block.affinity, block.affinity_claim_time), (None, None));
        assert_eq!(world.findings(), []);
        now(world.ipam.release_handle("h", None)).unwrap();
        assert_eq!(world.block(cidr), None);
        let cidr = world.assign(family, "a", "h", 1).unwrap()[0].trunc();
        now(world.ipam.release_handle("h", None)).unwrap();
        let pool = family.pool.parse().unwrap();
        assert_eq!(
            now(world.ipam.give_up_pool(pool, true)).unwrap(),
            [(owner.clone(), cidr, GivenUp::BlockDeleted)]
        );
        world.put_affinity("a", cidr, "pendingDeletion");
        assert_eq!(
            now(world.ipam.give_up(&owner, cidr, true)).unwrap(),
            GivenUp::ClaimOnly
        );
        assert_eq!(
            now(world.ipam.give_up(&owner, cidr, true)).unwrap(),
            GivenUp::Nothing
        );
    }
}

#[test]
fn empty_blocks_of_pools_that_select_the_node_no_more_are_given_up() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        let cidr = world.assign(family, "a", "h", 1).unwrap()[0].trunc();
        now(world.ipam.release_handle("h", None)).unwrap();
        let more = json!({"nodeSelector": "none == 'such'"});
        world.pool("pool", family.pool, family.block_len, more);
        world.pool("small", family.small, family.host_len(), json!({}));
        world.assign(family, "a", "i", 1).unwrap();
        assert_eq!((world.block(cidr), world.affinity("a", cidr)), (None, None));
        assert_eq!(world.findings(), []);
    }
}

#[test]
fn a_pool_is_split_in_one_transaction_and_its_addresses_stay() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        let assigned = world.assign(family, "a", "h", 1).unwrap();
        let names = now(world.ipam.split("pool", 4)).unwrap();
        assert_eq!(
            names,
            [
                "split-pool-0",
                "split-pool-1",
                "split-pool-2",
                "split-pool-3"
            ]
        );
        let (pools, outside) = now(world.ipam.show()).unwrap();
        assert_eq!((pools.len(), outside.len()), (4, 0));
        assert_eq!(pools.iter().map(|pool| pool.size).sum::<u128>(), 1024);
        assert_eq!(pools.iter().map(|pool| pool.in_use).sum::<u64>(), 1);
        let released = now(world.ipam.release(&[assigned[0].addr().into()])).unwrap();
        assert_eq!(released.released.len(), 1);
        for (name, parts, expected) in [
            ("split-pool-0", 8, "smaller than a block"),
            ("split-pool-0", 3, "cannot be split"),
            ("split-pool-0", 1, "cannot be split"),
            ("pool", 2, "no pool"),
        ] {
            let error = now(world.ipam.split(name, parts)).unwrap_err().to_string();
            assert!(error.contains(expected), "{name} {parts}: {error}");
        }
    }
}

type Change = fn(&mut IpamConfig);

#[test]
fn settings_that_contradict_each_other_are_refused_and_can_be_mended() {
    let world = World::with_pool(FAMILIES[0]);
    let changes: [(&str, Change); 4] = [
        ("auto_allocate_blocks", |config| {
            config.auto_allocate_blocks = false;
        }),
        ("maxBlocksPerHost", |config| config.max_blocks_per_host = 1),
        ("ipCooldownSeconds", |config| {
            config.ip_cooldown_seconds = 1_201;
        }),
        ("kubeVirtVMAddressPersistence", |config| {
            config.vm_address_persistence = Some("Maybe".to_owned());
        }),
    ];
    for (field, change) in changes {
        let error = now(world.ipam.configure(change)).unwrap_err();
        assert!(
            matches!(&error, IpamError::Unreadable(problem) if problem.field == field),
            "{error:?}"
        );
    }
    assert_eq!(world.kv.value(keys::CONFIG), None);
    world
        .kv
        .put(keys::CONFIG, r#"{"maxBlocksPerHost":5,"later":[1]}"#);
    assert!(matches!(
        world.assign(FAMILIES[0], "a", "h", 1),
        Err(IpamError::Unreadable(_))
    ));
    let config = now(world.ipam.configure(|config| config.strict_affinity = true)).unwrap();
    assert_eq!(
        (config.max_blocks_per_host, config.auto_allocate_blocks),
        (5, false)
    );
    let stored: Value = serde_json::from_slice(&world.kv.value(keys::CONFIG).unwrap()).unwrap();
    assert_eq!(stored["later"], json!([1]));
}

#[test]
fn what_users_apply_and_what_is_configured_are_the_same_settings() {
    let family = FAMILIES[0];
    let world = World::with_pool(family);
    let resource = "/calico/resources/v3/projectcalico.org/ipamconfigurations/default";
    let apply = |spec: Value| {
        world.resource(
            "ipamconfigurations",
            "IPAMConfiguration",
            "default",
            json!({}),
            spec,
        );
    };
    let stored = |key: &str| -> Option<Value> {
        world
            .kv
            .value(key)
            .map(|bytes| serde_json::from_slice(&bytes).unwrap())
    };
    // Where nothing else is said, the resource holds by itself.
    apply(json!({"strictAffinity": true, "autoAllocateBlocks": false, "maxBlocksPerHost": 3}));
    let config = now(world.ipam.config()).unwrap();
    assert_eq!(
        (config.strict_affinity, config.max_blocks_per_host),
        (true, 3)
    );
    let error = world.assign(family, "a", "h", 1).unwrap_err();
    assert!(matches!(error, IpamError::NoNewBlocks(_)), "{error}");
    // What is configured goes by what was there, and into both places.
    world.configure(|config| config.auto_allocate_blocks = true);
    let key = stored(keys::CONFIG).unwrap();
    assert_eq!(
        (&key["strict_affinity"], &key["maxBlocksPerHost"]),
        (&json!(true), &json!(3))
    );
    assert_eq!(
        stored(resource).unwrap()["spec"]["autoAllocateBlocks"],
        json!(true)
    );
    world.assign(family, "a", "h", 1).unwrap();
    // Calico's clients write the resource alone, and go by the key.
    apply(json!({"strictAffinity": true, "autoAllocateBlocks": false}));
    world.assign(family, "b", "h", 1).unwrap();
    let adopted = now(world.ipam.adopt_configuration()).unwrap();
    assert_eq!(
        (adopted.auto_allocate_blocks, adopted.max_blocks_per_host),
        (false, 0)
    );
    assert_eq!(
        stored(keys::CONFIG).unwrap()["auto_allocate_blocks"],
        json!(false)
    );
    // What contradicts itself is not taken over.
    apply(json!({"strictAffinity": false, "maxBlocksPerHost": 4}));
    assert!(matches!(
        now(world.ipam.adopt_configuration()),
        Err(IpamError::Unreadable(_))
    ));
    assert!(now(world.ipam.config()).unwrap().strict_affinity);
    // With the resource the settings go.
    world.kv.delete(resource);
    now(world.ipam.adopt_configuration()).unwrap();
    assert_eq!(stored(keys::CONFIG), None);
    assert_eq!(now(world.ipam.config()).unwrap(), IpamConfig::default());
}

#[test]
fn a_check_finds_everything_that_does_not_fit() {
    let family = FAMILIES[0];
    let world = World::with_pool(family);
    let assigned = world.assign(family, "a", "h", 2).unwrap();
    let cidr = assigned[0].trunc();
    let mut broken = fresh("10.7.0.0/26".parse().unwrap(), "b");
    broken.unallocated.retain(|place| *place != 7);
    world.put_block(&broken);
    world.put_block(&fresh("10.7.0.16/28".parse().unwrap(), "b"));
    world.put_affinity("b", "10.8.3.192/26".parse().unwrap(), "pending");
    world
        .kv
        .put(keys::block("10.8.3.0/26".parse().unwrap()), "{}");
    let endpoint = |workload: &str, address: &str| {
        let name = format!("a-x-{workload}-e");
        let value = json!({
            "kind": "WorkloadEndpoint", "apiVersion": "projectcalico.org/v3",
            "metadata": {"name": name, "namespace": "n"},
            "spec": {"orchestrator": "x", "workload": workload, "node": "a", "endpoint": "e",
                     "interfaceName": "tap1", "ipNetworks": [address]},
        });
        let key = format!("/calico/resources/v3/projectcalico.org/workloadendpoints/n/{name}");
        world.kv.put(key, value.to_string());
    };
    let used = assigned[0].addr();
    endpoint("v", &format!("{used}/32"));
    endpoint("w", &format!("{used}/32"));
    let unassigned = addr::address_at(cidr, 40).unwrap();
    endpoint("z", &format!("{unassigned}/32"));
    let findings = now(world.ipam.check()).unwrap();
    let has =
        |wanted: &dyn Fn(&Finding) -> bool| findings.iter().filter(|found| wanted(found)).count();
    assert_eq!(has(&|found| matches!(found, Finding::Unreadable { .. })), 1);
    assert_eq!(
        has(&|found| matches!(found, Finding::FreeListWrong { places, .. } if *places == [7])),
        1
    );
    assert_eq!(has(&|found| matches!(found, Finding::Overlap { .. })), 1);
    assert_eq!(
        has(&|found| matches!(found, Finding::OutsidePools { .. })),
        2
    );
    assert_eq!(has(&|found| matches!(found, Finding::Unclaimed { .. })), 2);
    assert_eq!(has(&|found| matches!(found, Finding::StaleClaim { .. })), 1);
    assert_eq!(
        has(
            &|found| matches!(found, Finding::Leaked { address, .. } if *address == assigned[1].addr())
        ),
        1
    );
    assert_eq!(
        has(
            &|found| matches!(found, Finding::NotAssigned { address, .. } if *address == unassigned)
        ),
        1
    );
    assert_eq!(
        has(&|found| matches!(found, Finding::UsedTwice { users, .. } if users.len() == 2)),
        1
    );
    assert_eq!(findings.len(), 11, "{findings:#?}");
}
