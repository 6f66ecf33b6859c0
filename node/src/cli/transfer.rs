//! `export` and `import` of a whole datastore, and the lock that keeps workloads still meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, IsTerminal as _, Write as _};
use std::path::Path;

use cleat_datastore::ipam::kv::{Condition, Transaction, Write};
use cleat_datastore::ipam::{IpamError, documents};
use cleat_datastore::store::{self, Entry, Filter, Listing, StoreError};
use cleat_datastore::{Key, Kind, Resource};
use futures::stream::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;

use super::args::Output;
use super::outcome::{Verb, explain};
use super::resource_args::Import;
use super::session::{Session, with_store};
use super::{Args, Code, Failure, note};
use crate::archive::{self, Archive, Source};

/// How many resources are written at once.
const CONCURRENCY: usize = 16;
/// How often the datastore is read anew when it changes meanwhile.
const ATTEMPTS: usize = 3;

/// Writes the whole datastore to a file, or to standard output.
pub(super) fn export(args: &Args) -> Result<String, Failure> {
    with_store(args, async |session| {
        let mut held = read(&session).await?;
        for _ in 1..ATTEMPTS {
            if held.still {
                break;
            }
            held = read(&session).await?;
        }
        if !held.still {
            note(
                "warning: the datastore changed while it was read, so that addresses and resources may be of different moments; \
                 `cleat store lock` keeps workloads still",
            );
        }
        let mut keys: Vec<&Key> = held.resources.keys().collect();
        keys.sort_by_key(|key| archive::rank(key));
        let resources = keys.iter().filter_map(|key| {
            let resource = held.resources[*key].resource.as_deref().ok()?;
            Some(archive::document(key, resource))
        });
        let documents: Vec<Value> = resources.chain(held.ipam).collect();
        let mut progress = Progress::new("exported", documents.len());
        match &args.output {
            Output::Other(path) => {
                let path = Path::new(path);
                to_file(path, &documents, &mut progress).map_err(|error| {
                    Failure::new(
                        Code::Failed,
                        format!("cannot write {}: {error}", path.display()),
                    )
                })?;
            }
            Output::Ps
            | Output::Wide
            | Output::Json
            | Output::Yaml
            | Output::Name
            | Output::Columns(_) => archive::write(
                &mut BufWriter::new(io::stdout().lock()),
                &documents,
                |done| progress.at(done),
            )?,
        }
        progress.end();
        if held.problems.is_empty() {
            note(&format!(
                "Successfully exported {} object(s)",
                documents.len()
            ));
            return Ok(String::new());
        }
        let mut message = format!(
            "{} objects were exported, and {} were not, because they cannot be read:",
            documents.len(),
            held.problems.len()
        );
        for problem in &held.problems {
            let _ = write!(message, "\n  {problem}");
        }
        Err(Failure::told(Code::Failed, message))
    })
}

