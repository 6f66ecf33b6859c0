//! What is accepted from peers and told to them.
use serde::Serialize;

/// Why import refuses a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rejection {
    /// Our own AS is in the path.
    OwnAs,
}
