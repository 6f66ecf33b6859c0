//! `patch` and `label`: changes of one resource that is there.

use std::collections::BTreeMap;

use cleat_datastore::resource::{unknown_fields, validate};
use cleat_datastore::store::{Entry, StoreError};
use cleat_datastore::{Key, Problem, Resource};
use serde_json::Value;

use super::outcome::{Outcome, Verb};
use super::resource_args::{Label, Patch};
use super::selection::{self, Scope};
use super::session::{Session, with_store};
use super::write::{self, Refusal, same_version, writable};
use super::{Args, Code, Failure, get};
use crate::output::Format;
use crate::patch;

/// How often a resource is read again when others change it in between.
const ATTEMPTS: usize = 10;

/// Patches a resource.
pub(super) fn patch(args: &Args, patch: &Patch) -> Result<String, Failure> {
    let key = key(&patch.kind, &patch.name, patch.namespace.as_deref())?;
    with_store(args, async |session| {
        let mut outcome = Outcome::new(Verb::Patch, [&key]);
        let result = patch_one(&session, &key, patch).await;
        let (entry, result) = match result {
            Ok(entry) => (Some(entry), Ok(())),
            Err(refusal) => (None, Err(refusal.tell(Verb::Patch))),
        };
        outcome.note(result);
        let (said, result) = outcome.finish();
        result?;
        Ok(match args.format() {
            Format::Table | Format::Wide => said,
            Format::Name | Format::Json | Format::Yaml => get::written(args, entry.as_slice()),
        })
    })
}

async fn patch_one(session: &Session, key: &Key, patch: &Patch) -> Result<Entry, Refusal> {
    let mut attempts = ATTEMPTS;
    loop {
        attempts -= 1;
        let (current, resource) = read(session, key).await?;
        let before = get::manifest(&resource, current.revision);
        let mut value = before.clone();
        patch::apply(&mut value, patch.style.into(), &patch.text)
            .map_err(|error| Problem::new(key, "", error.to_string()))?;
        let version = value.pointer("/metadata/resourceVersion").cloned();
        same_version(&current, version.as_ref().and_then(Value::as_str))?;
        for field in [
            "/kind",
            "/apiVersion",
            "/metadata/name",
            "/metadata/namespace",
            "/metadata/uid",
        ] {
            if value.pointer(field) != before.pointer(field) {
                let field = field.trim_start_matches('/').replace('/', ".");
                return Err(Problem::new(key, field, "cannot be changed by a patch").into());
            }
        }
        let known = unknown_fields(key, &before);
        let mut unknown = unknown_fields(key, &value);
        // What others wrote stays; what the patch brings along is a slip.
        unknown.retain(|problem| !known.contains(problem));
        if !unknown.is_empty() {
            return Err(Refusal::Problems(unknown));
        }
        let patched = validate(key, value).map_err(Refusal::Problems)?;
        match write::store(session, key, &current, &patched).await {
            Err(Refusal::Store(StoreError::Conflict { .. })) if attempts > 0 => {}
            done => return done,
        }
    }
}

/// Sets, changes or takes away labels of a resource.
pub(super) fn label(args: &Args, label: &Label) -> Result<String, Failure> {
    let key = key(&label.kind, &label.name, label.namespace.as_deref())?;
    let mut wanted: Vec<(&str, Option<&str>)> = Vec::new();
    for text in &label.labels {
        wanted.push(match text.split_once('=') {
            Some((key, value)) if !label.remove && !key.is_empty() && !value.contains('=') => {
                (key, Some(value))
            }
            None if label.remove => (text, None),
            Some(_) | None => {
                let message = format!("invalid label {text}");
                return Err(Failure::told(Code::Usage, message));
            }
        });
    }
    with_store(args, async |session| {
        let mut attempts = ATTEMPTS;
        loop {
            attempts -= 1;
            let (kind, name) = (&label.kind, &label.name);
            let read = read(&session, &key).await.map_err(|refusal| match refusal {
                Refusal::Store(StoreError::NotFound(_)) => {
                    Failure::told(Code::Failed, format!("{kind} {name} not found"))
                }
                refusal @ (Refusal::Store(_)
                | Refusal::Unsupported(..)
                | Refusal::Problems(_)
                | Refusal::Other(_)
                | Refusal::OtherUid(_)) => {
                    let failure = refusal.tell(Verb::Patch);
                    let message = format!("failed to get {kind} {name}, error {}", failure.message);
                    Failure::told(failure.code, message)
                }
            });
            let (current, resource) = read?;
            let mut changed = (*resource).clone();
            let Some(metadata) = changed.metadata_mut() else {
                return Err(Failure::told(
                    Code::Failed,
                    format!("{kind} {name} has no labels"),
                ));
            };
            let said = relabel(&mut metadata.labels, &wanted, label)?;
            match write::store(&session, &key, &current, &changed).await {
                Ok(_) => return Ok(said),
                Err(Refusal::Store(StoreError::Conflict { .. })) if attempts > 0 => {}
                Err(refusal) => {
                    let failure = refusal.tell(Verb::Patch);
                    let message = format!(
                        "failed to update {kind} {name}, label not changed: {}",
                        failure.message
                    );
                    return Err(Failure::told(failure.code, message));
                }
            }
        }
    })
}

/// Changes labels, and says what was changed; or changes nothing.
fn relabel(
    labels: &mut BTreeMap<String, String>,
    wanted: &[(&str, Option<&str>)],
    label: &Label,
) -> Result<String, Failure> {
    let (kind, name) = (&label.kind, &label.name);
    let mut said = String::new();
    for (key, value) in wanted {
        let old = labels.get(*key);
        let done = match (value, old) {
            (None, None) => {
                let message =
                    format!("cannot remove label of {kind} {name}, key {key} does not exist");
                return Err(Failure::told(Code::Failed, message));
            }
            (None, Some(_)) => {
                labels.remove(*key);
                format!("Successfully removed label {key} from {kind} {name}\n")
            }
            (Some(value), Some(old)) if !label.overwrite && old != value => {
                let message = format!(
                    "failed to update label of {kind} {name}, key {key} is already present. please use '--overwrite' to \
                     set a new value."
                );
                return Err(Failure::told(Code::Failed, message));
            }
            (Some(value), old) => {
                let done = if old.is_some() { "updated" } else { "set" };
                labels.insert((*key).to_owned(), (*value).to_owned());
                format!("Successfully {done} label {key} on {kind} {name}\n")
            }
        };
        said.push_str(&done);
    }
    Ok(said)
}

async fn read(session: &Session, key: &Key) -> Result<(Entry, std::sync::Arc<Resource>), Refusal> {
    writable(key)?;
    let Some(entry) = session.store.get(key).await? else {
        return Err(StoreError::NotFound(key.clone()).into());
    };
    let resource = entry.resource.clone()?;
    Ok((entry, resource))
}

fn key(kind: &str, name: &str, namespace: Option<&str>) -> Result<Key, Failure> {
    let scope = Scope {
        namespace,
        all: false,
    };
    if name.is_empty() {
        return Err(Failure::new(Code::Usage, "resource name may not be empty"));
    }
    selection::key(selection::kind(kind)?, name, scope)
}
