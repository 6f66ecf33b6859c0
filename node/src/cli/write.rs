//! `create`, `apply`, `replace` and `validate`.
//!
//! As calicoctl has it, a resource that is there keeps its identity and those of its labels and annotations that the new one does
//! not mention; its spec is the new one's. A resourceVersion or a uid in the document must be what the store has; without them
//! somebody else's change in between is no conflict, and the resource is read again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cleat_datastore::ipam::kv::Want;
use cleat_datastore::ipam::{IpamConfig, IpamError, addr, keys};
use cleat_datastore::resource::{change, decode_value};
use cleat_datastore::store::{Entry, Filter, StoreError};
use cleat_datastore::{Key, Kind, Problem, Resource};
use serde_json::Value;

use super::documents::{self, Documents};
use super::outcome::{Outcome, Verb, explain, unsupported};
use super::resource_args::{Create, Sources};
use super::session::{Session, with_store};
use super::{Args, Code, Failure, get};
use crate::check;
use crate::output::Format;

/// How often a resource is read again when others change it in between.
const ATTEMPTS: usize = 10;

/// Creates what the files hold.
pub(super) fn create(args: &Args, create: &Create) -> Result<String, Failure> {
    write(args, &create.sources, Verb::Create, create.skip_exists)
}

/// Creates or replaces what the files hold.
pub(super) fn apply(args: &Args, sources: &Sources) -> Result<String, Failure> {
    write(args, sources, Verb::Apply, false)
}

/// Replaces what the files hold.
pub(super) fn replace(args: &Args, sources: &Sources) -> Result<String, Failure> {
    write(args, sources, Verb::Replace, false)
}

/// Checks files without a store.
pub(super) fn validate(args: &Args, sources: &Sources) -> Result<String, Failure> {
    let Some(documents) = read(sources, Verb::Validate)? else {
        return Ok(NOTHING.to_owned());
    };
    let mut outcome = Outcome::of_kinds(Verb::Validate, &documents.kinds);
    let objects: BTreeMap<Key, Arc<Resource>> = documents
        .objects
        .into_iter()
        .map(|(key, resource)| (key, Arc::new(resource)))
        .collect();
    // A tier may be in the store that is not asked here.
    let problems: Vec<Problem> = check::between(&objects)
        .into_iter()
        .filter(|problem| problem.field != "spec.tier")
        .collect();
    if !problems.is_empty() {
        return Err(outcome.refuse(&problems));
    }
    if args.format() == Format::Name {
        return Ok(get::names(objects.keys()));
    }
    for _ in &objects {
        outcome.note(Ok(()));
    }
    Ok(outcome.finish().0)
}

/// Reads files, of which every document must be good. `None` if they hold nothing and may.
pub(super) fn read(sources: &Sources, verb: Verb) -> Result<Option<Documents>, Failure> {
    let namespace = sources.namespace.as_deref();
    let documents = documents::read(
        &sources.paths,
        sources.recursive,
        sources.skip_empty,
        namespace,
    )
    .map_err(|error| {
        Failure::told(
            Code::Failed,
            format!("Failed to execute command: {error:#}"),
        )
    })?;
    if !documents.problems.is_empty() {
        let outcome = Outcome::of_kinds(verb, &documents.kinds);
        return Err(outcome.refuse(&documents.problems));
    }
    Ok((!documents.objects.is_empty()).then_some(documents))
}

fn write(args: &Args, sources: &Sources, verb: Verb, skip_exists: bool) -> Result<String, Failure> {
    let Some(documents) = read(sources, verb)? else {
        return Ok(NOTHING.to_owned());
    };
    with_store(args, async |session| {
        let mut outcome = Outcome::of_kinds(verb, &documents.kinds);
        let problems = contradictions(&session, &documents)
            .await
            .map_err(|error| explain(verb, &error))?;
        if !problems.is_empty() {
            return Err(outcome.refuse(&problems));
        }
        let mut written = Vec::new();
        for (key, resource) in &documents.objects {
            let result = match put(&session, verb, key, resource).await {
                Err(Refusal::Store(StoreError::Exists(_))) if skip_exists => Ok(()),
                Err(refusal) => Err(refusal.tell(verb)),
                Ok(entry) => {
                    written.push(entry);
                    Ok(())
                }
            };
            if !outcome.note(result) {
                break;
            }
        }
        let (said, result) = outcome.finish();
        let said = match args.format() {
            Format::Table | Format::Wide => said,
            Format::Name | Format::Json | Format::Yaml => get::written(args, &written),
        };
        match result {
            Ok(()) => Ok(said),
            Err(failure) => {
                super::emit(&said);
                Err(failure)
            }
        }
    })
}

