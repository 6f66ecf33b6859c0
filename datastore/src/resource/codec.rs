//! Bytes to objects and back.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    API_VERSION, Object, Resource, Spec,
    blanks::{Entries, has_none},
    check::{Check, Fault, Faults},
    for_each_kind, plain_resource, schema, typed_resource,
};
use crate::{
    Key, Kind, Problem,
    ipam::model::{AllocationBlock, IpamConfig},
    wep_name,
};

/// The largest value that is read or written, in bytes; etcd's own bound on a request.
pub const MAX_VALUE_LEN: usize = 1_572_864;
/// How deep JSON may nest; the reader of JSON text has the same bound.
const MAX_DEPTH: usize = 128;

/// The object that bytes under a key stand for.
pub fn decode(key: &Key, bytes: &[u8]) -> Result<Resource, Problem> {
    if bytes.len() > MAX_VALUE_LEN {
        let reason = format!("is larger than {MAX_VALUE_LEN} bytes");
        return Err(Problem::new(key, "", reason));
    }
    // Affinities from before there were states have no value at all.
    if bytes.is_empty() && matches!(key, Key::BlockAffinity { .. }) {
        return decode_value(key, Value::Object(Map::new()));
    }
    if let Key::IpamBlock { .. } | Key::IpamConfig = key {
        return decode_ipam(key, bytes);
    }
    if let Some(resource) = decode_plainly(key, bytes) {
        return checked(key, resource);
    }
    let value = serde_json::from_slice(bytes)
        .map_err(|error| Problem::new(key, "", format!("is no JSON: {error}")))?;
    decode_value(key, value)
}

/// Reads what needs no preparation straight into its type: a whole object in which every member says something. All else
/// is read by way of JSON values, by which it can be prepared, and what is wrong with it can be told.
fn decode_plainly(key: &Key, bytes: &[u8]) -> Option<Result<Resource, Fault>> {
    let kind = key.kind().filter(|kind| kind.has_spec())?;
    let text = std::str::from_utf8(bytes).ok()?;
    if !has_none(text) {
        return None;
    }
    let (resource, named) = plain_resource(kind, text).ok()?;
    let wanted = [kind.name(), kind.api_version()];
    let mut named = named.iter().zip(wanted);
    let as_wanted = named.all(|(named, wanted)| named.as_ref().is_none_or(|named| named == wanted));
    as_wanted.then(|| settled(key, resource))
}

/// The object that JSON under a key stands for.
pub fn decode_value(key: &Key, value: Value) -> Result<Resource, Problem> {
    if let Key::IpamBlock { .. } | Key::IpamConfig = key {
        return decode_ipam(key, value.to_string().as_bytes());
    }
    checked(key, decode_parts(key, value))
}

/// A resource that keeps the rules without which it cannot be read.
fn checked(key: &Key, resource: Result<Resource, Fault>) -> Result<Resource, Problem> {
    let problem = |fault: Fault| Problem::new(key, fault.field, fault.reason);
    let resource = resource.map_err(problem)?;
    let mut faults = Faults::lenient();
    for_each_kind!(&resource, object => object.check(&mut faults), _other => ());
    match faults.into_found().into_iter().next() {
        None => Ok(resource),
        Some(fault) => Err(problem(fault.of_key(key))),
    }
}

/// Every field of an object that its kind does not have. They are kept when others wrote them; who writes one by hand has
/// most likely misspelt it. Kinds of which the published schemas tell nothing are looked at from outside only.
pub fn unknown_fields(key: &Key, value: &Value) -> Vec<Problem> {
    let (Some(kind), Value::Object(map)) = (key.kind(), value) else {
        return Vec::new();
    };
    let mut faults = Faults::strict();
    schema::unknown(kind, map, &mut faults);
    let found = faults.into_found();
    found.into_iter().map(|fault| problem(key, fault)).collect()
}

