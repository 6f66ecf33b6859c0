//! Checks a kernel: loads, attaches and test-runs cleat's programs there, and prints a line for each claim.
//!
//! `cleat-kernel-check times` tells what kinds of packets cost instead.
//!
//! `scripts/matrix` boots kernels with this program, linked statically, as the only thing to run.
#![expect(clippy::print_stdout, reason = "the lines are the program's answer")]

use std::process::ExitCode;

use cleat_node::dataplane::check;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("times") {
        return match check::times() {
            Ok(times) => {
                for (name, time) in times {
                    println!("{time:>6} ns  {name}");
                }
                ExitCode::SUCCESS
            }
            Err(error) => {
                println!("FAIL times: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let (mut passed, mut failed) = (0, 0);
    let good = check::run_all(&mut |name, outcome| match outcome {
        Ok(()) => {
            passed += 1;
            println!("PASS {name}");
        }
        Err(error) => {
            failed += 1;
            println!("FAIL {name}: {error}");
        }
    });
    println!("TOTAL {passed} passed, {failed} failed");
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
