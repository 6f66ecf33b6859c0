//! The daemon: one owner thread that runs `update`, `flush`, `apply`, and what stands around it.
//!
//! ```text
//! store watch ─┐                                            ┌─> maps, attachments, kernel routes
//! netlink    ──┼─> owner: update -> (5 ms) flush -> apply ──┤
//! speaker    ─┘                                             └─> speaker: peers, originated prefixes
//! API socket ──> owner: questions                  admin HTTP: latches and metrics, on a thread of its own
//! ```

pub mod admin;
pub mod health;
pub mod http;
pub mod metrics;
pub mod notify;
pub mod pace;
