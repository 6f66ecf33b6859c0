//! Tells others how this host and its endpoints are: Neutron's driver by keys in etcd, the CNI plugin by files.
//!
//! The owner says how things are, all of it each time; this task makes store and files say the same. It waits for both
//! as long as they take, and the owner waits for nothing. A state that changes and changes back within the delay is not told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cleat_datastore::resource::WorkloadEndpointSpec;
use cleat_datastore::status::{self, EndpointFile, EndpointId, EndpointState, Life};
use cleat_datastore::store::{AnyStore, StoreError};
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};

use super::keeper::time;
use crate::felix::Reporting;

/// How this host and its endpoints are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// What is told, and how.
    pub settings: Reporting,
    /// This host's workload endpoints.
    pub endpoints: BTreeMap<EndpointId, Endpoint>,
    /// This host's own endpoints.
    pub host_endpoints: BTreeMap<String, EndpointState>,
    /// Nothing may be written to the store: it says that it is not ready.
    pub quiet: bool,
}

impl Wanted {
    fn is_for_the_store(&self) -> bool {
        self.settings.endpoints && !self.quiet
    }
}

/// A workload endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// How it is.
    pub state: EndpointState,
    /// What its file says.
    pub file: EndpointFile,
}

impl Endpoint {
    /// An endpoint in a state.
    pub fn new(spec: &WorkloadEndpointSpec, state: EndpointState) -> Self {
        let nets = |v4: bool| {
            let own = spec.ip_networks.iter();
            own.filter(|net| net.addr().is_ipv4() == v4)
                .map(ToString::to_string)
                .collect()
        };
        Self {
            state,
            file: EndpointFile {
                iface_name: spec.interface_name.clone(),
                mac: spec
                    .mac
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                ipv4_nets: nets(true),
                ipv6_nets: nets(false),
                bgp_peer_name: String::new(),
            },
        }
    }
}

/// Runs until the owner is gone. Nothing is told before the owner has said something.
pub async fn run(node: String, store: AnyStore, mut wanted: watch::Receiver<Option<Arc<Wanted>>>) {
    let mut reporter = Reporter {
        node,
        store,
        started: Instant::now(),
        told: BTreeMap::new(),
        dirty_since: BTreeMap::new(),
        read: None,
        lived: None,
        failed: false,
    };
    loop {
        let current = wanted.borrow_and_update().clone();
        let mut next = Instant::now() + IDLE;
        if let Some(current) = current {
            if let Some(path) = current.settings.status_path.clone() {
                let endpoints = current.clone();
                let files = move || write_files(&path.join(status::FILES), &endpoints.endpoints);
                let done = tokio::task::spawn_blocking(files).await;
                if let Ok(Err(error)) = done {
                    tracing::warn!(%error, "status files of endpoints could not be written; trying again");
                }
            }
            if current.is_for_the_store() {
                match reporter.report(&current).await {
                    Ok(when) => {
                        reporter.failed = false;
                        next = next.min(when);
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut reporter.failed, true) {
                            tracing::warn!(%error, "status could not be written to the store; trying again");
                        }
                    }
                }
            }
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() {
                return;
            },
            () = sleep_until(next.into()) => {}
        }
    }
}

struct Reporter {
    node: String,
    store: AnyStore,
    started: Instant,
    /// What the store says, as far as it is known.
    told: BTreeMap<String, EndpointState>,
    /// Paths where it should say something else, and since when.
    dirty_since: BTreeMap<String, Instant>,
    /// When the store was last read, and the region it was read for.
    read: Option<(Instant, String)>,
    /// When the last sign of life was given.
    lived: Option<Instant>,
    failed: bool,
}

