//! `make fuzz TARGET=sessions`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| enjamb_fuzz::sessions::run(data));
