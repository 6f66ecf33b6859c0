//! Calico's selector language: text in, a matcher with a canonical form and a short unique name out.
//!
//! Text is split by `token`, read by `parse` into a tree of bounded depth, and written
//! back in one form whatever the spelling: `canonical`. Two selectors are equal exactly if their
//! canonical forms are. It is the form that Calico writes, and its own canonical form: where Calico's is not (it writes
//! `!(!(x))` as `!!x`, and that as `x`) it is what Calico comes to in the end. [`Selector::matches`] evaluates the tree over any source of labels.
//!
//! ```text
//! selector = [ or ] ;                           (* the empty selector is all() *)
//! or       = and { "||" and } ;
//! and      = unary { "&&" unary } ;
//! unary    = { "!" } primary ;
//! primary  = "(" or ")" | "all()" | "global()" | "has(" label ")" | label operator ;
//! operator = "==" string | "!=" string | "in" set | "not in" set
//!          | "contains" string | "starts with" string | "ends with" string ;
//! ```

mod expression;
mod parse;
mod token;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::{BuildHasher, Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha224};

pub use expression::Expression;

/// The longest selector that is read, in characters.
pub const MAX_LEN: usize = 1024;

/// A parsed selector. Copies share one tree.
#[derive(Clone)]
pub struct Selector {
    inner: Arc<Inner>,
}

struct Inner {
    text: String,
    canonical: String,
    uid: String,
    expression: Expression,
}

/// Why a text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no selector: {reason} at character {offset}")]
pub struct ParseError {
    /// Where in the text, in bytes.
    pub offset: usize,
    /// What was wrong there.
    pub reason: String,
}

/// Labels of something a selector can match.
pub trait Labels {
    /// The value of a label, if the thing has it.
    fn label(&self, name: &str) -> Option<&str>;
}

impl Selector {
    /// Parses a selector.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let expression = parse::parse(text)?;
        Ok(Self::new(text.to_owned(), expression))
    }

    /// The selector of everything.
    pub fn all() -> Self {
        Self::from_expression(Expression::All)
    }

    /// The selector of a tree, spelled canonically.
    pub fn from_expression(expression: Expression) -> Self {
        Self::new(expression.to_string(), expression)
    }

    /// Whether the selector holds for these labels.
    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        self.inner.expression.matches(labels)
    }

    /// The one spelling that all equal selectors share.
    pub fn canonical(&self) -> &str {
        &self.inner.canonical
    }

    /// A short name, equal exactly for equal selectors, as Calico makes it.
    pub fn uid(&self) -> &str {
        &self.inner.uid
    }

    /// The text as the user wrote it.
    pub fn text(&self) -> &str {
        &self.inner.text
    }

    /// The tree.
    pub fn expression(&self) -> &Expression {
        &self.inner.expression
    }

    /// Both selectors at once.
    #[must_use]
    pub fn and(&self, other: &Selector) -> Self {
        Self::from_expression(Expression::and(vec![
            self.inner.expression.clone(),
            other.inner.expression.clone(),
        ]))
    }

    /// Whether `global()` stands anywhere in it.
    pub fn mentions_global(&self) -> bool {
        self.inner.expression.mentions_global()
    }

    fn new(text: String, expression: Expression) -> Self {
        let canonical = expression.to_string();
        let uid = unique_id("s", &canonical);
        Self {
            inner: Arc::new(Inner {
                text,
                canonical,
                uid,
                expression,
            }),
        }
    }
}

/// Calico's short name of some text: the prefix, a colon, and 38 characters of hash over both.
pub fn unique_id(prefix: &str, text: &str) -> String {
    let mut hash = Sha224::new();
    hash.update(prefix);
    hash.update(":");
    hash.update(text);
    format!("{prefix}:{}", URL_SAFE_NO_PAD.encode(hash.finalize()))
}

impl FromStr for Selector {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.canonical() == other.canonical()
    }
}

impl Eq for Selector {}

impl PartialOrd for Selector {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Selector {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.canonical().cmp(other.canonical())
    }
}

impl Hash for Selector {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.canonical().hash(state);
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Selector").field(&self.canonical()).finish()
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Serialize for Selector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

impl<S: BuildHasher> Labels for HashMap<String, String, S> {
    fn label(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

impl<L: Labels + ?Sized> Labels for &L {
    fn label(&self, name: &str) -> Option<&str> {
        (**self).label(name)
    }
}

#[cfg(test)]
mod tests;