/// The object that JSON under a key stands for, if it keeps every rule there is for those who write; or
/// everything that is wrong with it.
pub fn validate(key: &Key, value: Value) -> Result<Resource, Vec<Problem>> {
    let Some(kind) = key.kind() else {
        return decode_value(key, value).map_err(|problem| vec![problem]);
    };
    let mut faults = Faults::strict();
    if let Value::Object(map) = &value {
        let mut map = map.clone();
        // What nests too deep is refused below.
        if normalize(kind, &mut map).is_ok() {
            schema::check(kind, &map, &mut faults);
        }
    }
    let decoded = match decode_parts(key, value) {
        Ok(resource) => {
            for_each_kind!(&resource, object => object.check(&mut faults), _other => ());
            Some(resource)
        }
        Err(fault) => {
            // The same fault has been found with others already, or one inside of it.
            if fault.field.is_empty() || !faults.within_path(&fault.field) {
                faults.take(fault);
            }
            None
        }
    };
    match (faults.into_found(), decoded) {
        (found, Some(resource)) if found.is_empty() => Ok(resource),
        (found, _) => Err(found.into_iter().map(|fault| problem(key, fault)).collect()),
    }
}

fn problem(key: &Key, fault: Fault) -> Problem {
    let fault = fault.of_key(key);
    Problem::new(key, fault.field, fault.reason)
}

/// What address management reads itself.
fn decode_ipam(key: &Key, bytes: &[u8]) -> Result<Resource, Problem> {
    let path = key.path();
    let decoded = if *key == Key::IpamConfig {
        IpamConfig::decode(&path, bytes).map(Resource::IpamConfig)
    } else {
        AllocationBlock::decode(&path, bytes).map(Resource::IpamBlock)
    };
    decoded.map_err(|problem| Problem {
        object: key.to_string(),
        ..problem
    })
}

/// The key and the object of a whole manifest, whose kind and name say where it belongs; or the first
/// thing that is wrong with it.
pub fn from_manifest(value: Value) -> Result<(Key, Resource), Problem> {
    let key = manifest_key(&value)?;
    match validate(&key, value) {
        Ok(resource) => Ok((key, resource)),
        Err(problems) => Err(first(&key, problems)),
    }
}

/// The first of what is wrong with an object.
pub(crate) fn first(key: &Key, problems: Vec<Problem>) -> Problem {
    let nothing = || Problem::new(key, "", "is invalid");
    problems.into_iter().next().unwrap_or_else(nothing)
}

