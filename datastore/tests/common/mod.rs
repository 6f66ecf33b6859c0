//! What the tests of stores share: a mirror of a watch, objects, and a real etcd.

#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod proxy;

use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use cleat_datastore::{
    Event, Key, Kind, Problem, Resource, Update,
    resource::from_manifest,
    store::{EtcdConfig, Filter, Held, HoldHandle, Known, Store, Watch},
};
use serde_json::{Value, json};

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// What a reader of a watch knows.
pub(crate) struct Mirror {
    watch: Watch,
    pub(crate) objects: BTreeMap<Key, Update>,
    pub(crate) unreadable: Vec<Problem>,
    /// How often the store was in sync, and in trouble.
    pub(crate) in_sync: usize,
    pub(crate) troubles: Vec<String>,
    /// Every hold that was told.
    pub(crate) held: Vec<Held>,
    /// Every deletion that was told.
    pub(crate) deleted: Vec<Key>,
}

impl Mirror {
    pub(crate) fn new(store: &dyn Store) -> Self {
        Self::of(store.watch())
    }

    /// Begins as someone who was told this before.
    pub(crate) fn starting_from(store: &dyn Store, objects: BTreeMap<Key, Update>) -> Self {
        let known: Known = objects.values().collect();
        let mut mirror = Self::of(store.watch_from(known));
        mirror.objects = objects;
        mirror
    }

    fn of(watch: Watch) -> Self {
        Self {
            watch,
            objects: BTreeMap::new(),
            unreadable: Vec::new(),
            in_sync: 0,
            troubles: Vec::new(),
            held: Vec::new(),
            deleted: Vec::new(),
        }
    }

    /// Reads events until something holds of what they add up to.
    pub(crate) async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !holds(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = tokio::time::timeout(left, self.watch.next()).await;
            let Ok(event) = event else {
                panic!(
                    "not {what} in time: {:?}, {} times in sync, troubles {:?}, unreadable {:?}",
                    self.objects.keys().collect::<Vec<_>>(),
                    self.in_sync,
                    self.troubles,
                    self.unreadable
                );
            };
            match event {
                Event::Updates(updates) => {
                    for update in updates {
                        if update.value.is_none() && update.problem.is_none() {
                            self.objects.remove(&update.key);
                            self.deleted.push(update.key);
                        } else {
                            self.objects.insert(update.key.clone(), update);
                        }
                    }
                }
                Event::InSync { .. } => self.in_sync += 1,
                Event::Held(held) => self.held.push(held),
                Event::Trouble(reason) => self.troubles.push(reason),
                Event::Unreadable(problems) => self.unreadable = problems,
            }
        }
    }

    pub(crate) async fn until_same_as(&mut self, store: &dyn Store) {
        let listing = store.list(&Filter::All).await.unwrap();
        let wanted: BTreeMap<Key, u64> = listing
            .entries
            .into_iter()
            .map(|entry| (entry.key, entry.revision))
            .collect();
        self.until("the same as the store", |mirror| {
            mirror.in_sync > 0
                && mirror
                    .objects
                    .iter()
                    .map(|(key, update)| (key, update.revision))
                    .eq(wanted.iter().map(|(key, revision)| (key, *revision)))
        })
        .await;
    }

    pub(crate) fn hold(&self) -> HoldHandle {
        self.watch.hold()
    }

    /// Whether everything read so far ends with a hold.
    pub(crate) fn is_held(&self) -> bool {
        self.watch.hold().held().is_some() && !self.held.is_empty()
    }

    pub(crate) fn order_of(&self, tier: &str) -> Option<f64> {
        let update = self.objects.get(&tier_key(tier))?;
        let Resource::Tier(tier) = &**update.value.as_ref()? else {
            return None;
        };
        tier.spec.order
    }
}

pub(crate) fn tier_key(name: &str) -> Key {
    Key::global(Kind::Tier, name)
}

pub(crate) fn tier(name: &str, order: i64) -> Resource {
    object("Tier", None, name, json!({ "order": order }))
}

pub(crate) fn tier_json(name: &str, order: i64) -> Value {
    manifest("Tier", None, name, json!({ "order": order }))
}

pub(crate) fn object(kind: &str, namespace: Option<&str>, name: &str, spec: Value) -> Resource {
    from_manifest(manifest(kind, namespace, name, spec))
        .unwrap()
        .1
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "every caller has just made it"
)]
pub(crate) fn manifest(kind: &str, namespace: Option<&str>, name: &str, spec: Value) -> Value {
    let mut value = json!({"apiVersion": "projectcalico.org/v3", "kind": kind,
        "metadata": {"name": name}, "spec": spec});
    if let Some(namespace) = namespace {
        value["metadata"]["namespace"] = namespace.into();
    }
    value
}

/// An etcd of the test's own, on the loopback interface, with its data in a temporary directory.
pub(crate) struct EtcdServer {
    directory: tempfile::TempDir,
    child: Option<Child>,
    pub(crate) port: u16,
    peer_port: u16,
    name: String,
    /// All members, as etcd takes them.
    members: String,
    args: Vec<String>,
    /// With TLS: the files of the authority, and of a certificate and its key, for `etcdctl`.
    identity: OnceLock<[String; 3]>,
}