impl Reporter {
    /// Makes the store say what is wanted. Gives the time when there is more to do.
    async fn report(&mut self, wanted: &Wanted) -> Result<Instant, StoreError> {
        let settings = &wanted.settings;
        let region = status::region(settings.region.as_deref());
        let mut next = Instant::now() + IDLE;
        if let Some(interval) = settings.interval {
            let due = self.lived.map(|lived| lived + interval);
            if due.is_none_or(|due| due <= Instant::now()) {
                self.live(&region, settings.ttl).await?;
            }
            next = next.min(self.lived.map_or(next, |lived| lived + interval));
        }
        self.read(&region).await?;
        let mut states: BTreeMap<String, EndpointState> = BTreeMap::new();
        for (id, endpoint) in &wanted.endpoints {
            states.insert(status::workload(&region, &self.node, id), endpoint.state);
        }
        for (name, state) in &wanted.host_endpoints {
            states.insert(status::host_endpoint(&self.node, name), *state);
        }
        let paths: BTreeSet<String> = states.keys().chain(self.told.keys()).cloned().collect();
        for path in paths {
            let state = states.get(&path).copied();
            if state == self.told.get(&path).copied() {
                self.dirty_since.remove(&path);
                continue;
            }
            let now = Instant::now();
            let due = *self.dirty_since.entry(path.clone()).or_insert(now) + settings.delay;
            if due > now {
                next = next.min(due);
                continue;
            }
            self.write(&path, state.map(|state| json(&state)), None)
                .await?;
            self.dirty_since.remove(&path);
            match state {
                Some(state) => self.told.insert(path, state),
                None => self.told.remove(&path),
            };
        }
        Ok(next)
    }

    /// Gives a sign of life.
    async fn live(&mut self, region: &str, ttl: Duration) -> Result<(), StoreError> {
        let life = json(&Life {
            time: time(SystemTime::now()),
            uptime: self.started.elapsed().as_secs_f64(),
            first_update: self.lived.is_none(),
        });
        let alive = status::alive(region, &self.node);
        self.write(&alive, Some(life.clone()), Some(ttl)).await?;
        let last = status::last_alive(region, &self.node);
        self.write(&last, Some(life), None).await?;
        self.lived = Some(Instant::now());
        Ok(())
    }

    /// Reads what the store says of this host, if that was long ago: a former run may have left endpoints that are gone, and
    /// others may have removed what was told.
    async fn read(&mut self, region: &str) -> Result<(), StoreError> {
        if let Some((when, of)) = &self.read
            && of == region
            && when.elapsed() < READ_AGAIN
        {
            return Ok(());
        }
        self.told.clear();
        for prefix in [
            status::workloads(region, &self.node),
            status::host_endpoints(&self.node),
        ] {
            for (path, value) in self.store.reports(&prefix).await? {
                // What cannot be read is not what is wanted, and is written again.
                let state = serde_json::from_slice(&value).unwrap_or(EndpointState::Error);
                self.told.insert(path, state);
            }
        }
        self.read = Some((Instant::now(), region.to_owned()));
        Ok(())
    }

    async fn write(
        &self,
        path: &str,
        value: Option<Vec<u8>>,
        ttl: Option<Duration>,
    ) -> Result<(), StoreError> {
        match timeout(WRITE, self.store.report(path, value, ttl)).await {
            Ok(done) => done,
            Err(_) => Err(StoreError::Unavailable("no answer in time".to_owned())),
        }
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// Makes the directory hold a file for each endpoint whose policy was programmed once, and no other.
fn write_files(
    directory: &Path,
    endpoints: &BTreeMap<EndpointId, Endpoint>,
) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut names: BTreeMap<String, &Endpoint> = endpoints
        .iter()
        .map(|(id, endpoint)| (id.file_name(), endpoint))
        .collect();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name else {
            continue;
        };
        match names.remove(name) {
            // Once there it stays while there is such an endpoint: an interface that goes down has its policy still.
            Some(endpoint) if std::fs::read(&path).ok() != Some(json(&endpoint.file)) => {
                replace(directory, &path, &endpoint.file)?;
            }
            // A file with another form of name is somebody else's.
            None if name.split(' ').count() == 3 => std::fs::remove_file(&path)?,
            Some(_) | None => {}
        }
    }
    for (name, endpoint) in names {
        if endpoint.state == EndpointState::Up {
            replace(directory, &directory.join(name), &endpoint.file)?;
        }
    }
    Ok(())
}

/// Writes beside the directory and renames: its watchers see no half of a file, and no name that is not one.
fn replace(directory: &Path, path: &Path, file: &EndpointFile) -> std::io::Result<()> {
    let mut beside = directory.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    std::fs::write(&beside, json(file))?;
    std::fs::rename(&beside, path)
}

