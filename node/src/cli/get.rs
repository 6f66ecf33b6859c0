//! `get`: resources as tables, as manifests that every other command takes back, and as they change.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use cleat_datastore::store::{AnyStore, Entry, Filter, Listing, StoreError};
use cleat_datastore::{Event, Key, Kind, Resource};
use serde_json::{Value, json};

use super::columns::{self, Style};
use super::outcome::{Verb, explain};
use super::resource_args::{Get, Sources};
use super::selection::{self, Scope, Wanted};
use super::session::with_store;
use super::{Args, Code, Failure, note, write};
use crate::output::{Format, structured};

/// The AS number of nodes whose cluster names none.
const DEFAULT_AS_NUMBER: u32 = 64512;

/// Shows resources.
pub(super) fn get(args: &Args, get: &Get) -> Result<String, Failure> {
    let scope = Scope {
        namespace: get.selection.namespace.as_deref(),
        all: get.all_namespaces,
    };
    let wanted = if get.selection.files.is_empty() {
        selection::select(&get.selection.what, scope)?
    } else {
        let sources = Sources {
            paths: get.selection.files.clone(),
            recursive: get.selection.recursive,
            skip_empty: get.selection.skip_empty,
            namespace: get.selection.namespace.clone(),
        };
        match write::read(&sources, Verb::Validate)? {
            None => return Ok(write::NOTHING.to_owned()),
            Some(documents) => documents
                .objects
                .into_iter()
                .map(|(key, _)| Wanted::One(key))
                .collect(),
        }
    };
    let everything = get.selection.what.first().is_some_and(|what| what == "all");
    with_store(args, async |session| {
        let store = &session.store;
        let as_number = as_number(store, &wanted).await;
        if get.watch {
            return watch(args, store, &wanted, scope, as_number).await;
        }
        let found = find(store, &wanted).await?;
        for problem in &found.problems {
            note(&format!("warning: {problem}"));
        }
        let text = match args.format() {
            Format::Name => names(found.all().map(|found| &found.0)),
            format @ (Format::Json | Format::Yaml) => structured(format, &found.document(get)),
            Format::Table | Format::Wide => found.tables(args, scope, as_number, everything)?,
        };
        if found.missing.is_empty() {
            return Ok(text);
        }
        super::emit(&text);
        let lines: Vec<String> = found
            .missing
            .iter()
            .map(|key| explain(Verb::Apply, &StoreError::NotFound(key.clone())).message)
            .collect();
        Err(Failure::told(Code::Failed, lines.join("\n")))
    })
}

/// Lines of `kind/name`.
pub(super) fn names<'a>(keys: impl Iterator<Item = &'a Key>) -> String {
    keys.map(|key| selection::short(key) + "\n").collect()
}

/// Resources that were written, as `-o name`, `json` or `yaml` has them.
pub(super) fn written(args: &Args, entries: &[Entry]) -> String {
    let good: Vec<(Key, Value)> = entries.iter().filter_map(manifest_of).collect();
    match (args.format(), &good[..]) {
        (Format::Name | Format::Table | Format::Wide, _) => names(good.iter().map(|(key, _)| key)),
        (format @ (Format::Json | Format::Yaml), [(_, one)]) => structured(format, one),
        (format @ (Format::Json | Format::Yaml), several) => {
            let manifests: Vec<&Value> = several.iter().map(|(_, manifest)| manifest).collect();
            structured(format, &manifests)
        }
    }
}

/// An object as people read it: by the name that they know it by, with the version that it has.
pub(super) fn manifest(resource: &Resource, revision: u64) -> Value {
    let mut value = resource.to_value();
    if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
        if let Some(name) = resource.user_name() {
            metadata.insert("name".to_owned(), name.into());
        }
        metadata.insert("resourceVersion".to_owned(), revision.to_string().into());
    }
    value
}

fn manifest_of(entry: &Entry) -> Option<(Key, Value)> {
    let resource = entry.resource.as_deref().ok()?;
    let key = match (&entry.key, resource.user_name()) {
        (
            Key::Resource {
                kind, namespace, ..
            },
            Some(name),
        ) => Key::Resource {
            kind: *kind,
            namespace: namespace.clone(),
            name: name.to_owned(),
        },
        (other, _) => other.clone(),
    };
    Some((key, manifest(resource, entry.revision)))
}

/// Objects as people read them.
type Manifests = Vec<(Key, Value)>;

