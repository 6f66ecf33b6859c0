//! What all stores do alike, over the little that each does its own way.

use std::{sync::Arc, time::Duration};

use futures::future::{BoxFuture, FutureExt};

use super::{
    Entry, Filter, Known, Listing, Reports, Store, StoreError, Update, Watch, hold,
    prepare::{self, default_allow, is_default_allow, is_fixed},
};
use crate::{
    Key, Kind, Resource,
    resource::{ClusterInformationSpec, Metadata, Object, TierAction, TierSpec, overlaps},
};

/// How often `apply` and `delete` start over when someone else changes the object in between.
const ATTEMPTS: usize = 10;

/// What must hold of the stored object for it to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// There is none.
    Absent,
    /// It is at this revision.
    At(u64),
}

impl Condition {
    /// Whether it holds of the revision that the object is at, if it is there.
    pub(super) fn holds(self, key: &Key, actual: Option<u64>) -> Result<(), StoreError> {
        match (self, actual) {
            (Condition::Absent, None) => Ok(()),
            (Condition::Absent, Some(_)) => Err(StoreError::Exists(key.clone())),
            (Condition::At(_), None) => Err(StoreError::NotFound(key.clone())),
            (Condition::At(expected), Some(actual)) if expected == actual => Ok(()),
            (Condition::At(expected), Some(actual)) => Err(StoreError::Conflict {
                key: key.clone(),
                expected,
                actual,
            }),
        }
    }
}

/// What a store does its own way. Values are the bytes that [`Resource::encode`] wrote.
pub trait Backend: Send + Sync + 'static {
    /// The objects that pass the filter, at one revision.
    fn range(&self, filter: &Filter) -> impl Future<Output = Result<Listing, StoreError>> + Send;

    /// The object under exactly this key.
    fn read(&self, key: &Key) -> impl Future<Output = Result<Option<Entry>, StoreError>> + Send;

    /// Stores bytes if the condition holds, and tells the new revision.
    fn put(
        &self,
        key: &Key,
        bytes: Vec<u8>,
        condition: Condition,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Removes the object if it is at this revision.
    fn remove(
        &self,
        key: &Key,
        revision: u64,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Begins to tell what there is and what happens to one who knows something already.
    fn follow(&self, known: Known) -> Watch;

    /// Writes or removes bytes under a path beside the objects, if the store has such paths.
    fn report(
        &self,
        path: &str,
        value: Option<Vec<u8>>,
        time_to_live: Option<Duration>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What is under paths that begin so, beside the objects.
    fn reports(&self, prefix: &str) -> impl Future<Output = Result<Reports, StoreError>> + Send;
}

impl<B: Backend> Store for B {
    fn list<'a>(&'a self, filter: &'a Filter) -> BoxFuture<'a, Result<Listing, StoreError>> {
        async move {
            let mut listing = self.range(filter).await?;
            listing
                .entries
                .retain(|entry| !is_default_allow(&entry.key));
            let fixed = default_allow_entry();
            if filter.passes(&fixed.key) {
                listing.entries.push(fixed);
            }
            listing
                .entries
                .sort_by(|left, right| left.key.cmp(&right.key));
            Ok(listing)
        }
        .boxed()
    }

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Entry>, StoreError>> {
        find(self, key).boxed()
    }

    fn create<'a>(&'a self, resource: &'a Resource) -> BoxFuture<'a, Result<Entry, StoreError>> {
        async move {
            let (key, resource) = prepare::new(resource)?;
            if find(self, &key).await?.is_some() {
                return Err(StoreError::Exists(key));
            }
            before_new(self, &key).await?;
            store(self, key, resource, Condition::Absent).await
        }
        .boxed()
    }

    fn update<'a>(
        &'a self,
        resource: &'a Resource,
        revision: u64,
    ) -> BoxFuture<'a, Result<Entry, StoreError>> {
        async move {
            let key = prepare::key(resource)?;
            let Some(current) = find(self, &key).await? else {
                return Err(StoreError::NotFound(key));
            };
            if current.revision != revision {
                return Err(StoreError::Conflict {
                    key: current.key,
                    expected: revision,
                    actual: current.revision,
                });
            }
            let (key, resource) = prepare::replacement(resource, &current, false)?;
            store(self, key, resource, Condition::At(revision)).await
        }
        .boxed()
    }

    fn apply<'a>(&'a self, resource: &'a Resource) -> BoxFuture<'a, Result<Entry, StoreError>> {
        async move {
            let wanted = prepare::key(resource)?;
            let mut attempts = ATTEMPTS;
            loop {
                attempts -= 1;
                let (prepared, condition) = match find(self, &wanted).await? {
                    None => {
                        before_new(self, &wanted).await?;
                        (prepare::new(resource)?, Condition::Absent)
                    }
                    Some(current) => (
                        prepare::replacement(resource, &current, true)?,
                        Condition::At(current.revision),
                    ),
                };
                let (key, resource) = prepared;
                match store(self, key, resource, condition).await {
                    Err(
                        StoreError::Exists(_)
                        | StoreError::NotFound(_)
                        | StoreError::Conflict { .. },
                    ) if attempts > 0 => {}
                    done => return done,
                }
            }
        }
        .boxed()
    }

    fn restore<'a>(
        &'a self,
        key: &'a Key,
        resource: &'a Resource,
    ) -> BoxFuture<'a, Result<Entry, StoreError>> {
        async move {
            if is_default_allow(key) {
                return Err(StoreError::Fixed(key.clone()));
            }
            let mut attempts = ATTEMPTS;
            loop {
                attempts -= 1;
                let condition = self
                    .read(key)
                    .await?
                    .map_or(Condition::Absent, |there| Condition::At(there.revision));
                let resource = prepare::restored(resource);
                match store_as_it_is(self, key.clone(), resource, condition).await {
                    Err(
                        StoreError::Exists(_)
                        | StoreError::NotFound(_)
                        | StoreError::Conflict { .. },
                    ) if attempts > 0 => {}
                    done => return done,
                }
            }
        }
        .boxed()
    }

    fn delete<'a>(
        &'a self,
        key: &'a Key,
        revision: Option<u64>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            if is_fixed(key) {
                return Err(StoreError::Fixed(key.clone()));
            }
            let mut attempts = ATTEMPTS;
            loop {
                attempts -= 1;
                let Some(current) = find(self, key).await? else {
                    return Err(StoreError::NotFound(key.clone()));
                };
                let expected = revision.unwrap_or(current.revision);
                match self.remove(&current.key, expected).await {
                    Err(StoreError::Conflict { .. }) if revision.is_none() && attempts > 0 => {}
                    done => return done,
                }
            }
        }
        .boxed()
    }

    fn watch_from(&self, known: Known) -> Watch {
        let watch = self.follow(known);
        watch.feed().fixed(default_allow_entry());
        watch
    }

    fn report<'a>(
        &'a self,
        path: &'a str,
        value: Option<Vec<u8>>,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Backend::report(self, path, value, time_to_live).boxed()
    }

    fn reports<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Reports, StoreError>> {
        Backend::reports(self, prefix).boxed()
    }
}

