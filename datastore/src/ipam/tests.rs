//! Operations over a store in memory, alike for both families.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::FutureExt;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::ipam::model::{AffinityState, clean_handle, decode_affinity};

/// A family's pool of 16 blocks of 64 addresses.
#[derive(Clone, Copy, Debug)]
struct Family {
    version: IpVersion,
    pool: &'static str,
    block_len: u8,
    /// A block within it.
    block: &'static str,
    /// The same net, cut into single addresses, for small pools.
    small: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family {
        version: IpVersion::V4,
        pool: "10.8.0.0/22",
        block_len: 26,
        block: "10.8.1.64/26",
        small: "10.9.0.0/30",
    },
    Family {
        version: IpVersion::V6,
        pool: "fd00:8::/118",
        block_len: 122,
        block: "fd00:8::140/122",
        small: "fd00:9::/126",
    },
];

impl Family {
    fn block(&self) -> IpNet {
        self.block.parse().unwrap()
    }

    fn host_len(&self) -> u8 {
        self.block().max_prefix_len()
    }
}

/// A store, IPAM over it, and a clock that stands still unless it is moved.
struct World {
    kv: Arc<MemoryKv>,
    ipam: Ipam<Arc<MemoryKv>>,
    seconds: Arc<AtomicU64>,
}

const START: u64 = 1_800_000_000;

impl World {
    fn new() -> Self {
        let kv = Arc::new(MemoryKv::default());
        let seconds = Arc::new(AtomicU64::new(START));
        let clock = seconds.clone();
        let ipam = Ipam::with_clock(kv.clone(), move || Moment {
            nanoseconds: clock.load(Ordering::Relaxed) * 1_000_000_000,
            entropy: 4,
        });
        let world = Self { kv, ipam, seconds };
        for host in ["a", "b"] {
            world.node(host, json!({}));
        }
        world
    }

    fn with_pool(family: Family) -> Self {
        let world = Self::new();
        world.pool("pool", family.pool, family.block_len, json!({}));
        world
    }

    fn resource(&self, plural: &str, kind: &str, name: &str, labels: Value, spec: Value) {
        let resource = json!({
            "kind": kind, "apiVersion": "projectcalico.org/v3",
            "metadata": {"name": name, "labels": labels}, "spec": spec,
        });
        let key = format!("/calico/resources/v3/projectcalico.org/{plural}/{name}");
        self.kv.put(key, resource.to_string());
    }

    fn node(&self, name: &str, labels: Value) {
        self.resource("nodes", "Node", name, labels, json!({}));
    }

    fn pool(&self, name: &str, cidr: &str, block_len: u8, more: Value) {
        let mut spec = json!({"cidr": cidr, "blockSize": block_len});
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.resource("ippools", "IPPool", name, json!({}), spec);
    }

    fn reserve(&self, name: &str, nets: &[&str]) {
        let spec = json!({"reservedCIDRs": nets});
        self.resource("ipreservations", "IPReservation", name, json!({}), spec);
    }

    fn configure(&self, change: impl Fn(&mut IpamConfig) + Send + Sync) {
        now(self.ipam.configure(change)).unwrap();
    }

    fn assign(
        &self,
        family: Family,
        host: &str,
        handle: &str,
        count: usize,
    ) -> Result<Vec<IpNet>, IpamError> {
        now(self.ipam.assign(&request(family, host, handle, count)))
    }

    fn block(&self, cidr: IpNet) -> Option<AllocationBlock> {
        let key = keys::block(cidr);
        let bytes = self.kv.value(&key)?;
        Some(AllocationBlock::decode(&key, &bytes).unwrap())
    }

    fn put_block(&self, block: &AllocationBlock) {
        self.kv
            .put(keys::block(block.cidr), serde_json::to_vec(block).unwrap());
    }

    fn affinity(&self, host: &str, cidr: IpNet) -> Option<AffinityState> {
        let key = keys::affinity(&Owner::host(host), cidr);
        let bytes = self.kv.value(&key)?;
        Some(decode_affinity(&key, &bytes).unwrap().state)
    }