/// What the files would bring into contradiction with each other or with what is there.
async fn contradictions(
    session: &Session,
    documents: &Documents,
) -> Result<Vec<Problem>, StoreError> {
    let kinds: BTreeSet<Kind> = documents
        .objects
        .iter()
        .filter_map(|(key, _)| key.kind())
        .flat_map(check::compared_with)
        .copied()
        .collect();
    if kinds.is_empty() {
        return Ok(Vec::new());
    }
    let mut objects: BTreeMap<Key, Arc<Resource>> = BTreeMap::new();
    for entry in session.store.list(&Filter::Kinds(kinds)).await?.entries {
        if let Ok(resource) = entry.resource {
            objects.insert(entry.key, resource);
        }
    }
    let before = check::between(&objects);
    let mut new: BTreeSet<String> = BTreeSet::new();
    for (key, resource) in &documents.objects {
        new.insert(key.to_string());
        objects.insert(key.clone(), Arc::new(resource.clone()));
    }
    // What was wrong before is no fault of these files, and must not keep anyone from mending something else.
    Ok(check::between(&objects)
        .into_iter()
        .filter(|problem| !before.contains(problem) && new.contains(&problem.object))
        .collect())
}

/// Why a resource was not written.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The store said so.
    Store(StoreError),
    /// It is not to be written by users.
    Unsupported(Key, &'static str),
    /// It does not follow from what is there.
    Problems(Vec<Problem>),
    /// Something else stood in the way.
    Other(String),
    /// The document is of another object than the one of this name.
    OtherUid(Key),
}

impl Refusal {
    pub(super) fn tell(self, verb: Verb) -> Failure {
        match self {
            Refusal::Store(error) => explain(verb, &error),
            Refusal::Unsupported(key, reason) => unsupported(verb, &key, reason),
            Refusal::Problems(problems) => {
                let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
                Failure::told(Code::Failed, lines.join("\n"))
            }
            Refusal::Other(reason) => Failure::told(Code::Failed, reason),
            Refusal::OtherUid(key) => Failure::told(
                Code::Conflict,
                format!(
                    "update conflict: {key}: the document is of another object of this name, which was deleted (its uid \
                     differs); take metadata.uid out to mean the one that is there"
                ),
            ),
        }
    }
}

impl<E: Into<StoreError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Refusal::Store(error.into())
    }
}

async fn put(
    session: &Session,
    verb: Verb,
    key: &Key,
    resource: &Resource,
) -> Result<Entry, Refusal> {
    writable(key)?;
    match verb {
        Verb::Create => {
            let version = resource
                .metadata()
                .and_then(|metadata| metadata.resource_version.as_ref());
            if version.is_some() {
                let reason = "must not be set for a resource that is to be created";
                return Err(Problem::new(key, "metadata.resourceVersion", reason).into());
            }
            new(session, key, resource).await
        }
        Verb::Replace => update(session, key, resource).await,
        Verb::Apply | Verb::Delete | Verb::Patch | Verb::Validate => {
            for _ in 0..ATTEMPTS {
                if session.store.get(key).await?.is_some() {
                    match update(session, key, resource).await {
                        Err(Refusal::Store(StoreError::NotFound(_))) => {}
                        done => return done,
                    }
                } else {
                    match new(session, key, resource).await {
                        Err(Refusal::Store(StoreError::Exists(_))) => {}
                        done => return done,
                    }
                }
            }
            Err(StoreError::Exists(key.clone()).into())
        }
    }
}

/// Whether users may write the object at all.
pub(super) fn writable(key: &Key) -> Result<(), Refusal> {
    let reason = match key.kind() {
        Some(Kind::ClusterInformation) => {
            "it is read-only; `cleat store lock` and `unlock` set datastoreReady"
        }
        Some(Kind::NetworkPolicy) if key.name().starts_with(KUBERNETES_POLICY) => {
            "policies of Kubernetes are managed through the API of Kubernetes"
        }
        _ => return Ok(()),
    };
    Err(Refusal::Unsupported(key.clone(), reason))
}

async fn new(session: &Session, key: &Key, resource: &Resource) -> Result<Entry, Refusal> {
    if let Resource::IpPool(pool) = resource
        && let Some(kv) = session.kv()
    {
        let blocks = keys::blocks(addr::version(pool.spec.cidr.net()));
        let there = kv
            .read(&[Want::Prefix(blocks)])
            .await
            .map_err(|error| StoreError::Unavailable(error.0))?;
        let blocks = there
            .entries
            .iter()
            .filter_map(|entry| keys::parse_block(&entry.key));
        let problems = check::blocks_of_pool(key, &pool.spec, blocks);
        if !problems.is_empty() {
            return Err(Refusal::Problems(problems));
        }
    }
    settled(key, resource)?;
    let entry = session.store.create(resource).await?;
    take_over(session, key).await?;
    Ok(entry)
}