impl EtcdServer {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(args: &[&str]) -> Self {
        let mut server = Self::new("test", args);
        server.members = server.member();
        server.launch();
        server
    }

    /// The members of a cluster, running.
    pub(crate) fn cluster(size: usize) -> Vec<Self> {
        let timing = ["--heartbeat-interval", "50", "--election-timeout", "500"];
        let names = (0..size).map(|index| format!("m{index}"));
        let mut servers: Vec<Self> = names.map(|name| Self::new(&name, &timing)).collect();
        let members: Vec<String> = servers.iter().map(Self::member).collect();
        for server in &mut servers {
            server.members = members.join(",");
            server.launch();
        }
        for server in &servers {
            server.ready();
        }
        servers
    }

    fn new(name: &str, args: &[&str]) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            child: None,
            port: free_port(),
            peer_port: free_port(),
            name: name.to_owned(),
            members: String::new(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            identity: OnceLock::new(),
        }
    }

    fn peer(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    fn member(&self) -> String {
        format!("{}={}", self.name, self.peer())
    }

    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Whether it leads its cluster.
    pub(crate) fn leads(&self) -> bool {
        let status: Value =
            serde_json::from_str(&self.ctl(&["endpoint", "status", "-w", "json"])).unwrap();
        let status = &status[0]["Status"];
        status["leader"] == status["header"]["member_id"]
    }

    /// Saves a backup of what it holds.
    pub(crate) fn back_up(&self) {
        self.ctl(&["snapshot", "save", &self.backup()]);
    }

    /// Puts the backup in place of its data, as an operator does; it must not run.
    pub(crate) fn restore(&self) {
        self.wipe();
        let data = self.data().display().to_string();
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["snapshot", "restore", &self.backup(), "--data-dir", &data])
            .args(["--name", &self.name, "--initial-cluster", &self.members])
            .args(["--initial-advertise-peer-urls", &self.peer()])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn backup(&self) -> String {
        self.directory.path().join("backup").display().to_string()
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme(), self.port)
    }

    pub(crate) fn launch(&mut self) {
        assert!(self.child.is_none());
        let peer = self.peer();
        let client = self.endpoint();
        let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(self.data())
            .args(["--name", &self.name, "--logger", "zap"])
            .arg("--unsafe-no-fsync")
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &self.members])
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("etcd is installed");
        self.child = Some(child);
    }

    /// Waits until it answers.
    pub(crate) fn ready(&self) {
        let deadline = Instant::now() + DEADLINE;
        while !self
            .ctl_command(&["endpoint", "health"])
            .output()
            .unwrap()
            .status
            .success()
        {
            assert!(Instant::now() < deadline, "etcd does not come up");
        }
    }

    /// Waits until it answers one who shows a certificate.
    pub(crate) fn ready_for(&self, ca: &str, cert: &str, key: &str) {
        let identity = [ca, cert, key].map(str::to_owned);
        self.identity.set(identity).unwrap();
        self.ready();
    }

    pub(crate) fn ctl_as_root(&self, args: &[&str]) -> String {
        self.ctl(&[args, &["--user", "root:secret"]].concat())
    }

    /// Ends it as a power failure would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Forgets all data; it must not run.
    pub(crate) fn wipe(&self) {
        assert!(self.child.is_none());
        std::fs::remove_dir_all(self.data()).unwrap();
    }

    pub(crate) fn ctl(&self, args: &[&str]) -> String {
        let output = self.ctl_command(args).output().unwrap();
        assert!(
            output.status.success(),
            "etcdctl {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn put(&self, key: &Key, value: &Value) {
        self.ctl(&["put", &key.path(), &value.to_string()]);
    }

    pub(crate) fn ctl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args([
            "--endpoints",
            &self.endpoint(),
            "--command-timeout",
            "5s",
        ]);
        if let Some([ca, cert, key]) = self.identity.get() {
            command.args(["--cacert", ca]);
            if !args.contains(&"--cert") {
                command.args(["--cert", cert, "--key", key]);
            }
        }
        command.args(args);
        command
    }

    fn scheme(&self) -> &'static str {
        if self.arg("--cert-file").is_some() {
            "https"
        } else {
            "http"
        }
    }

    fn arg(&self, flag: &str) -> Option<&str> {
        let index = self.args.iter().position(|arg| arg == flag)?;
        self.args.get(index + 1).map(String::as_str)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

pub(crate) fn started() -> EtcdServer {
    let server = EtcdServer::start();
    server.ready();
    server
}

pub(crate) fn config(server: &EtcdServer) -> EtcdConfig {
    quick(EtcdConfig::new([server.endpoint()]))
}

/// What takes seconds with the usual settings takes less with these.
pub(crate) fn quick(mut config: EtcdConfig) -> EtcdConfig {
    config.request_timeout = Duration::from_secs(3);
    config.progress_interval = Duration::from_millis(300);
    config.progress_deadline = Duration::from_millis(1500);
    config.relist_spread = Duration::from_millis(200);
    config
}
