//! Patches of objects: strategic merge, JSON merge (RFC 7386) and JSON patch (RFC 6902).
//!
//! A strategic merge is a JSON merge that knows lists: Kubernetes merges those whose type says so by a key of their elements and
//! replaces all others. Of the objects here only a few lists say so, and `merge_key` names them; every list of a `spec` of
//! Calico's is replaced whole. Directives (`$patch`, `$retainKeys`, `$deleteFromPrimitiveList`) are obeyed; `$setElementOrder` is
//! taken and has no effect, since no list merged here has an order that means anything.

use serde_json::{Map, Value};

/// What a patch is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Strategic merge, as Kubernetes and calicoctl have it.
    Strategic,
    /// Operations on paths, RFC 6902.
    Json,
    /// A part of the document to lay over it, RFC 7386.
    Merge,
}

/// Why a patch cannot be used, or not on this document. The document may have been changed in part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// It is no JSON.
    #[error("the patch is no JSON: {0}")]
    Syntax(String),
    /// A merge that is no object.
    #[error("the patch is {0}, not an object such as {{\"spec\":{{..}}}}")]
    NoObject(&'static str),
    /// Not the list of operations that RFC 6902 has.
    #[error("the patch is no list of operations: {0}")]
    NoOperations(String),
    /// An operation that this document does not allow.
    #[error("the patch does not fit the resource: {0}")]
    Operation(String),
    /// A directive of a strategic merge that means nothing.
    #[error("the patch has {directive} at {path:?}, which means nothing there")]
    Directive {
        /// Where.
        path: String,
        /// Which.
        directive: String,
    },
}

/// Applies the text of a patch to a document.
pub fn apply(document: &mut Value, style: Style, text: &str) -> Result<(), PatchError> {
    let patch: Value =
        serde_json::from_str(text).map_err(|error| PatchError::Syntax(error.to_string()))?;
    match style {
        Style::Json => {
            let operations: json_patch::Patch = serde_json::from_value(patch)
                .map_err(|error| PatchError::NoOperations(error.to_string()))?;
            json_patch::patch(document, &operations)
                .map_err(|error| PatchError::Operation(error.to_string()))
        }
        Style::Merge => {
            object(&patch)?;
            json_patch::merge(document, &patch);
            Ok(())
        }
        Style::Strategic => {
            object(&patch)?;
            let (Value::Object(document), Value::Object(patch)) = (document, patch) else {
                return Ok(());
            };
            let kind = document.get("kind").and_then(Value::as_str);
            let kind = kind.unwrap_or_default().to_owned();
            merge_map(document, patch, &kind, "")
        }
    }
}

fn object(patch: &Value) -> Result<(), PatchError> {
    Err(PatchError::NoObject(match patch {
        Value::Object(_) => return Ok(()),
        Value::Array(_) => "a list",
        Value::String(_) => "a text",
        Value::Null | Value::Bool(_) | Value::Number(_) => "a single value",
    }))
}

fn merge_map(
    target: &mut Map<String, Value>,
    mut patch: Map<String, Value>,
    kind: &str,
    path: &str,
) -> Result<(), PatchError> {
    match patch.remove(DIRECTIVE) {
        None => {}
        Some(Value::String(word)) if word == "merge" => {}
        Some(Value::String(word)) if word == "replace" => {
            *target = plain(patch);
            return Ok(());
        }
        Some(Value::String(word)) if word == "delete" => {
            target.clear();
            return Ok(());
        }
        Some(other) => {
            return Err(PatchError::Directive {
                path: path.to_owned(),
                directive: format!("{DIRECTIVE}: {other}"),
            });
        }
    }
    if let Some(Value::Array(kept)) = patch.remove("$retainKeys") {
        target.retain(|key, _| kept.iter().any(|kept| kept == key.as_str()));
    }
    for (key, value) in patch {
        if key.starts_with("$setElementOrder/") {
            continue;
        }
        if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(items)), Value::Array(gone)) = (target.get_mut(list), &value)
            {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        let below = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        match (target.get_mut(&key), value) {
            (_, Value::Null) => {
                target.remove(&key);
            }
            (Some(Value::Object(old)), Value::Object(new)) => {
                if new.get(DIRECTIVE).and_then(Value::as_str) == Some("delete") {
                    target.remove(&key);
                } else {
                    merge_map(old, new, kind, &below)?;
                }
            }
            (Some(Value::Array(old)), Value::Array(new)) => merge_list(old, new, kind, &below)?,
            (_, Value::Object(new)) => {
                target.insert(key, Value::Object(plain(new)));
            }
            (_, new) => {
                target.insert(key, new);
            }
        }
    }
    Ok(())
}

