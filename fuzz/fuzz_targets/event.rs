#![no_main]
//! libFuzzer's way into `tollgate_fuzz::event`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tollgate_fuzz::watch::watched(data, tollgate_fuzz::event::event));
