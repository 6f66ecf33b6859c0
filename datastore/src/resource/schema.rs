//! What single fields may hold, from a table: types, bounds, patterns, words, and what must be there.
//!
//! The walk over the JSON of an object finds all that is wrong with its fields at once, where the types
//! of the fields stop at the first. Who reads what others wrote does not ask it: Calico's stores of
//! this sort have no schema, and its readers do not look.

use std::{
    collections::{BTreeMap, HashMap},
    str::FromStr,
    sync::OnceLock,
};

use regex_lite::Regex;
use serde_json::{Map, Number, Value};

use super::check::Faults;
use crate::{Kind, time::Timestamp, value::AsNumber};

/// The table.
const TABLE: &str = include_str!("schema.tsv");
/// How deep shared definitions may lead; none is inside of itself.
const MAX_DEPTH: usize = 32;

/// Looks at the fields of an object of this kind.
pub(super) fn check(kind: Kind, object: &Map<String, Value>, faults: &mut Faults) {
    let Some(fields) = schema().objects.get(kind.name()) else {
        return;
    };
    if let Some(Value::Object(spec)) = object.get("spec") {
        faults.at("spec", |faults| {
            fields.check_fields(spec, &["status"], faults, 0);
        });
    }
    if let (Some(field), Some(status)) = (fields.fields.get("status"), object.get("status")) {
        faults.at("status", |faults| field.check(status, faults, 0));
    }
}

/// Names the fields that an object of this kind does not have, where the table tells which it has.
pub(super) fn unknown(kind: Kind, object: &Map<String, Value>, faults: &mut Faults) {
    const ENVELOPE: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
    if kind.has_spec() {
        for name in object.keys().map(String::as_str) {
            if !ENVELOPE.contains(&name) {
                faults.add(name, NO_FIELD);
            }
        }
    }
    if let (Some(fields), Some(spec)) = (schema().objects.get(kind.name()), object.get("spec")) {
        faults.at("spec", |faults| fields.unknown(spec, faults, 0));
    }
}

const NO_FIELD: &str = "is no field of such an object; is it misspelt?";

/// Looks at a part of an object: the value of the field with this path, as the table writes it.
#[cfg(test)]
pub(super) fn check_part(object: &str, path: &'static str, value: &Value, faults: &mut Faults) {
    let mut field = schema().objects.get(object).expect("the table has it");
    for part in parts(path) {
        field = field.resolved().child(part).expect("the table has it");
    }
    if let (true, Value::Object(map)) = (path.is_empty(), value) {
        return field.check_fields(map, &[], faults, 0);
    }
    field.check(value, faults, 0);
}

struct Schema {
    /// Kinds, and shared definitions with `@` before them.
    objects: HashMap<&'static str, Field>,
}

#[derive(Default)]
struct Field {
    of: Option<Type>,
    constraints: Constraints,
    /// Members of an object, by name.
    fields: BTreeMap<&'static str, Field>,
    /// Each item of a list.
    items: Option<Box<Field>>,
    /// Each value of a map.
    values: Option<Box<Field>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Type {
    Array,
    AsNumber,
    Boolean,
    IntOrString,
    Integer,
    Number,
    Object,
    Shared(&'static str),
    String,
}

#[derive(Default)]
struct Constraints {
    required: bool,
    words: Vec<&'static str>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    min_length: Option<usize>,
    max_length: Option<usize>,
    min_items: Option<usize>,
    max_items: Option<usize>,
    pattern: Option<Regex>,
    format: Option<&'static str>,
}

fn schema() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let mut objects: HashMap<&'static str, Field> = HashMap::new();
        for row in TABLE.lines().filter(|row| !row.starts_with('#')) {
            let mut columns = row.split('\t');
            let mut next = || columns.next().unwrap_or_default();
            let (object, path, of, constraints) = (next(), next(), next(), next());
            let mut field = objects.entry(object).or_default();
            for part in parts(path) {
                field = field.child_mut(part);
            }
            field.of = Some(Type::parse(of));
            field.constraints = Constraints::parse(constraints);
        }
        Schema { objects }
    })
}

