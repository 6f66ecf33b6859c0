//! A BGP speaker: a machine without sockets, and the tokio driver around it (feature `net`).
//!
//! ```text
//! TCP bytes -> wire::Framer -> session (OPEN, timers, collision) -> wire::Update (RFC 7606 inside)
//!    -> policy (import) -> rib -> decision -> FibUpdate{changes, converged} -> whoever owns the kernel's routes
//! originate + rib -> policy (export) -> adj_out (packed by attribute set) -> bytes -> TCP
//! ```
#![forbid(unsafe_code)]

mod adj_out;
pub mod config;
pub mod decision;
mod family;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
#[cfg(feature = "net")]
pub mod net;
pub mod policy;
pub mod rib;
pub mod rng;
pub mod session;
#[cfg(test)]
mod sim;
pub mod speaker;
pub mod status;
pub mod wire;

pub use config::{Config, Export, GracefulRestart, Multipath, Origin, PeerConfig, Stop};
pub use family::{Family, PeerAddress};
pub use status::{FibChange, FibUpdate, PeerStatus, RouteFilter, RouteTable, RouteView};
