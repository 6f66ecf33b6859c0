//! Files: finding, reading and changing them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{
    Key, Origin, Problem,
    manifest::{objects_of, parse_documents},
    yaml,
};

/// How deep directories are searched.
const MAX_DEPTH: usize = 8;
/// How many files are read.
const MAX_FILES: usize = 100_000;
/// Two changes of a file this close together may have one time.
const CLOCK_GRAIN: Duration = Duration::from_millis(20);

/// What tells one state of a file from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    len: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    /// When the file was changed last, in microseconds since 1970.
    pub(super) fn micros(&self) -> u64 {
        let since = self
            .modified
            .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        since.map_or(0, |since| {
            u64::try_from(since.as_micros()).unwrap_or(u64::MAX / 2)
        })
    }

    /// Whether a later change of the file would show.
    pub(super) fn is_settled(&self) -> bool {
        let age = self.modified.and_then(|time| time.elapsed().ok());
        age.is_some_and(|age| age > CLOCK_GRAIN)
    }
}

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Contents {
    /// Its objects: the bytes of their JSON, and where they stand.
    pub(super) objects: Vec<(Key, Vec<u8>, Origin)>,
    /// What is not even an object with a key.
    pub(super) problems: Vec<Problem>,
}

/// The files below a directory.
pub(super) fn walk(root: &Path) -> io::Result<BTreeMap<PathBuf, Stamp>> {
    let mut found = BTreeMap::new();
    let mut open = vec![(root.to_owned(), 0)];
    while let Some((directory, depth)) = open.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            // Follows links; what has gone since it was listed is not there.
            let Ok(metadata) = fs::metadata(&path) else {
                continue;
            };
            if metadata.is_dir() {
                if depth < MAX_DEPTH {
                    open.push((path, depth + 1));
                }
            } else if metadata.is_file() && is_ours(&path) {
                let stamp = Stamp {
                    inode: metadata.ino(),
                    len: metadata.len(),
                    modified: metadata.modified().ok(),
                };
                found.insert(path, stamp);
                if found.len() > MAX_FILES {
                    return Err(io::Error::other(format!("more than {MAX_FILES} files")));
                }
            }
        }
    }
    Ok(found)
}

/// What a file holds now. What it held before stays as far as it cannot be read.
pub(super) fn read(root: &Path, path: &Path, before: Option<&Contents>) -> Contents {
    let name = path.strip_prefix(root).unwrap_or(path);
    let name = name.display().to_string();
    let mut contents = Contents::default();
    match read_text(path) {
        Ok(text) => {
            for document in parse_documents(&name, &text) {
                match document.object {
                    Ok((key, value)) => {
                        let bytes = value.to_string().into_bytes();
                        contents.objects.push((key, bytes, document.origin));
                    }
                    Err(problem) => contents.problems.push(problem),
                }
            }
        }
        Err(error) => {
            let problem = Problem::new("", "", format!("cannot be read: {error}"));
            contents.problems.push(problem.at(name, 1));
        }
    }
    if let Some(before) = before
        && !contents.problems.is_empty()
    {
        let read: BTreeSet<Key> = contents
            .objects
            .iter()
            .map(|(key, ..)| key.clone())
            .collect();
        let kept = before
            .objects
            .iter()
            .filter(|(key, ..)| !read.contains(key));
        contents.objects.extend(kept.cloned());
    }
    contents
}

/// Puts an object into the file it stands in, or a new one; or takes it out.
pub(super) fn change(
    root: &Path,
    place: Option<&Path>,
    key: &Key,
    value: Option<&Value>,
) -> io::Result<()> {
    let Some(path) = place else {
        return match value {
            Some(value) => replace(&new_path(root, key), &yaml::write(value)),
            None => Ok(()),
        };
    };
    let text = read_text(path)?;
    let changed = changed_text(&text, key, value)
        .ok_or_else(|| io::Error::other(format!("{} no longer holds {key}", path.display())))?;
    if yaml::read(&changed)
        .iter()
        .all(|document| *document == Ok(None))
    {
        fs::remove_file(path)
    } else {
        replace(path, &changed)
    }
}

