//! Addresses are assigned.

use super::*;

#[test]
fn one_assignment_writes_block_affinity_and_handle_at_once() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        let assigned = world.assign(family, "a", "h", 2).unwrap();
        assert_eq!(assigned.len(), 2, "{family:?}");
        assert_eq!(assigned[0].prefix_len(), family.block_len, "{family:?}");
        let cidr = assigned[0].trunc();
        let block = world.block(cidr).unwrap();
        assert_eq!(block.affinity.as_deref(), Some("host:a"));
        assert_eq!(block.unallocated, (2..64).collect::<Vec<u32>>());
        assert_eq!(block.attributes.len(), 1);
        assert_eq!(block.sequence_of(0), START * 1_000_000_000);
        assert_eq!(
            block.affinity_claim_time.as_deref(),
            Some("2027-01-15T08:00:00Z")
        );
        assert_eq!(world.affinity("a", cidr), Some(AffinityState::Confirmed));
        assert_eq!(
            world.handle("h"),
            Some(BTreeMap::from([(cidr.to_string(), 2)]))
        );
        let revisions: BTreeSet<u64> = world
            .kv
            .dump()
            .iter()
            .filter(|entry| entry.key.contains("/ipam/"))
            .map(|entry| entry.revision)
            .collect();
        assert_eq!(revisions.len(), 1, "{family:?}");
        assert_eq!(world.findings(), []);
    }
}

#[test]
fn both_families_are_assigned_together_or_not_at_all() {
    let world = World::with_pool(FAMILIES[0]);
    let wish = AssignRequest::workload("a", 1, 1, assignee("h"));
    let before = world.kv.dump();
    let refused = now(world.ipam.assign(&wish));
    assert!(
        matches!(
            refused,
            Err(IpamError::NoPool {
                version: IpVersion::V6,
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(world.kv.dump(), before);
    world.pool("six", FAMILIES[1].pool, FAMILIES[1].block_len, json!({}));
    assert_eq!(now(world.ipam.assign(&wish)).unwrap().len(), 2);
    assert_eq!(world.handle("h").unwrap().len(), 2);
}

#[test]
fn a_host_fills_its_block_before_it_claims_another_and_stops_at_the_limit() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        world.configure(|config| {
            config.strict_affinity = true;
            config.max_blocks_per_host = 2;
        });
        let assigned = world.assign(family, "a", "h", 100).unwrap();
        let blocks: BTreeSet<IpNet> = assigned.iter().map(IpNet::trunc).collect();
        assert_eq!(blocks.len(), 2, "{family:?}");
        let before = world.kv.dump();
        let refused = world.assign(family, "a", "h", 29);
        assert!(
            matches!(refused, Err(IpamError::BlockLimit { limit: 2, .. })),
            "{refused:?}"
        );
        assert_eq!(world.kv.dump(), before, "{family:?}");
        assert_eq!(world.assign(family, "a", "h", 28).unwrap().len(), 28);
        assert_eq!(world.findings(), []);
    }
}

#[test]
fn a_full_pool_is_borrowed_from_unless_affinity_is_strict() {
    for family in FAMILIES {
        for strict in [false, true] {
            let world = World::new();
            let net: IpNet = family.pool.parse().unwrap();
            let one_block = IpNet::new(net.addr(), family.block_len).unwrap();
            world.pool("pool", &one_block.to_string(), family.block_len, json!({}));
            world.configure(|config| config.strict_affinity = strict);
            world.assign(family, "a", "h", 1).unwrap();
            let borrowed = world.assign(family, "b", "i", 1);
            if strict {
                assert!(
                    matches!(borrowed, Err(IpamError::StrictAffinityFull { .. })),
                    "{borrowed:?}"
                );
            } else {
                assert_eq!(borrowed.unwrap()[0].trunc(), one_block);
                assert_eq!(world.affinity("b", one_block), None);
                let full = world.assign(family, "b", "i", 63);
                assert!(
                    matches!(full, Err(IpamError::PoolsFull { missing: 1, .. })),
                    "{full:?}"
                );
            }
            assert_eq!(world.findings(), []);
        }
    }
}

#[test]
fn without_automatic_blocks_only_what_was_claimed_is_used() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        world.configure(|config| {
            config.strict_affinity = true;
            config.auto_allocate_blocks = false;
        });
        let refused = world.assign(family, "a", "h", 1);
        assert!(
            matches!(refused, Err(IpamError::NoNewBlocks(_))),
            "{refused:?}"
        );
        let owner = Owner::host("a");
        let claimed = now(world.ipam.claim(&owner, family.block())).unwrap();
        assert_eq!(claimed, (vec![family.block()], vec![]));
        let other = now(world.ipam.claim(&Owner::host("b"), family.block())).unwrap();
        assert_eq!(other, (vec![], vec![family.block()]));
        assert_eq!(
            world.assign(family, "a", "h", 1).unwrap()[0].trunc(),
            family.block()
        );
    }
}