/// Files are looked after so often, and a store that did not answer is asked again.
const IDLE: Duration = Duration::from_secs(10);
/// How long a write may take.
const WRITE: Duration = Duration::from_secs(5);
/// Time after which the store is read again.
const READ_AGAIN: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use cleat_datastore::store::Memory;

    use super::*;

    fn id(name: &str) -> EndpointId {
        EndpointId {
            orchestrator: "k8s".into(),
            workload: format!("default/{name}"),
            endpoint: "eth0".into(),
        }
    }

    fn endpoint(state: EndpointState) -> Endpoint {
        Endpoint {
            state,
            file: EndpointFile {
                iface_name: "cali0".into(),
                ipv4_nets: vec!["10.0.0.1/32".into()],
                ..EndpointFile::default()
            },
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_there_once_the_policy_is_and_goes_with_the_endpoint() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("a/endpoint-status");
        let both = |first, second| [(id("a"), endpoint(first)), (id("b"), endpoint(second))].into();
        write_files(&directory, &both(EndpointState::Up, EndpointState::Down)).unwrap();
        assert_eq!(names(&directory), ["k8s default%2Fa eth0"]);
        let file = directory.join("k8s default%2Fa eth0");
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, r#"{"ifaceName":"cali0","ipv4Nets":["10.0.0.1/32"]}"#);
        // What others did to it is undone, and what is not ours is left alone.
        std::fs::write(&file, "").unwrap();
        std::fs::write(directory.join("other"), "").unwrap();
        std::fs::write(directory.join("k8s default%2Fold eth0"), "").unwrap();
        write_files(&directory, &both(EndpointState::Down, EndpointState::Up)).unwrap();
        assert_eq!(
            names(&directory),
            ["k8s default%2Fa eth0", "k8s default%2Fb eth0", "other"]
        );
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        write_files(&directory, &BTreeMap::new()).unwrap();
        assert_eq!(names(&directory), ["other"]);
        assert_eq!(names(&scratch.path().join("a")), ["endpoint-status"]);
    }

    #[tokio::test]
    async fn the_store_says_what_is_so_and_forgets_what_a_former_run_left() {
        let store = Arc::new(Memory::new());
        let old = status::workload("no-region", "h", &id("old"));
        let any: AnyStore = store.clone();
        any.report(&old, Some(b"{\"status\":\"up\"}".to_vec()), None)
            .await
            .unwrap();
        let other = status::workload("no-region", "h2", &id("old"));
        any.report(&other, Some(b"x".to_vec()), None).await.unwrap();
        let settings = Reporting {
            endpoints: true,
            delay: Duration::from_millis(20),
            interval: Some(Duration::from_secs(30)),
            ttl: Duration::from_secs(90),
            region: None,
            status_path: None,
        };
        let mut wanted = Wanted {
            settings,
            ..Wanted::default()
        };
        wanted
            .endpoints
            .insert(id("a"), endpoint(EndpointState::Up));
        wanted
            .host_endpoints
            .insert("hep".into(), EndpointState::Error);
        let (tell, hear) = watch::channel(Some(Arc::new(wanted.clone())));
        let task = tokio::spawn(run("h".into(), any, hear));
        let a = status::workload("no-region", "h", &id("a"));
        let until = async |what: &str, holds: &dyn Fn() -> bool| {
            let deadline = Instant::now() + Duration::from_secs(10);
            while !holds() {
                assert!(Instant::now() < deadline, "{what}");
                tokio::task::yield_now().await;
            }
        };
        let says = |path: &str| {
            store
                .reported(path)
                .map(|value| String::from_utf8(value).unwrap())
        };
        until("a is up", &|| {
            says(&a).as_deref() == Some(r#"{"status":"up"}"#)
        })
        .await;
        until("the old one is gone", &|| says(&old).is_none()).await;
        let hep = status::host_endpoint("h", "hep");
        until("the host's own is told", &|| says(&hep).is_some()).await;
        assert!(says(&other).is_some(), "another host's is not ours");
        let life: Life =
            serde_json::from_slice(&store.reported(&status::alive("no-region", "h")).unwrap())
                .unwrap();
        assert!(life.first_update && life.time.ends_with('Z'));
        assert!(says(&status::last_alive("no-region", "h")).is_some());

        wanted
            .endpoints
            .insert(id("a"), endpoint(EndpointState::Down));
        tell.send_replace(Some(Arc::new(wanted.clone())));
        until("a is down", &|| {
            says(&a).as_deref() == Some(r#"{"status":"down"}"#)
        })
        .await;
        // A store that is not ready is not written to.
        let quiet = Wanted {
            quiet: true,
            ..wanted.clone()
        };
        assert!(wanted.is_for_the_store() && !quiet.is_for_the_store());
        wanted.endpoints.clear();
        tell.send_replace(Some(Arc::new(wanted)));
        until("a is gone", &|| says(&a).is_none()).await;
        drop(tell);
        task.await.unwrap();
    }
}
