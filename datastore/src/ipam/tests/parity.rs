//! What Calico's clients do and rely on, claim by claim.

use super::*;
use crate::ipam::{HostReserved, model::DEFAULT_MAX_BLOCKS};

/// A public key of WireGuard.
const KEY: &str = "jlkVyQYooZYzI2wFfNhSZez5eWh44yfq1wKVjLvSXgY=";

/// The JSON under a key.
fn stored(world: &World, key: &str) -> Value {
    serde_json::from_slice(&world.kv.value(key).unwrap()).unwrap()
}

/// The blocks in which addresses lie, in the order in which they were given.
fn blocks(assigned: &[IpNet]) -> Vec<IpNet> {
    let mut blocks: Vec<IpNet> = assigned.iter().map(IpNet::trunc).collect();
    blocks.dedup();
    blocks
}

// Keys and JSON.

#[test]
fn an_assignment_leaves_the_very_keys_and_json_that_calico_leaves() {
    let world = World::new();
    world.pool("pool", "192.168.9.64/26", 28, json!({}));
    world.pool("only", "fd00::40/126", 126, json!({}));
    let mut wish = request(FAMILIES[0], "a", "k8s-pod-network.abc", 1);
    wish.pools = vec!["192.168.9.64/26".parse().unwrap()];
    let four = now(world.ipam.assign(&wish)).unwrap()[0];
    let cidr = four.trunc();
    let at = START * 1_000_000_000;
    let dashed = format!("{}-28", cidr.addr());
    assert_eq!(
        stored(
            &world,
            &format!("/calico/ipam/v2/assignment/ipv4/block/{dashed}")
        ),
        json!({
            "cidr": cidr.to_string(), "affinity": "host:a",
            "affinity_claim_time": "2027-01-15T08:00:00Z",
            "allocations": [0, null, null, null, null, null, null, null, null, null, null, null,
                            null, null, null, null],
            "unallocated": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
            "attributes": [{"handle_id": "k8s-pod-network.abc", "secondary": {"node": "a"}}],
            "sequenceNumber": at + 1, "sequenceNumberForAllocation": {"0": at}, "deleted": false,
        })
    );
    assert_eq!(
        stored(
            &world,
            &format!("/calico/ipam/v2/host/a/ipv4/block/{dashed}")
        ),
        json!({"state": "confirmed", "deleted": false})
    );
    assert_eq!(
        stored(&world, "/calico/ipam/v2/handle/k8s-pod-network.abc"),
        json!({"block": {cidr.to_string(): 1}, "deleted": false})
    );
    world.assign(FAMILIES[1], "a", "h", 1).unwrap();
    assert!(
        world
            .kv
            .value("/calico/ipam/v2/assignment/ipv6/block/fd00::40-126")
            .is_some()
    );
    world.configure(|config| config.strict_affinity = true);
    assert_eq!(
        stored(&world, "/calico/ipam/v2/config"),
        json!({"strict_affinity": true, "auto_allocate_blocks": true, "maxBlocksPerHost": 0,
               "ipCooldownSeconds": 0})
    );
}

// I01: who may have an address of which pool.

#[test]
fn a_host_without_its_node_gets_nothing_and_a_disabled_pool_gives_nothing() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        assert!(matches!(
            world.assign(family, "stranger", "h", 1),
            Err(IpamError::NoNode(name)) if name == "stranger"
        ));
        world.pool(
            "pool",
            family.pool,
            family.block_len,
            json!({"disabled": true}),
        );
        assert!(matches!(
            world.assign(family, "a", "h", 1),
            Err(IpamError::NoPool { .. })
        ));
        // A pool that is asked for is refused by name, not passed over.
        let mut wish = request(family, "a", "h", 1);
        wish.pools = vec![family.pool.parse().unwrap()];
        assert!(matches!(
            now(world.ipam.assign(&wish)),
            Err(IpamError::NoSuchPool(_))
        ));
        assert!(
            !world
                .kv
                .dump()
                .iter()
                .any(|entry| entry.key.starts_with(keys::ROOT))
        );
    }
}

