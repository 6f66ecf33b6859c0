//! Bytes to objects and back.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    API_VERSION, Object, Resource, Spec,
    check::{Check, Fault},
    for_each_kind, typed_resource,
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
    let value = serde_json::from_slice(bytes)
        .map_err(|error| Problem::new(key, "", format!("is no JSON: {error}")))?;
    decode_value(key, value)
}

/// The object that JSON under a key stands for.
pub fn decode_value(key: &Key, value: Value) -> Result<Resource, Problem> {
    if let Key::IpamBlock { .. } | Key::IpamConfig = key {
        return decode_ipam(key, value.to_string().as_bytes());
    }
    decode_parts(key, value).map_err(|fault| Problem::new(key, fault.field, fault.reason))
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

/// The key and the object of a whole manifest, whose kind and name say where it belongs.
pub fn from_manifest(value: Value) -> Result<(Key, Resource), Problem> {
    let key = manifest_key(&value)?;
    let resource = decode_value(&key, value)?;
    Ok((key, resource))
}

/// The key that a manifest belongs under.
pub(crate) fn manifest_key(value: &Value) -> Result<Key, Problem> {
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
            whole.extend(plain(object));
            if !S::KIND.has_spec()
                && let Some(Value::Object(fields)) = whole.remove("spec")
            {
                whole.extend(fields);
            }
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
    drop_nulls(&mut map, 0)?;
    let (kind, namespace, name) = match key {
        Key::Resource {
            kind,
            namespace,
            name,
        } => (*kind, namespace, name),
        Key::BlockAffinity { .. } => {
            return typed("", Value::Object(map)).map(Resource::BlockAffinity);
        }
        Key::IpamHandle { .. } => return typed("", Value::Object(map)).map(Resource::IpamHandle),
        Key::IpamHost { .. } => return typed("", Value::Object(map)).map(Resource::IpamHost),
        Key::Subnet { .. } => return typed("", Value::Object(map)).map(Resource::Subnet),
        Key::IpamBlock { .. } | Key::IpamConfig => {
            unreachable!("address management has read them")
        }
    };
    for (field, wanted) in [("kind", kind.name()), ("apiVersion", kind.api_version())] {
        match map.remove(field) {
            None => {}
            Some(Value::String(text)) if text == wanted => {}
            Some(other) => return Err(Fault::new(field, format!("is {other}, not {wanted:?}"))),
        }
    }
    if !kind.has_spec() {
        let metadata = map.remove("metadata");
        map = Map::from_iter([("spec".to_owned(), Value::Object(map))]);
        map.extend(metadata.map(|metadata| ("metadata".to_owned(), metadata)));
    }
    for field in ["metadata", "spec"] {
        map.entry(field)
            .or_insert_with(|| Value::Object(Map::new()));
    }
    let mut resource = typed_resource(kind, Value::Object(map)).map_err(|fault| fault.of(kind))?;
    if let Some(metadata) = resource.metadata_mut() {
        if metadata.name.is_empty() {
            metadata.name.clone_from(name);
        } else if metadata.name != *name {
            return Err(Fault::new(
                "metadata.name",
                format!("is not {name:?}, the key's"),
            ));
        }
        if metadata.namespace.is_none() {
            metadata.namespace.clone_from(namespace);
        } else if metadata.namespace != *namespace {
            return Err(Fault::new("metadata.namespace", "is not the key's"));
        }
    }
    for_each_kind!(&resource, object => object.check(), _other => Ok(()))
        .map_err(|fault| fault.of(kind))?;
    Ok(resource)
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
