//! `make fuzz TARGET=accounts`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| enjamb_fuzz::accounts::run(data));