#[test]
fn pools_are_chosen_by_node_namespace_use_and_mode() {
    for family in FAMILIES {
        let (pool, len) = (family.pool, family.block_len);
        let mut wish = request(family, "a", "h", 1);
        let outcome = |more: Value, wish: &AssignRequest| {
            let world = World::new();
            world.node("a", json!({"rack": "1"}));
            world.pool("pool", pool, len, more);
            now(world.ipam.assign(wish)).is_ok()
        };
        for (name, spec, good) in [
            ("plain", json!({}), true),
            ("disabled", json!({"disabled": true}), false),
            (
                "node selected",
                json!({"nodeSelector": "rack == '1'"}),
                true,
            ),
            (
                "node not selected",
                json!({"nodeSelector": "rack == '2'"}),
                false,
            ),
            ("no namespace", json!({"namespaceSelector": "all()"}), false),
            ("other use", json!({"allowedUses": ["Tunnel"]}), false),
            ("this use", json!({"allowedUses": ["Workload"]}), true),
            ("manual", json!({"assignmentMode": "Manual"}), false),
        ] {
            assert_eq!(outcome(spec, &wish), good, "{name}");
        }
        wish.namespace = Some(BTreeMap::from([("team".to_owned(), "x".to_owned())]));
        assert!(outcome(json!({"namespaceSelector": "team == 'x'"}), &wish));
        assert!(!outcome(json!({"namespaceSelector": "team == 'y'"}), &wish));
        wish.pools = vec![pool.parse().unwrap()];
        assert!(outcome(json!({"assignmentMode": "Manual"}), &wish));
        assert!(outcome(json!({"nodeSelector": "rack == '2'"}), &wish));
        assert!(!outcome(json!({"disabled": true}), &wish));
        wish.owner = Owner::host("stranger");
        assert!(!outcome(json!({}), &wish));
    }
}

#[test]
fn a_virtual_owner_needs_no_node() {
    let family = FAMILIES[0];
    let world = World::new();
    let more = json!({"allowedUses": ["LoadBalancer"]});
    world.pool("pool", family.pool, family.block_len, more);
    let mut wish = request(family, "a", "lb-1", 1);
    wish.owner = Owner::Virtual("load-balancer".to_owned());
    wish.allowed_use = AllowedUse::LoadBalancer;
    let cidr = now(world.ipam.assign(&wish)).unwrap()[0].trunc();
    assert!(
        world
            .kv
            .value(&format!(
                "/calico/ipam/v2/virtual/load-balancer/ipv4/block/{}-26",
                cidr.addr()
            ))
            .is_some()
    );
    assert_eq!(world.findings(), []);
}

#[test]
fn reserved_addresses_are_given_by_name_only() {
    for family in FAMILIES {
        let world = World::new();
        world.pool("pool", family.small, family.host_len(), json!({}));
        let net: IpNet = family.small.parse().unwrap();
        let hosts: Vec<String> = (0..4)
            .map(|place| addr::address_at(net, place).unwrap().to_string())
            .collect();
        world.reserve("first", &[&hosts[0], &hosts[2]]);
        let mut given: Vec<IpAddr> = world
            .assign(family, "a", "h", 2)
            .unwrap()
            .iter()
            .map(IpNet::addr)
            .collect();
        given.sort_unstable();
        let expected: Vec<IpAddr> = [&hosts[1], &hosts[3]]
            .map(|text| text.parse().unwrap())
            .to_vec();
        assert_eq!(given, expected);
        assert!(matches!(
            world.assign(family, "a", "h", 1),
            Err(IpamError::PoolsFull { .. })
        ));
        let by_name = AddressRequest {
            owner: Owner::host("a"),
            address: hosts[0].parse().unwrap(),
            assignee: assignee("h"),
            max_per_handle: None,
            host_reserved: None,
        };
        now(world.ipam.assign_address(&by_name)).unwrap();
        let again = now(world.ipam.assign_address(&by_name));
        assert!(
            matches!(&again, Err(IpamError::InUse { handle: Some(handle), .. }) if handle == "h"),
            "{again:?}"
        );
        assert_eq!(world.findings(), []);
    }
}

