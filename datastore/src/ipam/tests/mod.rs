//! Operations over a store in memory, alike for both families.

mod assigning;
mod block;
mod collecting;
mod documents;
mod keeping;
mod parity;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::FutureExt;
use serde_json::{Value, json};

use super::*;
use crate::ipam::model::{AffinityState, decode_affinity};

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

    fn name(&self) -> &'static str {
        match self.version {
            IpVersion::V4 => "four",
            IpVersion::V6 => "six",
        }
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

    #[expect(clippy::needless_pass_by_value, reason = "every caller has a literal")]
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

    #[expect(clippy::needless_pass_by_value, reason = "every caller has a literal")]
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
    AllocationBlock::new(cidr, Some(&owner), None, Timestamp(START as i64), 1)
}
