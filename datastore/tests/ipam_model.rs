//! Many claimants of addresses at once, stopped at every step.
//!
//! A step is one request to the store. The scheduler here decides who takes the next one, so that
//! every run is the same every time. A claimant that is killed before a step has done nothing of
//! it; one that is killed after it has done all of it and knows nothing about it.
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
        AddressRequest, Collector, Finding, Ipam, IpamError, Owner, PodName, ReleaseRequest,
        TunnelKind, keys,
    },
    ipnet::IpNet,
    value::IpVersion,
};
use serde_json::{Value, json};
use steps::{Dice, HOSTS, Lab, Stepped, kill_at, now, poll, wish};

/// A claimant: it assigns, and every other one releases again.
type Claimant = Pin<Box<dyn Future<Output = Result<Vec<IpNet>, IpamError>>>>;

fn claimant(lab: &Lab, number: usize, releases: bool) -> Claimant {
    let ipam = lab.ipam.clone();
    Box::pin(async move {
        let handle = format!("c{number}");
        let wish = wish(HOSTS[number % HOSTS.len()], &handle, 1, 1);
        let assigned = ipam.assign(&wish).await?;
        if releases {
            ipam.release_handle(&handle, None).await?;
            return Ok(Vec::new());
        }
        Ok(assigned)
    })
}

#[test]
fn claimants_interleaved_and_killed_at_any_step_share_no_address_and_leak_none() {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        // Three blocks of four for four hosts: claims, borrowing and a full pool all happen.
        let lab = Lab::new(&[("10.0.0.0/28", 30), ("fd00::/124", 126)]);
        let mut waiting: BTreeMap<usize, Claimant> = (0..24)
            .map(|number| (number, claimant(&lab, number, number % 3 == 0)))
            .collect();
        let mut live: BTreeMap<IpAddr, String> = BTreeMap::new();
        let mut killed = BTreeSet::new();
        while !waiting.is_empty() {
            let numbers: Vec<usize> = waiting.keys().copied().collect();
            let number = numbers[dice.below(numbers.len())];
            let dies = dice.below(40);
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
                Poll::Ready(Ok(assigned)) => {
                    waiting.remove(&number);
                    for net in assigned {
                        let other = live.insert(net.addr(), format!("c{number}"));
                        assert_eq!(other, None, "seed {seed}: {net} was given twice");
                    }
                }
                Poll::Ready(Err(IpamError::PoolsFull { .. })) => {
                    waiting.remove(&number);
                }
                Poll::Ready(Err(error)) => panic!("seed {seed}: {error}"),
            }
            // Looking takes longer than a step; a few runs are looked at step by step.
            if seed < 6 {
                assert_eq!(lab.findings(), [], "seed {seed}");
            }
        }
        assert_eq!(lab.findings(), [], "seed {seed}");
        // Whatever is assigned is a live claimant's, or can be found by a dead one's handle.
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
            .filter(|key| key.contains("/ipam/"))
            .collect();
        assert!(left.is_empty(), "seed {seed}: {left:?}");
    }
}

#[test]
fn concurrent_claims_of_one_host_do_not_pass_its_limit() {
    // Blocks of one address: claims of one host start at different places and do not meet.
    for (cidr, len, v4, v6) in [("10.0.0.0/28", 32, 1, 0), ("fd00::/124", 128, 0, 1)] {
        let lab = Lab::new(&[(cidr, len)]);
        let mut waiting: Vec<_> = (0..6)
            .map(|number| {
                let mut wish = wish("h1", &format!("c{number}"), v4, v6);
                wish.max_blocks = Some(2);
                let ipam = lab.ipam.clone();
                Box::pin(async move { ipam.assign(&wish).await })
            })
            .collect();
        let (mut assigned, mut refused) = (0, 0);
        while !waiting.is_empty() {
            waiting.retain_mut(|claimant| match poll(claimant) {
                Poll::Pending => true,
                Poll::Ready(Ok(_)) => {
                    assigned += 1;
                    false
                }
                Poll::Ready(Err(error)) => {
                    assert!(matches!(error, IpamError::BlockLimit { .. }), "{error}");
                    refused += 1;
                    false
                }
            });
        }
        assert_eq!((assigned, refused), (2, 4), "{cidr}");
        assert_eq!(lab.findings(), [], "{cidr}");
    }
}

