//! Calico data model.
#![forbid(unsafe_code)]
