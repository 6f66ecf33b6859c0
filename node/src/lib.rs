//! The node: from the datastore's resources to the kernel's tables and the fabric's routes.
//!
//! `calc`, `render`, `reconcile` and `output` are pure: they compile and are tested without the `host` feature. Everything that
//! touches a kernel, a socket or a clock stands behind that feature. `DESIGN.md` draws the whole path.

pub mod archive;
pub mod calc;
pub mod check;
#[cfg(feature = "host")]
pub mod cli;
pub mod config;
#[cfg(feature = "host")]
pub mod daemon;
#[cfg(feature = "host")]
pub mod dataplane;
pub mod felix;
#[cfg(feature = "host")]
pub mod netlink;
pub mod output;
pub mod patch;
pub mod reconcile;
pub mod render;
