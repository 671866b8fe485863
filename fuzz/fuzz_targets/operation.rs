#![no_main]
//! libFuzzer's way into `tollgate_fuzz::operation`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tollgate_fuzz::watch::watched(data, tollgate_fuzz::operation::operation));