/// What was found.
#[derive(Default)]
struct Found {
    /// One by one, because they were named so.
    named: Vec<(Key, Value)>,
    /// In lists, with the revision of each.
    lists: Vec<(Kind, u64, Manifests)>,
    missing: Vec<Key>,
    problems: Vec<String>,
}

async fn find(store: &AnyStore, wanted: &[Wanted]) -> Result<Found, Failure> {
    let mut found = Found::default();
    let tell = |error: StoreError| {
        let failure = explain(Verb::Apply, &error);
        let message = format!("Failed to get resources: {}", failure.message);
        Failure::told(failure.code, message)
    };
    for wanted in wanted {
        let (kind, filter, name) = match wanted {
            Wanted::One(key) => {
                match store.get(key).await.map_err(tell)? {
                    None => found.missing.push(key.clone()),
                    Some(entry) => found.take(&entry),
                }
                continue;
            }
            Wanted::Named(kind, name) => (*kind, Filter::kind(*kind), Some(name)),
            Wanted::All(kind, filter) => (*kind, filter.clone(), None),
        };
        let Listing {
            entries, revision, ..
        } = store.list(&filter).await.map_err(tell)?;
        let mut listed = Vec::new();
        for entry in entries {
            match manifest_of(&entry) {
                Some(good) => listed.push(good),
                None => found.problem(&entry),
            }
        }
        if let Some(name) = name {
            listed.retain(|(key, _)| key.name() == name);
            if listed.is_empty() {
                found.missing.push(Key::namespaced(kind, "*", name));
            }
        }
        if kind == Kind::Tier {
            // In the order in which they are asked; one without an order comes last.
            let order = |manifest: &Value| {
                let order = manifest.pointer("/spec/order").and_then(Value::as_f64);
                order.unwrap_or(f64::INFINITY)
            };
            listed.sort_by(|(_, a), (_, b)| order(a).total_cmp(&order(b)));
        }
        found.lists.push((kind, revision, listed));
    }
    Ok(found)
}

impl Found {
    fn take(&mut self, entry: &Entry) {
        match manifest_of(entry) {
            Some(good) => self.named.push(good),
            None => self.problem(entry),
        }
    }

    fn problem(&mut self, entry: &Entry) {
        if let Err(problem) = &entry.resource {
            self.problems.push(problem.to_string());
        }
    }

    fn all(&self) -> impl Iterator<Item = &(Key, Value)> {
        let listed = self.lists.iter().flat_map(|(_, _, listed)| listed);
        self.named.iter().chain(listed)
    }

    /// One object, several, or a list, in the form that other commands read.
    fn document(&self, get: &Get) -> Value {
        let manifests = |found: &[(Key, Value)]| -> Vec<Value> {
            found.iter().map(|(_, manifest)| manifest.clone()).collect()
        };
        match (&self.named[..], &self.lists[..]) {
            ([], [(kind, revision, listed)]) => json!({
                "kind": format!("{kind}List"),
                "apiVersion": kind.api_version(),
                "metadata": {"resourceVersion": revision.to_string()},
                "items": manifests(listed),
            }),
            (named, []) => {
                let mut named = manifests(named);
                if get.export {
                    named.iter_mut().for_each(strip);
                }
                if named.len() == 1 {
                    named.swap_remove(0)
                } else {
                    Value::Array(named)
                }
            }
            _ => {
                let all: Vec<&Value> = self.all().map(|(_, manifest)| manifest).collect();
                json!({"kind": "List", "apiVersion": "v1", "items": all})
            }
        }
    }

    /// A table for each kind. An empty one has its heads, unless everything was asked for.
    fn tables(
        &self,
        args: &Args,
        scope: Scope<'_>,
        as_number: u32,
        everything: bool,
    ) -> Result<String, Failure> {
        let listed = self.lists.iter().map(|(kind, _, listed)| (*kind, listed));
        let named = self
            .named
            .iter()
            .filter_map(|(key, manifest)| Some((key.kind()?, manifest.clone())));
        let mut groups = selection::by_kind(named.collect());
        for (kind, listed) in listed {
            let manifests: Vec<Value> = listed
                .iter()
                .map(|(_, manifest)| manifest.clone())
                .collect();
            if !everything || !manifests.is_empty() {
                groups.push((kind, manifests));
            }
        }
        let tables: Result<Vec<String>, Failure> = groups
            .iter()
            .map(|(kind, manifests)| {
                let table = columns::table(*kind, manifests, style(args, scope, as_number))?;
                Ok(table.render_all(!args.no_headers))
            })
            .collect();
        Ok(tables?.join("\n"))
    }
}

