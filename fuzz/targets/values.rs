//! See [`portcullis_fuzz::values`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::values::hold(data));
