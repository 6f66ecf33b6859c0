//! All of IPAM as documents, for export and import.
//!
//! A document has the shape of Calico's resource of the same name (`IPAMBlock`, `IPAMHandle`,
//! `BlockAffinity`); `IPAMConfig` and `IPAMHost` are those of the two keys that have no such
//! resource. What a key says (a block's net, a handle's id) stands in `spec` there, and the few
//! names of fields that etcd spells otherwise are spelled as resources have them. All else,
//! unknown fields included, is carried over as it is stored.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::{
    IpamError,
    keys::{self, Owner},
    kv::Want,
    model::{self, AllocationBlock, BlockAffinity, Handle, IpamConfig},
    view::{Draft, Stop},
};
use crate::Problem;

/// The kinds of documents, in the order in which they are restored.
pub const KINDS: [&str; 5] = [
    "IPAMConfig",
    "IPAMBlock",
    "BlockAffinity",
    "IPAMHandle",
    "IPAMHost",
];

/// All of IPAM.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dump {
    /// Everything that can be read, in the order of [`KINDS`].
    pub documents: Vec<Value>,
    /// What is stored but is not in the documents, and why.
    pub left_out: Vec<Problem>,
}

/// What became of documents that were to be restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// How many keys were written.
    pub written: usize,
    /// How many were there already just so.
    pub unchanged: usize,
}

/// A document, understood.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    rank: usize,
    key: String,
    value: Vec<u8>,
    block: Option<IpNet>,
}

/// Whether a document is one of IPAM's, by its kind.
pub fn is_document(document: &Value) -> bool {
    rank(document).is_some()
}

/// The key that a document belongs under, if it can be restored.
pub fn key(document: &Value) -> Result<String, Problem> {
    parse_one(document).map(|stored| stored.key)
}

/// Decides nothing: everything there is.
pub(super) fn dump(draft: &Draft<'_>) -> Result<Dump, Stop> {
    let mut dump = Dump::default();
    let mut documents: BTreeMap<usize, Vec<Value>> = BTreeMap::new();
    for key in draft.keys_under(keys::ROOT)? {
        let bytes = draft.value(&key)?.unwrap_or_default();
        match document(&key, bytes) {
            Ok(document) => {
                let rank = rank(&document).unwrap_or(KINDS.len());
                documents.entry(rank).or_default().push(document);
            }
            Err(problem) => dump.left_out.push(problem),
        }
    }
    dump.documents = documents.into_values().flatten().collect();
    Ok(dump)
}

/// Reads documents; one that cannot be restored is a reason to restore none.
pub(super) fn parse(documents: &[Value]) -> Result<Vec<Stored>, Vec<Problem>> {
    let mut parsed = Vec::new();
    let mut problems = Vec::new();
    for document in documents {
        match parse_one(document) {
            Ok(stored) => parsed.push(stored),
            Err(problem) => problems.push(problem),
        }
    }
    parsed.sort_by(|a, b| (a.rank, &a.key).cmp(&(b.rank, &b.key)));
    for pair in parsed.windows(2) {
        if pair[0].key == pair[1].key {
            problems.push(Problem::new(&pair[0].key, "", "stands there twice"));
        }
    }
    let mut blocks: Vec<IpNet> = parsed.iter().filter_map(|stored| stored.block).collect();
    blocks.sort_unstable();
    for pair in blocks.windows(2) {
        if pair[0] != pair[1] && pair[0].contains(&pair[1]) {
            let reason = format!("overlaps {}", pair[0]);
            problems.push(Problem::new("IPAMBlock", pair[1].to_string(), reason));
        }
    }
    if problems.is_empty() {
        Ok(parsed)
    } else {
        Err(problems)
    }
}

