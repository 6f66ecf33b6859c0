//! The file that holds a whole datastore: written by `export`, read by `import`.
//!
//! One JSON object on each line. The first is the head: the version of the format, and how many objects of each kind follow. Then
//! the objects, resources as manifests with their uid and creation time and without a version, what address management keeps as
//! documents of its own (`cleat_datastore::ipam::documents`), subnets of OpenStack. The last line is the end: the number of
//! objects again, and the SHA-256 of every byte before it. A file without that line was cut off. What is written depends on what
//! is stored alone, so that two files of equal stores are equal.
//!
//! The other form that is read is what `calicoctl datastore migrate export` writes: three parts between lines of `===`, the
//! resources as YAML, the cluster's information as JSON, and the keys of address management with their values as JSON.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use cleat_datastore::resource::{decode_value, manifest_key};
use cleat_datastore::{Key, Kind, Problem, Resource, ipam, parse_documents};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The version of the format.
pub const FORMAT: u32 = 1;
/// The longest line that is read: the largest value of a store, and what a manifest has around it.
const MAX_LINE: u64 = 4 << 20;
const HEAD: &str = "CleatExport";
const END: &str = "CleatExportEnd";
const SUBNET: &str = "Subnet";

/// Where a file came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `cleat export` of this version.
    Cleat(String),
    /// `calicoctl datastore migrate export`.
    Calicoctl,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Archive {
    /// Who wrote it.
    pub source: Source,
    /// Resources and subnets, in the order of the file.
    pub resources: Vec<(Key, Resource)>,
    /// What address management keeps.
    pub ipam: Vec<Value>,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is neither of the forms.
    #[error("is neither what `cleat export` nor what `calicoctl datastore migrate export` writes")]
    Unknown,
    /// It was written by a later version.
    #[error(
        "has format {0}, and this cleat knows formats up to {FORMAT}; import it with the cleat that wrote it, or a later one"
    )]
    Newer(u32),
    /// Its end is missing.
    #[error("was cut off: {found} of {wanted} objects are there, and no end")]
    CutOff {
        /// How many objects are there.
        found: usize,
        /// How many there should be.
        wanted: usize,
    },
    /// Something in it is not what was written.
    #[error("is damaged: {0}")]
    Damaged(String),
    /// Objects in it that no store would take.
    #[error("{}", list(.0))]
    Problems(Vec<Problem>),
}

fn list(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| format!("\n  {problem}"))
        .collect();
    let plural = if lines.len() == 1 { "" } else { "s" };
    format!("{} problem{plural}:{}", lines.len(), lines.concat())
}

/// A resource as a file holds it.
pub fn document(key: &Key, resource: &Resource) -> Value {
    let mut value = resource.to_value();
    if let Key::Subnet { region, id } = key {
        return json!({"kind": SUBNET, "metadata": {"name": id, "region": region}, "spec": value});
    }
    if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
        metadata.remove("resourceVersion");
    }
    value
}

#[derive(Serialize, Deserialize)]
struct Head {
    kind: String,
    format: u32,
    cleat: String,
    objects: usize,
    counts: BTreeMap<String, usize>,
}

#[derive(Serialize, Deserialize)]
struct End {
    kind: String,
    objects: usize,
    sha256: String,
}

/// Writes a file of these documents. `progress` is told how many are written.
pub fn write(
    out: &mut impl Write,
    documents: &[Value],
    mut progress: impl FnMut(usize),
) -> io::Result<()> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for document in documents {
        *counts.entry(kind_of(document).to_owned()).or_default() += 1;
    }
    let head = Head {
        kind: HEAD.to_owned(),
        format: FORMAT,
        cleat: env!("CARGO_PKG_VERSION").to_owned(),
        objects: documents.len(),
        counts,
    };
    let mut sum = Sha256::new();
    let mut line = |value: &str| {
        sum.update(value);
        sum.update("\n");
        out.write_all(value.as_bytes())?;
        out.write_all(b"\n")
    };
    line(&serde_json::to_string(&head)?)?;
    for (index, document) in documents.iter().enumerate() {
        line(&document.to_string())?;
        progress(index + 1);
    }
    let end = End {
        kind: END.to_owned(),
        objects: documents.len(),
        sha256: hex(&sum.finalize()),
    };
    writeln!(out, "{}", serde_json::to_string(&end)?)?;
    out.flush()
}

