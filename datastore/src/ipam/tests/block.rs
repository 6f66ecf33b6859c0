//! A block by itself: what is stored, and what becomes of it by whatever is done to it.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use proptest::prelude::*;
use serde_json::json;

use crate::ipam::{
    AllocationBlock, Assignee, Handle, IpamConfig, Owner, Reservations, addr, keys,
    model::{clean_handle, decode_affinity},
};

const START: i64 = 1_800_000_000;

fn fresh(cidr: IpNet, host: &str) -> AllocationBlock {
    let owner = Owner::host(host);
    AllocationBlock::new(cidr, Some(&owner), None, crate::time::Timestamp(START), 1)
}

fn assignee(handle: &str) -> Assignee {
    Assignee {
        handle: Some(handle.to_owned()),
        attributes: BTreeMap::new(),
    }
}

#[test]
fn stored_values_lose_no_field() {
    let block = r#"{"cidr":"192.168.9.64/30","affinity":"host:node1","affinity_claim_time":"2026-08-22T10:00:00Z","allocations":[0,null,1,null],"unallocated":[1,3],"attributes":[{"handle_id":"k8s-pod-network.abc","secondary":{"namespace":"default","node":"node1","pod":"p1","timestamp":"2026-08-22 10:00:00 +0000 UTC"},"alternateOwnerAttrs":{"pod":"p2"}},{"releasedAt":"2026-08-22T10:00:00Z"}],"sequenceNumber":3,"sequenceNumberForAllocation":{"0":2},"deleted":false,"hostAffinity":"node1"}"#;
    let key = "/calico/ipam/v2/assignment/ipv4/block/192.168.9.64-30";
    let decoded = AllocationBlock::decode(key, block.as_bytes()).unwrap();
    assert_eq!(serde_json::to_string(&decoded).unwrap(), block);
    let handle =
        r#"{"block":{"192.168.9.64/26":1,"fd00::/122":2},"deleted":false,"later":{"x":1}}"#;
    let decoded: Handle = serde_json::from_str(handle).unwrap();
    assert_eq!(serde_json::to_string(&decoded).unwrap(), handle);
    let config = r#"{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":4,"kubeVirtVMAddressPersistence":"Enabled","ipCooldownSeconds":10,"later":1}"#;
    let decoded = IpamConfig::decode(keys::CONFIG, config.as_bytes()).unwrap();
    assert_eq!(serde_json::to_string(&decoded).unwrap(), config);
    // What Go writes for lists and maps that were never made.
    let empty = r#"{"cidr":"192.168.9.64/30","affinity":null,"allocations":[null,null,null,null],"unallocated":[0,1,2,3],"attributes":null,"sequenceNumber":1,"sequenceNumberForAllocation":null,"deleted":false}"#;
    assert!(
        AllocationBlock::decode(key, empty.as_bytes())
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_block_that_contradicts_itself_is_refused() {
    let key = "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-30";
    for (field, text) in [
        (
            "cidr",
            r#"{"cidr":"10.0.0.4/30","allocations":[null,null,null,null]}"#,
        ),
        (
            "allocations",
            r#"{"cidr":"10.0.0.0/30","allocations":[null]}"#,
        ),
        (
            "allocations[1]",
            r#"{"cidr":"10.0.0.0/30","allocations":[null,0,null,null]}"#,
        ),
        (
            "unallocated[0]",
            r#"{"cidr":"10.0.0.0/30","allocations":[null,null,null,null],"unallocated":[4]}"#,
        ),
        (
            "allocations[0]",
            r#"{"cidr":"10.0.0.0/30","allocations":[-1,null,null,null]}"#,
        ),
    ] {
        let problem = AllocationBlock::decode(key, text.as_bytes()).unwrap_err();
        assert_eq!(problem.field, field, "{text}");
    }
    let key = "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-8";
    let text = r#"{"cidr":"10.0.0.0/8","allocations":[]}"#;
    assert_eq!(
        AllocationBlock::decode(key, text.as_bytes())
            .unwrap_err()
            .field,
        "cidr"
    );
    assert_eq!(clean_handle("net.abc\r\neth0"), "net.abc");
}

/// A step of a block's life.
#[derive(Clone, Debug)]
enum Step {
    Take(usize, u8),
    TakeAddress(u32, u8),
    GiveBack(Vec<u32>),
    Pass(u8),
    Collect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..6usize, 0..4u8).prop_map(|(count, handle)| Step::Take(count, handle)),
        (0..16u32, 0..4u8).prop_map(|(place, handle)| Step::TakeAddress(place, handle)),
        prop::collection::vec(0..16u32, 0..5).prop_map(Step::GiveBack),
        (0..20u8).prop_map(Step::Pass),
        Just(Step::Collect),
    ]
}