fn style<'a>(args: &'a Args, scope: Scope<'_>, as_number: u32) -> Style<'a> {
    Style {
        wide: args.format() == Format::Wide,
        namespace: scope.told(),
        custom: args.output.columns(),
        as_number,
    }
}

/// Takes out what belongs to one store alone.
fn strip(manifest: &mut Value) {
    if let Some(Value::Object(metadata)) = manifest.get_mut("metadata") {
        for field in [
            "namespace",
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ] {
            metadata.remove(field);
        }
    }
}

/// The AS number that nodes have when they say none; asked for only if it will be shown.
async fn as_number(store: &AnyStore, wanted: &[Wanted]) -> u32 {
    let nodes = wanted.iter().any(|wanted| match wanted {
        Wanted::One(key) => key.kind() == Some(Kind::Node),
        Wanted::Named(kind, _) | Wanted::All(kind, _) => *kind == Kind::Node,
    });
    if !nodes {
        return DEFAULT_AS_NUMBER;
    }
    let key = Key::global(Kind::BgpConfiguration, "default");
    let Ok(Some(entry)) = store.get(&key).await else {
        return DEFAULT_AS_NUMBER;
    };
    let value = entry.resource.map(|resource| resource.to_value());
    let number = value.ok().and_then(|value| {
        let number = value.pointer("/spec/asNumber")?;
        u32::try_from(number.as_u64()?).ok()
    });
    number.unwrap_or(DEFAULT_AS_NUMBER)
}

/// Shows what there is, and every change from then on. Ends with the process.
async fn watch(
    args: &Args,
    store: &AnyStore,
    wanted: &[Wanted],
    scope: Scope<'_>,
    as_number: u32,
) -> Result<String, Failure> {
    let concerns = |key: &Key| {
        wanted.iter().any(|wanted| match wanted {
            Wanted::One(one) => one == key,
            Wanted::Named(kind, name) => key.kind() == Some(*kind) && key.name() == name,
            Wanted::All(_, filter) => filter.passes(key),
        })
    };
    let mut known: BTreeMap<Key, Value> = BTreeMap::new();
    let mut headed: BTreeSet<Kind> = BTreeSet::new();
    let mut watch = store.watch();
    loop {
        match watch.next().await {
            Event::Updates(updates) => {
                for update in updates.into_iter().filter(|update| concerns(&update.key)) {
                    let Some(kind) = update.key.kind() else {
                        continue;
                    };
                    if let Some(problem) = &update.problem {
                        note(&format!("warning: {problem}"));
                    }
                    let new = update
                        .value
                        .map(|resource| manifest(&resource, update.revision));
                    let old = match &new {
                        Some(new) => known.insert(update.key.clone(), new.clone()),
                        None => known.remove(&update.key),
                    };
                    let (what, shown) = match (old, new) {
                        (None, None) => continue,
                        (None, Some(new)) => ("ADDED", new),
                        (Some(_), Some(new)) => ("MODIFIED", new),
                        (Some(old), None) => ("DELETED", old),
                    };
                    let head = !args.no_headers && headed.insert(kind);
                    super::emit(&line(args, kind, what, &shown, head, scope, as_number)?);
                }
            }
            Event::Held(held) => note(&format!("warning: {}", held.reason)),
            Event::Trouble(trouble) => note(&format!("warning: {trouble}")),
            Event::InSync { .. } | Event::Unreadable(_) => {}
        }
    }
}

fn line(
    args: &Args,
    kind: Kind,
    what: &str,
    manifest: &Value,
    head: bool,
    scope: Scope<'_>,
    as_number: u32,
) -> Result<String, Failure> {
    let event = json!({"type": what, "object": manifest});
    Ok(match args.format() {
        Format::Json => format!("{event}\n"),
        Format::Yaml => format!("---\n{}", structured(Format::Yaml, &event)),
        Format::Name => {
            let name = manifest.pointer("/metadata/name").and_then(Value::as_str);
            format!(
                "{what} {}/{}\n",
                selection::word(kind),
                name.unwrap_or_default()
            )
        }
        Format::Table | Format::Wide => {
            let manifests = std::slice::from_ref(manifest);
            let table = columns::table(kind, manifests, style(args, scope, as_number))?;
            let mut marks = ["EVENT", what].into_iter().skip(usize::from(!head));
            let rows = table.render(head);
            let marked = rows
                .lines()
                .map(|row| format!("{:<11}{row}", marks.next().unwrap_or_default()));
            marked.collect::<Vec<_>>().join(
                "
",
            ) + "
"
        }
    })
}