#[test]
fn a_kill_at_every_single_step_leaves_all_or_nothing() {
    let pools = [("10.0.0.0/28", 30), ("fd00::/124", 126)];
    for after in [false, true] {
        for step in 0.. {
            let lab = Lab::new(&pools);
            let wish = wish("h1", "dead", 6, 6);
            let killed = kill_at(&lab, lab.ipam.assign(&wish), step, after);
            let count = lab.assigned().len();
            assert!(count == 0 || count == 12, "step {step}: {count}");
            assert_eq!(lab.findings(), [], "step {step}");
            if !killed {
                assert!(step > 1, "there is more than one step");
                break;
            }
        }
        for step in 0.. {
            let lab = Lab::new(&pools);
            now(lab.direct.assign(&wish("h1", "dead", 6, 6))).unwrap();
            let killed = kill_at(&lab, lab.ipam.release_handle("dead", None), step, after);
            let count = lab.assigned().len();
            assert!(count == 0 || count == 12, "step {step}: {count}");
            assert_eq!(lab.findings(), [], "step {step}");
            if !killed {
                break;
            }
        }
    }
}

#[test]
fn another_client_killed_between_its_writes_leaves_nothing_that_stays() {
    // Another client claims a block by three writes, then counts the handle before it writes the
    // block. Whatever prefix of these it got done, ours go on.
    let block: IpNet = "10.0.0.4/30".parse().unwrap();
    let owner = Owner::host("h2");
    let affinity = |state: &str| {
        (
            keys::affinity(&owner, block),
            format!(r#"{{"state":"{state}","deleted":false}}"#),
        )
    };
    let new_block = (
        keys::block(block),
        r#"{"cidr":"10.0.0.4/30","affinity":"host:h2","allocations":[null,null,null,null],"unallocated":[0,1,2,3],"attributes":null,"sequenceNumber":7,"sequenceNumberForAllocation":{},"deleted":false}"#.to_owned(),
    );
    let handle = (
        keys::handle("dead"),
        r#"{"block":{"10.0.0.4/30":1},"deleted":false}"#.to_owned(),
    );
    let writes = [
        affinity("pending"),
        new_block,
        affinity("confirmed"),
        handle,
        affinity("pendingDeletion"),
    ];
    for done in 0..=writes.len() {
        for host in HOSTS {
            let lab = Lab::new(&[("10.0.0.0/28", 30)]);
            for (key, value) in &writes[..done] {
                lab.kv.put(key.clone(), value.clone());
            }
            // Sixteen addresses: all of the pool, so the block in question is among them.
            let assigned = now(lab.direct.assign(&wish(host, "h", 16, 0))).unwrap();
            let distinct: BTreeSet<IpAddr> = assigned.iter().map(IpNet::addr).collect();
            assert_eq!(distinct.len(), 16, "{done} {host}");
            // A CNI plugin that is told of the dead workload releases its handle.
            match now(lab.direct.release_handle("dead", None)) {
                Ok(released) => assert!(released.is_empty(), "{done} {host}"),
                Err(IpamError::UnknownHandle(_)) => {}
                Err(error) => panic!("{done} {host}: {error}"),
            }
            now(lab.direct.release_handle("h", None)).unwrap();
            // The owner of what is half-done comes by in the end.
            now(lab.direct.assign(&wish("h2", "i", 16, 0))).unwrap();
            assert_eq!(lab.findings(), [], "{done} {host}");
        }
    }
}

/// An operation on a lab that is prepared for it.
type Operation = Box<dyn Fn(&Lab) -> Pin<Box<dyn Future<Output = Result<(), IpamError>>>>>;

fn operation<F>(start: impl Fn(Ipam<Stepped>) -> F + 'static) -> Operation
where
    F: Future<Output = Result<(), IpamError>> + 'static,
{
    Box::new(move |lab| Box::pin(start(lab.ipam.clone())))
}

fn target_notes() -> BTreeMap<String, String> {
    [("namespace", "n"), ("pod", "target")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// Every operation that writes.
fn operations() -> Vec<(&'static str, Operation)> {
    let block: IpNet = "10.0.0.4/30".parse().unwrap();
    let by_name = move |handle: &str| AddressRequest {
        owner: Owner::host("h3"),
        address: "10.0.0.5".parse().unwrap(),
        assignee: wish("h3", handle, 0, 0).assignee,
        max_per_handle: None,
        host_reserved: None,
    };
    vec![
        (
            "assign",
            operation(|ipam| async move { ipam.assign(&wish("h1", "new", 5, 5)).await.map(drop) }),
        ),
        (
            "assign_address",
            operation(
                move |ipam| async move { ipam.assign_address(&by_name("named")).await.map(drop) },
            ),
        ),
        (
            "ensure_block",
            operation(|ipam| async move {
                let versions = [IpVersion::V4, IpVersion::V6];
                ipam.ensure_block(&wish("h4", "none", 0, 0), &versions)
                    .await
                    .map(drop)
            }),
        ),
        (
            "release",
            operation(|ipam| async move {
                let info = match ipam.show_handle("there").await {
                    Err(IpamError::UnknownHandle(_)) => return Ok(()),
                    other => other?,
                };
                let requests: Vec<ReleaseRequest> =
                    info.iter().map(|info| info.address.into()).collect();
                ipam.release(&requests).await.map(drop)
            }),
        ),
        (
            "release_handle",
            operation(|ipam| async move {
                match ipam.release_handle("there", None).await {
                    Err(IpamError::UnknownHandle(_)) => Ok(()),
                    other => other.map(drop),
                }
            }),
        ),
        (
            "claim",
            operation(move |ipam| async move {
                let net = IpNet::new(block.addr(), 29).unwrap().trunc();
                ipam.claim(&Owner::host("h4"), net).await.map(drop)
            }),
        ),
        (
            "give_up_all",
            operation(
                |ipam| async move { ipam.give_up_all(&Owner::host("h2"), false).await.map(drop) },
            ),
        ),
        (
            "give_up_pool",
            operation(|ipam| async move {
                let pool = "10.0.0.0/28".parse().unwrap();
                ipam.give_up_pool(pool, false).await.map(drop)
            }),
        ),
        (
            "remove_owner",
            operation(|ipam| async move { ipam.remove_owner(&Owner::host("h2")).await.map(drop) }),
        ),
        (
            "ensure_tunnel_address",
            operation(|ipam| async move {
                ipam.ensure_tunnel_address("h1", TunnelKind::Vxlan, false)
                    .await
                    .map(drop)
            }),
        ),
        (
            "set_alternate_owner",
            operation(|ipam| async move {
                ipam.set_alternate_owner("mine", None, &target_notes())
                    .await
                    .map(drop)
            }),
        ),
        (
            "swap_owner",
            operation(|ipam| async move {
                let target = PodName {
                    namespace: "n".to_owned(),
                    name: "target".to_owned(),
                };
                ipam.swap_owner("there", &target).await.map(drop)
            }),
        ),
        (
            "split",
            operation(|ipam| async move {
                match ipam.split("p0", 2).await {
                    Err(IpamError::UnknownPool(_)) => Ok(()),
                    other => other.map(drop),
                }
            }),
        ),
        (
            "configure",
            operation(|ipam| async move {
                ipam.configure(|config| config.ip_cooldown_seconds = 5)
                    .await
                    .map(drop)
            }),
        ),
        (
            "restore",
            operation(|ipam| async move {
                // More than one transaction's worth.
                let documents: Vec<Value> = (0..70)
                    .map(|number| {
                        json!({"kind": "IPAMHandle", "metadata": {"name": "h"},
                               "spec": {"handleID": format!("h{number}"), "block": {}}})
                    })
                    .collect();
                ipam.restore(&documents, true).await.map(drop)
            }),
        ),
        (
            "collect",
            operation(|ipam| async move { Collector::new(0).round(&ipam).await.map(drop) }),
        ),
    ]
}

/// Addresses of all hosts, one of them full; a pool of IPv4 that wants a tunnel.
fn lived_in() -> Lab {
    let lab = Lab::new(&[("10.0.0.0/27", 30), ("fd00::/123", 126)]);
    lab.kv.put(
        "/calico/resources/v3/projectcalico.org/ippools/p0",
        r#"{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"p0"},"spec":{"cidr":"10.0.0.0/27","blockSize":30,"vxlanMode":"Always"}}"#,
    );
    for (host, handle, v4, v6) in [
        ("h1", "mine", 3, 1),
        ("h2", "there", 6, 2),
        ("h2", "other", 1, 1),
    ] {
        now(lab.direct.assign(&wish(host, handle, v4, v6))).unwrap();
    }
    now(lab
        .direct
        .set_alternate_owner("there", None, &target_notes()))
    .unwrap();
    // A host that is gone, and what it had.
    now(lab.direct.assign(&wish("h3", "gone", 1, 1))).unwrap();
    lab.kv
        .delete("/calico/resources/v3/projectcalico.org/nodes/h3");
    lab
}

/// What does not change from one lab to the next: all but times and numbers made of them.
fn state(lab: &Lab) -> BTreeMap<String, Value> {
    fn without_times(value: &mut Value) {
        match value {
            Value::Object(object) => {
                for name in [
                    "affinity_claim_time",
                    "sequenceNumber",
                    "sequenceNumberForAllocation",
                    "uid",
                    "creationTimestamp",
                ] {
                    object.remove(name);
                }
                object.values_mut().for_each(without_times);
            }
            Value::Array(array) => array.iter_mut().for_each(without_times),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    lab.kv
        .dump()
        .into_iter()
        .map(|entry| {
            let mut value = serde_json::from_slice(&entry.value).unwrap();
            without_times(&mut value);
            (entry.key, value)
        })
        .collect()
}

#[test]
fn every_operation_killed_at_every_step_leaves_what_fits_and_done_again_is_done() {
    for (name, operation) in operations() {
        let done = lived_in();
        let mut whole = Box::pin(operation(&done));
        let mut steps = 0;
        while poll(&mut whole).is_pending() {
            steps += 1;
        }
        let wanted = state(&done);
        assert!(steps >= 2, "{name} reads and writes");
        assert_ne!(wanted, state(&lived_in()), "{name} does something");
        for after in [false, true] {
            for step in 0..steps {
                let lab = lived_in();
                assert!(
                    kill_at(&lab, operation(&lab), step, after),
                    "{name} has a step {step}"
                );
                // A collector may have released the last address of a block and not the block.
                let findings = lab.findings();
                assert!(
                    findings
                        .iter()
                        .all(|finding| name == "collect"
                            && matches!(finding, Finding::Orphaned { .. })),
                    "{name}, step {step}: {findings:?}"
                );
                // Whoever is told to do it again does not get more than was asked for.
                let mut again = Box::pin(operation(&lab));
                let result = loop {
                    if let Poll::Ready(result) = poll(&mut again) {
                        break result;
                    }
                };
                assert_eq!(lab.findings(), [], "{name}, step {step}");
                match (name, result) {
                    // Assigning is no wish for a state: it is released by its handle, and asked
                    // for again.
                    ("assign", Ok(())) => {
                        now(lab.direct.release_handle("new", None)).unwrap();
                        assert!(!lab.assigned().values().any(|handle| handle == "new"));
                    }
                    ("assign_address", Ok(()) | Err(IpamError::InUse { .. })) | (_, Ok(())) => {
                        assert_eq!(state(&lab), wanted, "{name}, step {step}");
                    }
                    (_, Err(error)) => panic!("{name}, step {step}: {error}"),
                }
            }
        }
    }
}
