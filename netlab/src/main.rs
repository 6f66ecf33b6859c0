//! `netlab`: the lab from the command line.

fn main() {}