/// How the elements of a list that is merged are told apart.
#[derive(Clone, Copy)]
enum MergeKey {
    /// By this field.
    Field(&'static str),
    /// By themselves.
    Value,
}

/// How a list is merged, if it is not replaced.
fn merge_key(kind: &str, path: &str) -> Option<MergeKey> {
    match (kind, path) {
        (_, "metadata.finalizers") => Some(MergeKey::Value),
        (_, "metadata.ownerReferences") => Some(MergeKey::Field("uid")),
        (_, "status.conditions") => Some(MergeKey::Field("type")),
        ("Service", "spec.ports") => Some(MergeKey::Field("port")),
        _ => None,
    }
}

fn merge_list(
    target: &mut Vec<Value>,
    patch: Vec<Value>,
    kind: &str,
    path: &str,
) -> Result<(), PatchError> {
    let Some(key) = merge_key(kind, path) else {
        *target = patch;
        return Ok(());
    };
    for mut item in patch {
        let MergeKey::Field(key) = key else {
            if !target.contains(&item) {
                target.push(item);
            }
            continue;
        };
        let directive = item
            .as_object_mut()
            .and_then(|item| item.remove(DIRECTIVE))
            .and_then(|word| word.as_str().map(str::to_owned));
        let place = target.iter().position(|old| old.get(key) == item.get(key));
        match (directive.as_deref(), place, item) {
            (Some("delete"), place, _) => {
                if let Some(place) = place {
                    target.remove(place);
                }
            }
            (None | Some("merge"), Some(place), Value::Object(new)) => {
                if let Value::Object(old) = &mut target[place] {
                    merge_map(old, new, kind, path)?;
                }
            }
            (Some("replace"), Some(place), new) => target[place] = new,
            (None | Some("merge" | "replace"), _, new) => target.push(new),
            (Some(word), _, _) => {
                return Err(PatchError::Directive {
                    path: path.to_owned(),
                    directive: format!("{DIRECTIVE}: {word:?}"),
                });
            }
        }
    }
    Ok(())
}

/// What a patch leaves where there was nothing: no nulls and no directives.
fn plain(patch: Map<String, Value>) -> Map<String, Value> {
    let kept = patch
        .into_iter()
        .filter(|(key, value)| !value.is_null() && !key.starts_with('$'));
    kept.map(|(key, value)| {
        if let Value::Object(map) = value {
            (key, Value::Object(plain(map)))
        } else {
            (key, value)
        }
    })
    .collect()
}

const DIRECTIVE: &str = "$patch";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_style_changes_what_it_says_and_nothing_else() {
        let node = || {
            json!({
                "kind": "Node",
                "metadata": {"name": "n", "labels": {"a": "1", "b": "2"}, "finalizers": ["x"]},
                "spec": {"bgp": {"asNumber": 64512, "ipv4Address": "10.0.0.1/24"},
                         "addresses": [{"address": "10.0.0.1"}, {"address": "10.0.0.2"}]}
            })
        };
        for (case, style, patch, pointer, expected) in [
            (
                "strategic adds a field",
                Style::Strategic,
                r#"{"spec":{"bgp":{"routeReflectorClusterID":"1.0.0.1"}}}"#,
                "/spec/bgp",
                json!({"asNumber": 64512, "ipv4Address": "10.0.0.1/24", "routeReflectorClusterID": "1.0.0.1"}),
            ),
            (
                "strategic removes a field",
                Style::Strategic,
                r#"{"spec":{"bgp":{"asNumber":null}}}"#,
                "/spec/bgp",
                json!({"ipv4Address": "10.0.0.1/24"}),
            ),
            (
                "strategic replaces a list of a spec",
                Style::Strategic,
                r#"{"spec":{"addresses":[{"address":"10.0.0.3"}]}}"#,
                "/spec/addresses",
                json!([{"address": "10.0.0.3"}]),
            ),
            (
                "strategic merges a list of metadata",
                Style::Strategic,
                r#"{"metadata":{"finalizers":["y","x"]}}"#,
                "/metadata/finalizers",
                json!(["x", "y"]),
            ),
            (
                "strategic deletes from a list of metadata",
                Style::Strategic,
                r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":["x"]}}"#,
                "/metadata/finalizers",
                json!([]),
            ),
            (
                "strategic replaces by a directive",
                Style::Strategic,
                r#"{"spec":{"bgp":{"$patch":"replace","asNumber":1}}}"#,
                "/spec/bgp",
                json!({"asNumber": 1}),
            ),
            (
                "strategic deletes by a directive",
                Style::Strategic,
                r#"{"metadata":{"labels":{"$patch":"delete"}}}"#,
                "/metadata",
                json!({"name": "n", "finalizers": ["x"]}),
            ),
            (
                "strategic keeps the keys it is told to",
                Style::Strategic,
                r#"{"metadata":{"labels":{"$retainKeys":["b"],"c":"3"}}}"#,
                "/metadata/labels",
                json!({"b": "2", "c": "3"}),
            ),
            (
                "strategic puts no null where nothing was",
                Style::Strategic,
                r#"{"spec":{"wireguard":{"a":null,"b":{"c":null,"d":1}}}}"#,
                "/spec/wireguard",
                json!({"b": {"d": 1}}),
            ),
            (
                "merge adds and removes",
                Style::Merge,
                r#"{"metadata":{"labels":{"a":null,"c":"3"}}}"#,
                "/metadata/labels",
                json!({"b": "2", "c": "3"}),
            ),
            (
                "merge replaces lists",
                Style::Merge,
                r#"{"metadata":{"finalizers":["y"]}}"#,
                "/metadata/finalizers",
                json!(["y"]),
            ),
            (
                "operations",
                Style::Json,
                r#"[{"op":"test","path":"/spec/bgp/asNumber","value":64512},{"op":"replace","path":"/spec/bgp/asNumber","value":65000},
                 {"op":"remove","path":"/metadata/labels/a"},{"op":"add","path":"/spec/addresses/-","value":{"address":"fd00::1"}}]"#,
                "/spec",
                json!({"bgp": {"asNumber": 65000, "ipv4Address": "10.0.0.1/24"},
                             "addresses": [{"address": "10.0.0.1"}, {"address": "10.0.0.2"}, {"address": "fd00::1"}]}),
            ),
        ] {
            let mut document = node();
            assert_eq!(apply(&mut document, style, patch), Ok(()), "{case}");
            assert_eq!(document.pointer(pointer), Some(&expected), "{case}");
            assert_eq!(document["kind"], "Node", "{case}");
        }
    }

    #[test]
    fn ports_of_a_service_are_merged_and_those_of_others_replaced() {
        let document = |kind: &str| json!({"kind": kind, "spec": {"ports": [{"port": 80, "name": "web"}, {"port": 443, "name": "tls"}]}});
        let patch = r#"{"spec":{"ports":[{"port":443,"name":"https"},{"port":80,"$patch":"delete"},{"port":53}]}}"#;
        let mut service = document("Service");
        apply(&mut service, Style::Strategic, patch).unwrap();
        assert_eq!(
            service["spec"]["ports"],
            json!([{"port": 443, "name": "https"}, {"port": 53}])
        );
        let patch = r#"{"spec":{"ports":[{"port":53}]}}"#;
        let mut endpoint = document("HostEndpoint");
        apply(&mut endpoint, Style::Strategic, patch).unwrap();
        assert_eq!(endpoint["spec"]["ports"], json!([{"port": 53}]));
    }

    #[test]
    fn a_patch_that_means_nothing_is_refused_with_what_is_wrong() {
        for (style, patch, said) in [
            (Style::Strategic, "{", "is no JSON"),
            (Style::Strategic, "[]", "is a list, not an object"),
            (Style::Merge, "1", "is a single value"),
            (Style::Json, "{}", "no list of operations"),
            (
                Style::Json,
                r#"[{"op":"frob","path":"/a"}]"#,
                "no list of operations",
            ),
            (
                Style::Json,
                r#"[{"op":"remove","path":"/spec/nothing"}]"#,
                "does not fit",
            ),
            (
                Style::Json,
                r#"[{"op":"test","path":"/kind","value":"Tier"}]"#,
                "does not fit",
            ),
            (
                Style::Strategic,
                r#"{"spec":{"$patch":"frob"}}"#,
                "$patch: \"frob\" at \"spec\"",
            ),
        ] {
            let mut document = json!({"kind": "Node", "spec": {}});
            let error = apply(&mut document, style, patch).unwrap_err().to_string();
            assert!(error.contains(said), "{patch}: {error}");
        }
    }
}