/// Decides to store some documents. What is there and says something else is replaced only if
/// that is wanted.
pub(super) fn restore(
    draft: &mut Draft<'_>,
    documents: &[Stored],
    replace: bool,
) -> Result<Restored, Stop> {
    draft.need(documents.iter().map(|stored| Want::Key(stored.key.clone())))?;
    if documents.iter().any(|stored| stored.block.is_some()) {
        check_overlaps(draft, documents)?;
    }
    let mut restored = Restored::default();
    for stored in documents {
        match draft.value(&stored.key)? {
            Some(there) if is_same(&stored.key, there, &stored.value) => restored.unchanged += 1,
            Some(_) if !replace => return Err(IpamError::Exists(stored.key.clone()).into()),
            Some(_) | None => {
                draft.put_bytes(stored.key.clone(), stored.value.clone());
                restored.written += 1;
            }
        }
    }
    Ok(restored)
}

/// How many documents go into one transaction.
pub(super) const CHUNK: usize = 60;

/// Blocks that share addresses with others would give them twice.
fn check_overlaps(draft: &Draft<'_>, documents: &[Stored]) -> Result<(), Stop> {
    let there: Vec<IpNet> = draft
        .keys_under(keys::BLOCKS)?
        .iter()
        .filter_map(|key| keys::parse_block(key))
        .collect();
    for new in documents.iter().filter_map(|stored| stored.block) {
        let overlapping = there
            .iter()
            .find(|old| **old != new && (old.contains(&new) || new.contains(*old)));
        if let Some(old) = overlapping {
            return Err(IpamError::Overlaps {
                block: new,
                other: *old,
            }
            .into());
        }
    }
    Ok(())
}

/// Whether what is stored would become just this, were it dumped and restored.
fn is_same(key: &str, there: &[u8], value: &[u8]) -> bool {
    document(key, there)
        .and_then(|document| parse_one(&document))
        .is_ok_and(|stored| stored.value == value)
}

fn rank(document: &Value) -> Option<usize> {
    let kind = document.get("kind")?.as_str()?;
    KINDS.iter().position(|known| *known == kind)
}

/// What is stored under a key, as a document.
pub fn document(key: &str, bytes: &[u8]) -> Result<Value, Problem> {
    if key == keys::CONFIG {
        // As it is stored when it is restored, so that a dump of what was restored is the same.
        let config: IpamConfig = model::decode(key, bytes)?;
        let spec = renamed(object(key, &model::encode(&config))?, &CONFIG_FIELDS);
        return Ok(resource("IPAMConfig", "default", spec));
    }
    if let Some(cidr) = keys::parse_block(key) {
        let block = AllocationBlock::decode(key, bytes)?;
        let spec = renamed(object(key, &model::encode(&block))?, &BLOCK_FIELDS);
        return Ok(resource("IPAMBlock", &name_of(cidr), spec));
    }
    if let Some((owner, cidr)) = keys::parse_affinity(key) {
        let affinity = model::decode_affinity(key, bytes)?;
        let mut spec = object(key, &model::encode(&affinity))?;
        spec.insert("cidr".to_owned(), cidr.to_string().into());
        spec.insert("node".to_owned(), owner.name().into());
        spec.insert("type".to_owned(), owner.kind().into());
        let name = format!("{}-{}", owner.name(), name_of(cidr));
        return Ok(resource("BlockAffinity", &name, spec));
    }
    if let Some(id) = keys::parse_handle(key) {
        let handle: Handle = model::decode(key, bytes)?;
        let mut spec = object(key, &model::encode(&handle))?;
        spec.insert("handleID".to_owned(), id.into());
        return Ok(resource("IPAMHandle", &id.to_ascii_lowercase(), spec));
    }
    if let Some(owner) = keys::parse_host(key) {
        let mut spec = object(key, bytes)?;
        spec.insert("node".to_owned(), owner.name().into());
        spec.insert("type".to_owned(), owner.kind().into());
        return Ok(resource("IPAMHost", owner.name(), spec));
    }
    Err(Problem::new(key, "", "is no key of IPAM's"))
}

