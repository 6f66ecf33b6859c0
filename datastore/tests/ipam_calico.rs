//! A client that works as Calico's do, beside ours, on one store: three writes for a claim, the handle
//! before the block, and a crash possible between any two of them.
#![expect(clippy::unwrap_used, reason = "a test that is surprised fails")]

mod steps;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::atomic::Ordering,
    task::Poll,
};

use cleat_datastore::{
    ipam::{
        Finding, IpamError, Owner,
        addr::{address_at, place_of},
        keys,
        kv::{Condition, Kv, Stored, Transaction, Want, Write},
    },
    ipnet::IpNet,
};
use serde_json::{Value, json};
use steps::{Dice, HOSTS, Lab, Stepped, now, poll, wish};

/// A client that reads and writes one key at a time and tries again when another was faster.
#[derive(Clone)]
struct Calico {
    kv: Stepped,
    pool: IpNet,
    block_len: u8,
    /// Where in the pool it begins to look.
    start: usize,
}

/// Somebody else was faster.
struct Lost;

/// There is nothing to be had.
#[derive(Debug)]
struct Full;

impl Calico {
    async fn get(&self, key: &str) -> Option<(Value, u64)> {
        let answer = self.kv.read(&[Want::Key(key.to_owned())]).await.unwrap();
        let Stored {
            value, revision, ..
        } = answer.entries.into_iter().next()?;
        let value = if value.is_empty() {
            json!({})
        } else {
            serde_json::from_slice(&value).unwrap()
        };
        Some((value, revision))
    }

    async fn list(&self, prefix: String) -> Vec<String> {
        let answer = self.kv.read(&[Want::Prefix(prefix)]).await.unwrap();
        answer.entries.into_iter().map(|entry| entry.key).collect()
    }

    async fn write(&self, condition: Condition, write: Write) -> Result<(), Lost> {
        let transaction = Transaction {
            conditions: vec![condition],
            writes: vec![write],
        };
        if self.kv.commit(&transaction).await.unwrap() {
            Ok(())
        } else {
            Err(Lost)
        }
    }

    async fn create(&self, key: &str, value: &Value) -> Result<(), Lost> {
        let put = Write::Put(key.to_owned(), value.to_string().into_bytes());
        self.write(Condition::Absent(key.to_owned()), put).await
    }

    async fn update(&self, key: &str, value: &Value, revision: u64) -> Result<(), Lost> {
        let put = Write::Put(key.to_owned(), value.to_string().into_bytes());
        self.write(Condition::At(key.to_owned(), revision), put)
            .await
    }

    async fn delete(&self, key: &str, revision: u64) -> Result<(), Lost> {
        let delete = Write::Delete(key.to_owned());
        self.write(Condition::At(key.to_owned(), revision), delete)
            .await
    }