#[test]
fn a_handle_gets_no_more_than_it_may_have_of_each_family() {
    let world = World::new();
    for family in FAMILIES {
        world.pool(family.name(), family.pool, family.block_len, json!({}));
        let mut wish = request(family, "a", "h", 2);
        wish.max_per_handle = Some(3);
        now(world.ipam.assign(&wish)).unwrap();
        assert!(matches!(
            now(world.ipam.assign(&wish)),
            Err(IpamError::HandleLimit { limit: 3, .. })
        ));
        wish.v4 = wish.v4.min(1);
        wish.v6 = wish.v6.min(1);
        now(world.ipam.assign(&wish)).unwrap();
    }
}

#[test]
fn what_a_host_keeps_for_itself_rules_out_pools_of_smaller_blocks() {
    for family in FAMILIES {
        // Four are kept, so that a block needs more than four.
        for (bits, good) in [(3, true), (2, false), (0, false)] {
            let world = World::new();
            world.pool("pool", family.pool, family.host_len() - bits, json!({}));
            let mut wish = request(family, "a", "h", 1);
            let kept = HostReserved {
                start: 3,
                end: 1,
                handle: WINDOWS_HANDLE.to_owned(),
                note: "windows host rsvd".to_owned(),
            };
            wish.host_reserved_v4 = Some(kept.clone());
            wish.host_reserved_v6 = Some(kept);
            let given = now(world.ipam.assign(&wish));
            assert_eq!(given.is_ok(), good, "{bits} bits: {given:?}");
            if let Ok(given) = given {
                let cidr = given[0].trunc();
                assert_eq!(addr::place_of(cidr, given[0].addr()), Some(3));
                let block = stored(&world, &keys::block(cidr));
                assert_eq!(
                    block["attributes"][0],
                    json!({"handle_id": "windows-reserved-ipam-handle",
                           "secondary": {"note": "windows host rsvd"}})
                );
                assert_eq!(block["allocations"][7], json!(0));
            }
        }
    }
}

// I02: own blocks, new blocks, others' blocks.

#[test]
fn own_blocks_are_used_in_the_order_of_their_keys_then_new_ones_then_others() {
    for family in FAMILIES {
        let world = World::new();
        // Four blocks of four.
        let host_bits = 2;
        let net: IpNet = family.small.parse().unwrap();
        let pool = IpNet::new(net.addr(), net.prefix_len() - 2)
            .unwrap()
            .trunc();
        let len = family.host_len() - host_bits;
        world.pool("pool", &pool.to_string(), len, json!({}));
        let all: Vec<IpNet> = addr::Subnets::new(pool, len)
            .map(|blocks| (0..4).filter_map(|number| blocks.at(number)).collect())
            .unwrap();
        let owner = Owner::host("a");
        // Claimed last to first: the order of keys counts, not that of claims.
        for cidr in [all[2], all[0]] {
            now(world.ipam.claim(&owner, cidr)).unwrap();
        }
        let first = world.assign(family, "a", "h", 8).unwrap();
        assert_eq!(blocks(&first), [all[0], all[2]]);
        world.assign(family, "b", "other", 1).unwrap();
        let of_b = blocks(&world.assign(family, "b", "other", 1).unwrap())[0];
        let rest = world.assign(family, "a", "h", 6).unwrap();
        let last = *all
            .iter()
            .find(|cidr| ![all[0], all[2], of_b].contains(cidr))
            .unwrap();
        assert_eq!(blocks(&rest), [last, of_b], "a new block, then b's");
        assert_eq!(
            world.affinity("a", of_b),
            None,
            "what is borrowed stays b's"
        );
        assert_eq!(world.findings(), []);
    }
}

#[test]
fn the_more_restrictive_limit_of_blocks_holds_and_is_no_reason_to_borrow() {
    for family in FAMILIES {
        for (asked, configured, limit) in [
            (None, 0, DEFAULT_MAX_BLOCKS),
            (Some(3), 0, 3),
            (None, 2, 2),
            (Some(3), 2, 2),
            (Some(1), 2, 1),
        ] {
            let world = World::new();
            let len = family.host_len();
            world.pool("pool", family.pool, len, json!({}));
            world.configure(|config| {
                config.strict_affinity = configured > 0;
                config.max_blocks_per_host = configured;
            });
            // Another's block has room for all of it.
            world.assign(family, "b", "other", 1).unwrap();
            let mut wish = request(family, "a", "h", limit as usize);
            wish.max_blocks = asked;
            now(world.ipam.assign(&wish)).unwrap();
            let more = now(world.ipam.assign(&wish));
            assert!(
                matches!(more, Err(IpamError::BlockLimit { limit: found, .. }) if found == limit),
                "{asked:?} {configured}: {more:?}"
            );
        }
    }
}