    fn put_affinity(&self, host: &str, cidr: IpNet, state: &str) {
        let value = json!({"state": state, "deleted": false});
        self.kv
            .put(keys::affinity(&Owner::host(host), cidr), value.to_string());
    }

    fn handle(&self, id: &str) -> Option<BTreeMap<String, i64>> {
        let bytes = self.kv.value(&keys::handle(id))?;
        let handle: Handle = serde_json::from_slice(&bytes).unwrap();
        Some(handle.block)
    }

    /// What does not fit, but for the addresses that no endpoint uses: there are no endpoints here.
    fn findings(&self) -> Vec<Finding> {
        let mut findings = now(self.ipam.check()).unwrap();
        findings.retain(|finding| !matches!(finding, Finding::Leaked { .. }));
        findings
    }

    fn pass(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }
}

/// The store in memory answers at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing to wait for")
}

fn assignee(handle: &str) -> Assignee {
    Assignee {
        handle: Some(handle.to_owned()),
        attributes: BTreeMap::from([("node".to_owned(), "a".to_owned())]),
    }
}

fn request(family: Family, host: &str, handle: &str, count: usize) -> AssignRequest {
    let (v4, v6) = match family.version {
        IpVersion::V4 => (count, 0),
        IpVersion::V6 => (0, count),
    };
    AssignRequest::workload(host, v4, v6, assignee(handle))
}

fn fresh(cidr: IpNet, host: &str) -> AllocationBlock {
    let owner = Owner::host(host);
    AllocationBlock::new(cidr, Some(&owner), None, time::Timestamp(START as i64), 1)
}

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
        assert_eq!(block.affinity_claim_time.as_deref(), Some("2027-01-15T08:00:00Z"));
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
        matches!(refused, Err(IpamError::NoPool { version: IpVersion::V6, .. })),
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
        assert!(matches!(refused, Err(IpamError::NoNewBlocks(_))), "{refused:?}");
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
            ("node selected", json!({"nodeSelector": "rack == '1'"}), true),
            ("node not selected", json!({"nodeSelector": "rack == '2'"}), false),
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
        assert_eq!((assigned.addr(), assigned.trunc()), (address, family.block()));
        assert_eq!(world.affinity("a", family.block()), Some(AffinityState::Confirmed));
        let next = addr::address_at(family.block(), 6).unwrap();
        assert!(matches!(
            now(world.ipam.assign_address(&wish("a", next))),
            Err(IpamError::HandleLimit { limit: 1, .. })
        ));
        world.configure(|config| config.strict_affinity = true);
        assert!(matches!(
            now(world.ipam.assign_address(&wish("b", next))),
            Err(IpamError::NotYours { .. })
        ));
        let outside = "192.0.2.1".parse().unwrap();
        assert!(matches!(
            now(world.ipam.assign_address(&wish("a", outside))),
            Err(IpamError::OutsidePools(_))
        ));
    }
}

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
        assert_eq!(world.handle("h"), Some(BTreeMap::from([(cidr.to_string(), 1)])));
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
    assert_eq!(now(world.ipam.release_handle("h", Some(1))).unwrap(), [] as [IpAddr; 0]);
    assert_eq!(world.kv.dump(), before);
    let info = now(world.ipam.show_address(address)).unwrap().unwrap();
    request.sequence_number = Some(info.sequence_number);
    assert_eq!(now(world.ipam.release(&[request])).unwrap().released, [address]);
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
        assert_eq!(now(world.ipam.release(&[again])).unwrap().not_assigned, [released[0]]);
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
        let other = IpNet::new(addr::address_at(cidr.supernet().unwrap(), 0).unwrap(), family.block_len).unwrap();
        let value = json!({"block": {cidr.to_string(): 2, other.to_string(): 1, "junk": 1}, "deleted": false});
        world.kv.put(keys::handle("h"), value.to_string());
        let counts = world.findings();
        assert!(
            counts.iter().all(|finding| matches!(finding, Finding::HandleCount { .. })) && !counts.is_empty(),
            "{counts:?}"
        );
        assert_eq!(now(world.ipam.release_handle("h", None)).unwrap(), [assigned[0].addr()]);
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
        now(world.ipam.assign(&AssignRequest { v4: 100, ..wish.clone() })),
        Err(IpamError::TooMuchAtOnce)
    ));
    assert_eq!(now(world.ipam.release_handle("h", None)).unwrap().len(), 110);
    assert_eq!(world.handle("h"), None);
    assert_eq!(world.findings(), []);
}