/// The key that a manifest belongs under.
pub fn manifest_key(value: &Value) -> Result<Key, Problem> {
    let made = made_name(value);
    let text = |pointer: &str| {
        value
            .pointer(pointer)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let named = text("/metadata/name").or(made.as_deref());
    let named = named.unwrap_or_default();
    let Some(kind_text) = text("/kind") else {
        return Err(Problem::new(named, "kind", "is required"));
    };
    let described = || match text("/metadata/namespace") {
        Some(namespace) => format!("{kind_text}({namespace}/{named})"),
        None => format!("{kind_text}({named})"),
    };
    let problem = |field: &str, reason: String| Err(Problem::new(described(), field, reason));
    let kind = Kind::from_name(kind_text);
    let version = kind.map_or(API_VERSION, Kind::api_version);
    match text("/apiVersion") {
        Some(said) if said == version => {}
        Some(said) => return problem("apiVersion", format!("is {said:?}, not {version:?}")),
        None => return problem("apiVersion", "is required".to_owned()),
    }
    let Some(kind) = kind else {
        return problem(
            "kind",
            format!("{kind_text:?} is no kind that is kept here"),
        );
    };
    if named.is_empty() {
        return problem("metadata.name", "is required".to_owned());
    }
    let namespace = match (kind.namespaced(), text("/metadata/namespace")) {
        (true, Some(namespace)) => Some(namespace.to_owned()),
        // As calicoctl does for those who do not think in namespaces.
        (true, None) => Some("default".to_owned()),
        (false, None) => None,
        (false, Some(_)) => {
            return problem("metadata.namespace", format!("a {kind} is in no namespace"));
        }
    };
    let key = Key::Resource {
        kind,
        namespace,
        name: named.to_owned(),
    };
    if Key::parse(&key.path()).as_ref() == Some(&key) {
        Ok(key)
    } else {
        problem("metadata.name", format!("{named:?} cannot be a name"))
    }
}

/// The name that the fields of a workload's endpoint make, for one that does not say its name.
fn made_name(value: &Value) -> Option<String> {
    if value.get("kind")?.as_str()? != Kind::WorkloadEndpoint.name() {
        return None;
    }
    let text = |name: &str| {
        let text = value.get("spec").and_then(|spec| spec.get(name)?.as_str());
        text.unwrap_or_default().to_owned()
    };
    let fields = wep_name::Fields {
        node: text("node"),
        orchestrator: text("orchestrator"),
        endpoint: text("endpoint"),
        workload: text("workload"),
        pod: text("pod"),
        container_id: text("containerID"),
    };
    wep_name::construct(&fields, false).ok()
}

impl Resource {
    /// The whole object as JSON, as a person reads it.
    pub fn to_value(&self) -> Value {
        fn whole<S: Spec>(object: &Object<S>) -> Value {
            let mut whole = Map::new();
            whole.insert("kind".to_owned(), S::KIND.name().into());
            whole.insert("apiVersion".to_owned(), S::KIND.api_version().into());
            let mut fields = plain(object);
            drop_empty(&mut fields, S::EMPTY_SAYS);
            for needed in ["metadata", "spec"] {
                fields
                    .entry(needed)
                    .or_insert_with(|| Value::Object(Map::new()));
            }
            if !S::KIND.has_spec()
                && let Some(Value::Object(spec)) = fields.remove("spec")
            {
                fields.extend(spec);
            }
            object.metadata.blanks.fill(&mut fields);
            whole.extend(fields);
            Value::Object(whole)
        }
        for_each_kind!(self, object => whole(object), other => Value::Object(plain(other)))
    }

    /// The bytes as they are stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut value = self.to_value();
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            // The store counts revisions itself; a stored number would be old at once.
            metadata.remove("resourceVersion");
        }
        value.to_string().into_bytes()
    }
}

fn plain(object: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(object) {
        Ok(Value::Object(map)) => map,
        // Structs with text for keys become objects whatever they hold.
        Ok(_) | Err(_) => Map::new(),
    }
}

fn decode_parts(key: &Key, value: Value) -> Result<Resource, Fault> {
    let Value::Object(mut map) = value else {
        return Err(Fault::new("", "is no JSON object"));
    };
    let kind = match key {
        Key::Resource { kind, .. } => *kind,
        Key::BlockAffinity { .. } => return plain_typed(map, Resource::BlockAffinity),
        Key::IpamHandle { .. } => return plain_typed(map, Resource::IpamHandle),
        Key::IpamHost { .. } => return plain_typed(map, Resource::IpamHost),
        Key::Subnet { .. } => return plain_typed(map, Resource::Subnet),
        Key::IpamBlock { .. } | Key::IpamConfig => {
            return Err(Fault::new("", "is read by address management alone"));
        }
    };
    for (field, wanted) in [("kind", kind.name()), ("apiVersion", kind.api_version())] {
        match map.remove(field) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text == wanted => {}
            Some(other) => return Err(Fault::new(field, format!("is {other}, not {wanted:?}"))),
        }
    }
    let blanks = Entries::of(&map);
    normalize(kind, &mut map)?;
    let resource = typed_resource(kind, Value::Object(map)).map_err(|fault| fault.of(kind))?;
    let blanks = blanks.without(&resource);
    let mut resource = settled(key, resource)?;
    if let Some(metadata) = resource.metadata_mut() {
        metadata.blanks = blanks;
    }
    Ok(resource)
}