// I03: which block is tried first.

#[test]
fn a_host_begins_where_calico_begins() {
    // `math/rand` seeded with FNV-32 of the name and `big.Int.Rand` of the number of blocks, as
    // computed by another program.
    for (host, pool, len, first) in FIRST_BLOCKS {
        let world = World::new();
        world.node(host, json!({}));
        world.pool("pool", pool, len, json!({}));
        let family = FAMILIES[usize::from(pool.contains(':'))];
        let given = world.assign(family, host, "h", 1).unwrap();
        assert_eq!(given[0].trunc().to_string(), first, "{host} in {pool}");
    }
}

/// Hosts, pools, the length of blocks, and the block that is tried first.
const FIRST_BLOCKS: [(&str, &str, u8, &str); 8] = include!("first_blocks.in");

#[test]
fn a_block_of_ones_own_that_nobody_claims_is_as_good_as_a_new_one() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        let first = blocks(&world.assign(family, "a", "h", 1).unwrap())[0];
        // The claim is lost; the block still says whose it is.
        world.kv.delete(keys::affinity(&Owner::host("a"), first));
        let again = world.assign(family, "a", "i", 1).unwrap();
        assert_eq!(blocks(&again), [first]);
        assert_eq!(world.affinity("a", first), Some(AffinityState::Confirmed));
        assert_eq!(world.findings(), []);
    }
}

#[test]
fn a_block_is_not_taken_from_one_who_has_used_it_since_it_was_looked_at() {
    for family in FAMILIES {
        let world = World::new();
        let block = family.block();
        world.pool("pool", &block.to_string(), family.block_len, json!({}));
        world.configure(|config| config.strict_affinity = true);
        world.assign(family, "a", "h", 1).unwrap();
        now(world.ipam.release_handle("h", None)).unwrap();
        world.pass(3_600);
        world.assign(family, "a", "i", 1).unwrap();
        assert!(matches!(
            world.assign(family, "b", "j", 1),
            Err(IpamError::StrictAffinityFull { .. })
        ));
        assert_eq!(world.affinity("a", block), Some(AffinityState::Confirmed));
    }
}

// I04: claims.

#[test]
fn a_claim_that_a_crashed_client_left_is_finished_or_undone_at_every_point() {
    // Calico claims by three writes and gives up by three. Each row is what is there after some of
    // them: the claim's state, whose the block is, and what is there after the host's next
    // assignment: the claim's state and whether the block is the host's.
    for family in FAMILIES {
        for (state, block_of, after) in [
            (Some("pending"), None, Some(AffinityState::Confirmed)),
            (Some("pending"), Some("a"), Some(AffinityState::Confirmed)),
            (Some("pending"), Some("b"), None),
            (Some("confirmed"), Some("a"), Some(AffinityState::Confirmed)),
            (Some("confirmed"), None, Some(AffinityState::Confirmed)),
            (
                Some("pendingDeletion"),
                Some("a"),
                Some(AffinityState::Confirmed),
            ),
            (Some("pendingDeletion"), Some(""), None),
            (
                Some("pendingDeletion"),
                None,
                Some(AffinityState::Confirmed),
            ),
            (None, Some("a"), Some(AffinityState::Confirmed)),
        ] {
            let world = World::new();
            let cidr = family.block();
            world.pool("pool", &cidr.to_string(), family.block_len, json!({}));
            if let Some(state) = state {
                world.put_affinity("a", cidr, state);
            }
            if let Some(host) = block_of {
                let mut block = fresh(cidr, host);
                if host.is_empty() {
                    block.affinity = None;
                }
                if host == "b" {
                    world.put_affinity("b", cidr, "confirmed");
                }
                world.put_block(&block);
            }
            world.assign(family, "a", "h", 1).unwrap();
            assert_eq!(world.affinity("a", cidr), after, "{state:?} {block_of:?}");
            assert_eq!(world.findings(), [], "{state:?} {block_of:?}");
        }
    }
}

