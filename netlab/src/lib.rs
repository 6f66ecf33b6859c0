//! A lab of network namespaces: hosts with cleat, routers that cleat's authors did not write, a real etcd, workloads and
//! clients. The end-to-end tests, the demo and the benchmark are built from it.
//!
//! A [`Lab`] owns namespaces, processes and directories and removes them all, whatever happens to the process that made
//! it. On top of it are [`Host`] (a namespace with a cleat daemon), [`Workload`] (a namespace or a tap behind a host),
//! the routers [`Bird`], [`Frr`] and [`GoBgp`], which are told what to do by one [`router::Spec`], and [`Etcd`].
//! [`House`] is the standing topology: two hosts, a ToR pair, a core and clients behind it. [`probe`](probe::probe) asks
//! one question of the network, [`Matrix`] asks many and is checked and printed as a whole.
//!
//! Without the feature `lab` only what needs no kernel is left: the matrix and the vendors' outputs.

pub mod matrix;
pub mod router;
mod wait;

#[cfg(feature = "lab")]
pub mod bench;
#[cfg(feature = "lab")]
pub mod demo;
#[cfg(feature = "lab")]
pub mod echo;
#[cfg(feature = "lab")]
mod etcd;
#[cfg(feature = "lab")]
mod host;
#[cfg(feature = "lab")]
pub mod house;
#[cfg(feature = "lab")]
mod lab;
#[cfg(feature = "lab")]
mod netns;
#[cfg(feature = "lab")]
pub mod probe;
#[cfg(feature = "lab")]
mod process;
#[cfg(feature = "lab")]
mod single;
#[cfg(feature = "lab")]
pub mod steady;
#[cfg(feature = "lab")]
mod tap;
#[cfg(feature = "lab")]
mod workload;

#[cfg(feature = "lab")]
pub use crate::{
    etcd::Etcd,
    host::{Datastore, Host},
    house::House,
    lab::Lab,
    netns::Namespace,
    process::Process,
    router::{bird::Bird, frr::Frr, gobgp::GoBgp},
    single::Single,
    workload::{Nic, Station, Workload},
};
pub use crate::{
    matrix::{Expect, Matrix, Outcome, Proto},
    wait::{eventually, secs},
};