#[derive(Clone, Copy)]
enum Part {
    Field(&'static str),
    Items,
    Values,
}

/// `a[].b{}` is the member `a`, its items, their member `b`, its values.
fn parts(path: &'static str) -> Vec<Part> {
    let mut parts = Vec::new();
    for segment in path.split('.').filter(|segment| !segment.is_empty()) {
        let name = segment.trim_end_matches(['[', ']', '{', '}']);
        parts.push(Part::Field(name));
        let mut rest = &segment[name.len()..];
        while let Some(after) = rest.strip_prefix("[]").or(rest.strip_prefix("{}")) {
            parts.push(if rest.starts_with('[') {
                Part::Items
            } else {
                Part::Values
            });
            rest = after;
        }
    }
    parts
}

impl Type {
    fn parse(text: &'static str) -> Self {
        match text {
            "array" => Type::Array,
            "as-number" => Type::AsNumber,
            "boolean" => Type::Boolean,
            "int-or-string" => Type::IntOrString,
            "integer" => Type::Integer,
            "number" => Type::Number,
            "object" => Type::Object,
            "string" => Type::String,
            shared => Type::Shared(shared),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Type::Array => "a list",
            Type::AsNumber => "an AS number",
            Type::Boolean => "true or false",
            Type::IntOrString => "a number or a text",
            Type::Integer => "a whole number",
            Type::Number => "a number",
            Type::Object | Type::Shared(_) => "an object",
            Type::String => "a text",
        }
    }

    fn fits(self, value: &Value) -> bool {
        match self {
            Type::Array => value.is_array(),
            Type::AsNumber => match value {
                Value::Number(number) => number.as_u64().is_some_and(|n| u32::try_from(n).is_ok()),
                Value::String(text) => AsNumber::from_str(text).is_ok(),
                Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
            },
            Type::Boolean => value.is_boolean(),
            Type::IntOrString => value.is_string() || is_whole(value),
            Type::Integer => is_whole(value),
            Type::Number => value.is_number(),
            Type::Object | Type::Shared(_) => value.is_object(),
            Type::String => value.is_string(),
        }
    }
}

fn is_whole(value: &Value) -> bool {
    value
        .as_number()
        .is_some_and(|number| number.is_i64() || number.is_u64())
}

/// What ends a constraint and begins the next.
const KEYS: [&str; 11] = [
    "default=",
    "enum=",
    "format=",
    "maxItems=",
    "maxLength=",
    "maximum=",
    "minItems=",
    "minLength=",
    "minimum=",
    "pattern=",
    "required",
];

impl Constraints {
    fn parse(text: &'static str) -> Self {
        let mut constraints = Self::default();
        let mut has_default = false;
        let mut rest = text;
        while !rest.is_empty() {
            let next = KEYS
                .iter()
                .filter_map(|key| rest.find(&format!("; {key}")))
                .min();
            let one = &rest[..next.unwrap_or(rest.len())];
            rest = next.map_or("", |at| &rest[at + 2..]);
            let (key, value) = one.split_once('=').unwrap_or((one, ""));
            let number = || value.parse().ok();
            let count = || value.parse().ok();
            match key {
                "enum" => constraints.words = value.split(',').collect(),
                "format" => constraints.format = Some(value),
                "maxItems" => constraints.max_items = count(),
                "maxLength" => constraints.max_length = count(),
                "maximum" => constraints.maximum = number(),
                "minItems" => constraints.min_items = count(),
                "minLength" => constraints.min_length = count(),
                "minimum" => constraints.minimum = number(),
                "pattern" => constraints.pattern = Regex::new(value).ok(),
                "required" => constraints.required = true,
                "default" => has_default = true,
                _ => {}
            }
        }
        // What is not there is what it is by default.
        constraints.required &= !has_default;
        constraints
    }
}

impl Field {
    fn child_mut(&mut self, part: Part) -> &mut Field {
        match part {
            Part::Field(name) => self.fields.entry(name).or_default(),
            Part::Items => self.items.get_or_insert_default(),
            Part::Values => self.values.get_or_insert_default(),
        }
    }

    #[cfg(test)]
    fn child(&self, part: Part) -> Option<&Field> {
        match part {
            Part::Field(name) => self.fields.get(name),
            Part::Items => self.items.as_deref(),
            Part::Values => self.values.as_deref(),
        }
    }

    /// The shared definition, if the field is of one.
    fn resolved(&self) -> &Field {
        match self.of {
            Some(Type::Shared(name)) => schema().objects.get(name).unwrap_or(self),
            _ => self,
        }
    }

