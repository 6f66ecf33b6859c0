//! The one place where YAML is read and written.
//!
//! A text is cut into its documents first, so that an error in one says nothing of the next. What a
//! document expands to is counted: aliases can make it larger than its text, but not by much.

use std::{cell::Cell, fmt, ops::Range};

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// The largest text that is read, in bytes.
pub const MAX_TEXT_LEN: usize = 16 << 20;
/// The longest reason that is given, in characters.
const MAX_REASON: usize = 200;
/// How deep values may nest.
const MAX_DEPTH: usize = 100;
/// What aliases may add to the values and the characters of a document.
const ALIAS_ALLOWANCE: usize = 100_000;

/// Why a document is no YAML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct YamlError(String);

/// A document; `None` if it holds nothing.
pub type Read = Result<Option<Value>, YamlError>;

/// The documents of a text.
pub fn read(text: &str) -> Vec<Read> {
    if text.len() > MAX_TEXT_LEN {
        let reason = format!("is larger than {MAX_TEXT_LEN} bytes");
        return vec![Err(YamlError(reason))];
    }
    documents(text)
        .map(|(first_line, range)| read_one(first_line, &text[range]))
        .collect()
}

/// The documents of a text with the places where they stand, markers not included.
#[cfg(feature = "dir")]
pub(crate) fn read_places(text: &str) -> Vec<(Range<usize>, Read)> {
    documents(text)
        .map(|(first_line, range)| (range.clone(), read_one(first_line, &text[range])))
        .collect()
}

/// A value as a document.
pub fn write(value: &Value) -> String {
    // Values have text for keys and finite numbers; there is nothing that YAML could not hold.
    serde_yaml::to_string(value).unwrap_or_default()
}

fn read_one(first_line: usize, text: &str) -> Read {
    // JSON is YAML but for tabs, which only a reader of JSON takes.
    if text.trim_start().starts_with('{')
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok(Some(value));
    }
    let budget = Budget {
        left: Cell::new(text.len() + ALIAS_ALLOWANCE),
        depth: 0,
    };
    match budget.deserialize(serde_yaml::Deserializer::from_str(text)) {
        Ok(Value::Null) => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            let reason = error.to_string();
            // The reader counts lines from the document's start and says so at the end.
            let reason = reason
                .split_once(" at line ")
                .map_or(reason.as_str(), |(reason, _)| reason);
            // A fault deep down comes with the whole way there.
            let reason: String = reason.chars().take(MAX_REASON).collect();
            Err(YamlError(match error.location() {
                Some(location) => format!(
                    "{reason} (line {}, column {})",
                    first_line + location.line() - 1,
                    location.column()
                ),
                None => reason,
            }))
        }
    }
}

/// The documents and the lines they begin at. Three dashes at the start of a line end a document
/// wherever they stand, even in a block of text.
fn documents(text: &str) -> impl Iterator<Item = (usize, Range<usize>)> {
    let mut starts = vec![(1, 0)];
    let mut ends = Vec::new();
    let mut offset = 0;
    for (line, content) in text.split_inclusive('\n').enumerate() {
        let after = content.strip_prefix("---");
        if after.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)) {
            ends.push(offset);
            // What stands behind the dashes belongs to the document they begin.
            starts.push((line + 1, offset + 3));
        }
        offset += content.len();
    }
    ends.push(text.len());
    starts
        .into_iter()
        .zip(ends)
        .map(|((line, start), end)| (line, start..end))
        .filter(|(_, range)| !text[range.clone()].trim().is_empty())
}

/// What a value may still cost: one for each value and each character of text.
struct Budget {
    left: Cell<usize>,
    depth: usize,
}

impl Budget {
    fn spend<E: de::Error>(&self, cost: usize) -> Result<(), E> {
        match self.left.get().checked_sub(cost) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(E::custom("aliases make the document too large")),
        }
    }
}

struct Nested<'a>(&'a Budget, usize);

impl<'de> DeserializeSeed<'de> for Budget {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Nested(&self, self.depth).deserialize(deserializer)
    }
}

impl<'de> DeserializeSeed<'de> for Nested<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has too")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        self.0.spend(1)?;
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        self.0.spend(1)?;
        Ok(value.into())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.0.spend(1)?;
        Ok(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.0.spend(1)?;
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        self.0.spend(1)?;
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.0.spend(value.len())?;
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(Nested(self.0, inner))? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut values = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.0.spend(key.len())?;
            let value = entries.next_value_seed(Nested(self.0, inner))?;
            if values.contains_key(&key) {
                return Err(de::Error::custom(format!("{key:?} is there twice")));
            }
            values.insert(key, value);
        }
        Ok(values.into())
    }
}

impl Nested<'_> {
    fn deeper<E: de::Error>(&self) -> Result<usize, E> {
        self.0.spend(1)?;
        if self.1 == MAX_DEPTH {
            return Err(E::custom(format!("nests deeper than {MAX_DEPTH}")));
        }
        Ok(self.1 + 1)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_read_one_by_one() {
        let text = "# nothing\n---\na: 1\n---\nb: [\n--- \n{\"c\":\t\"x\"}\n---\n--- d: 2\n";
        let read = read(text);
        assert_eq!(read.len(), 5, "{read:?}");
        assert_eq!(read[0], Ok(None));
        assert_eq!(read[1], Ok(Some(json!({"a": 1}))));
        let reason = read[2].clone().unwrap_err().to_string();
        assert!(
            reason.contains("line 5") || reason.contains("line 6"),
            "{reason}"
        );
        assert_eq!(read[3], Ok(Some(json!({"c": "x"}))));
        assert_eq!(read[4], Ok(Some(json!({"d": 2}))));
    }

    #[test]
    fn dashes_end_a_document_only_at_the_start_of_a_line() {
        let read = read("a: |\n  ---\n  x\nb: ---x\n");
        assert_eq!(read, [Ok(Some(json!({"a": "---\nx\n", "b": "---x"})))]);
    }

    #[test]
    fn aliases_cannot_blow_a_document_up() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let line = vec![format!("*a{}", level - 1); 9].join(", ");
            let level = format!("a{level}: &a{level} [{line}]\n");
            bomb.push_str(&level);
        }
        assert!(read(&bomb)[0].is_err());
        let fair = read("a: &a {x: 1}\nb: *a\n");
        assert_eq!(fair, [Ok(Some(json!({"a": {"x": 1}, "b": {"x": 1}})))]);
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(90))[0].is_ok());
        assert!(read(&nested(110))[0].is_err());
        assert!(read(&nested(100_000))[0].is_err());
    }

    #[test]
    fn what_json_cannot_hold_is_refused() {
        for text in ["a: .nan", "a: !tag x", "a: 1\na: 2", "? [a]\n: b"] {
            assert!(read(text)[0].is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let value =
            json!({"a": ["1", 1, true, "true", null, "x: y", "multi\nline\n"], "b": {"c": 1.5}});
        assert_eq!(read(&write(&value)), [Ok(Some(value))]);
    }
}
