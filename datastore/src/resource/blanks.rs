//! Members that say nothing: null, an empty list or map, an empty text, false, zero. Where such a member
//! means the same as an absent one, the types do not hold it; so that an object is written as it was
//! read, it is noted here.

use serde_json::{Map, Value};

use super::Resource;

/// What an object was read with that says nothing. Two objects that differ in that only are alike.
#[derive(Clone, Debug, Default)]
pub struct Blanks(Option<Box<Entries>>);

/// Most objects have none, and there are many objects: a pointer is all that they pay.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries(Vec<(Vec<Step>, Value)>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(usize),
}

/// It makes no difference.
impl PartialEq for Blanks {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// More of them than anyone has written are not kept.
const MAX_BLANKS: usize = 4096;

impl Entries {
    /// Every member that may say nothing.
    pub(super) fn of(map: &Map<String, Value>) -> Self {
        let mut blanks = Entries::default();
        blanks.collect_map(map, &mut Vec::new());
        blanks
    }

    fn collect_map(&mut self, map: &Map<String, Value>, path: &mut Vec<Step>) {
        for (name, value) in map {
            if self.0.len() >= MAX_BLANKS {
                return;
            }
            let is_inner = matches!(value, Value::Object(map) if !map.is_empty())
                || matches!(value, Value::Array(items) if !items.is_empty());
            if is_inner || says_nothing(value) {
                path.push(Step::Field(name.clone()));
                if is_inner {
                    self.collect(value, path);
                } else {
                    self.0.push((path.clone(), value.clone()));
                }
                path.pop();
            }
        }
    }

    fn collect(&mut self, value: &Value, path: &mut Vec<Step>) {
        match value {
            Value::Object(map) => self.collect_map(map, path),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if item.is_object() || item.is_array() {
                        path.push(Step::Index(index));
                        self.collect(item, path);
                        path.pop();
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Those that the types do not hold.
    pub(super) fn without(mut self, resource: &Resource) -> Blanks {
        if self.0.is_empty() {
            return Blanks::default();
        }
        let written = resource.to_value();
        let candidates = std::mem::take(&mut self.0);
        for (mut path, mut blank) in candidates {
            let Some(missing) = first_missing(&written, &path) else {
                continue;
            };
            // What holds nothing but blanks is not written either, and is one of them.
            while path.len() > missing + 1 {
                blank = match path.pop() {
                    Some(Step::Field(name)) => Value::Object(Map::from_iter([(name, blank)])),
                    Some(Step::Index(_)) | None => break,
                };
            }
            match self.0.iter_mut().find(|(known, _)| *known == path) {
                Some((_, known)) => merge(known, blank),
                None => self.0.push((path, blank)),
            }
        }
        Blanks((!self.0.is_empty()).then(|| Box::new(self)))
    }
}

impl Blanks {
    /// Puts them where they were, as far as there is nothing now.
    pub(super) fn fill(&self, fields: &mut Map<String, Value>) {
        for (path, blank) in self.0.iter().flat_map(|entries| &entries.0) {
            let Some((Step::Field(name), before)) = path.split_last() else {
                continue;
            };
            let Some((Step::Field(first), rest)) = before.split_first() else {
                fields.entry(name).or_insert_with(|| blank.clone());
                continue;
            };
            let holder = fields.get_mut(first);
            let holder = holder.and_then(|value| find_mut(value, rest));
            if let Some(holder) = holder.and_then(Value::as_object_mut) {
                holder.entry(name).or_insert_with(|| blank.clone());
            }
        }
    }
}

/// Whether JSON text holds no member that says nothing.
pub(super) fn has_none(json: &str) -> bool {
    let mut bytes = json.bytes();
    let mut last = b' ';
    while let Some(byte) = bytes.next() {
        match (last, byte) {
            (b'{', b'}') | (b'[', b']') | (b':' | b'-', b'0') | (b':', b'n' | b'f') => {
                return false;
            }
            (_, b'"') => {
                let mut len = 0;
                loop {
                    match bytes.next() {
                        Some(b'"') | None => break,
                        Some(b'\\') => drop(bytes.next()),
                        Some(_) => {}
                    }
                    len += 1;
                }
                if len == 0 {
                    return false;
                }
            }
            _ => {}
        }
        if !byte.is_ascii_whitespace() {
            last = byte;
        }
    }
    true
}

/// A member of this sort is not written by the types.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Null | Value::Array(_) | Value::Object(_) => is_empty(value),
    }
}

/// The first step of a path that leads nowhere.
fn first_missing(mut value: &Value, path: &[Step]) -> Option<usize> {
    for (at, step) in path.iter().enumerate() {
        let next = match step {
            Step::Field(name) => value.get(name),
            Step::Index(index) => value.get(index),
        };
        match next {
            Some(next) => value = next,
            None => return Some(at),
        }
    }
    None
}

fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        for (name, value) in from {
            match into.get_mut(&name) {
                Some(known) => merge(known, value),
                None => {
                    into.insert(name, value);
                }
            }
        }
    }
}

fn find_mut<'a>(mut value: &'a mut Value, path: &[Step]) -> Option<&'a mut Value> {
    for step in path {
        value = match step {
            Step::Field(name) => value.get_mut(name)?,
            Step::Index(index) => value.get_mut(index)?,
        };
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_a_member_that_says_nothing_is_known() {
        for (json, none) in [
            (
                r#"{"a": 1, "b": [true, "x"], "c": {"d": 0.5e1, "e": "x"}}"#,
                false,
            ),
            (
                r#"{"a": 1, "b": [true, "x"], "c": {"d": 5, "e": "x:0, null {} [] \\"}}"#,
                true,
            ),
            (r#"{"a": "\"", "b": ":0"}"#, true),
            (r#"{"a": ""}"#, false),
            (r#"{"": 1}"#, false),
            (r#"{"a": [ ]}"#, false),
            (r#"{"a": { }}"#, false),
            (r#"{"a": null}"#, false),
            (r#"{"a":false}"#, false),
            (r#"{"a": true, "b": "false"}"#, true),
            (r#"{"a": 0}"#, false),
            (r#"{"a": -0.0}"#, false),
            (r#"{"a": -10}"#, true),
        ] {
            assert_eq!(has_none(json), none, "{json}");
        }
    }
}
