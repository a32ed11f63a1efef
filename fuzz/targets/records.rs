//! See [`portcullis_fuzz::records`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::records::hold(data));
