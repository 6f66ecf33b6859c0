//! The daemon and its command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    cleat_node::cli::main()
}