/// Reads a file, of which everything must be right.
pub fn read(input: &mut impl BufRead) -> Result<Archive, ArchiveError> {
    let mut sum = Sha256::new();
    let Some(first) = next_line(input, &mut sum)? else {
        return Err(ArchiveError::Unknown);
    };
    let head = serde_json::from_str::<Value>(&first).ok();
    let Some(head) = head.filter(|head| kind_of(head) == HEAD) else {
        let mut text = first;
        text.push('\n');
        input.read_to_string(&mut text)?;
        return calicoctl(&text);
    };
    let format = head.get("format").and_then(Value::as_u64).unwrap_or(0);
    if format > u64::from(FORMAT) {
        return Err(ArchiveError::Newer(
            u32::try_from(format).unwrap_or(u32::MAX),
        ));
    }
    let damaged = |what: &str| ArchiveError::Damaged(what.to_owned());
    let head: Head = serde_json::from_value(head).map_err(|error| damaged(&error.to_string()))?;
    let mut documents = Vec::new();
    loop {
        let before = sum.clone();
        let Some(line) = next_line(input, &mut sum)? else {
            let (found, wanted) = (documents.len(), head.objects);
            return Err(ArchiveError::CutOff { found, wanted });
        };
        let Ok(value) = serde_json::from_str::<Value>(&line) else {
            // A line that ends in the middle is where a file was cut off, if nothing comes after it.
            let (found, wanted) = (documents.len(), head.objects);
            return Err(if next_line(input, &mut sum)?.is_none() {
                ArchiveError::CutOff { found, wanted }
            } else {
                ArchiveError::Damaged(format!("line {} is no JSON", found + 2))
            });
        };
        if kind_of(&value) != END {
            documents.push(value);
            continue;
        }
        let end: End =
            serde_json::from_value(value).map_err(|error| damaged(&error.to_string()))?;
        if next_line(input, &mut sum)?.is_some() {
            return Err(damaged("something comes after its end"));
        }
        if end.sha256 != hex(&before.finalize()) {
            return Err(damaged("its checksum is wrong"));
        }
        if end.objects != documents.len() || head.objects != documents.len() {
            return Err(damaged("it does not hold as many objects as it says"));
        }
        break;
    }
    let lines = documents
        .into_iter()
        .enumerate()
        .map(|(index, value)| (format!("line {}", index + 2), Ok(value)));
    sorted(Source::Cleat(head.cleat), lines)
}

/// Tells resources from what is address management's, and decodes them.
fn sorted(
    source: Source,
    documents: impl Iterator<Item = (String, Result<Value, Problem>)>,
) -> Result<Archive, ArchiveError> {
    let mut archive = Archive {
        source,
        resources: Vec::new(),
        ipam: Vec::new(),
    };
    let mut problems = Vec::new();
    for (place, document) in documents {
        let decoded = document.and_then(|document| {
            if ipam::documents::is_document(&document) {
                archive.ipam.push(document);
                return Ok(());
            }
            let object = if kind_of(&document) == SUBNET {
                subnet(document)
            } else {
                resource(document)
            };
            archive.resources.push(object?);
            Ok(())
        });
        if let Err(mut problem) = decoded {
            if problem.origin.is_none() {
                problem.object = format!("{place}: {}", problem.object);
            }
            problems.push(problem);
        }
    }
    if problems.is_empty() {
        Ok(archive)
    } else {
        Err(ArchiveError::Problems(problems))
    }
}

/// What a store holds may be older than a rule for those who write now.
fn resource(document: Value) -> Result<(Key, Resource), Problem> {
    let key = manifest_key(&document)?;
    let resource = decode_value(&key, document)?;
    Ok((key, resource))
}

fn subnet(mut document: Value) -> Result<(Key, Resource), Problem> {
    let text = |pointer: &str| {
        let text = document.pointer(pointer).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let key = Key::Subnet {
        region: text("/metadata/region"),
        id: text("/metadata/name"),
    };
    if Key::parse(&key.path()).as_ref() != Some(&key) {
        return Err(Problem::new(&key, "metadata", "cannot be a key"));
    }
    let resource = decode_value(&key, document["spec"].take())?;
    Ok((key, resource))
}

fn calicoctl(text: &str) -> Result<Archive, ArchiveError> {
    let parts: Vec<&str> = text.split("===\n").collect();
    let [resources, cluster, keys] = parts[..] else {
        return Err(ArchiveError::Unknown);
    };
    let mut documents: Vec<(String, Result<Value, Problem>)> = Vec::new();
    for document in parse_documents("resources", resources) {
        let place = document.origin.to_string();
        documents.push((place, document.object.map(|(_, value)| value)));
    }
    let json = |what: &str, text: &str| {
        serde_json::from_str::<Value>(text)
            .map_err(|error| ArchiveError::Damaged(format!("{what} is no JSON: {error}")))
    };
    if !cluster.trim().is_empty() {
        documents.push((
            "cluster information".to_owned(),
            Ok(json("the cluster's information", cluster)?),
        ));
    }
    let keys = json("the part of address management", keys)?;
    for list in ["config", "blocks", "block_affinities", "handles"] {
        let pairs = match keys.get(list) {
            Some(Value::Array(pairs)) => pairs.clone(),
            Some(pair @ Value::Object(_)) => vec![pair.clone()],
            _ => Vec::new(),
        };
        for pair in pairs {
            let key = pair.get("Key").and_then(Value::as_str).unwrap_or_default();
            let value = pair.get("Value").map(Value::to_string).unwrap_or_default();
            let document = ipam::documents::document(key, value.as_bytes());
            documents.push((list.to_owned(), document));
        }
    }
    sorted(Source::Calicoctl, documents.into_iter())
}

/// The order in which resources are written into a store: what others refer to comes first, the cluster's information last, since
/// it says that the store is ready.
pub fn rank(key: &Key) -> u8 {
    match key.kind() {
        Some(Kind::Tier) => 0,
        Some(Kind::IpPool | Kind::Node | Kind::Profile) => 1,
        Some(Kind::ClusterInformation) => 9,
        _ => 2,
    }
}

fn next_line(input: &mut impl BufRead, sum: &mut Sha256) -> Result<Option<String>, ArchiveError> {
    let mut line = Vec::new();
    io::Read::take(&mut *input, MAX_LINE).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    sum.update(&line);
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() as u64 == MAX_LINE {
        return Err(ArchiveError::Damaged("a line is too long".to_owned()));
    }
    String::from_utf8(line)
        .map(Some)
        .map_err(|_| ArchiveError::Damaged("a line is no text".to_owned()))
}

fn kind_of(document: &Value) -> &str {
    document
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
