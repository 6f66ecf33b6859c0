//! Calico's data model, and the stores that hold it.
//!
//! Bytes from a store or a file become typed objects at this edge and nowhere else: a [`Key`] says
//! which object, [`resource::decode`] makes it a [`Resource`] or says what is wrong with it, field by
//! field. [`selector`] and [`label_index`] match labels, one by one and for a whole cluster.
//! A [`store::Store`] lists, changes and watches objects; `memory`, `dir` and `etcd` are such stores.
//!
//! Without features the crate holds no runtime and no client: keys, resources, selectors and the
//! store in memory are plain code.
#![forbid(unsafe_code)]

#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod ipam;
pub mod key;
mod kind;
pub mod label_index;
pub mod manifest;
mod problem;
pub mod resource;
pub mod selector;
pub mod snapshot;
pub mod status;
pub mod store;
pub mod time;
pub mod value;
pub mod wep_name;
pub mod yaml;

pub use ipnet;
pub use key::Key;
pub use kind::Kind;
pub use manifest::parse_documents;
pub use problem::{Origin, Problem};
pub use resource::Resource;
pub use store::{Event, Store, Update};