/// Creates the tiers that every cluster has, where they are missing.
pub async fn initialize(store: &dyn Store) -> Result<(), StoreError> {
    for (name, order, action) in [
        ("default", 1_000_000.0, TierAction::Deny),
        ("kube-admin", 1_000.0, TierAction::Pass),
        ("kube-baseline", 10_000_000.0, TierAction::Pass),
    ] {
        let tier = Resource::Tier(Object {
            metadata: Metadata {
                name: name.to_owned(),
                ..Metadata::default()
            },
            spec: TierSpec {
                order: Some(order),
                default_action: Some(action),
                ..TierSpec::default()
            },
            extra: serde_json::Map::new(),
        });
        match store.create(&tier).await {
            Ok(_) | Err(StoreError::Exists(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes a store one that Calico's components take for initialized: its tiers, and the object that names
/// the cluster, says that the store may be used, and which versions and kinds of installation it serves.
///
/// What is there stays; a version replaces another, types of cluster are added to those that are there.
/// Empty texts change nothing.
pub async fn ensure_initialized(
    store: &dyn Store,
    version: &str,
    cluster_type: &str,
) -> Result<(), StoreError> {
    initialize(store).await?;
    let key = hold::cluster_key();
    let mut attempts = ATTEMPTS;
    loop {
        attempts -= 1;
        let current = store.get(&key).await?;
        let before = match &current {
            // What is no such object is not ours to mend.
            Some(entry) => (*entry.resource.clone()?).clone(),
            None => Resource::ClusterInformation(Object {
                metadata: Metadata {
                    name: key.name().to_owned(),
                    ..Metadata::default()
                },
                spec: ClusterInformationSpec::default(),
                extra: serde_json::Map::new(),
            }),
        };
        let mut resource = before.clone();
        if let Resource::ClusterInformation(cluster) = &mut resource {
            complete_cluster(&mut cluster.spec, version, cluster_type);
        }
        if current.is_some() && resource == before {
            return Ok(());
        }
        let stored = match &current {
            Some(entry) => store.update(&resource, entry.revision).await,
            None => store.create(&resource).await,
        };
        match stored {
            Err(StoreError::Exists(_) | StoreError::NotFound(_) | StoreError::Conflict { .. })
                if attempts > 0 => {}
            done => return done.map(|_| ()),
        }
    }
}

/// Fills in what the object that names a cluster must have.
fn complete_cluster(spec: &mut ClusterInformationSpec, version: &str, cluster_type: &str) {
    if spec.cluster_guid.as_deref().is_none_or(str::is_empty) {
        spec.cluster_guid = Some(uuid::Uuid::new_v4().simple().to_string());
    }
    spec.datastore_ready.get_or_insert(true);
    if !version.is_empty() {
        spec.calico_version = Some(version.to_owned());
    }
    let known = spec.cluster_type.take().unwrap_or_default();
    let mut types: Vec<&str> = Vec::new();
    for one in known.split(',').chain(cluster_type.split(',')) {
        if !one.is_empty() && !types.contains(&one) {
            types.push(one);
        }
    }
    if !types.is_empty() {
        spec.cluster_type = Some(types.join(","));
    }
}

/// The first node of a cluster makes the cluster.
async fn before_new<B: Backend>(backend: &B, key: &Key) -> Result<(), StoreError> {
    if key.kind() == Some(Kind::Node) {
        // Boxed, for creating an object leads here.
        ensure_initialized(backend, "", "").boxed().await?;
    }
    Ok(())
}

async fn find<B: Backend>(backend: &B, key: &Key) -> Result<Option<Entry>, StoreError> {
    if is_default_allow(key) {
        return Ok(Some(default_allow_entry()));
    }
    if let Some(entry) = backend.read(key).await? {
        return Ok(Some(entry));
    }
    // Clients before v3.30 stored a policy of the default tier under its name with the tier's before it.
    match key {
        Key::Resource {
            kind: kind @ (Kind::GlobalNetworkPolicy | Kind::NetworkPolicy),
            namespace,
            name,
        } if !name.contains('.') => {
            let older = Key::Resource {
                kind: *kind,
                namespace: namespace.clone(),
                name: format!("default.{name}"),
            };
            backend.read(&older).await
        }
        Key::Resource { .. }
        | Key::BlockAffinity { .. }
        | Key::IpamBlock { .. }
        | Key::IpamConfig
        | Key::IpamHandle { .. }
        | Key::IpamHost { .. }
        | Key::Subnet { .. } => Ok(None),
    }
}

async fn store<B: Backend>(
    backend: &B,
    key: Key,
    resource: Resource,
    condition: Condition,
) -> Result<Entry, StoreError> {
    // What breaks a rule must not be written.
    crate::resource::validate(&key, resource.to_value())
        .map_err(|problems| crate::resource::first(&key, problems))?;
    // The addresses of a pool that is there cannot change, and pools that overlap already must be mendable.
    if let (Resource::IpPool(pool), Condition::Absent) = (&resource, &condition) {
        let there = backend.range(&Filter::kind(Kind::IpPool)).await?.entries;
        let others = there
            .iter()
            .filter_map(|entry| match entry.resource.as_deref() {
                Ok(Resource::IpPool(other)) => Some((&entry.key, other)),
                Ok(_) | Err(_) => None,
            });
        if let Some(problem) = overlaps(&key, pool, others).into_iter().next() {
            return Err(problem.into());
        }
    }
    store_as_it_is(backend, key, resource, condition).await
}

/// Stores an object whatever rules it breaks, if only it can be read back.
async fn store_as_it_is<B: Backend>(
    backend: &B,
    key: Key,
    mut resource: Resource,
    condition: Condition,
) -> Result<Entry, StoreError> {
    let bytes = resource.encode();
    crate::resource::decode(&key, &bytes)?;
    let revision = backend.put(&key, bytes, condition).await?;
    if let Some(metadata) = resource.metadata_mut() {
        metadata.resource_version = Some(revision.to_string());
    }
    Ok(Entry {
        key,
        resource: Ok(Arc::new(resource)),
        revision,
    })
}

fn default_allow_entry() -> Entry {
    let resource = Resource::Profile(default_allow());
    Entry {
        key: Key::global(Kind::Profile, prepare::DEFAULT_ALLOW),
        resource: Ok(Arc::new(resource)),
        revision: 0,
    }
}

/// The object of an entry as it comes from a store, with its revision in the metadata.
pub(crate) fn entry(key: Key, bytes: &[u8], revision: u64) -> Entry {
    let resource = crate::resource::decode(&key, bytes).map(|mut resource| {
        if let Some(metadata) = resource.metadata_mut() {
            metadata.resource_version = Some(revision.to_string());
        }
        Arc::new(resource)
    });
    Entry {
        key,
        resource,
        revision,
    }
}

impl From<Entry> for Update {
    fn from(entry: Entry) -> Self {
        let (value, problem) = match entry.resource {
            Ok(resource) => (Some(resource), None),
            Err(problem) => (None, Some(problem)),
        };
        Update {
            key: entry.key,
            value,
            revision: entry.revision,
            problem,
        }
    }
}
