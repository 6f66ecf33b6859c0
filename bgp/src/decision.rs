//! The decision process.
use serde::Serialize;

/// The step that separates two paths to a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// There is no other path.
    OnlyPath,
}
