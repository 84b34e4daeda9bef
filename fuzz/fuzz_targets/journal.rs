//! `make fuzz TARGET=journal`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| enjamb_fuzz::journal::run(data));