    /// Assigns one address: from the host's blocks, from a new one, from another's.
    async fn assign(&self, host: &str, handle: &str) -> Result<IpAddr, Full> {
        let owner = Owner::host(host);
        let family = if self.pool.addr().is_ipv4() {
            "ipv4"
        } else {
            "ipv6"
        };
        for affinity in self.list(format!("{}/{family}/", keys::host(&owner))).await {
            let Some((_, cidr)) = keys::parse_affinity(&affinity) else {
                continue;
            };
            for _ in 0..100 {
                match self.own_block(&owner, cidr).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(Lost) => continue,
                }
                match self.assign_from(cidr, handle).await {
                    Ok(Some(address)) => return Ok(address),
                    Ok(None) => break,
                    Err(Lost) => {}
                }
            }
        }
        for _ in 0..100 {
            let existing: BTreeSet<String> = self
                .list(keys::BLOCKS.to_owned())
                .await
                .into_iter()
                .collect();
            let Some(cidr) = self
                .blocks()
                .into_iter()
                .find(|cidr| !existing.contains(&keys::block(*cidr)))
            else {
                break;
            };
            if self.claim(&owner, cidr).await.is_ok()
                && let Ok(Some(address)) = self.assign_from(cidr, handle).await
            {
                return Ok(address);
            }
        }
        for cidr in self.blocks() {
            for _ in 0..100 {
                match self.assign_from(cidr, handle).await {
                    Ok(Some(address)) => return Ok(address),
                    Ok(None) => break,
                    Err(Lost) => {}
                }
            }
        }
        Err(Full)
    }

    /// The pool's blocks in this client's order.
    fn blocks(&self) -> Vec<IpNet> {
        let bits = self.pool.max_prefix_len() - self.block_len;
        let count = 1usize << (self.block_len - self.pool.prefix_len());
        (0..count)
            .map(|number| (self.start + number) % count)
            .map(|number| {
                let address = address_at(self.pool, (number as u128) << bits).unwrap();
                IpNet::new(address, self.block_len).unwrap()
            })
            .collect()
    }

    /// Claims a block: a pending claim, the block, the claim confirmed.
    async fn claim(&self, owner: &Owner, cidr: IpNet) -> Result<(), Lost> {
        let affinity = keys::affinity(owner, cidr);
        let state = |state: &str| json!({"state": state, "deleted": false});
        if self.create(&affinity, &state("pending")).await.is_err() {
            let (value, revision) = self.get(&affinity).await.ok_or(Lost)?;
            if value["state"] != "confirmed" {
                self.update(&affinity, &state("pending"), revision).await?;
            }
        }
        let size = 1u32 << (cidr.max_prefix_len() - cidr.prefix_len());
        let block = json!({"cidr": cidr, "affinity": owner.to_string(),
            "affinity_claim_time": "2027-01-15T08:00:00Z",
            "allocations": vec![Value::Null; size as usize],
            "unallocated": (0..size).collect::<Vec<u32>>(), "attributes": null,
            "sequenceNumber": 1_800_000_000_000_000_000u64, "sequenceNumberForAllocation": {},
            "deleted": false});
        if self.create(&keys::block(cidr), &block).await.is_err() {
            let (block, _) = self.get(&keys::block(cidr)).await.ok_or(Lost)?;
            if block["affinity"] != owner.to_string() {
                if let Some((_, revision)) = self.get(&affinity).await {
                    self.delete(&affinity, revision).await?;
                }
                return Err(Lost);
            }
        }
        self.confirm(&affinity).await
    }

    async fn confirm(&self, affinity: &str) -> Result<(), Lost> {
        let (value, revision) = self.get(affinity).await.ok_or(Lost)?;
        if value["state"] == "confirmed" {
            return Ok(());
        }
        let confirmed = json!({"state": "confirmed", "deleted": false});
        self.update(affinity, &confirmed, revision).await
    }

    /// Makes good a claim of this host; says whether it is one.
    async fn own_block(&self, owner: &Owner, cidr: IpNet) -> Result<bool, Lost> {
        let affinity = keys::affinity(owner, cidr);
        let Some((claim, revision)) = self.get(&affinity).await else {
            return Ok(false);
        };
        let Some((mut block, at)) = self.get(&keys::block(cidr)).await else {
            let pending = json!({"state": "pending", "deleted": false});
            self.update(&affinity, &pending, revision).await?;
            return self.claim(owner, cidr).await.map(|()| true);
        };
        if block["affinity"] != owner.to_string() {
            self.delete(&affinity, revision).await?;
            return Ok(false);
        }
        if claim["state"] != "confirmed" {
            let pending = json!({"state": "pending", "deleted": false});
            self.update(&affinity, &pending, revision).await?;
            // Others who hold this block's revision are to notice.
            block["sequenceNumber"] = (block["sequenceNumber"].as_u64().unwrap() + 1).into();
            self.update(&keys::block(cidr), &block, at).await?;
            self.confirm(&affinity).await?;
        }
        Ok(true)
    }

    /// Assigns the block's next free address: first the handle counts it, then the block has it.
    async fn assign_from(&self, cidr: IpNet, handle: &str) -> Result<Option<IpAddr>, Lost> {
        let Some((mut block, revision)) = self.get(&keys::block(cidr)).await else {
            return Ok(None);
        };
        let mut free = block["unallocated"].as_array().unwrap().clone();
        if free.is_empty() {
            return Ok(None);
        }
        let place = free.remove(0).as_u64().unwrap();
        self.count(handle, cidr, 1).await;
        let number = block["sequenceNumber"].as_u64().unwrap();
        let mut attributes = block["attributes"].as_array().cloned().unwrap_or_default();
        attributes.push(json!({"handle_id": handle, "secondary": {"node": "calico"}}));
        block["unallocated"] = free.into();
        block["allocations"][place as usize] = (attributes.len() - 1).into();
        block["attributes"] = attributes.into();
        block["sequenceNumberForAllocation"][place.to_string()] = number.into();
        block["sequenceNumber"] = (number + 1).into();
        if self
            .update(&keys::block(cidr), &block, revision)
            .await
            .is_err()
        {
            self.count(handle, cidr, -1).await;
            return Err(Lost);
        }
        Ok(address_at(cidr, u128::from(place)))
    }

    async fn count(&self, handle: &str, cidr: IpNet, change: i64) {
        let key = keys::handle(handle);
        for _ in 0..100 {
            let there = self.get(&key).await;
            let is_new = there.is_none();
            let (mut value, revision) =
                there.unwrap_or((json!({"block": {}, "deleted": false}), 0));
            let counts = value["block"].as_object_mut().unwrap();
            let name = cidr.to_string();
            let count = counts.get(&name).and_then(Value::as_i64).unwrap_or(0) + change;
            if count > 0 {
                counts.insert(name, count.into());
            } else {
                counts.remove(&name);
            }
            let is_empty = counts.is_empty();
            let done = match (is_new, is_empty) {
                (true, true) => Ok(()),
                (true, false) => self.create(&key, &value).await,
                (false, true) => self.delete(&key, revision).await,
                (false, false) => self.update(&key, &value, revision).await,
            };
            if done.is_ok() {
                return;
            }
        }
        panic!("a hundred others were faster");
    }

    /// Releases everything of a handle: first the block gives it up, then the handle.
    async fn release(&self, handle: &str) {
        let Some((value, _)) = self.get(&keys::handle(handle)).await else {
            return;
        };
        for cidr in value["block"].as_object().unwrap().keys() {
            let cidr: IpNet = cidr.parse().unwrap();
            for _ in 0..100 {
                let Some((mut block, revision)) = self.get(&keys::block(cidr)).await else {
                    break;
                };
                let attributes = block["attributes"].as_array().cloned().unwrap_or_default();
                let mut released = 0;
                for (place, slot) in block["allocations"]
                    .as_array()
                    .unwrap()
                    .clone()
                    .iter()
                    .enumerate()
                {
                    let is_ours = slot
                        .as_u64()
                        .is_some_and(|at| attributes[at as usize]["handle_id"] == handle);
                    if is_ours {
                        // The attribute stays; nothing says that it must go.
                        block["allocations"][place] = Value::Null;
                        block["unallocated"]
                            .as_array_mut()
                            .unwrap()
                            .push(place.into());
                        released += 1;
                    }
                }
                if released == 0 {
                    break;
                }
                block["sequenceNumber"] = (block["sequenceNumber"].as_u64().unwrap() + 1).into();
                let key = keys::block(cidr);
                let is_free = block["allocations"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(Value::is_null);
                let done = if is_free && block["affinity"].is_null() {
                    self.delete(&key, revision).await
                } else {
                    self.update(&key, &block, revision).await
                };
                if done.is_ok() {
                    self.count(handle, cidr, -released).await;
                    break;
                }
            }
        }
    }

    /// Gives up a claim: the claim is marked, the block goes or is nobody's, the claim goes.
    async fn give_up(&self, owner: &Owner, cidr: IpNet) -> Result<(), Lost> {
        let affinity = keys::affinity(owner, cidr);
        let (_, revision) = self.get(&affinity).await.ok_or(Lost)?;
        let (mut block, at) = self.get(&keys::block(cidr)).await.ok_or(Lost)?;
        if block["affinity"] != owner.to_string() {
            return self.delete(&affinity, revision).await;
        }
        let marked = json!({"state": "pendingDeletion", "deleted": false});
        self.update(&affinity, &marked, revision).await?;
        let key = keys::block(cidr);
        if block["allocations"]
            .as_array()
            .unwrap()
            .iter()
            .all(Value::is_null)
        {
            self.delete(&key, at).await?;
        } else {
            block["affinity"] = Value::Null;
            block["sequenceNumber"] = (block["sequenceNumber"].as_u64().unwrap() + 1).into();
            self.update(&key, &block, at).await?;
        }
        let (_, revision) = self.get(&affinity).await.ok_or(Lost)?;
        self.delete(&affinity, revision).await
    }
}

