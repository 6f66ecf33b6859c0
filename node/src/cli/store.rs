//! Commands that work on the store: `apply`, `get`, `delete`, `validate`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use cleat_datastore::store::{AnyStore, Entry, Filter, Listing, StoreError};
use cleat_datastore::{Key, Kind, Problem, Resource};
use serde_json::{Value, json};

use super::args::{Delete, Files, Get};
use super::documents::{self, Documents};
use super::{Args, Code, Failure, columns, settings};
use crate::check;
use crate::config::StoreKind;
use crate::output::{Format, structured};

/// Creates or changes what the files hold, once all of it was found good.
pub(super) fn apply(args: &Args, files: &Files) -> Result<String, Failure> {
    let documents = documents::read(&files.paths, files.recursive, &files.namespace)?;
    refuse(&documents.problems, WRITTEN)?;
    require_some(&documents)?;
    with_store(args, async |store| {
        let mut objects: BTreeMap<Key, Arc<Resource>> = BTreeMap::new();
        for entry in store.list(&Filter::All).await?.entries {
            if let Ok(resource) = entry.resource {
                objects.insert(entry.key, resource);
            }
        }
        let before = check::between(&objects);
        objects.extend(
            documents
                .objects
                .iter()
                .map(|(key, resource)| (key.clone(), Arc::new(resource.clone()))),
        );
        // What was wrong before is no fault of these files, and must not keep anyone from mending something else.
        let new: Vec<Problem> = check::between(&objects)
            .into_iter()
            .filter(|problem| !before.contains(problem))
            .filter(|problem| {
                documents
                    .objects
                    .iter()
                    .any(|(key, _)| key.to_string() == problem.object)
            })
            .collect();
        refuse(&new, WRITTEN)?;
        let mut out = String::new();
        let mut written = Vec::new();
        for (key, resource) in &documents.objects {
            match apply_one(&store, key, resource).await {
                Ok((entry, what)) => {
                    if args.format() == Format::Table || args.format() == Format::Wide {
                        let _ = writeln!(out, "{} {what}", short(key));
                    }
                    written.push(entry);
                }
                Err(error) => {
                    super::emit(&out);
                    let count = written.len();
                    let mut failure = Failure::from(error);
                    let _ = write!(
                        failure.message,
                        "; {count} of {} were applied before it",
                        documents.objects.len()
                    );
                    return Err(failure);
                }
            }
        }
        if out.is_empty() {
            out = print_entries(args, &written, false, false);
        }
        Ok(out)
    })
}

/// Shows objects.
pub(super) fn get(args: &Args, get: &Get) -> Result<String, Failure> {
    let selection = select(&get.what)?;
    with_store(args, async |store| {
        let mut entries = Vec::new();
        let mut single = true;
        for (kind, name) in selection {
            let namespace = kind.namespaced().then_some(get.namespace.as_str());
            match name {
                Some(name) if !get.all_namespaces || !kind.namespaced() => {
                    let key = key(kind, namespace, &name);
                    entries.push(store.get(&key).await?.ok_or(StoreError::NotFound(key))?);
                }
                name => {
                    single = false;
                    let filter = match namespace {
                        Some(namespace) if !get.all_namespaces => {
                            Filter::Namespace(kind, namespace.to_owned())
                        }
                        _ => Filter::Kinds([kind].into()),
                    };
                    let Listing {
                        entries: listed, ..
                    } = store.list(&filter).await?;
                    let named =
                        |entry: &Entry| name.as_deref().is_none_or(|name| entry.key.name() == name);
                    entries.extend(listed.into_iter().filter(named));
                }
            }
        }
        for problem in entries
            .iter()
            .filter_map(|entry| entry.resource.as_ref().err())
        {
            super::note(&format!("warning: {problem}"));
        }
        if entries.is_empty() && matches!(args.format(), Format::Table | Format::Wide) {
            super::note("nothing found");
        }
        Ok(print_entries(
            args,
            &entries,
            get.all_namespaces,
            single && entries.len() == 1,
        ))
    })
}

