//! Claimants that take their steps when a scheduler says so, and can be stopped at each of them.
//!
//! A step is one request to the store. A claimant that is killed before a step has done nothing of
//! it; one that is killed after it has done all of it and knows nothing about it.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    collections::BTreeMap,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use cleat_datastore::ipam::{
    AssignRequest, Assignee, Finding, Ipam, IpamError, MemoryKv, Moment,
    kv::{Answer, Kv, KvError, Transaction, Want},
};
use futures::{
    FutureExt,
    future::{BoxFuture, pending},
};

pub(crate) const HOSTS: [&str; 4] = ["h1", "h2", "h3", "h4"];

/// A store that keeps whoever asks waiting once before it answers, and can swallow answers.
#[derive(Clone)]
pub(crate) struct Stepped {
    kv: Arc<MemoryKv>,
    swallow: Arc<AtomicBool>,
}

/// Waits for the scheduler's next turn.
pub(crate) fn turn() -> impl Future<Output = ()> {
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

pub(crate) struct Lab {
    pub(crate) stepped: Stepped,
    pub(crate) kv: Arc<MemoryKv>,
    pub(crate) swallow: Arc<AtomicBool>,
    pub(crate) ipam: Ipam<Stepped>,
    /// Without turns, for looking and cleaning up.
    pub(crate) direct: Ipam<Arc<MemoryKv>>,
}

impl Lab {
    pub(crate) fn new(pools: &[(&str, u8)]) -> Self {
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
            ipam: Ipam::with_clock(stepped.clone(), clock.clone()),
            stepped,
            direct: Ipam::with_clock(kv.clone(), clock),
            kv,
            swallow,
        }
    }

    /// What does not fit, but for addresses that no endpoint uses: there are no endpoints here.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut findings = now(self.direct.check()).unwrap();
        findings.retain(|finding| !matches!(finding, Finding::Leaked { .. }));
        findings
    }

    /// Everything that is assigned, by address.
    pub(crate) fn assigned(&self) -> BTreeMap<IpAddr, String> {
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

pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing to wait for")
}

pub(crate) fn poll<T>(future: &mut Pin<Box<impl Future<Output = T> + ?Sized>>) -> Poll<T> {
    future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

pub(crate) fn wish(host: &str, handle: &str, v4: usize, v6: usize) -> AssignRequest {
    let assignee = Assignee {
        handle: Some(handle.to_owned()),
        attributes: BTreeMap::from([("node".to_owned(), host.to_owned())]),
    };
    AssignRequest::workload(host, v4, v6, assignee)
}

/// A sequence of numbers that is the same every time.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// Runs one operation until it is killed at a step, before or after the store did it; says whether
/// it got that far.
pub(crate) fn kill_at<T>(
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