#[test]
fn a_reservation_that_cannot_be_read_stops_assignment_by_its_name() {
    let family = FAMILIES[0];
    for (spec, field) in [
        (json!({"reservedCIDRs": ["10.8.0.0/33"]}), "reservedCIDRs"),
        (json!({"reservedCIDRs": "10.8.0.0/30"}), "reservedCIDRs"),
    ] {
        let world = World::with_pool(family);
        world.resource("ipreservations", "IPReservation", "broken", json!({}), spec);
        let error = world.assign(family, "a", "h", 1).unwrap_err();
        assert!(
            matches!(&error, IpamError::Unreadable(problem)
                if problem.object.contains("broken") && problem.field.contains(field)),
            "{error:?}"
        );
        // A single address and a net with host bits are nets, as where resources are checked.
        world.reserve("broken", &["10.8.0.1", "10.8.0.9/30"]);
        world.assign(family, "a", "h", 1).unwrap();
    }
}

#[test]
fn an_address_by_name_needs_a_pool_and_under_strict_affinity_the_block() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        let wish = |host: &str, address: IpAddr| AddressRequest {
            owner: Owner::host(host),
            address,
            assignee: assignee("h"),
            max_per_handle: Some(1),
            host_reserved: None,
        };
        let address = addr::address_at(family.block(), 5).unwrap();
        let assigned = now(world.ipam.assign_address(&wish("a", address))).unwrap();
        assert_eq!(
            (assigned.addr(), assigned.trunc()),
            (address, family.block())
        );
        assert_eq!(
            world.affinity("a", family.block()),
            Some(AffinityState::Confirmed)
        );
        let next = addr::address_at(family.block(), 6).unwrap();
        assert!(matches!(
            now(world.ipam.assign_address(&wish("a", next))),
            Err(IpamError::HandleLimit { limit: 1, .. })
        ));
        world.configure(|config| config.strict_affinity = true);
        let mut other = wish("b", next);
        other.max_per_handle = None;
        let refused = now(world.ipam.assign_address(&other));
        assert!(
            matches!(refused, Err(IpamError::NotYours { .. })),
            "{refused:?}"
        );
        let outside = "192.0.2.1".parse().unwrap();
        assert!(matches!(
            now(world.ipam.assign_address(&wish("a", outside))),
            Err(IpamError::OutsidePools(_))
        ));
    }
}

#[test]
fn a_block_is_ensured_with_what_the_host_keeps_for_itself() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        let reserved = HostReserved {
            start: 3,
            end: 1,
            handle: WINDOWS_HANDLE.to_owned(),
            note: "windows host rsvd".to_owned(),
        };
        let mut wish = request(family, "a", "h", 0);
        wish.host_reserved_v4 = Some(reserved.clone());
        wish.host_reserved_v6 = Some(reserved);
        let blocks = now(world.ipam.ensure_block(&wish, &[family.version])).unwrap();
        assert_eq!(
            now(world.ipam.ensure_block(&wish, &[family.version])).unwrap(),
            blocks
        );
        let block = world.block(blocks[0]).unwrap();
        assert_eq!(block.unallocated, (3..63).collect::<Vec<u32>>());
        assert!(block.is_empty());
        assert_eq!(world.findings(), []);
    }
}

#[test]
fn a_place_that_is_listed_free_though_assigned_is_not_given_again() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        let assigned = world.assign(family, "a", "h", 1).unwrap();
        let mut block = world.block(assigned[0].trunc()).unwrap();
        block.unallocated.splice(0..0, [0, 1, 1]);
        world.put_block(&block);
        let more = world.assign(family, "a", "i", 3).unwrap();
        let all: BTreeSet<IpAddr> = assigned.iter().chain(&more).map(IpNet::addr).collect();
        assert_eq!(all.len(), 4, "{more:?}");
    }
}
