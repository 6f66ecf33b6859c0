//! What is wrong with an object, said so that its author can mend it.

use std::fmt;

/// Why an object cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub struct Problem {
    /// The object, as `Kind(namespace/name)`; empty when not even that could be read.
    pub object: String,
    /// The path of the field at fault, such as `spec.ingress[0].source.nets[1]`; empty for the whole.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
    /// The file and the document in it, when the object came from a file.
    pub origin: Option<Origin>,
}

/// The place in a file that an object came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The file, as the user named it.
    pub file: String,
    /// The document in the file, counted from 1.
    pub document: usize,
}

impl Problem {
    /// A problem of an object that did not come from a file.
    pub fn new(
        object: impl fmt::Display,
        field: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self {
            object: object.to_string(),
            field: field.into(),
            reason: reason.into(),
            origin: None,
        }
    }

    /// The same problem, found in a file.
    #[must_use]
    pub fn at(mut self, file: impl Into<String>, document: usize) -> Self {
        self.origin = Some(Origin {
            file: file.into(),
            document,
        });
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        for part in [&self.object, &self.field] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.reason)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, document {}", self.file, self.document)
    }
}