#[test]
fn claims_are_given_up_with_their_empty_blocks_and_leave_full_ones_to_nobody() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        let owner = Owner::host("a");
        let cidr = world.assign(family, "a", "h", 1).unwrap()[0].trunc();
        assert_eq!(now(world.ipam.give_up(&owner, cidr, true)).unwrap(), GivenUp::NotEmpty);
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
        assert_eq!(now(world.ipam.give_up(&owner, cidr, true)).unwrap(), GivenUp::ClaimOnly);
        assert_eq!(now(world.ipam.give_up(&owner, cidr, true)).unwrap(), GivenUp::Nothing);
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
        assert_eq!(now(world.ipam.ensure_block(&wish, &[family.version])).unwrap(), blocks);
        let block = world.block(blocks[0]).unwrap();
        assert_eq!(block.unallocated, (3..63).collect::<Vec<u32>>());
        assert!(block.is_empty());
        assert_eq!(world.findings(), []);
    }
}

#[test]
fn a_pool_is_split_in_one_transaction_and_its_addresses_stay() {
    for family in FAMILIES {
        let world = World::with_pool(family);
        let assigned = world.assign(family, "a", "h", 1).unwrap();
        let names = now(world.ipam.split("pool", 4)).unwrap();
        assert_eq!(names, ["split-pool-0", "split-pool-1", "split-pool-2", "split-pool-3"]);
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

#[test]
fn settings_that_contradict_each_other_are_refused_and_can_be_mended() {
    let world = World::with_pool(FAMILIES[0]);
    type Change = fn(&mut IpamConfig);
    let changes: [(&str, Change); 4] = [
        ("auto_allocate_blocks", |config| config.auto_allocate_blocks = false),
        ("maxBlocksPerHost", |config| config.max_blocks_per_host = 1),
        ("ipCooldownSeconds", |config| config.ip_cooldown_seconds = 1_201),
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
    world.kv.put(keys::CONFIG, r#"{"maxBlocksPerHost":5,"later":[1]}"#);
    assert!(matches!(
        world.assign(FAMILIES[0], "a", "h", 1),
        Err(IpamError::Unreadable(_))
    ));
    let config = now(world.ipam.configure(|config| config.strict_affinity = true)).unwrap();
    assert_eq!((config.max_blocks_per_host, config.auto_allocate_blocks), (5, false));
    let stored: Value = serde_json::from_slice(&world.kv.value(keys::CONFIG).unwrap()).unwrap();
    assert_eq!(stored["later"], json!([1]));
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
    world.kv.put(keys::block("10.8.3.0/26".parse().unwrap()), "{}");
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
    let has = |wanted: &dyn Fn(&Finding) -> bool| findings.iter().filter(|found| wanted(found)).count();
    assert_eq!(has(&|found| matches!(found, Finding::Unreadable { .. })), 1);
    assert_eq!(has(&|found| matches!(found, Finding::FreeListWrong { places, .. } if *places == [7])), 1);
    assert_eq!(has(&|found| matches!(found, Finding::Overlap { .. })), 1);
    assert_eq!(has(&|found| matches!(found, Finding::OutsidePools { .. })), 2);
    assert_eq!(has(&|found| matches!(found, Finding::Unclaimed { .. })), 2);
    assert_eq!(has(&|found| matches!(found, Finding::StaleClaim { .. })), 1);
    assert_eq!(has(&|found| matches!(found, Finding::Leaked { address, .. } if *address == assigned[1].addr())), 1);
    assert_eq!(has(&|found| matches!(found, Finding::NotAssigned { address, .. } if *address == unassigned)), 1);
    assert_eq!(has(&|found| matches!(found, Finding::UsedTwice { users, .. } if users.len() == 2)), 1);
    assert_eq!(findings.len(), 11, "{findings:#?}");
}

#[test]
fn stored_values_lose_no_field() {
    let block = r#"{"cidr":"192.168.9.64/30","affinity":"host:node1","affinity_claim_time":"2026-08-22T10:00:00Z","allocations":[0,null,1,null],"unallocated":[1,3],"attributes":[{"handle_id":"k8s-pod-network.abc","secondary":{"namespace":"default","node":"node1","pod":"p1","timestamp":"2026-08-22 10:00:00 +0000 UTC"},"alternateOwnerAttrs":{"pod":"p2"}},{"releasedAt":"2026-08-22T10:00:00Z"}],"sequenceNumber":3,"sequenceNumberForAllocation":{"0":2},"deleted":false,"hostAffinity":"node1"}"#;
    let key = "/calico/ipam/v2/assignment/ipv4/block/192.168.9.64-30";
    let decoded = AllocationBlock::decode(key, block.as_bytes()).unwrap();
    assert_eq!(serde_json::to_string(&decoded).unwrap(), block);
    let handle = r#"{"block":{"192.168.9.64/26":1,"fd00::/122":2},"deleted":false,"later":{"x":1}}"#;
    let decoded: Handle = serde_json::from_str(handle).unwrap();
    assert_eq!(serde_json::to_string(&decoded).unwrap(), handle);
    let config = r#"{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":4,"kubeVirtVMAddressPersistence":"Enabled","ipCooldownSeconds":10,"later":1}"#;
    let decoded = IpamConfig::decode(keys::CONFIG, config.as_bytes()).unwrap();
    assert_eq!(serde_json::to_string(&decoded).unwrap(), config);
    // What Go writes for lists and maps that were never made.
    let empty = r#"{"cidr":"192.168.9.64/30","affinity":null,"allocations":[null,null,null,null],"unallocated":[0,1,2,3],"attributes":null,"sequenceNumber":1,"sequenceNumberForAllocation":null,"deleted":false}"#;
    assert!(AllocationBlock::decode(key, empty.as_bytes()).unwrap().is_empty());
}

#[test]
fn a_block_that_contradicts_itself_is_refused() {
    let key = "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-30";
    for (field, text) in [
        ("cidr", r#"{"cidr":"10.0.0.4/30","allocations":[null,null,null,null]}"#),
        ("allocations", r#"{"cidr":"10.0.0.0/30","allocations":[null]}"#),
        ("allocations[1]", r#"{"cidr":"10.0.0.0/30","allocations":[null,0,null,null]}"#),
        ("unallocated[0]", r#"{"cidr":"10.0.0.0/30","allocations":[null,null,null,null],"unallocated":[4]}"#),
        ("allocations[0]", r#"{"cidr":"10.0.0.0/30","allocations":[-1,null,null,null]}"#),
    ] {
        let problem = AllocationBlock::decode(key, text.as_bytes()).unwrap_err();
        assert_eq!(problem.field, field, "{text}");
    }
    let key = "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-8";
    let text = r#"{"cidr":"10.0.0.0/8","allocations":[]}"#;
    assert_eq!(AllocationBlock::decode(key, text.as_bytes()).unwrap_err().field, "cidr");
    assert_eq!(clean_handle("net.abc\r\neth0"), "net.abc");
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
        let mut time = time::Timestamp(START as i64);
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
            prop_assert_eq!(AllocationBlock::decode(&keys::block(cidr), &bytes).as_ref(), Ok(&block));
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
        let _ = (keys::parse_block(&text), keys::parse_affinity(&text), text.parse::<time::Timestamp>());
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
            block.give_back(&[0, 1, 2, 3, 9], time::Timestamp(START as i64));
            block.collect(time::Timestamp(START as i64), 0);
            prop_assert!(block.is_empty());
        }
    }
}