/// Deletes objects.
pub(super) fn delete(args: &Args, delete: &Delete) -> Result<String, Failure> {
    let keys: Vec<Key> = if delete.files.is_empty() {
        let mut keys = Vec::new();
        for (kind, name) in select(&delete.what)? {
            let Some(name) = name else {
                let message = format!(
                    "delete what? name the {kind}, as in `cleat delete {} NAME`",
                    kind_word(kind)
                );
                return Err(Failure::new(Code::Usage, message));
            };
            keys.push(key(
                kind,
                kind.namespaced().then_some(delete.namespace.as_str()),
                &name,
            ));
        }
        keys
    } else {
        let documents = documents::read(&delete.files, delete.recursive, &delete.namespace)?;
        refuse(&documents.problems, WRITTEN)?;
        require_some(&documents)?;
        // What was applied last may refer to what was applied first.
        documents
            .objects
            .into_iter()
            .rev()
            .map(|(key, _)| key)
            .collect()
    };
    with_store(args, async |store| {
        let mut out = String::new();
        for key in keys {
            // By the name under which it is stored, which for policies may be a longer one.
            let stored = store
                .get(&key)
                .await?
                .map_or(key.clone(), |entry| entry.key);
            match store.delete(&stored, None).await {
                Ok(()) => {
                    let _ = match args.format() {
                        Format::Name => writeln!(out, "{}", short(&key)),
                        Format::Table | Format::Wide | Format::Json | Format::Yaml => {
                            writeln!(out, "{} deleted", short(&key))
                        }
                    };
                }
                Err(StoreError::NotFound(_)) if delete.ignore_not_found => {}
                Err(error) => {
                    super::emit(&out);
                    return Err(error.into());
                }
            }
        }
        Ok(out)
    })
}

/// Checks files without a store.
pub(super) fn validate(args: &Args, files: &Files) -> Result<String, Failure> {
    let documents = documents::read(&files.paths, files.recursive, &files.namespace)?;
    refuse(&documents.problems, "")?;
    require_some(&documents)?;
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
    refuse(&problems, "")?;
    Ok(match args.format() {
        Format::Name => lines(objects.keys().map(short)),
        Format::Table | Format::Wide | Format::Json | Format::Yaml => {
            format!("{} resources are valid\n", objects.len())
        }
    })
}

/// What a store's refusal means to the caller.
pub(super) fn failure(error: &StoreError) -> Failure {
    let (code, hint) = match error {
        StoreError::Exists(_) | StoreError::Conflict { .. } => (
            Code::Conflict,
            "; get it again, make the change there, and apply that",
        ),
        StoreError::NotFound(_) => (
            Code::Failed,
            "; `cleat get` lists what is there (-A: in all namespaces)",
        ),
        StoreError::Fixed(_) => (Code::Refused, ""),
        StoreError::Invalid(_) => (Code::Failed, ""),
        StoreError::Unavailable(_) => (
            Code::NoStore,
            "; `cleat config show` tells which store is used, ETCD_ENDPOINTS names another",
        ),
    };
    Failure::new(code, format!("{error}{hint}"))
}

async fn apply_one(
    store: &AnyStore,
    key: &Key,
    resource: &Resource,
) -> Result<(Entry, &'static str), StoreError> {
    let there = store.get(key).await?;
    let revision = resource
        .metadata()
        .and_then(|metadata| metadata.resource_version.as_ref()?.parse().ok());
    if let Some(there) = &there
        && let Ok(old) = &there.resource
        && manifest_without_server_fields(old) == manifest_without_server_fields(resource)
        && revision.is_none_or(|revision: u64| revision == there.revision)
    {
        return Ok((there.clone(), "unchanged"));
    }
    let Some(there) = there else {
        return Ok((store.apply(resource).await?, "created"));
    };
    let entry = match revision {
        Some(revision) => store.update(resource, revision).await?,
        None => store.apply(resource).await?,
    };
    // What the store fills in is only known from what it has stored.
    let same = match (&there.resource, &entry.resource) {
        (Ok(old), Ok(new)) => {
            manifest_without_server_fields(old) == manifest_without_server_fields(new)
        }
        (Ok(_) | Err(_), _) => false,
    };
    Ok((entry, if same { "unchanged" } else { "configured" }))
}

fn manifest_without_server_fields(resource: &Resource) -> Value {
    let mut value = resource.to_value();
    if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
        for field in ["uid", "creationTimestamp", "resourceVersion"] {
            metadata.remove(field);
        }
    }
    value
}