#[test]
fn claims_of_before_there_were_states_are_confirmed_ones() {
    for value in ["", "{}", r#"{"state":""}"#] {
        let family = FAMILIES[0];
        let world = World::with_pool(family);
        world
            .kv
            .put(keys::affinity(&Owner::host("a"), family.block()), value);
        world.put_block(&fresh(family.block(), "a"));
        assert_eq!(world.findings(), [], "{value:?}");
        let given = world.assign(family, "a", "h", 1).unwrap();
        assert_eq!(blocks(&given), [family.block()], "{value:?}");
    }
}

// I05: inside a block.

#[test]
fn fresh_blocks_give_ascending_addresses_and_used_ones_the_longest_unused() {
    for family in FAMILIES {
        let world = World::new();
        world.pool("pool", family.small, family.host_len() - 2, json!({}));
        let places = |given: &[IpNet]| -> Vec<u128> {
            given
                .iter()
                .map(|net| addr::place_of(net.trunc(), net.addr()).unwrap())
                .collect()
        };
        assert_eq!(
            places(&world.assign(family, "a", "h", 3).unwrap()),
            [0, 1, 2]
        );
        let net: IpNet = family.small.parse().unwrap();
        for place in [1, 0] {
            let address = addr::address_at(net, place).unwrap();
            now(world.ipam.release(&[address.into()])).unwrap();
        }
        assert_eq!(
            places(&world.assign(family, "a", "i", 3).unwrap()),
            [3, 1, 0]
        );
    }
}

#[test]
fn equal_attributes_are_stored_once_and_go_with_their_last_address() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        let given = world.assign(family, "a", "h", 2).unwrap();
        world.assign(family, "a", "h", 1).unwrap();
        world.assign(family, "a", "i", 1).unwrap();
        let block = |world: &World| world.block(given[0].trunc()).unwrap();
        assert_eq!(block(&world).attributes.len(), 2);
        assert_eq!(
            &block(&world).allocations[..4],
            [Some(0), Some(0), Some(0), Some(1)]
        );
        now(world.ipam.release_handle("h", None)).unwrap();
        assert_eq!(block(&world).attributes.len(), 1);
        assert_eq!(&block(&world).allocations[..4], [None, None, None, Some(0)]);
    }
}

#[test]
fn every_assignment_has_a_number_that_its_address_never_had_before() {
    for family in FAMILIES {
        let world = World::new();
        world.pool("pool", family.small, family.host_len() - 2, json!({}));
        let mut seen = BTreeSet::new();
        for round in 0..6 {
            let given = world.assign(family, "a", "h", 4).unwrap();
            let block = world.block(given[0].trunc()).unwrap();
            for place in 0..4 {
                let number = block.sequence_of(place);
                assert!(seen.insert((place, number)), "round {round}");
                assert!(number < block.sequence_number);
            }
            now(world.ipam.release_handle("h", None)).unwrap();
            if round % 2 == 1 {
                // The block goes and comes again; time has passed, or else it could not have.
                now(world.ipam.give_up_all(&Owner::host("a"), true)).unwrap();
                world.pass(1);
            }
        }
    }
}

// I06: handles.

#[test]
fn a_handle_counts_by_block_and_goes_with_its_last_address() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        let given = world.assign(family, "a", "h", 66).unwrap();
        let counts: BTreeMap<String, i64> = blocks(&given)
            .iter()
            .map(|cidr| {
                let count = given.iter().filter(|net| net.trunc() == *cidr).count();
                (cidr.to_string(), count as i64)
            })
            .collect();
        assert_eq!(counts.values().sum::<i64>(), 66);
        assert_eq!(world.handle("h"), Some(counts));
        let requests: Vec<ReleaseRequest> = given.iter().map(|net| net.addr().into()).collect();
        now(world.ipam.release(&requests)).unwrap();
        assert_eq!(world.handle("h"), None);
    }
}

// I07: giving back.

#[test]
fn a_released_address_cools_down_under_an_attribute_that_says_since_when() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        world.configure(|config| config.ip_cooldown_seconds = 1_200);
        let given = world.assign(family, "a", "h", 2).unwrap();
        now(world.ipam.release(&[given[0].addr().into()])).unwrap();
        let block = stored(&world, &keys::block(given[0].trunc()));
        assert_eq!(
            block["attributes"],
            json!([{"handle_id": "h", "secondary": {"node": "a"}},
                   {"releasedAt": "2027-01-15T08:00:00Z"}])
        );
        assert_eq!(block["allocations"][0], json!(1));
        assert!(!block["unallocated"].as_array().unwrap().contains(&json!(0)));
        assert!(
            now(world
                .ipam
                .configure(|config| config.ip_cooldown_seconds = 1_201))
            .is_err()
        );
    }
}

