//! See [`portcullis_fuzz::rates`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::rates::hold(data));
