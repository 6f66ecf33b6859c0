//! Files that people write: texts of one or more objects, as calicoctl takes them.
//!
//! A text holds documents, a document holds an object or a list of them, and each object says by its
//! kind and name which key it belongs under. Whatever is wrong is said with file, document and field.

use serde_json::Value;

use crate::{
    Key, Origin, Problem, Resource,
    resource::{API_VERSION, first, manifest_key, validate},
    yaml,
};

/// One object of a text, or why there is none where one should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Where it stands.
    pub origin: Origin,
    /// The key it belongs under, and its JSON as written.
    pub object: Result<(Key, Value), Problem>,
}

impl Document {
    /// The object itself, or the first thing that is wrong with it.
    pub fn decode(self) -> Result<(Key, Resource), Problem> {
        let described = match &self.object {
            Ok((key, _)) => key.clone(),
            Err(problem) => return Err(problem.clone()),
        };
        self.validate()
            .map_err(|problems| first(&described, problems))
    }

    /// The object itself, or everything that is wrong with it.
    pub fn validate(self) -> Result<(Key, Resource), Vec<Problem>> {
        let Origin { file, document } = self.origin;
        let (key, value) = self.object.map_err(|problem| vec![problem])?;
        match validate(&key, value) {
            Ok(resource) => Ok((key, resource)),
            Err(problems) => Err(problems
                .into_iter()
                .map(|problem| problem.at(file.clone(), document))
                .collect()),
        }
    }
}

/// The objects of a text. `file` is what to call it where something is wrong.
pub fn parse_documents(file: &str, text: &str) -> Vec<Document> {
    let mut objects = Vec::new();
    for (index, document) in yaml::read(text).into_iter().enumerate() {
        let origin = Origin {
            file: file.to_owned(),
            document: index + 1,
        };
        match document {
            Ok(None) => {}
            Ok(Some(value)) => push_objects(&mut objects, &origin, value),
            Err(error) => {
                let problem = Problem::new("", "", format!("is no YAML: {error}"));
                push(&mut objects, &origin, Err(problem));
            }
        }
    }
    objects
}

fn push_objects(objects: &mut Vec<Document>, origin: &Origin, value: Value) {
    match objects_of(value) {
        Ok(found) => {
            for object in found {
                push(objects, origin, object);
            }
        }
        Err(problem) => push(objects, origin, Err(problem)),
    }
}

/// The key and the JSON of an object, or why there is none.
type Object = Result<(Key, Value), Problem>;

/// The objects of one document: itself, the items of the list that it is, or the elements of a plain array.
pub(crate) fn objects_of(mut value: Value) -> Result<Vec<Object>, Problem> {
    if let Value::Array(elements) = value {
        let objects = elements.into_iter().map(|element| {
            if element.is_array() {
                return Err(Problem::new("", "", "is an array in an array"));
            }
            objects_of(element)
        });
        return Ok(objects
            .flat_map(|objects| objects.unwrap_or_else(|problem| vec![Err(problem)]))
            .collect());
    }
    let Some(map) = value.as_object_mut() else {
        return Err(Problem::new(
            "",
            "",
            "is no object with kind, metadata and spec",
        ));
    };
    let kind = map.get("kind").and_then(Value::as_str).unwrap_or_default();
    let Some(of_items) = kind.strip_suffix("List").map(str::to_owned) else {
        return Ok(vec![manifest_key(&value).map(|key| (key, value))]);
    };
    let kind = kind.to_owned();
    let items = match map.remove("items") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(Problem::new(&kind, "items", "is no list")),
    };
    let item_of = |(index, mut item): (usize, Value)| {
        // Items of a list of one kind need not say it again.
        if let Some(item) = item.as_object_mut()
            && !of_items.is_empty()
        {
            item.entry("kind")
                .or_insert_with(|| of_items.clone().into());
            item.entry("apiVersion")
                .or_insert_with(|| API_VERSION.into());
        }
        match manifest_key(&item) {
            Ok(key) => Ok((key, item)),
            Err(mut problem) => {
                problem.field = format!("items[{index}].{}", problem.field);
                Err(problem)
            }
        }
    };
    Ok(items.into_iter().enumerate().map(item_of).collect())
}

