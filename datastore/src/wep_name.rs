//! Names of workload endpoints, which are made of their fields.
//!
//! A name is the node, the orchestrator, one or two fields that the orchestrator decides on, and the
//! endpoint, joined by `-`. A dash within a field is doubled, so a single one always separates.

use crate::resource::WorkloadEndpointSpec;

/// The fields that make a name; empty ones are not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the endpoint")]
pub struct Fields {
    pub node: String,
    pub orchestrator: String,
    pub endpoint: String,
    pub workload: String,
    pub pod: String,
    pub container_id: String,
}

/// Why fields make no name, or a name no fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct NameError {
    /// The field at fault, as it stands in JSON.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl Fields {
    /// The fields of an endpoint.
    pub fn of(spec: &WorkloadEndpointSpec) -> Self {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        Self {
            node: spec.node.clone(),
            orchestrator: spec.orchestrator.clone(),
            endpoint: spec.endpoint.clone(),
            workload: text(&spec.workload),
            pod: text(&spec.pod),
            container_id: text(&spec.container_id),
        }
    }

    /// The workload, by the name that its orchestrator has for it.
    pub fn workload(&self) -> &str {
        self.segments()[2].1
    }

    /// The segments of the name, in order, each with the name of its field.
    fn segments(&self) -> [(&'static str, &str); 4] {
        let workload = match self.orchestrator.as_str() {
            "k8s" => ("pod", self.pod.as_str()),
            "cni" => ("containerID", self.container_id.as_str()),
            "libnetwork" => ("workload", "libnetwork"),
            _ => ("workload", self.workload.as_str()),
        };
        [
            ("node", &self.node),
            ("orchestrator", &self.orchestrator),
            workload,
            ("endpoint", &self.endpoint),
        ]
    }

    fn set(&mut self, segment: usize, text: String) {
        match (segment, self.orchestrator.as_str()) {
            (0, _) => self.node = text,
            (1, _) => self.orchestrator = text,
            (2, "k8s") => self.pod = text,
            (2, "cni") => self.container_id = text,
            (2, "libnetwork") => {}
            (2, _) => self.workload = text,
            _ => self.endpoint = text,
        }
    }
}

/// The name that fields make. With `prefix`, it may stop with a dash before the first empty field.
pub fn construct(fields: &Fields, prefix: bool) -> Result<String, NameError> {
    let mut name = String::new();
    for (index, (field, text)) in fields.segments().into_iter().enumerate() {
        if index > 0 {
            name.push('-');
        }
        if text.is_empty() {
            if prefix && index > 0 {
                return Ok(name);
            }
            let reason = "is required".to_owned();
            return Err(NameError { field, reason });
        }
        if text.starts_with('-') || text.ends_with('-') {
            let reason = format!("{text:?} begins or ends with `-`");
            return Err(NameError { field, reason });
        }
        name.push_str(&text.replace('-', "--"));
    }
    Ok(name)
}

/// The fields that a name, or the beginning of one, is made of.
pub fn parse(name: &str) -> Result<Fields, NameError> {
    let wrong = |reason: &str| NameError {
        field: "name",
        reason: format!("{name:?} {reason}"),
    };
    if name.is_empty() {
        return Err(wrong("is empty"));
    }
    let mut fields = Fields::default();
    let segments = split(name);
    if segments.len() > 4 {
        return Err(wrong("has more than four parts"));
    }
    let last = segments.len() - 1;
    for (index, segment) in segments.into_iter().enumerate() {
        if segment.is_empty() && index < last {
            return Err(wrong("has an empty part"));
        }
        fields.set(index, segment);
    }
    Ok(fields)
}

/// Whether a name is that of an endpoint with these fields; empty fields may be anything.
pub fn matches(fields: &Fields, name: &str) -> Result<bool, NameError> {
    let wanted = construct(fields, true)?;
    if !wanted.ends_with('-') {
        return Ok(name == wanted);
    }
    // A prefix matches whole names only: four parts, none empty.
    let parts = split(name);
    Ok(name.starts_with(&wanted) && parts.len() == 4 && parts.iter().all(|part| !part.is_empty()))
}

/// Cuts at single dashes, and makes doubled ones single.
fn split(name: &str) -> Vec<String> {
    let mut segments = vec![String::new()];
    let mut letters = name.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '-' && letters.next_if_eq(&'-').is_none() {
            segments.push(String::new());
        } else if let Some(segment) = segments.last_mut() {
            segment.push(letter);
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn names_are_made_matched_and_read_as_in_calico() {
        let text = include_str!("../tests/vectors/names.json");
        let vectors: Value = serde_json::from_str(text).unwrap();
        let cases = |list: &str| vectors[list].as_array().unwrap().clone();
        for case in cases("construct") {
            let made = construct(&fields(&case["fields"]), case["prefixAllowed"] == true);
            match case["result"].as_str() {
                Some(name) => assert_eq!(made.as_deref(), Ok(name), "{case}"),
                None => assert_eq!(
                    Some(made.unwrap_err().field),
                    case["error"].as_str(),
                    "{case}"
                ),
            }
        }
        for case in cases("match") {
            let matched = matches(
                &fields(&case["fields"]),
                case["endpointName"].as_str().unwrap(),
            );
            assert_eq!(matched.ok(), case["matches"].as_bool(), "{case}");
        }
        for case in cases("parse") {
            let parsed = parse(case["endpointName"].as_str().unwrap());
            if case["error"] == true {
                assert!(parsed.is_err(), "{case}");
            } else {
                assert_eq!(parsed, Ok(fields(&case["fields"])), "{case}");
            }
        }
        // Left out: `statusFilename` and `endpointKey`, which name files and keys that are not written here.
    }

    proptest! {
        #[test]
        fn what_is_made_is_read_again(
            node in segment(), orchestrator in segment(), workload in segment(), endpoint in segment(),
        ) {
            let fields = Fields { node, orchestrator, endpoint, workload, ..Fields::default() };
            let name = construct(&fields, false).unwrap();
            prop_assert_eq!(parse(&name).unwrap(), fields);
        }

        #[test]
        fn no_name_makes_it_panic(name in "[-ak8]{0,12}") {
            if let Ok(fields) = parse(&name) {
                let _ = construct(&fields, true);
                let _ = matches(&fields, &name);
            }
        }
    }

    fn segment() -> impl Strategy<Value = String> {
        "[a-z0-9.]([-a-z0-9]{0,6}[a-z0-9])?"
    }

    fn fields(value: &Value) -> Fields {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        Fields {
            node: text("node"),
            orchestrator: text("orchestrator"),
            endpoint: text("endpoint"),
            workload: text("workload"),
            pod: text("pod"),
            container_id: text("containerID"),
        }
    }
}