#[test]
fn an_empty_block_stays_its_owners_and_goes_if_it_is_nobodys() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        let cidr = blocks(&world.assign(family, "a", "h", 1).unwrap())[0];
        now(world.ipam.release_handle("h", None)).unwrap();
        assert!(world.block(cidr).unwrap().is_empty());
        assert_eq!(world.affinity("a", cidr), Some(AffinityState::Confirmed));
        world.assign(family, "a", "h", 1).unwrap();
        now(world.ipam.give_up(&Owner::host("a"), cidr, false)).unwrap();
        assert_eq!(stored(&world, &keys::block(cidr))["affinity"], Value::Null);
        now(world.ipam.release_handle("h", None)).unwrap();
        assert_eq!(world.block(cidr), None);
    }
}

#[test]
fn a_load_balancers_last_address_takes_its_block_along() {
    for family in FAMILIES {
        let world = World::new();
        let more = json!({"allowedUses": ["LoadBalancer"]});
        world.pool("pool", family.pool, family.block_len, more);
        let mut wish = request(family, "a", "lb-1f", 1);
        wish.owner = Owner::Virtual(LOAD_BALANCER.to_owned());
        wish.allowed_use = AllowedUse::LoadBalancer;
        let given = now(world.ipam.assign(&wish)).unwrap();
        let block = stored(&world, &keys::block(given[0].trunc()));
        assert_eq!(block["affinity"], json!("virtual:load-balancer"));
        now(world.ipam.release_handle("lb-1f", None)).unwrap();
        assert!(
            !world
                .kv
                .dump()
                .iter()
                .any(|entry| entry.key.starts_with(keys::ROOT))
        );
    }
}

// I08: pools that select the host no more.

#[test]
fn a_block_of_a_pool_that_selects_the_host_no_more_goes_with_its_last_address() {
    for family in FAMILIES {
        for disabled in [false, true] {
            let world = World::with_pool(family);
            let cidr = blocks(&world.assign(family, "a", "h", 2).unwrap())[0];
            let more = json!({"nodeSelector": "rack == '2'", "disabled": disabled});
            world.pool("pool", family.pool, family.block_len, more);
            let first = addr::address_at(cidr, 0).unwrap();
            now(world.ipam.release(&[first.into()])).unwrap();
            assert_eq!(world.affinity("a", cidr), Some(AffinityState::Confirmed));
            now(world.ipam.release_handle("h", None)).unwrap();
            // A disabled pool says nothing about who it is for.
            assert_eq!(world.block(cidr).is_some(), disabled);
            assert_eq!(world.affinity("a", cidr).is_some(), disabled);
            assert_eq!(world.findings(), []);
        }
    }
}

// I09: claims by hand.

#[test]
fn a_full_block_is_as_good_as_an_empty_one_to_one_who_wants_a_block() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        let full = blocks(&world.assign(family, "a", "h", 64).unwrap())[0];
        let wish = request(family, "a", "h", 0);
        let ensured = now(world.ipam.ensure_block(&wish, &[family.version])).unwrap();
        assert_eq!(ensured, [full]);
    }
}

#[test]
fn claims_of_a_host_of_a_pool_and_of_one_that_is_gone_are_given_up() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        let other: IpNet = family.small.parse().unwrap();
        world.pool(
            "other",
            &other.to_string(),
            family.host_len() - 2,
            json!({}),
        );
        let (a, b) = (Owner::host("a"), Owner::host("b"));
        now(world.ipam.claim(&a, family.block())).unwrap();
        now(world.ipam.claim(&b, other)).unwrap();
        let (claimed, taken) = now(world.ipam.claim(&a, other)).unwrap();
        assert_eq!((claimed, taken), (vec![], vec![other]));
        assert_eq!(
            world.affinity("a", other),
            None,
            "a lost race leaves no claim"
        );
        let given_up = now(world.ipam.give_up_pool(other, true)).unwrap();
        assert_eq!(given_up, [(b, other, GivenUp::BlockDeleted)]);
        assert_eq!(
            world.affinity("a", family.block()),
            Some(AffinityState::Confirmed)
        );
        world.kv.put(keys::host(&a), "{}");
        world.assign(family, "a", "h", 1).unwrap();
        assert_eq!(
            now(world.ipam.give_up_all(&a, true)).unwrap(),
            [(family.block(), GivenUp::NotEmpty)]
        );
        now(world.ipam.remove_owner(&a)).unwrap();
        assert_eq!(world.kv.value(&keys::host(&a)), None);
        let block = world.block(family.block()).unwrap();
        assert_eq!((block.affinity, block.affinity_claim_time), (None, None));
    }
}