fn push(objects: &mut Vec<Document>, origin: &Origin, object: Object) {
    objects.push(Document {
        origin: origin.clone(),
        object: object.map_err(|problem| problem.at(origin.file.clone(), origin.document)),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn objects_and_lists_of_all_sorts_are_taken() {
        let text = r"
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: sec}
spec: {order: 100}
---
apiVersion: v1
kind: List
items:
- apiVersion: projectcalico.org/v3
  kind: GlobalNetworkSet
  metadata: {name: bad}
  spec: {nets: [198.51.100.0/24, '2001:db8::/32']}
- apiVersion: projectcalico.org/v3
  kind: NetworkPolicy
  metadata: {name: web}
  spec: {}
---
apiVersion: projectcalico.org/v3
kind: ProfileList
items:
- metadata: {name: net1}
---
apiVersion: projectcalico.org/v3
kind: NodeList
---
- {apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: a}}
- {apiVersion: projectcalico.org/v3, kind: TierList, items: [{metadata: {name: b}}]}
";
        let keys: Vec<Key> = parse_documents("f.yaml", text)
            .into_iter()
            .map(|document| document.decode().unwrap().0)
            .collect();
        assert_eq!(
            keys,
            [
                Key::global(Kind::Tier, "sec"),
                Key::global(Kind::GlobalNetworkSet, "bad"),
                Key::namespaced(Kind::NetworkPolicy, "default", "web"),
                Key::global(Kind::Profile, "net1"),
                Key::global(Kind::Tier, "a"),
                Key::global(Kind::Tier, "b"),
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_file_document_and_field() {
        let head = "apiVersion: projectcalico.org/v3\n";
        for (text, said) in [
            ("a: [", "f.yaml, document 1: is no YAML"),
            ("[1]", "f.yaml, document 1: is no object with kind"),
            ("[[]]", "f.yaml, document 1: is an array in an array"),
            ("a: 1", "f.yaml, document 1: kind: is required"),
            (
                "kind: Tier\nmetadata: {name: x}",
                "Tier(x): apiVersion: is required",
            ),
            (
                "apiVersion: v1\nkind: Tier\nmetadata: {name: x}",
                "Tier(x): apiVersion: is \"v1\"",
            ),
            (
                &format!("{head}kind: tier\nmetadata: {{name: x}}"),
                "tier(x): kind: \"tier\" is no kind",
            ),
            (
                &format!("{head}kind: Tier\nmetadata: {{name: x, namespace: y}}"),
                "Tier(y/x): metadata.namespace: a Tier is in no namespace",
            ),
            (
                &format!("{head}kind: Tier"),
                "Tier(): metadata.name: is required",
            ),
            (
                &format!("{head}kind: Tier\nmetadata: {{name: a/b}}"),
                "metadata.name: \"a/b\" cannot be a name",
            ),
            (
                &format!("--- \n# empty\n---\n{head}kind: TierList\nitems: [{{}}]"),
                "f.yaml, document 2: Tier(): items[0].metadata.name: is required",
            ),
            (
                &format!("{head}kind: IPPool\nmetadata: {{name: x}}\nspec: {{cidr: 1.2.3}}"),
                "f.yaml, document 1: IPPool(x): spec.cidr: \"1.2.3\" is no CIDR",
            ),
        ] {
            let mut documents = parse_documents("f.yaml", text);
            assert_eq!(documents.len(), 1, "{text}");
            let problem = documents.remove(0).decode().unwrap_err();
            let shown = problem.to_string();
            assert!(shown.contains(said), "{text}: {shown}");
        }
    }
}