    fn unknown(&self, value: &Value, faults: &mut Faults, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        match value {
            Value::Object(map) => {
                let known = &self.resolved().fields;
                for (name, value) in map {
                    match (known.get(name.as_str()), &self.values) {
                        (Some(field), _) => {
                            faults.at(name, |faults| field.unknown(value, faults, depth + 1));
                        }
                        (None, Some(values)) => values.unknown(value, faults, depth + 1),
                        // An object of which nothing is told may hold anything.
                        (None, None) if known.is_empty() => {}
                        (None, None) => faults.add(name, NO_FIELD),
                    }
                }
            }
            Value::Array(list) => {
                if let Some(items) = &self.items {
                    faults.each("", list, |item, faults| {
                        items.unknown(item, faults, depth + 1);
                    });
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn check(&self, value: &Value, faults: &mut Faults, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        if let Some(of) = self.of.filter(|of| !of.fits(value)) {
            faults.add("", format!("{} is not {}", shown(value), of.name()));
            return;
        }
        self.constraints.check(value, faults);
        match value {
            Value::Object(map) => {
                self.resolved().check_fields(map, &[], faults, depth);
                if let Some(values) = &self.values {
                    for (key, value) in map {
                        faults.at(&format!("[{key:?}]"), |faults| {
                            values.check(value, faults, depth + 1);
                        });
                    }
                }
            }
            Value::Array(list) => {
                if let Some(items) = &self.items {
                    faults.each("", list, |item, faults| {
                        items.check(item, faults, depth + 1);
                    });
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn check_fields(
        &self,
        map: &Map<String, Value>,
        except: &[&str],
        faults: &mut Faults,
        depth: usize,
    ) {
        for (name, field) in &self.fields {
            if except.contains(name) {
                continue;
            }
            match map.get(*name) {
                Some(value) => faults.at(name, |faults| field.check(value, faults, depth + 1)),
                None if field.constraints.required => faults.add(name, "is required"),
                None => {}
            }
        }
    }
}

impl Constraints {
    fn check(&self, value: &Value, faults: &mut Faults) {
        match value {
            Value::String(text) => self.check_text(text, faults),
            Value::Number(number) => self.check_number(number, faults),
            // An empty list is an absent one; only what must be there must hold something.
            Value::Array(list) if list.is_empty() && !self.required => {}
            Value::Array(list) => {
                for (bound, fits, word) in [
                    (
                        self.min_items,
                        self.min_items.is_none_or(|min| list.len() >= min),
                        "fewer",
                    ),
                    (
                        self.max_items,
                        self.max_items.is_none_or(|max| list.len() <= max),
                        "more",
                    ),
                ] {
                    faults.require(fits, "", || {
                        let bound = bound.unwrap_or_default();
                        format!("has {} items, {word} than {bound}", list.len())
                    });
                }
            }
            Value::Null | Value::Bool(_) | Value::Object(_) => {}
        }
    }

    fn check_text(&self, text: &str, faults: &mut Faults) {
        // Go's writers leave an empty text for a word that is not set.
        if !self.words.is_empty() && !text.is_empty() {
            faults.require(self.words.contains(&text), "", || {
                format!("{text:?} is none of {}", self.words.join(", "))
            });
        }
        let len = text.chars().count();
        for (bound, fits, word) in [
            (
                self.min_length,
                self.min_length.is_none_or(|min| len >= min),
                "fewer",
            ),
            (
                self.max_length,
                self.max_length.is_none_or(|max| len <= max),
                "more",
            ),
        ] {
            faults.require(fits, "", || {
                let bound = bound.unwrap_or_default();
                format!("has {len} characters, {word} than {bound}")
            });
        }
        if let Some(pattern) = &self.pattern {
            faults.require(pattern.is_match(text), "", || {
                format!("{} is not of the form {pattern}", shown(&text.into()))
            });
        }
        if self.format == Some("date-time") {
            faults.require(Timestamp::from_str(text).is_ok(), "", || {
                format!("{text:?} is no time such as 2006-01-02T15:04:05Z")
            });
        }
    }

    fn check_number(&self, number: &Number, faults: &mut Faults) {
        let value = number.as_f64().unwrap_or(f64::NAN);
        let is_i32 = number
            .as_i64()
            .is_some_and(|value| i32::try_from(value).is_ok());
        let low = self.minimum.unwrap_or(f64::NEG_INFINITY);
        let high = self.maximum.unwrap_or(f64::INFINITY);
        faults.within("", Some(value), low, high);
        faults.require(self.format != Some("int32") || is_i32, "", || {
            format!("{number} is more than 32 bits can hold")
        });
        if !self.words.is_empty() {
            let text = number.to_string();
            faults.require(self.words.contains(&text.as_str()), "", || {
                format!("{text} is none of {}", self.words.join(", "))
            });
        }
    }
}

/// A value, cut short.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}