#[test]
fn use_of_pools_is_told_with_what_is_reserved_and_cools_down() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        let net: IpNet = family.pool.parse().unwrap();
        let half = IpNet::new(net.addr(), net.prefix_len() + 1).unwrap();
        // Twice the same, and more than the pool: each address is counted once.
        world.reserve("r", &[&half.to_string(), &half.to_string(), "192.0.2.0/24"]);
        world.configure(|config| config.ip_cooldown_seconds = 60);
        let given = world.assign(family, "a", "h", 3).unwrap();
        now(world.ipam.release(&[given[0].addr().into()])).unwrap();
        let by_name = AddressRequest {
            owner: Owner::host("a"),
            address: half.addr(),
            assignee: assignee("i"),
            max_per_handle: None,
            host_reserved: None,
        };
        now(world.ipam.assign_address(&by_name)).unwrap();
        let (pools, outside) = now(world.ipam.show()).unwrap();
        assert_eq!(outside, []);
        let pool = &pools[0];
        assert_eq!(
            (
                pool.size,
                pool.in_use,
                pool.reserved,
                pool.free,
                pool.cooling
            ),
            (1_024, 4, 512, 509, 1)
        );
    }
}

// I10: tunnels.

/// A pool that wants these tunnels, with allowed uses of old.
fn tunnel_pool(world: &World, name: &str, cidr: &str, modes: Value) {
    let len = if cidr.contains(':') { 122 } else { 26 };
    world.pool(name, cidr, len, modes);
}

fn node_spec(world: &World, name: &str) -> Value {
    let key = format!("/calico/resources/v3/projectcalico.org/nodes/{name}");
    stored(world, &key)["spec"].clone()
}

#[test]
fn a_node_has_a_tunnel_address_as_long_as_a_pool_wants_the_tunnel() {
    for (kind, cidr, on, field, handle) in [
        (
            TunnelKind::Ipip,
            "10.8.0.0/22",
            json!({"ipipMode": "Always"}),
            "/bgp/ipv4IPIPTunnelAddr",
            "ipip-tunnel-addr-a",
        ),
        (
            TunnelKind::Vxlan,
            "10.8.0.0/22",
            json!({"vxlanMode": "CrossSubnet"}),
            "/ipv4VXLANTunnelAddr",
            "vxlan-tunnel-addr-a",
        ),
        (
            TunnelKind::VxlanV6,
            "fd00:8::/118",
            json!({"vxlanMode": "Always"}),
            "/ipv6VXLANTunnelAddr",
            "vxlan-v6-tunnel-addr-a",
        ),
        (
            TunnelKind::Wireguard,
            "10.8.0.0/22",
            json!({}),
            "/wireguard/interfaceIPv4Address",
            "wireguard-tunnel-addr-a",
        ),
        (
            TunnelKind::WireguardV6,
            "fd00:8::/118",
            json!({}),
            "/wireguard/interfaceIPv6Address",
            "wireguard-v6-tunnel-addr-a",
        ),
    ] {
        let world = World::new();
        let ensure = || now(world.ipam.ensure_tunnel_address("a", kind, false)).unwrap();
        world.kv.put(
            "/calico/resources/v3/projectcalico.org/nodes/a",
            json!({"kind": "Node", "apiVersion": "projectcalico.org/v3",
                   "metadata": {"name": "a", "uid": "u"}, "spec": {"later": 1},
                   "status": {"wireguardPublicKey": KEY, "wireguardPublicKeyV6": KEY}})
            .to_string(),
        );
        let none = world.kv.dump();
        assert_eq!(ensure(), TunnelAddress::NotNeeded, "{kind:?}");
        assert_eq!(world.kv.dump(), none);

        tunnel_pool(&world, "pool", cidr, on.clone());
        let TunnelAddress::Assigned(address) = ensure() else {
            panic!("{kind:?}");
        };
        let spec = node_spec(&world, "a");
        assert_eq!(
            spec.pointer(field),
            Some(&json!(address.to_string())),
            "{kind:?}"
        );
        assert_eq!(spec["later"], json!(1));
        let info = now(world.ipam.show_address(address)).unwrap().unwrap();
        assert_eq!(info.handle.as_deref(), Some(handle));
        assert_eq!(
            info.attributes,
            BTreeMap::from(
                [("node", "a"), ("type", kind.attribute())]
                    .map(|(a, b)| (a.to_owned(), b.to_owned()))
            )
        );
        assert_eq!(TunnelKind::from_attribute(kind.attribute()), Some(kind));
        assert_eq!(
            now(world.ipam.check()).unwrap(),
            [],
            "{kind:?}: a node's address is no leak"
        );
        let settled = world.kv.dump();
        assert_eq!(ensure(), TunnelAddress::Kept(address));
        assert_eq!(world.kv.dump(), settled, "{kind:?}: again changes nothing");

        // The pool is used for workloads alone, or WireGuard does not want an address.
        let mut off = on.clone();
        off["allowedUses"] = json!(["Workload"]);
        tunnel_pool(&world, "pool", cidr, off);
        assert_eq!(ensure(), TunnelAddress::Removed, "{kind:?}");
        assert_eq!(node_spec(&world, "a"), json!({"later": 1}), "{kind:?}");
        assert_eq!(world.handle(handle), None);
        assert_eq!(ensure(), TunnelAddress::NotNeeded);
        assert_eq!(now(world.ipam.check()).unwrap(), []);
    }
}

