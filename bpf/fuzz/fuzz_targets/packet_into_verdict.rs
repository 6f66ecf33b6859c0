#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cleat_bpf::fuzz::packet_into_verdict(data));