const POOL: &str = "10.0.0.0/27";
const BLOCK_LEN: u8 = 30;

/// What became of a claimant: the addresses it has.
type Claimant = Pin<Box<dyn Future<Output = Vec<IpAddr>>>>;

/// Every other one is Calico's; every third one releases again; some Calico hosts give up claims.
fn claimant(lab: &Lab, number: usize) -> Claimant {
    let host = HOSTS[number / 2 % HOSTS.len()];
    let handle = format!("c{number}");
    let releases = number.is_multiple_of(3);
    if number.is_multiple_of(2) {
        let ipam = lab.ipam.clone();
        return Box::pin(async move {
            let given = match ipam.assign(&wish(host, &handle, 1, 0)).await {
                Ok(given) => given,
                Err(IpamError::PoolsFull { .. }) => return Vec::new(),
                Err(error) => panic!("{error}"),
            };
            if releases {
                ipam.release_handle(&handle, None).await.unwrap();
                return Vec::new();
            }
            given.iter().map(IpNet::addr).collect()
        });
    }
    let calico = Calico {
        kv: lab.stepped.clone(),
        pool: POOL.parse().unwrap(),
        block_len: BLOCK_LEN,
        start: number,
    };
    Box::pin(async move {
        let Ok(address) = calico.assign(host, &handle).await else {
            return Vec::new();
        };
        if !releases {
            return vec![address];
        }
        calico.release(&handle).await;
        let owner = Owner::host(host);
        for affinity in calico.list(format!("{}/", keys::host(&owner))).await {
            if let Some((_, cidr)) = keys::parse_affinity(&affinity) {
                let _ = calico.give_up(&owner, cidr).await;
            }
        }
        Vec::new()
    })
}