#[test]
fn a_tunnel_address_of_the_wrong_pool_or_of_another_is_replaced() {
    let kind = TunnelKind::Vxlan;
    let world = World::new();
    let ensure = || now(world.ipam.ensure_tunnel_address("a", kind, false)).unwrap();
    tunnel_pool(&world, "one", "10.8.0.0/22", json!({"vxlanMode": "Always"}));
    let TunnelAddress::Assigned(old) = ensure() else {
        panic!()
    };
    tunnel_pool(&world, "one", "10.8.0.0/22", json!({"vxlanMode": "Never"}));
    tunnel_pool(&world, "two", "10.9.0.0/22", json!({"vxlanMode": "Always"}));
    let TunnelAddress::Assigned(new) = ensure() else {
        panic!()
    };
    assert!("10.9.0.0/22".parse::<IpNet>().unwrap().contains(&new));
    assert_eq!(now(world.ipam.show_address(old)).unwrap(), None);

    // Somebody else has it by now: the node gets another, and the other keeps it.
    now(world.ipam.release(&[new.into()])).unwrap();
    let by_name = AddressRequest {
        owner: Owner::host("a"),
        address: new,
        assignee: assignee("pod"),
        max_per_handle: None,
        host_reserved: None,
    };
    now(world.ipam.assign_address(&by_name)).unwrap();
    let TunnelAddress::Assigned(third) = ensure() else {
        panic!()
    };
    assert_ne!(third, new);
    let info = now(world.ipam.show_address(new)).unwrap().unwrap();
    assert_eq!(info.handle.as_deref(), Some("pod"));
    // The node has lost it, as a client that stopped half-way leaves it: it is the same again.
    world.node("a", json!({}));
    assert_eq!(ensure(), TunnelAddress::Assigned(third));
    assert_eq!(
        node_spec(&world, "a")["ipv4VXLANTunnelAddr"],
        json!(third.to_string())
    );
    // The handle's own record is lost: what has its name is found by the node's field.
    world.kv.delete(keys::handle(&kind.handle("a")));
    assert_eq!(ensure(), TunnelAddress::Kept(third));
}

#[test]
fn a_tunnel_address_from_before_there_were_handles_gets_one() {
    let kind = TunnelKind::Ipip;
    let world = World::new();
    tunnel_pool(
        &world,
        "pool",
        "10.8.0.0/22",
        json!({"ipipMode": "CrossSubnet"}),
    );
    let cidr: IpNet = "10.8.0.0/26".parse().unwrap();
    let mut block = fresh(cidr, "a");
    block.take(1, &Assignee::default(), &Reservations::default());
    world.put_block(&block);
    world.put_affinity("a", cidr, "confirmed");
    world.resource(
        "nodes",
        "Node",
        "a",
        json!({}),
        json!({"bgp": {"ipv4IPIPTunnelAddr": "10.8.0.0"}}),
    );
    let kept = now(world.ipam.ensure_tunnel_address("a", kind, false)).unwrap();
    assert_eq!(kept, TunnelAddress::Kept("10.8.0.0".parse().unwrap()));
    assert_eq!(world.handle("ipip-tunnel-addr-a").unwrap().len(), 1);
    assert_eq!(world.findings(), []);
}

