//! Resources in files: YAML or JSON, several documents in one file, lists, directories, standard input.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cleat_datastore::manifest::parse_documents;
use cleat_datastore::resource::unknown_fields;
use cleat_datastore::{Key, Kind, Origin, Problem, Resource};
use serde_json::Value;

/// What was found in files.
#[derive(Debug, Default)]
pub(super) struct Documents {
    /// Each object with the file and the document it came from.
    pub(super) objects: Vec<(Key, Resource)>,
    /// Documents that are no objects, and what is wrong with those that are.
    pub(super) problems: Vec<Problem>,
    /// The kind of each document, good or bad, if it says one.
    pub(super) kinds: Vec<Option<Kind>>,
}

/// Reads and decodes every document. An object that names no namespace belongs to `namespace`, and none may name another.
pub(super) fn read(
    paths: &[PathBuf],
    recursive: bool,
    skip_empty: bool,
    namespace: Option<&str>,
) -> anyhow::Result<Documents> {
    let mut documents = Documents::default();
    let mut seen: BTreeMap<Key, Origin> = BTreeMap::new();
    for path in paths {
        let texts = texts(path, recursive)?;
        if texts.is_empty() && !skip_empty {
            anyhow::bail!(
                "No resources specified in directory {}; what is below it is read with -R",
                path.display()
            );
        }
        for (name, text) in texts {
            let found = parse_documents(&name, &text);
            if found.is_empty() && !skip_empty {
                anyhow::bail!("No resources specified in file {name}");
            }
            for mut document in found {
                let origin = document.origin.clone();
                let kind = document
                    .object
                    .as_ref()
                    .ok()
                    .and_then(|(key, _)| key.kind());
                documents.kinds.push(kind);
                if let Ok((key, value)) = &mut document.object
                    && let Err(problem) = put_into(key, value, namespace)
                {
                    documents
                        .problems
                        .push(problem.at(origin.file, origin.document));
                    continue;
                }
                if let Ok((key, value)) = &document.object {
                    let unknown = unknown_fields(key, value).into_iter();
                    documents.problems.extend(
                        unknown.map(|problem| problem.at(origin.file.clone(), origin.document)),
                    );
                }
                match document.validate() {
                    Ok((key, resource)) => {
                        if let Some(other) = seen.insert(key.clone(), origin.clone()) {
                            let reason = format!("stands in {other} as well; which one is meant?");
                            let problem = Problem::new(&key, "metadata.name", reason);
                            documents
                                .problems
                                .push(problem.at(origin.file, origin.document));
                        }
                        documents.objects.push((key, resource));
                    }
                    Err(problems) => documents.problems.extend(problems),
                }
            }
        }
    }
    Ok(documents)
}

fn put_into(key: &mut Key, value: &mut Value, namespace: Option<&str>) -> Result<(), Problem> {
    let shown = key.to_string();
    let Key::Resource {
        namespace: Some(of_key),
        ..
    } = key
    else {
        return Ok(());
    };
    let Some(Value::Object(metadata)) = value.get_mut("metadata") else {
        return Ok(());
    };
    let named = metadata
        .get("namespace")
        .and_then(Value::as_str)
        .filter(|named| !named.is_empty());
    match (named, namespace) {
        (Some(named), Some(namespace)) if named != namespace => Err(Problem::new(
            shown,
            "metadata.namespace",
            format!("is {named:?}, but -n says {namespace:?}"),
        )),
        (Some(_), _) | (None, None) => Ok(()),
        (None, Some(namespace)) => {
            metadata.insert("namespace".to_owned(), namespace.into());
            namespace.clone_into(of_key);
            Ok(())
        }
    }
}

fn texts(path: &Path, recursive: bool) -> anyhow::Result<Vec<(String, String)>> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("read standard input")?;
        return Ok(vec![("standard input".to_owned(), text)]);
    }
    let name = path.display().to_string();
    let kind = path
        .metadata()
        .with_context(|| format!("cannot read {name}"))?;
    if !kind.is_dir() {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        return Ok(vec![(name, text)]);
    }
    let mut entries: Vec<PathBuf> = std::fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .with_context(|| format!("cannot read {name}"))?;
    entries.sort();
    let mut found = Vec::new();
    for entry in entries {
        let wanted = match entry.extension().and_then(std::ffi::OsStr::to_str) {
            _ if entry.is_dir() => recursive,
            Some(extension) => ["yaml", "yml", "json"]
                .iter()
                .any(|known| known.eq_ignore_ascii_case(extension)),
            None => false,
        };
        if wanted {
            found.extend(texts(&entry, recursive)?);
        }
    }
    Ok(found)
}