/// An object with the key's name and namespace.
fn settled(key: &Key, mut resource: Resource) -> Result<Resource, Fault> {
    let (namespace, name) = (key.namespace(), key.name());
    if let Some(metadata) = resource.metadata_mut() {
        if metadata.name.is_empty() {
            name.clone_into(&mut metadata.name);
        } else if metadata.name != name {
            return Err(Fault::new(
                "metadata.name",
                format!("is not {name:?}, the key's"),
            ));
        }
        if metadata.namespace.is_none() {
            metadata.namespace = namespace.map(str::to_owned);
        } else if metadata.namespace.as_deref() != namespace {
            return Err(Fault::new("metadata.namespace", "is not the key's"));
        }
    }
    Ok(resource)
}

/// What is no resource.
fn plain_typed<T: DeserializeOwned>(
    mut map: Map<String, Value>,
    whole: impl FnOnce(T) -> Resource,
) -> Result<Resource, Fault> {
    drop_nulls(&mut map, 0)?;
    typed("", Value::Object(map)).map(whole)
}

/// Brings an object into the form of all kinds: metadata and spec are there, and no nulls.
fn normalize(kind: Kind, map: &mut Map<String, Value>) -> Result<(), Fault> {
    drop_nulls(map, 0)?;
    if !kind.has_spec() {
        let metadata = map.remove("metadata");
        let fields = std::mem::take(map);
        map.insert("spec".to_owned(), Value::Object(fields));
        map.extend(metadata.map(|metadata| ("metadata".to_owned(), metadata)));
    }
    for field in ["metadata", "spec"] {
        map.entry(field)
            .or_insert_with(|| Value::Object(Map::new()));
    }
    Ok(())
}

/// JSON to a type; what does not fit is named by its path, which begins with `root`.
pub(super) fn typed<T: DeserializeOwned>(root: &str, value: Value) -> Result<T, Fault> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let mut field = match (root, path.as_str()) {
            (root, ".") => root.to_owned(),
            ("", path) => path.to_owned(),
            (root, path) => format!("{root}.{path}"),
        };
        let reason = error.into_inner().to_string();
        // The field that is missing is the one at fault, not the object that should hold it.
        if let Some(missing) = reason
            .strip_prefix("missing field `")
            .and_then(|rest| rest.strip_suffix('`'))
        {
            if !field.is_empty() {
                field.push('.');
            }
            field.push_str(missing);
            return Fault::new(field, "is required");
        }
        Fault::new(field, reason)
    })
}

/// Members that say nothing are not written, but for those that were read so.
fn drop_empty(map: &mut Map<String, Value>, only_nulls: bool) {
    map.retain(|_, value| {
        match value {
            Value::Object(inner) => drop_empty(inner, only_nulls),
            Value::Array(items) => items
                .iter_mut()
                .filter_map(Value::as_object_mut)
                .for_each(|item| drop_empty(item, only_nulls)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        !value.is_null() && (only_nulls || !super::blanks::is_empty(value))
    });
}

/// Go reads a null as a field that is not there.
fn drop_nulls(map: &mut Map<String, Value>, depth: usize) -> Result<(), Fault> {
    fn inside(value: &mut Value, depth: usize) -> Result<(), Fault> {
        match value {
            Value::Object(map) => drop_nulls(map, depth),
            Value::Array(items) if depth < MAX_DEPTH => items
                .iter_mut()
                .try_for_each(|item| inside(item, depth + 1)),
            Value::Array(_) => Err(Fault::new("", format!("nests deeper than {MAX_DEPTH}"))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        }
    }
    if depth >= MAX_DEPTH {
        return Err(Fault::new("", format!("nests deeper than {MAX_DEPTH}")));
    }
    map.retain(|_, value| !value.is_null());
    map.values_mut()
        .try_for_each(|value| inside(value, depth + 1))
}
