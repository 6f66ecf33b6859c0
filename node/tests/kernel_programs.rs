//! The programs in this machine's kernel, held against the host library. Root is needed; nothing is skipped.
#![cfg(feature = "host")]

use cleat_node::dataplane::check::CHECKS;

fn check(name: &str) {
    let (_, body) = CHECKS
        .iter()
        .find(|(found, _)| *found == name)
        .expect("a check of this name");
    // A thread of its own, since a check changes its thread's network namespace.
    let outcome = std::thread::spawn(body)
        .join()
        .expect("a check does not panic");
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

macro_rules! checks {
    ($($name:ident,)*) => {
        $(#[test] fn $name() { check(stringify!($name)); })*

        #[test]
        fn every_check_is_a_test() {
            assert_eq!(CHECKS.iter().map(|(name, _)| *name).collect::<Vec<_>>(), [$(stringify!($name)),*]);
        }
    };
}

checks! {
    every_program_loads_within_its_budget,
    programs_attach_and_are_replaced_in_place,
    clsact_filters_attach_and_are_replaced_in_place,
    the_kernel_judges_ipv4_as_the_host_does,
    the_kernel_judges_ipv6_as_the_host_does,
    the_kernel_reads_long_policies_as_the_host_does,
    a_second_opening_finds_maps_flows_and_blobs,
    a_full_flow_table_lets_allowed_packets_pass,
}