/// Mends everything that can be mended but addresses; there are no endpoints here.
fn mend(lab: &Lab) {
    for _ in 0..3 {
        for finding in lab.findings() {
            assert!(finding.can_be_mended(), "{finding:?}");
            now(lab.direct.mend(&finding)).unwrap();
        }
    }
}

#[test]
fn calicos_clients_and_ours_interleaved_and_killed_share_no_address_and_leak_none() {
    let mut half_done = 0;
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let lab = Lab::new(&[(POOL, BLOCK_LEN)]);
        let mut waiting: BTreeMap<usize, Claimant> = (0..24)
            .map(|number| (number, claimant(&lab, number)))
            .collect();
        let mut live: BTreeMap<IpAddr, String> = BTreeMap::new();
        let mut killed = BTreeSet::new();
        while !waiting.is_empty() {
            let numbers: Vec<usize> = waiting.keys().copied().collect();
            let number = numbers[dice.below(numbers.len())];
            let dies = dice.below(60);
            if dies == 0 {
                waiting.remove(&number);
                killed.insert(format!("c{number}"));
                continue;
            }
            lab.swallow.store(dies == 1, Ordering::Relaxed);
            let polled = poll(waiting.get_mut(&number).unwrap());
            lab.swallow.store(false, Ordering::Relaxed);
            match polled {
                Poll::Pending if dies == 1 => {
                    waiting.remove(&number);
                    killed.insert(format!("c{number}"));
                }
                Poll::Pending => {}
                Poll::Ready(addresses) => {
                    waiting.remove(&number);
                    for address in addresses {
                        let other = live.insert(address, format!("c{number}"));
                        assert_eq!(other, None, "seed {seed}: {address} was given twice");
                    }
                }
            }
        }
        half_done += lab.findings().len();
        mend(&lab);
        assert_eq!(lab.findings(), [], "seed {seed}");
        for (address, handle) in lab.assigned() {
            assert!(
                live.get(&address) == Some(&handle) || killed.contains(&handle),
                "seed {seed}: {address} of {handle} is leaked"
            );
        }
        for address in live.keys() {
            assert!(
                lab.assigned().contains_key(address),
                "seed {seed}: {address} is lost"
            );
        }
        for number in 0..24 {
            match now(lab.direct.release_handle(&format!("c{number}"), None)) {
                Ok(_) | Err(IpamError::UnknownHandle(_)) => {}
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        assert!(lab.assigned().is_empty(), "seed {seed}");
        for host in HOSTS {
            now(lab.direct.remove_owner(&Owner::host(host))).unwrap();
        }
        let left: Vec<String> = lab
            .kv
            .dump()
            .into_iter()
            .map(|entry| entry.key)
            .filter(|key| key.starts_with(keys::ROOT))
            .collect();
        assert!(left.is_empty(), "seed {seed}: {left:?}");
    }
    assert!(
        half_done > 20,
        "{half_done} is too little to have been mended"
    );
}

/// Runs Calico's client alone until it is killed at a step; says whether it got that far.
fn kill_calico_at(lab: &Lab, work: impl Future<Output = ()>, step: usize, after: bool) -> bool {
    let operation = async {
        work.await;
        Ok::<(), IpamError>(())
    };
    steps::kill_at(lab, operation, step, after)
}

#[test]
fn whatever_calicos_client_left_at_any_step_ours_goes_on_and_the_collector_cleans() {
    let pool: IpNet = POOL.parse().unwrap();
    let cidr = IpNet::new(pool.addr(), BLOCK_LEN).unwrap();
    for (what, after) in [
        ("assign", false),
        ("assign", true),
        ("release", false),
        ("release", true),
        ("give up", false),
        ("give up", true),
    ] {
        for step in 0.. {
            let lab = Lab::new(&[(POOL, BLOCK_LEN)]);
            let calico = Calico {
                kv: lab.stepped.clone(),
                pool,
                block_len: BLOCK_LEN,
                start: 0,
            };
            let whole = |calico: Calico| async move {
                let mut address = Some(calico.assign("h2", "dead").await.unwrap());
                if what != "assign" {
                    calico.release("dead").await;
                    address = None;
                }
                if what == "give up" {
                    let _ = calico.give_up(&Owner::host("h2"), cidr).await;
                }
                assert!(address.is_none_or(|address| place_of(cidr, address) == Some(0)));
            };
            let killed = kill_calico_at(&lab, whole(calico), step, after);
            // The pool's 32 addresses, but for the one that the dead client may have.
            let ours = now(lab.direct.assign(&wish("h1", "live", 31, 0))).unwrap();
            let distinct: BTreeSet<IpAddr> = ours.iter().map(IpNet::addr).collect();
            assert_eq!(distinct.len(), 31, "{what} {step}");
            assert!(
                lab.assigned()
                    .iter()
                    .all(|(address, handle)| distinct.contains(address) == (handle == "live")),
                "{what} {step}"
            );
            mend(&lab);
            let left: Vec<Finding> = lab.findings();
            assert_eq!(left, [], "{what} {step}");
            match now(lab.direct.release_handle("dead", None)) {
                Ok(_) | Err(IpamError::UnknownHandle(_)) => {}
                Err(error) => panic!("{what} {step}: {error}"),
            }
            assert_eq!(lab.assigned().len(), 31, "{what} {step}");
            if !killed {
                assert!(step > 5, "{what} has more than {step} steps");
                break;
            }
        }
    }
}
