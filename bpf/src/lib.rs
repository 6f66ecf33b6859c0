//! Map layouts and packet decisions, shared by the eBPF programs and the host.
//!
//! A packet is parsed ([`packet`]), judged ([`verdict`]) against the maps ([`maps`]) and the policy blobs ([`policy`]), and
//! leaves with a [`Verdict`](verdict::Verdict) that names a [`Reason`] for every drop. What touches memory or calls the
//! kernel comes in through the traits [`Packet`](packet::Packet), [`Tables`](verdict::Tables) and
//! [`Words`](policy::Words): the programs implement them with helpers, tests with vectors and maps. So each decision is
//! written once, for both worlds and both address families.
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![deny(unsafe_code)]
// A function that is not inlined into a program becomes a call there, with a stack frame of the 512 bytes there are.
#![allow(clippy::inline_always)]

#[cfg(any(test, feature = "std"))]
pub mod build;
pub mod family;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod maps;
#[cfg(any(test, feature = "std"))]
pub mod memory;
pub mod packet;
pub mod policy;
pub mod reason;
pub mod verdict;

pub use family::{Family, V4, V6};
pub use maps::{
    Config, Facts, FactsKind, Flow, FlowKey, Iface, IfaceKind, Macs, NetKey, Way, WayKind,
};
pub use reason::{Counted, Hook, Note, Reason};
