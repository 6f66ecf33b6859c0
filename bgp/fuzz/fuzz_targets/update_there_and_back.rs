#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cleat_bgp::fuzz::update_there_and_back(data));