/// Writes a file beside the one that is meant, and puts it in its place when it is whole.
fn to_file(path: &Path, documents: &[Value], progress: &mut Progress) -> io::Result<()> {
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = File::create(&beside).and_then(|file| {
        let mut out = BufWriter::new(file);
        archive::write(&mut out, documents, |done| progress.at(done))?;
        out.get_ref().sync_all()?;
        std::fs::rename(&beside, path)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// What a datastore holds.
struct Held {
    /// All but what every store has and what address management keeps.
    resources: BTreeMap<Key, Entry>,
    /// What address management keeps.
    ipam: Vec<Value>,
    /// What cannot be read.
    problems: Vec<String>,
    /// Nothing changed while it was read.
    still: bool,
}

async fn read(session: &Session) -> Result<Held, Failure> {
    let tell = |error: StoreError| explain(Verb::Apply, &error);
    let Listing {
        entries,
        unreadable,
        revision,
    } = session.store.list(&Filter::All).await.map_err(tell)?;
    let mut held = Held {
        resources: BTreeMap::new(),
        ipam: Vec::new(),
        problems: unreadable.iter().map(ToString::to_string).collect(),
        still: true,
    };
    let default_allow = Key::global(Kind::Profile, store::default_allow().metadata.name);
    for entry in entries {
        match (&entry.key, &entry.resource) {
            (Key::Resource { .. } | Key::Subnet { .. }, Ok(_)) => {
                if entry.key != default_allow {
                    held.resources.insert(entry.key.clone(), entry);
                }
            }
            (Key::Resource { .. } | Key::Subnet { .. }, Err(problem)) => {
                held.problems.push(problem.to_string());
                held.resources.insert(entry.key.clone(), entry);
            }
            (
                Key::BlockAffinity { .. }
                | Key::IpamBlock { .. }
                | Key::IpamConfig
                | Key::IpamHandle { .. }
                | Key::IpamHost { .. },
                _,
            ) => {}
        }
    }
    if let Some(ipam) = session.ipam() {
        let dump = ipam.dump().await.map_err(unread)?;
        held.ipam = dump.documents;
        let left_out = dump.left_out.iter().map(ToString::to_string);
        held.problems.extend(left_out);
        let few = Filter::kind(Kind::ClusterInformation);
        held.still = session.store.list(&few).await.map_err(tell)?.revision == revision;
    }
    Ok(held)
}

fn unread(error: IpamError) -> Failure {
    if let IpamError::Unavailable(error) = error {
        explain(Verb::Apply, &StoreError::Unavailable(error.0))
    } else {
        Failure::new(Code::Failed, format!("address management: {error}"))
    }
}

/// What an import would do, or has done.
#[derive(Default)]
struct Plan {
    create: Vec<(Key, Resource)>,
    replace: Vec<(Key, Resource)>,
    /// There already, and as the file says or to be left.
    leave: usize,
    delete: Vec<Key>,
    /// Documents of address management to store.
    ipam: Vec<Value>,
    ipam_leave: usize,
    ipam_delete: BTreeSet<String>,
    /// ClusterInformation as it is to be at the end.
    cluster: Option<(Key, Resource)>,
}

/// Fills a datastore from a file.
pub(super) fn import(args: &Args, import: &Import) -> Result<String, Failure> {
    let name = import.file.display();
    let archive = if import.file == Path::new("-") {
        archive::read(&mut io::stdin().lock())
    } else {
        File::open(&import.file)
            .map_err(Into::into)
            .and_then(|file| archive::read(&mut BufReader::new(file)))
    };
    let archive =
        archive.map_err(|error| Failure::new(Code::Failed, format!("{name}: {error}")))?;
    with_store(args, async |session| {
        let held = read(&session).await?;
        let empty = held.ipam.is_empty() && held.resources.keys().all(every_store_has);
        if !empty && !import.overwrite && !import.merge {
            let message = format!(
                "the datastore is not empty: it holds {}; --merge adds what is missing, --overwrite makes it what {name} \
                 says, and --dry-run shows what that would do",
                contents(&held)
            );
            return Err(Failure::new(Code::Refused, message));
        }
        let ours = matches!(archive.source, Source::Cleat(_));
        let guid_before = held
            .resources
            .get(&cluster_key())
            .and_then(|entry| guid(entry.resource.as_deref().ok()?));
        let plan = plan(&session, archive, held, import)?;
        if import.dry_run {
            return Ok(plan.lines());
        }
        let said = plan.done();
        let (ready, guid_after) = match &plan.cluster {
            Some((_, cluster)) => (is_ready(cluster), guid(cluster)),
            None => (true, None),
        };
        carry_out(&session, plan).await?;
        if guid_before.is_some() && guid_after.is_some() && guid_before != guid_after {
            note(
                "the datastore is now another cluster by its clusterGUID; daemons that knew it before hold it until \
                 `cleat store accept`",
            );
        }
        if !ready {
            let as_was = if ours {
                ", as it was when the file was written"
            } else {
                ""
            };
            note(&format!(
                "the datastore is locked{as_was}; `cleat store unlock` ends that"
            ));
        }
        Ok(said)
    })
}

/// Whether the key is of something that a store has as soon as anybody uses it.
fn every_store_has(key: &Key) -> bool {
    *key == cluster_key() || store::is_fixed(key)
}

fn contents(held: &Held) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for key in held.resources.keys() {
        *counts.entry(key.sort()).or_default() += 1;
    }
    for document in &held.ipam {
        let kind = document.get("kind").and_then(Value::as_str);
        *counts.entry(kind.unwrap_or_default()).or_default() += 1;
    }
    let counts: Vec<String> = counts
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    counts.join(", ")
}

fn plan(session: &Session, archive: Archive, held: Held, import: &Import) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    let mut missing: BTreeSet<Key> = held.resources.keys().cloned().collect();
    for (key, resource) in archive.resources {
        missing.remove(&key);
        let there = held.resources.get(&key);
        if key == cluster_key() {
            plan.cluster = Some((key, resource));
            continue;
        }
        match there.map(|entry| entry.resource.as_deref()) {
            None => plan.create.push((key, resource)),
            Some(Ok(old)) if archive::document(&key, old) == archive::document(&key, &resource) => {
                plan.leave += 1;
            }
            Some(_) if import.merge => plan.leave += 1,
            Some(_) => plan.replace.push((key, resource)),
        }
    }
    let cluster = held
        .resources
        .get(&cluster_key())
        .and_then(|entry| entry.resource.as_deref().ok());
    if let Some(cluster) = cluster
        && (import.merge || plan.cluster.is_none())
    {
        plan.cluster = Some((cluster_key(), cluster.clone()));
    }
    if import.overwrite {
        plan.delete = missing
            .into_iter()
            .filter(|key| !every_store_has(key))
            .collect();
    }
    if session.kv().is_none() {
        if !archive.ipam.is_empty() {
            note(&format!(
                "warning: {} records of address management are left out, which a directory cannot keep",
                archive.ipam.len()
            ));
        }
        return Ok(plan);
    }
    let path = |document: &Value| {
        documents::key(document).map_err(|problem| Failure::new(Code::Failed, problem.to_string()))
    };
    let mut there: BTreeMap<String, Value> = BTreeMap::new();
    for document in held.ipam {
        there.insert(path(&document)?, document);
    }
    for document in archive.ipam {
        match there.remove(&path(&document)?) {
            Some(old) if old == document || import.merge => plan.ipam_leave += 1,
            Some(_) | None => plan.ipam.push(document),
        }
    }
    if import.overwrite {
        plan.ipam_delete = there.into_keys().collect();
    }
    Ok(plan)
}

impl Plan {
    /// What would be done, line by line.
    fn lines(&self) -> String {
        let mut out = String::new();
        for (what, keys) in [
            (
                "create",
                self.create.iter().map(|(key, _)| key).collect::<Vec<_>>(),
            ),
            ("replace", self.replace.iter().map(|(key, _)| key).collect()),
            ("delete", self.delete.iter().collect()),
        ] {
            for key in keys {
                let _ = writeln!(out, "{what} {key}");
            }
        }
        for key in self
            .ipam
            .iter()
            .filter_map(|document| documents::key(document).ok())
        {
            let _ = writeln!(out, "write {key}");
        }
        for key in &self.ipam_delete {
            let _ = writeln!(out, "delete {key}");
        }
        let _ = writeln!(
            out,
            "Would create {}, replace {}, delete {} and leave {} resource(s); write {}, delete {} and leave {} record(s) of \
             address management. Nothing was done.",
            self.create.len(),
            self.replace.len(),
            self.delete.len(),
            self.leave,
            self.ipam.len(),
            self.ipam_delete.len(),
            self.ipam_leave
        );
        out
    }

    fn done(&self) -> String {
        let written = self.create.len() + self.replace.len() + usize::from(self.cluster.is_some());
        let mut said = format!(
            "Successfully imported {written} resource(s) and {} record(s) of address management",
            self.ipam.len()
        );
        let (deleted, left) = (
            self.delete.len() + self.ipam_delete.len(),
            self.leave + self.ipam_leave,
        );
        if deleted > 0 {
            let _ = write!(said, "; deleted {deleted}");
        }
        if left > 0 {
            let _ = write!(said, "; left {left} as they were");
        }
        said.push('\n');
        said
    }
}

/// Does what is planned, between locking the store and unlocking it.
async fn carry_out(session: &Session, plan: Plan) -> Result<(), Failure> {
    let all = plan.create.len() + plan.replace.len() + plan.delete.len();
    let mut progress = Progress::new("imported", all);
    let result = write(session, &plan, &mut progress).await;
    progress.end();
    result.map_err(|failure| {
        let locked = if plan.cluster.is_some() {
            ", and the datastore is locked (`cleat store unlock`)"
        } else {
            ""
        };
        let message = format!(
            "{}; {} of {all} resources were done{locked}: mend what is wrong and import again with --overwrite or --merge",
            failure.message, progress.done
        );
        Failure::new(failure.code, message)
    })
}

async fn write(session: &Session, plan: &Plan, progress: &mut Progress) -> Result<(), Failure> {
    let tell = |error: StoreError| explain(Verb::Apply, &error);
    let store = &session.store;
    if let Some((key, cluster)) = &plan.cluster {
        let locked = with_ready(cluster, false);
        store.restore(key, &locked).await.map_err(tell)?;
    }
    for key in plan.delete.iter().rev() {
        match store.delete(key, None).await {
            Ok(()) | Err(StoreError::NotFound(_)) => {}
            Err(error) => return Err(tell(error)),
        }
        progress.one();
    }
    let objects = || plan.create.iter().chain(&plan.replace);
    let ranks: BTreeSet<u8> = objects().map(|(key, _)| archive::rank(key)).collect();
    for rank in ranks {
        let of_rank = objects().filter(|(key, _)| archive::rank(key) == rank);
        let mut writes = futures::stream::iter(of_rank)
            .map(|(key, resource)| store.restore(key, resource))
            .buffer_unordered(CONCURRENCY);
        while writes.try_next().await.map_err(tell)?.is_some() {
            progress.one();
        }
    }
    if let Some(kv) = session.kv() {
        let gone: Vec<&String> = plan.ipam_delete.iter().collect();
        for chunk in gone.chunks(Transaction::MAX_LEN) {
            let transaction = Transaction {
                conditions: Vec::<Condition>::new(),
                writes: chunk
                    .iter()
                    .map(|key| Write::Delete((*key).clone()))
                    .collect(),
            };
            kv.commit(&transaction)
                .await
                .map_err(|error| tell(StoreError::Unavailable(error.0)))?;
        }
    }
    if let Some(ipam) = session.ipam() {
        ipam.restore(&plan.ipam, true).await.map_err(unread)?;
    }
    if let Some((key, cluster)) = &plan.cluster {
        store.restore(key, cluster).await.map_err(tell)?;
    }
    Ok(())
}

/// Sets whether workloads may be added and removed.
pub(super) fn set_ready(args: &Args, ready: bool) -> Result<String, Failure> {
    with_store(args, async |session| {
        let tell = |error: StoreError| explain(Verb::Apply, &error);
        let store = &session.store;
        store::ensure_initialized(&**store, "", "")
            .await
            .map_err(tell)?;
        loop {
            let key = cluster_key();
            let Some(entry) = store.get(&key).await.map_err(tell)? else {
                return Err(tell(StoreError::NotFound(key)));
            };
            let cluster = entry.resource.map_err(|problem| tell(problem.into()))?;
            match store
                .update(&with_ready(&cluster, ready), entry.revision)
                .await
            {
                Ok(_) => break,
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(tell(error)),
            }
        }
        Ok(format!(
            "Datastore {}.\n",
            if ready { "unlocked" } else { "locked" }
        ))
    })
}

fn cluster_key() -> Key {
    Key::global(Kind::ClusterInformation, "default")
}

fn is_ready(cluster: &Resource) -> bool {
    let value = cluster.to_value();
    value
        .pointer("/spec/datastoreReady")
        .and_then(Value::as_bool)
        != Some(false)
}

fn guid(cluster: &Resource) -> Option<String> {
    let value = cluster.to_value();
    Some(value.pointer("/spec/clusterGUID")?.as_str()?.to_owned())
}

/// The cluster's information, saying that the store may be used, or that it may not.
fn with_ready(cluster: &Resource, ready: bool) -> Resource {
    let mut value = cluster.to_value();
    value["spec"]["datastoreReady"] = ready.into();
    // One boolean for another changes nothing that decoding looks at.
    cleat_datastore::resource::decode_value(&cluster_key(), value)
        .unwrap_or_else(|_| cluster.clone())
}

/// How far a long work is, for a person who waits.
struct Progress {
    what: &'static str,
    all: usize,
    done: usize,
    shown: bool,
}

impl Progress {
    fn new(what: &'static str, all: usize) -> Self {
        Self {
            what,
            all,
            done: 0,
            shown: all >= LONG && io::stderr().is_terminal(),
        }
    }

    fn one(&mut self) {
        self.at(self.done + 1);
    }

    fn at(&mut self, done: usize) {
        self.done = done;
        if self.shown && (done.is_multiple_of(STEP) || done == self.all) {
            let _ = write!(io::stderr(), "\r{} {done} of {}", self.what, self.all);
        }
    }

    fn end(&self) {
        if self.shown {
            let _ = writeln!(io::stderr());
        }
    }
}

/// How many objects make a work long.
const LONG: usize = 500;
/// After how many objects the work says how far it is.
const STEP: usize = 100;
