//! Map layouts and packet decisions.
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![deny(unsafe_code)]
