//! `make fuzz TARGET=walk`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| enjamb_fuzz::walk::run(data));
