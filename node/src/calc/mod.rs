//! From the resources of the store to what this node should do: pure, and a function of the current state only.
//!
//! ```text
//! Update -> Graph::update (index labels, mark dirty)
//! Graph::flush: policies in use -> lists -> interfaces -> addresses -> facts -> routes, originated prefixes -> BGP
//!            -> Plan (complete, by key) and Changes (the keys that differ since the last flush)
//! ```
//!
//! Updates may repeat, skip, come in any order or be taken back; only the last value of each key counts. Matching labels and
//! class membership are incremental, all else is recomputed per dirty object. A missing referent is the safe thing: an unknown
//! profile denies, an unknown tier denies at its end, an endpoint without policy and profiles drops.

mod atoms;
mod bgp;
mod graph;
mod members;
mod nets;
pub mod plain;
mod policy;
mod ports;
mod routes;
mod rules;
mod scope;

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod vectors;

pub use atoms::{Atom, AtomId, AtomSet, Expr};
pub use bgp::{Bgp, PeerWish};
pub use graph::{Changes, Graph, Interface, LocalEndpoint, Plan};
pub use nets::{Facts, Place};
pub use policy::{Direction, Line, ListId, PolicyList, RuleName};
pub use routes::{Originated, Route};
pub use rules::Match;

pub(crate) use policy::fnv1a;