/// The text with one object changed or taken out, if it holds that object.
fn changed_text(text: &str, key: &Key, value: Option<&Value>) -> Option<String> {
    for (range, document) in yaml::read_places(text) {
        let Ok(Some(mut document)) = document else {
            continue;
        };
        let Ok(objects) = objects_of(document.clone()) else {
            continue;
        };
        let holds = |object: &Result<(Key, Value), Problem>| {
            object.as_ref().is_ok_and(|(found, _)| found == key)
        };
        let Some(index) = objects.iter().position(holds) else {
            continue;
        };
        let written = match document.get_mut("items").and_then(Value::as_array_mut) {
            Some(items) => {
                match value {
                    Some(value) => items[index] = value.clone(),
                    None => drop(items.remove(index)),
                }
                (!items.is_empty()).then(|| yaml::write(&document))
            }
            None => value.map(yaml::write),
        };
        let (before, after) = (&text[..range.start], &text[range.end..]);
        let first = !before.trim_end().ends_with("---");
        return Some(match written {
            Some(written) if first => format!("{before}{written}{after}"),
            Some(written) => format!("{}\n{written}{after}", before.trim_end()),
            // A document goes with the marker that begins it.
            None => format!(
                "{}{after}",
                before.trim_end().strip_suffix("---").unwrap_or(before)
            ),
        });
    }
    None
}

fn read_text(path: &Path) -> io::Result<String> {
    let len = fs::metadata(path)?.len();
    if len > yaml::MAX_TEXT_LEN as u64 {
        return Err(io::Error::other(format!("{len} bytes are too many")));
    }
    fs::read_to_string(path)
}

/// Replaces a file as a whole: no reader sees half of it.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default();
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    let hidden = path.with_file_name(hidden);
    let mut file = fs::File::create(&hidden)?;
    file.write_all(text.as_bytes())?;
    // The kernel's own times are as coarse as its ticks; revisions are made of them.
    file.set_modified(SystemTime::now())?;
    file.sync_all()?;
    fs::rename(&hidden, path)
}

/// A file for an object, of which there is none yet.
fn new_path(root: &Path, key: &Key) -> PathBuf {
    let kind = key.kind().map_or("blockaffinities", |kind| kind.plural());
    let parts = [Some(kind), key.namespace(), Some(key.name())];
    let stem: Vec<&str> = parts.into_iter().flatten().collect();
    let stem: String = stem
        .join("_")
        .chars()
        .map(|letter| match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' => letter,
            _ => '_',
        })
        .take(200)
        .collect();
    let numbered = (1u32..).map(|number| match number {
        1 => root.join(format!("{stem}.yaml")),
        _ => root.join(format!("{stem}_{number}.yaml")),
    });
    let mut free = numbered.skip_while(|path| path.exists());
    free.next().unwrap_or_else(|| root.join("objects.yaml"))
}

fn is_ours(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        ["yaml", "yml", "json"]
            .iter()
            .any(|ours| extension == *ours)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Kind;

    #[test]
    fn changing_an_object_leaves_the_rest_of_its_file_alone() {
        let text = "# top\napiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: a}\n---\n\
            # b is good\napiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: b}\n--- # c\n\
            apiVersion: v1\nkind: List\nitems:\n- {apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: c}}\n\
            - {apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: d}}\n---\nbroken: [\n";
        let names = |text: &str| -> Vec<String> {
            parse_documents("f", text)
                .into_iter()
                .filter_map(|document| Some(document.object.ok()?.0.name().to_owned()))
                .collect()
        };
        assert_eq!(names(text), ["a", "b", "c", "d"]);
        for name in ["a", "b", "c", "d"] {
            let key = Key::global(Kind::Tier, name);
            let value = json!({"apiVersion": "projectcalico.org/v3", "kind": "Tier",
                "metadata": {"name": name}, "spec": {"order": 7}});
            let changed = changed_text(text, &key, Some(&value)).unwrap();
            assert_eq!(names(&changed), ["a", "b", "c", "d"], "{changed}");
            assert!(changed.contains("order: 7") && changed.contains("broken: ["));
            assert!(name == "b" || changed.contains("# b is good"), "{changed}");

            let removed = changed_text(text, &key, None).unwrap();
            let rest: Vec<_> = ["a", "b", "c", "d"]
                .into_iter()
                .filter(|other| *other != name)
                .collect();
            assert_eq!(names(&removed), rest, "{removed}");
        }
        assert_eq!(
            changed_text(text, &Key::global(Kind::Tier, "x"), None),
            None
        );
    }
}