proptest! {
    #[test]
    fn free_and_assigned_places_are_the_block_whatever_happens(
        v6 in any::<bool>(),
        cooldown in prop_oneof![Just(0u32), 1..40u32],
        reserved in prop::collection::vec(0..16u128, 0..3),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let cidr: IpNet = if v6 { "fd00::10/124" } else { "10.0.0.16/28" }.parse().unwrap();
        let reservations = Reservations::new(
            reserved.iter().map(|place| IpNet::from(addr::address_at(cidr, *place).unwrap())),
        );
        let mut block = fresh(cidr, "a");
        let mut time = crate::time::Timestamp(START);
        // Who has which address, by a model that knows nothing of attributes.
        let mut held: BTreeMap<u32, u8> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Take(count, handle) => {
                    let free = block.free(&reservations);
                    let taken = block.take(count, &assignee(&handle.to_string()), &reservations);
                    prop_assert_eq!(taken.len(), count.min(free));
                    for address in taken {
                        prop_assert!(!reservations.hold(address));
                        let place = block.place(address).unwrap();
                        prop_assert_eq!(held.insert(place, handle), None);
                    }
                }
                Step::TakeAddress(place, handle) => {
                    let address = block.address(place).unwrap();
                    let was_free = block.attribute_of(place).is_none();
                    let taken = block.take_address(address, &assignee(&handle.to_string()));
                    prop_assert_eq!(taken.is_ok(), was_free);
                    if was_free {
                        prop_assert_eq!(held.insert(place, handle), None);
                    }
                }
                Step::GiveBack(places) => {
                    let places: Vec<u32> = places.into_iter().filter(|place| held.remove(place).is_some()).collect();
                    block.give_back(&places, time);
                }
                Step::Pass(seconds) => time.0 += i64::from(seconds),
                Step::Collect => { block.collect(time, cooldown); }
            }
            let mut free = block.unallocated.clone();
            free.sort_unstable();
            let assigned: Vec<u32> = block.attributes_in_use().map(|(place, _)| place).collect();
            let mut all = [free, assigned].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..16).collect::<Vec<u32>>());
            let mut counts: BTreeMap<String, i64> = BTreeMap::new();
            for handle in held.values() {
                *counts.entry(handle.to_string()).or_default() += 1;
            }
            let counted: BTreeMap<String, i64> = block
                .handle_counts()
                .into_iter()
                .map(|(handle, count)| (handle.to_owned(), count))
                .collect();
            prop_assert_eq!(counted, counts);
            let bytes = serde_json::to_vec(&block).unwrap();
            let decoded = AllocationBlock::decode(&keys::block(cidr), &bytes);
            prop_assert_eq!(decoded.as_ref(), Ok(&block));
        }
        time.0 += 1_000;
        let places: Vec<u32> = held.into_keys().collect();
        block.give_back(&places, time);
        block.collect(time, 0);
        prop_assert!(block.is_empty());
        prop_assert!(block.attributes.is_empty());
        prop_assert!(block.sequence_number_for_allocation.is_empty());
    }

    #[test]
    fn decoding_never_panics_and_what_it_returns_can_be_used(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = AllocationBlock::decode("/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-30", &bytes);
        let _ = IpamConfig::decode(keys::CONFIG, &bytes);
        let _ = decode_affinity("x", &bytes);
        let text = String::from_utf8_lossy(&bytes);
        let _ = (keys::parse_block(&text), keys::parse_affinity(&text), text.parse::<crate::time::Timestamp>());
    }

    #[test]
    fn any_block_that_decodes_can_be_taken_from_and_released(
        allocations in prop::collection::vec(prop::option::of(0..3u32), 4),
        unallocated in prop::collection::vec(0..5u32, 0..6),
        attributes in 0..4usize,
        released in any::<bool>(),
    ) {
        let attribute = if released { json!({"releasedAt": "2020-01-01T00:00:00Z"}) } else { json!({"handle_id": "h"}) };
        let text = json!({
            "cidr": "10.0.0.0/30", "allocations": allocations, "unallocated": unallocated,
            "attributes": vec![attribute; attributes],
        }).to_string();
        if let Ok(mut block) = AllocationBlock::decode("/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-30", text.as_bytes()) {
            let before: BTreeSet<u32> = block.attributes_in_use().map(|(place, _)| place).collect();
            let taken = block.take(4, &assignee("i"), &Reservations::default());
            let places: BTreeSet<u32> = taken.iter().map(|address| block.place(*address).unwrap()).collect();
            prop_assert_eq!(places.len(), taken.len());
            prop_assert!(places.is_disjoint(&before));
            block.give_back(&[0, 1, 2, 3, 9], crate::time::Timestamp(START));
            block.collect(crate::time::Timestamp(START), 0);
            prop_assert!(block.is_empty());
        }
    }
}
