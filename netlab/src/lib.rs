//! The lab.

#[cfg(feature = "lab")]
pub mod bench;
