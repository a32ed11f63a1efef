//! See [`portcullis_fuzz::recordings`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::recordings::hold(data));
