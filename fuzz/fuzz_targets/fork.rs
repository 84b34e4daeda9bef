//! `make fuzz TARGET=fork`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| enjamb_fuzz::fork::run(data));
