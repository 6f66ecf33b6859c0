//! A BGP speaker.
#![forbid(unsafe_code)]