#[test]
fn wireguard_has_no_address_without_its_key_or_when_it_encrypts_hosts() {
    let kind = TunnelKind::Wireguard;
    let world = World::new();
    tunnel_pool(&world, "pool", "10.8.0.0/22", json!({}));
    let ensure =
        |encrypts: bool| now(world.ipam.ensure_tunnel_address("a", kind, encrypts)).unwrap();
    assert_eq!(ensure(false), TunnelAddress::NotNeeded);
    world.kv.put(
        "/calico/resources/v3/projectcalico.org/nodes/a",
        json!({"kind": "Node", "apiVersion": "projectcalico.org/v3", "metadata": {"name": "a"},
               "spec": {}, "status": {"wireguardPublicKey": KEY}})
        .to_string(),
    );
    assert!(matches!(ensure(false), TunnelAddress::Assigned(_)));
    assert_eq!(ensure(true), TunnelAddress::Removed);
}

// A virtual machine moves.

#[test]
fn a_machines_addresses_change_hands_all_at_once_and_only_to_the_target() {
    let world = World::new();
    for family in FAMILIES {
        world.pool(family.name(), family.pool, family.block_len, json!({}));
    }
    let pod = |name: &str| -> BTreeMap<String, String> {
        [("namespace", "n"), ("pod", name), ("vmi-name", "vm")]
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .into()
    };
    let named = |name: &str| PodName {
        namespace: "n".to_owned(),
        name: name.to_owned(),
    };
    let handle = "k8s-pod-network.vmi.n.vm";
    let mut wish = request(FAMILIES[0], "a", handle, 1);
    wish.v6 = 1;
    wish.assignee.attributes = pod("source");
    let mut given: Vec<IpAddr> = now(world.ipam.assign(&wish))
        .unwrap()
        .iter()
        .map(IpNet::addr)
        .collect();
    given.sort_unstable();
    let swap = |name: &str| now(world.ipam.swap_owner(handle, &named(name)));
    assert!(matches!(
        swap("target"),
        Err(IpamError::NoAlternateOwner(_))
    ));
    let set = |expected: &str| {
        now(world
            .ipam
            .set_alternate_owner(handle, Some(&named(expected)), &pod("target")))
    };
    assert!(matches!(set("stranger"), Err(IpamError::OtherOwner { .. })));
    let mut noted = set("source").unwrap();
    noted.sort_unstable();
    assert_eq!(noted, given);
    let before = world.kv.dump();
    assert!(matches!(
        swap("stranger"),
        Err(IpamError::OtherAlternateOwner { .. })
    ));
    assert_eq!(world.kv.dump(), before);
    let mut swapped = swap("target").unwrap().swapped;
    swapped.sort_unstable();
    assert_eq!(swapped, given);
    for address in &given {
        let info = now(world.ipam.show_address(*address)).unwrap().unwrap();
        assert_eq!(
            (info.attributes, info.alternate_owner),
            (pod("target"), pod("source"))
        );
        let block = stored(&world, &keys::block(info.block));
        assert_eq!(
            block["attributes"][0]["alternateOwnerAttrs"]["pod"],
            json!("source")
        );
    }
    let after = world.kv.dump();
    let again = swap("target").unwrap();
    assert_eq!((again.swapped.len(), again.unchanged.len()), (0, 2));
    assert_eq!(world.kv.dump(), after);
    // The source is gone; nothing stands beside the target any more.
    now(world
        .ipam
        .set_alternate_owner(handle, None, &BTreeMap::new()))
    .unwrap();
    let info = now(world.ipam.show_address(given[0])).unwrap().unwrap();
    assert!(info.alternate_owner.is_empty());
    assert!(matches!(
        now(world.ipam.swap_owner("none", &named("target"))),
        Err(IpamError::UnknownHandle(_))
    ));
}
