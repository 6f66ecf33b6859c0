#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cleat_bgp::fuzz::stream_into_session(data));
