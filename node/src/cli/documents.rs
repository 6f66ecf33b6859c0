//! Resources in files: YAML or JSON, several documents in one file, lists, directories, standard input.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cleat_datastore::manifest::parse_documents;
use cleat_datastore::{Key, Origin, Problem, Resource};
use serde_json::Value;

/// What was found in files.
#[derive(Debug, Default)]
pub(super) struct Documents {
    /// Each object with the file and the document it came from.
    pub(super) objects: Vec<(Key, Resource)>,
    /// Documents that are no objects.
    pub(super) problems: Vec<Problem>,
}

/// Reads and decodes every document. An object that names no namespace belongs to `namespace`.
pub(super) fn read(
    paths: &[PathBuf],
    recursive: bool,
    namespace: &str,
) -> anyhow::Result<Documents> {
    let mut documents = Documents::default();
    let mut seen: BTreeMap<Key, Origin> = BTreeMap::new();
    for path in paths {
        for (name, text) in texts(path, recursive)? {
            for mut document in parse_documents(&name, &text) {
                if let Ok((key, value)) = &mut document.object {
                    put_into(key, value, namespace);
                }
                let origin = document.origin.clone();
                match document.decode() {
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
                    Err(problem) => documents.problems.push(problem),
                }
            }
        }
    }
    Ok(documents)
}

fn put_into(key: &mut Key, value: &mut Value, namespace: &str) {
    if let Key::Resource {
        namespace: Some(of_key),
        ..
    } = key
        && let Some(Value::Object(metadata)) = value.get_mut("metadata")
        && metadata
            .get("namespace")
            .and_then(Value::as_str)
            .is_none_or(str::is_empty)
    {
        metadata.insert("namespace".to_owned(), namespace.into());
        namespace.clone_into(of_key);
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
            Some("yaml" | "yml" | "json") => true,
            _ => false,
        };
        if wanted {
            found.extend(texts(&entry, recursive)?);
        }
    }
    Ok(found)
}
