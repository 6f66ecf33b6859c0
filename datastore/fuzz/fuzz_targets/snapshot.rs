#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cleat_datastore::fuzz::snapshot(data));