fn parse_one(document: &Value) -> Result<Stored, Problem> {
    let name = document["metadata"]["name"].as_str().unwrap_or_default();
    let kind = document["kind"].as_str().unwrap_or_default();
    let problem =
        |field: &str, reason: &str| Problem::new(format!("{kind}({name})"), field, reason);
    let rank = rank(document).ok_or_else(|| problem("kind", "is none of IPAM's"))?;
    let mut spec = document["spec"]
        .as_object()
        .cloned()
        .ok_or_else(|| problem("spec", "is no object"))?;
    let mut take = |field: &str| match spec.remove(field) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        _ => Err(problem(&format!("spec.{field}"), "is no text")),
    };
    let mut block = None;
    let (key, spec) = match kind {
        "IPAMConfig" => (keys::CONFIG.to_owned(), stored_as(spec, &CONFIG_FIELDS)),
        "IPAMBlock" => {
            let cidr = take("cidr")?;
            let cidr = parse_cidr(&cidr).ok_or_else(|| problem("spec.cidr", "is no CIDR"))?;
            spec.insert("cidr".to_owned(), cidr.to_string().into());
            // Every resource has this field, and nothing reads it any more.
            spec.remove("strictAffinity");
            block = Some(cidr);
            (keys::block(cidr), stored_as(spec, &BLOCK_FIELDS))
        }
        "BlockAffinity" => {
            let cidr = take("cidr")?;
            let node = take("node")?;
            let owner = owner(take("type").as_deref().unwrap_or("host"), &node)
                .ok_or_else(|| problem("spec.type", "is neither host nor virtual"))?;
            let cidr = parse_cidr(&cidr).ok_or_else(|| problem("spec.cidr", "is no CIDR"))?;
            (keys::affinity(&owner, cidr), spec)
        }
        "IPAMHandle" => {
            let id = take("handleID")?;
            if !keys::is_segment(&id) {
                return Err(problem("spec.handleID", "cannot be a part of a key"));
            }
            (keys::handle(&id), spec)
        }
        _ => {
            let node = take("node")?;
            let owner = owner(take("type").as_deref().unwrap_or("host"), &node)
                .ok_or_else(|| problem("spec.type", "is neither host nor virtual"))?;
            (keys::host(&owner), spec)
        }
    };
    // What goes through the types is stored as everything else here is.
    let bytes = model::encode(&spec);
    let value = match kind {
        "IPAMConfig" => {
            let config: IpamConfig = model::decode(&key, &bytes)?;
            config.check()?;
            model::encode(&config)
        }
        "IPAMBlock" => model::encode(&AllocationBlock::decode(&key, &bytes)?),
        "BlockAffinity" => model::encode(&model::decode::<BlockAffinity>(&key, &bytes)?),
        "IPAMHandle" => model::encode(&model::decode::<Handle>(&key, &bytes)?),
        _ => bytes,
    };
    Ok(Stored {
        rank,
        key,
        value,
        block,
    })
}

fn owner(kind: &str, name: &str) -> Option<Owner> {
    Owner::parse(&format!("{kind}:{name}"))
}

fn parse_cidr(text: &str) -> Option<IpNet> {
    text.parse().ok().filter(|net: &IpNet| net.trunc() == *net)
}

fn resource(kind: &str, name: &str, spec: impl Into<Value>) -> Value {
    json!({
        "apiVersion": "projectcalico.org/v3",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec.into(),
    })
}

/// A net as a part of a resource's name.
fn name_of(cidr: IpNet) -> String {
    cidr.to_string().replace(['.', ':', '/'], "-")
}

fn object(key: &str, bytes: &[u8]) -> Result<Map<String, Value>, Problem> {
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    model::decode(key, bytes)
}

/// Names of fields as they are stored, and as resources have them.
type Names = [(&'static str, &'static str)];

const BLOCK_FIELDS: [(&str, &str); 1] = [("affinity_claim_time", "affinityClaimTime")];
const CONFIG_FIELDS: [(&str, &str); 2] = [
    ("strict_affinity", "strictAffinity"),
    ("auto_allocate_blocks", "autoAllocateBlocks"),
];

fn renamed(mut object: Map<String, Value>, names: &Names) -> Map<String, Value> {
    for (stored, resource) in names {
        if let Some(value) = object.remove(*stored) {
            object.insert((*resource).to_owned(), value);
        }
    }
    object
}

fn stored_as(mut object: Map<String, Value>, names: &Names) -> Map<String, Value> {
    for (stored, resource) in names {
        if let Some(value) = object.remove(*resource) {
            object.insert((*stored).to_owned(), value);
        }
    }
    object
}