async fn update(session: &Session, key: &Key, resource: &Resource) -> Result<Entry, Refusal> {
    let metadata = resource.metadata();
    let version = metadata.and_then(|metadata| metadata.resource_version.as_deref());
    let mut attempts = ATTEMPTS;
    loop {
        attempts -= 1;
        let Some(current) = session.store.get(key).await? else {
            return Err(StoreError::NotFound(key.clone()).into());
        };
        same_version(&current, version)?;
        let uid = metadata.and_then(|metadata| metadata.uid.as_deref());
        same_uid(&current, key, uid)?;
        let merged = match &current.resource {
            Ok(old) => merged(old, key, resource)?,
            // What cannot be read is replaced whole.
            Err(_) => resource.clone(),
        };
        match store(session, key, &current, &merged).await {
            Err(Refusal::Store(StoreError::Conflict { .. }))
                if version.is_none() && attempts > 0 => {}
            done => return done,
        }
    }
}

/// Writes a resource in place of the one that is there, if it may follow it.
pub(super) async fn store(
    session: &Session,
    key: &Key,
    current: &Entry,
    resource: &Resource,
) -> Result<Entry, Refusal> {
    if let Ok(old) = &current.resource {
        let problems = change(key, old, resource);
        if !problems.is_empty() {
            return Err(Refusal::Problems(problems));
        }
        if old.to_value() == resource.to_value() {
            take_over(session, key).await?;
            return Ok(current.clone());
        }
    }
    settled(key, resource)?;
    let entry = session.store.update(resource, current.revision).await?;
    take_over(session, key).await?;
    Ok(entry)
}

/// Whether settings of IPAM go together.
fn settled(key: &Key, resource: &Resource) -> Result<(), Refusal> {
    if let Resource::IpamConfiguration(configuration) = resource {
        IpamConfig::try_from(&configuration.spec).map_err(|problem| {
            Refusal::Problems(vec![Problem {
                object: key.to_string(),
                ..problem
            }])
        })?;
    }
    Ok(())
}

/// Makes settings of IPAM that were written or deleted as a resource those that every client goes by.
pub(super) async fn take_over(session: &Session, key: &Key) -> Result<(), Refusal> {
    if key.kind() == Some(Kind::IpamConfiguration)
        && let Some(ipam) = session.ipam()
    {
        ipam.adopt_configuration().await.map_err(|error| {
            if let IpamError::Unavailable(error) = error {
                return Refusal::Store(StoreError::Unavailable(error.0));
            }
            Refusal::Other(format!("{key} is written, but not in effect: {error}"))
        })?;
    }
    Ok(())
}

/// Whether the version in a document, if it has one, is the one that is stored.
pub(super) fn same_version(current: &Entry, version: Option<&str>) -> Result<(), Refusal> {
    let Some(version) = version.filter(|version| !version.is_empty()) else {
        return Ok(());
    };
    let Ok(expected) = version.parse() else {
        let reason = format!("{version:?} is no version that a store has given");
        return Err(Problem::new(&current.key, "metadata.resourceVersion", reason).into());
    };
    if expected == current.revision {
        return Ok(());
    }
    Err(Refusal::Store(StoreError::Conflict {
        key: current.key.clone(),
        expected,
        actual: current.revision,
    }))
}

/// Whether the uid in a document, if it has one, is that of the object that is stored.
pub(super) fn same_uid(current: &Entry, key: &Key, uid: Option<&str>) -> Result<(), Refusal> {
    let there = current
        .resource
        .as_ref()
        .ok()
        .and_then(|resource| resource.metadata()?.uid.as_deref());
    match (uid.filter(|uid| !uid.is_empty()), there) {
        (Some(uid), Some(there)) if uid != there => Err(Refusal::OtherUid(key.clone())),
        _ => Ok(()),
    }
}

/// The new resource with the identity of the old one, and those labels and annotations of it that the new one does not set.
fn merged(old: &Resource, key: &Key, new: &Resource) -> Result<Resource, Problem> {
    let (mut old, mut value) = (old.to_value(), new.to_value());
    let mut metadata = old["metadata"].take();
    for field in ["labels", "annotations"] {
        if let Value::Object(set) = value["metadata"][field].take() {
            if let Value::Object(kept) = &mut metadata[field] {
                kept.extend(set);
            } else {
                metadata[field] = Value::Object(set);
            }
        }
    }
    metadata["name"] = key.name().into();
    value["metadata"] = metadata;
    if let (Value::Object(value), Some(status)) = (&mut value, old.get_mut("status")) {
        value.entry("status").or_insert_with(|| status.take());
    }
    decode_value(key, value)
}

/// What is said when there is nothing to do, and that is no error.
pub(super) const NOTHING: &str = "No resources specified\n";
/// What the names of policies begin with that come from Kubernetes.
const KUBERNETES_POLICY: &str = "knp.default.";
