//! Many claimants of addresses at once, stopped at every step.
//!
//! A step is one request to the store. The scheduler here decides who takes the next one, so that
//! every run is the same every time. A claimant that is killed before a step has done nothing of
//! it; one that is killed after it has done all of it and knows nothing about it.
#![expect(clippy::unwrap_used, reason = "a test that is surprised fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use cleat_datastore::{
    ipam::{
        AssignRequest, Assignee, Finding, Ipam, IpamError, MemoryKv, Moment, Owner, keys,
        kv::{Answer, Kv, KvError, Transaction, Want},
    },
    ipnet::IpNet,
};
use futures::{
    FutureExt,
    future::{BoxFuture, pending},
};

const HOSTS: [&str; 4] = ["h1", "h2", "h3", "h4"];

/// A store that keeps whoever asks waiting once before it answers, and can swallow answers.
#[derive(Clone)]
struct Stepped {
    kv: Arc<MemoryKv>,
    swallow: Arc<AtomicBool>,
}

/// Waits for the scheduler's next turn.
fn turn() -> impl Future<Output = ()> {
    let mut waited = false;
    std::future::poll_fn(move |_| {
        if std::mem::replace(&mut waited, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
}

impl Stepped {
    async fn answer<T>(&self, asked: impl Future<Output = T>) -> T {
        turn().await;
        let answer = asked.await;
        if self.swallow.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
        answer
    }
}

impl Kv for Stepped {
    fn read<'a>(&'a self, wants: &'a [Want]) -> BoxFuture<'a, Result<Answer, KvError>> {
        self.answer(self.kv.read(wants)).boxed()
    }

    fn commit<'a>(&'a self, transaction: &'a Transaction) -> BoxFuture<'a, Result<bool, KvError>> {
        self.answer(self.kv.commit(transaction)).boxed()
    }
}

struct Lab {
    kv: Arc<MemoryKv>,
    swallow: Arc<AtomicBool>,
    ipam: Ipam<Stepped>,
    /// Without turns, for looking and cleaning up.
    direct: Ipam<Arc<MemoryKv>>,
}

impl Lab {
    fn new(pools: &[(&str, u8)]) -> Self {
        let kv = Arc::new(MemoryKv::default());
        let swallow = Arc::new(AtomicBool::new(false));
        let ticks = Arc::new(AtomicU64::new(0));
        let clock = move || {
            let tick = ticks.fetch_add(1, Ordering::Relaxed);
            Moment {
                nanoseconds: 1_800_000_000_000_000_000 + tick,
                entropy: tick,
            }
        };
        for host in HOSTS {
            kv.put(
                format!("/calico/resources/v3/projectcalico.org/nodes/{host}"),
                format!(
                    r#"{{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{{"name":"{host}"}},"spec":{{}}}}"#
                ),
            );
        }
        for (number, (cidr, len)) in pools.iter().enumerate() {
            kv.put(
                format!("/calico/resources/v3/projectcalico.org/ippools/p{number}"),
                format!(
                    r#"{{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{{"name":"p{number}"}},"spec":{{"cidr":"{cidr}","blockSize":{len}}}}}"#
                ),
            );
        }
        let stepped = Stepped {
            kv: kv.clone(),
            swallow: swallow.clone(),
        };
        Self {
            ipam: Ipam::with_clock(stepped, clock.clone()),
            direct: Ipam::with_clock(kv.clone(), clock),
            kv,
            swallow,
        }
    }

    /// What does not fit, but for addresses that no endpoint uses: there are no endpoints here.
    fn findings(&self) -> Vec<Finding> {
        let mut findings = now(self.direct.check()).unwrap();
        findings.retain(|finding| !matches!(finding, Finding::Leaked { .. }));
        findings
    }

    /// Everything that is assigned, by address.
    fn assigned(&self) -> BTreeMap<IpAddr, String> {
        now(self.direct.check())
            .unwrap()
            .into_iter()
            .filter_map(|finding| {
                let Finding::Leaked {
                    address, handle, ..
                } = finding
                else {
                    return None;
                };
                Some((address, handle.unwrap()))
            })
            .collect()
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing to wait for")
}

fn poll<T>(future: &mut Pin<Box<impl Future<Output = T> + ?Sized>>) -> Poll<T> {
    future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

fn wish(host: &str, handle: &str, v4: usize, v6: usize) -> AssignRequest {
    let assignee = Assignee {
        handle: Some(handle.to_owned()),
        attributes: BTreeMap::from([("node".to_owned(), host.to_owned())]),
    };
    AssignRequest::workload(host, v4, v6, assignee)
}

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

/// A sequence of numbers that is the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
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

/// Runs one operation until it is killed at a step, before or after the store did it; says whether
/// it got that far.
fn kill_at<T>(
    lab: &Lab,
    operation: impl Future<Output = Result<T, IpamError>>,
    step: usize,
    after: bool,
) -> bool {
    let mut operation = Box::pin(operation);
    // The first turn only asks; each further one answers the last question and asks the next.
    for _ in 0..=step {
        if poll(&mut operation).is_ready() {
            return false;
        }
    }
    if after {
        lab.swallow.store(true, Ordering::Relaxed);
        let _ = poll(&mut operation);
        lab.swallow.store(false, Ordering::Relaxed);
    }
    true
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