fn print_entries(args: &Args, entries: &[Entry], namespaces: bool, single: bool) -> String {
    let good = || {
        entries
            .iter()
            .filter_map(|entry| Some((entry, entry.resource.as_ref().ok()?)))
    };
    match args.format() {
        Format::Name => lines(good().map(|(entry, _)| short(&entry.key))),
        format @ (Format::Json | Format::Yaml) => {
            let mut manifests: Vec<Value> = good()
                .map(|(entry, resource)| manifest(entry, resource))
                .collect();
            match manifests.pop() {
                Some(only) if single && manifests.is_empty() => structured(format, &only),
                last => {
                    manifests.extend(last);
                    let mut kinds = entries.iter().filter_map(|entry| entry.key.kind());
                    let kind = kinds
                        .next()
                        .filter(|first| kinds.all(|kind| kind == *first));
                    let kind = kind.map_or("List".to_owned(), |kind| format!("{kind}List"));
                    let list = json!({"kind": kind, "apiVersion": "projectcalico.org/v3", "items": manifests});
                    structured(format, &list)
                }
            }
        }
        format @ (Format::Table | Format::Wide) => {
            let mut by_kind: BTreeMap<Kind, Vec<Value>> = BTreeMap::new();
            for (entry, resource) in good() {
                if let Some(kind) = entry.key.kind() {
                    by_kind
                        .entry(kind)
                        .or_default()
                        .push(manifest(entry, resource));
                }
            }
            let tables = by_kind.iter().map(|(kind, manifests)| {
                columns::table(*kind, manifests, namespaces, format == Format::Wide)
                    .render(!args.no_headers)
            });
            tables.collect::<Vec<_>>().join("\n")
        }
    }
}

fn manifest(entry: &Entry, resource: &Resource) -> Value {
    let mut value = resource.to_value();
    if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
        metadata.insert(
            "resourceVersion".to_owned(),
            entry.revision.to_string().into(),
        );
    }
    value
}

/// Kinds and names from `KIND NAME...`, `KIND,KIND` or `KIND/NAME...`.
fn select(words: &[String]) -> Result<Vec<(Kind, Option<String>)>, Failure> {
    let kind = |word: &str| {
        Kind::from_word(word).ok_or_else(|| {
            let kinds = Kind::ALL.map(kind_word).join(", ");
            Failure::new(Code::Usage, format!("{word:?} is no kind; known: {kinds}"))
        })
    };
    if words.iter().all(|word| word.contains('/')) {
        let pairs = words.iter().filter_map(|word| word.split_once('/'));
        return pairs
            .map(|(word, name)| Ok((kind(word)?, Some(name.to_owned()))))
            .collect();
    }
    let Some((first, names)) = words.split_first() else {
        return Ok(Vec::new());
    };
    if names.is_empty() {
        return first
            .split(',')
            .map(|word| Ok((kind(word)?, None)))
            .collect();
    }
    let kind = kind(first)?;
    Ok(names
        .iter()
        .map(|name| (kind, Some(name.clone())))
        .collect())
}

fn key(kind: Kind, namespace: Option<&str>, name: &str) -> Key {
    match namespace {
        Some(namespace) => Key::namespaced(kind, namespace, name),
        None => Key::global(kind, name),
    }
}

fn lines(items: impl Iterator<Item = String>) -> String {
    let mut out = String::new();
    for item in items {
        out.push_str(&item);
        out.push('\n');
    }
    out
}

fn kind_word(kind: Kind) -> String {
    kind.name().to_lowercase()
}

fn short(key: &Key) -> String {
    let kind = key
        .kind()
        .map_or_else(|| "blockaffinity".to_owned(), kind_word);
    format!("{kind}/{}", key.name())
}

fn refuse(problems: &[Problem], consequence: &str) -> Result<(), Failure> {
    if problems.is_empty() {
        return Ok(());
    }
    let plural = if problems.len() == 1 { "" } else { "s" };
    let mut message = format!("{} problem{plural}{consequence}", problems.len());
    for problem in problems {
        let _ = write!(message, "\n  {problem}");
    }
    Err(Failure::new(Code::Failed, message))
}

fn require_some(documents: &Documents) -> Result<(), Failure> {
    if documents.objects.is_empty() {
        return Err(Failure::new(
            Code::Usage,
            "the files hold no resource; a directory is read without what is below it, unless -R is given",
        ));
    }
    Ok(())
}

fn with_store<T>(
    args: &Args,
    work: impl AsyncFnOnce(AnyStore) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let loaded = settings::load(args)?;
    if loaded.config.datastore.kind() == StoreKind::Memory {
        return Err(Failure::new(
            Code::Usage,
            "datastore.type memory lives inside the daemon and cannot be reached; use dir or etcd",
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let store = crate::daemon::store::open(&loaded.config.datastore).map_err(|error| {
            Failure::new(
                Code::NoStore,
                format!("{error:#}; `cleat config show` tells which store is used"),
            )
        })?;
        work(store).await
    })
}

const WRITTEN: &str = "; nothing was written";
