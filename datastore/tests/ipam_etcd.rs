//! IPAM over a real etcd: many claimants on four hosts, some of them killed.
#![cfg(feature = "etcd")]
#![expect(clippy::unwrap_used, reason = "a test that is surprised fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, TcpListener},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use cleat_datastore::ipam::{
    AssignRequest, Assignee, EtcdKv, Finding, Ipam, IpamConfig, IpamError, Owner, keys,
    kv::{Kv, Transaction, Want, Write},
};
use cleat_datastore::store::{self, EtcdConfig};
use etcd_client::Client;

/// An etcd of our own, ended with the test.
struct Etcd {
    child: Child,
    endpoint: String,
    _data: tempfile::TempDir,
}

impl Etcd {
    async fn start() -> (Self, EtcdKv) {
        let free_port = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let data = tempfile::tempdir().unwrap();
        let endpoint = format!("http://127.0.0.1:{}", free_port());
        let peer = format!("http://127.0.0.1:{}", free_port());
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(data.path())
            .args(["--listen-client-urls", &endpoint])
            .args(["--advertise-client-urls", &endpoint])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd is installed");
        let etcd = Self {
            child,
            endpoint,
            _data: data,
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Ok(mut client) = Client::connect([&etcd.endpoint], None).await
                && client.get("ready", None).await.is_ok()
            {
                let kv = kv_of([&etcd.endpoint]);
                return (etcd, kv);
            }
            assert!(Instant::now() < deadline, "etcd does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn kv_of<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> EtcdKv {
    let mut config = EtcdConfig::new(endpoints);
    config.request_timeout = Duration::from_secs(30);
    EtcdKv::new(Arc::new(store::Etcd::new(config)))
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const HOSTS: usize = 4;
const CLAIMANTS: usize = 200;

async fn put(kv: &EtcdKv, key: String, value: String) {
    let transaction = Transaction {
        conditions: Vec::new(),
        writes: vec![Write::Put(key, value.into_bytes())],
    };
    assert!(kv.commit(&transaction).await.unwrap());
}

async fn seed(kv: &EtcdKv) {
    let root = "/calico/resources/v3/projectcalico.org";
    let object = |kind: &str, name: &str, spec: &str| {
        format!(
            r#"{{"kind":"{kind}","apiVersion":"projectcalico.org/v3","metadata":{{"name":"{name}"}},"spec":{spec}}}"#
        )
    };
    for host in 0..HOSTS {
        let name = format!("host-{host}");
        put(
            kv,
            format!("{root}/nodes/{name}"),
            object("Node", &name, "{}"),
        )
        .await;
    }
    for (name, spec) in [
        ("four", r#"{"cidr":"10.0.0.0/23","blockSize":28}"#),
        ("six", r#"{"cidr":"fd00::/119","blockSize":124}"#),
    ] {
        put(
            kv,
            format!("{root}/ippools/{name}"),
            object("IPPool", name, spec),
        )
        .await;
    }
}

fn wish(number: usize) -> AssignRequest {
    let assignee = Assignee {
        handle: Some(format!("claimant-{number}")),
        attributes: BTreeMap::from([("pod".to_owned(), format!("pod-{number}"))]),
    };
    AssignRequest::workload(format!("host-{}", number % HOSTS), 1, 1, assignee)
}

async fn findings(ipam: &Ipam<Arc<EtcdKv>>) -> (Vec<Finding>, BTreeMap<IpAddr, String>) {
    let mut others = Vec::new();
    let mut assigned = BTreeMap::new();
    for finding in ipam.check().await.unwrap() {
        // There are no endpoints: every assigned address is reported as used by nobody.
        if let Finding::Leaked {
            address, handle, ..
        } = finding
        {
            assigned.insert(address, handle.unwrap());
        } else {
            others.push(finding);
        }
    }
    (others, assigned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_claimants_on_four_hosts_share_no_address_and_leak_none() {
    let (_etcd, kv) = Etcd::start().await;
    let kv = Arc::new(kv);
    seed(&kv).await;
    let ipam = Ipam::new(kv.clone());

    let started = Instant::now();
    let claimants: Vec<_> = (0..CLAIMANTS)
        .map(|number| {
            let ipam = ipam.clone();
            tokio::spawn(async move { ipam.assign(&wish(number)).await })
        })
        .collect();
    // Some are killed wherever they have got to by then, a few at a time.
    let mut killed = BTreeSet::new();
    for number in (0..CLAIMANTS).step_by(7) {
        kv.read(&[Want::Key(keys::CONFIG.to_owned())])
            .await
            .unwrap();
        claimants[number].abort();
        killed.insert(format!("claimant-{number}"));
    }
    let mut live: BTreeMap<IpAddr, String> = BTreeMap::new();
    for (number, claimant) in claimants.into_iter().enumerate() {
        let handle = format!("claimant-{number}");
        match claimant.await {
            Ok(assigned) => {
                let assigned = assigned.unwrap();
                assert_eq!(assigned.len(), 2);
                for net in assigned {
                    let other = live.insert(net.addr(), handle.clone());
                    assert_eq!(other, None, "{net} was given twice");
                }
                // It was done before it was to be killed.
                killed.remove(&handle);
            }
            Err(error) => assert!(error.is_cancelled() && killed.contains(&handle)),
        }
    }
    println!(
        "assigned {} addresses in {:?}",
        live.len(),
        started.elapsed()
    );

    let (others, assigned) = findings(&ipam).await;
    assert_eq!(others, []);
    for (address, handle) in &assigned {
        assert!(
            live.get(address) == Some(handle) || killed.contains(handle),
            "{address} of {handle} is leaked"
        );
    }
    assert!(live.keys().all(|address| assigned.contains_key(address)));

    let releases: Vec<_> = (0..CLAIMANTS)
        .map(|number| {
            let ipam = ipam.clone();
            tokio::spawn(async move {
                ipam.release_handle(&format!("claimant-{number}"), None)
                    .await
            })
        })
        .collect();
    for release in releases {
        match release.await.unwrap() {
            Ok(_) => {}
            Err(IpamError::UnknownHandle(handle)) => {
                assert!(killed.contains(&handle), "{handle} was lost");
            }
            Err(error) => panic!("{error}"),
        }
    }
    // The last request of a killed claimant may be carried out after all this. It is found by the
    // handle still.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        for handle in &killed {
            match ipam.release_handle(handle, None).await {
                Ok(_) | Err(IpamError::UnknownHandle(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        for host in 0..HOSTS {
            let owner = Owner::host(format!("host-{host}"));
            ipam.remove_owner(&owner).await.unwrap();
        }
        assert_eq!(findings(&ipam).await.0, []);
        let prefix = Want::Prefix("/calico/ipam/".to_owned());
        let left = kv.read(&[prefix]).await.unwrap().entries;
        if left.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "{left:?}");
    }
}

#[tokio::test]
async fn etcd_reads_many_pages_at_one_revision_and_holds_to_every_condition() {
    use cleat_datastore::ipam::kv::Condition;

    let (_etcd, kv) = Etcd::start().await;
    for chunk in 0..6 {
        let writes = (0..100)
            .map(|number| Write::Put(format!("/p/{chunk}-{number:02}"), vec![b'x']))
            .collect();
        let transaction = Transaction {
            conditions: Vec::new(),
            writes,
        };
        assert!(kv.commit(&transaction).await.unwrap());
    }
    put(&kv, "/q".to_owned(), String::new()).await;
    let wants = [
        Want::Prefix("/p/".to_owned()),
        Want::Key("/q".to_owned()),
        Want::Key("/none".to_owned()),
    ];
    let answer = kv.read(&wants).await.unwrap();
    let keys: BTreeSet<&str> = answer
        .entries
        .iter()
        .map(|entry| entry.key.as_str())
        .collect();
    assert_eq!((answer.entries.len(), keys.len()), (601, 601));
    let at = |key: &str| {
        let entry = answer.entries.iter().find(|entry| entry.key == key);
        entry.unwrap().revision
    };
    for (condition, holds) in [
        (Condition::Absent("/none".to_owned()), true),
        (Condition::Absent("/q".to_owned()), false),
        (Condition::At("/q".to_owned(), at("/q")), true),
        (Condition::At("/q".to_owned(), at("/q") - 1), false),
        (Condition::At("/none".to_owned(), 1), false),
        (
            Condition::NothingAfter("/p/".to_owned(), at("/p/5-00")),
            true,
        ),
        (
            Condition::NothingAfter("/p/".to_owned(), at("/p/4-00")),
            false,
        ),
        (Condition::NothingAfter("/nothing/".to_owned(), 1), true),
    ] {
        let transaction = Transaction {
            conditions: vec![condition.clone()],
            writes: vec![Write::Put("/other".to_owned(), Vec::new())],
        };
        assert_eq!(
            kv.commit(&transaction).await.unwrap(),
            holds,
            "{condition:?}"
        );
    }
    let config = Ipam::new(kv).configure(|_| {}).await.unwrap();
    assert_eq!(config, IpamConfig::default());
}
