//! `make fuzz TARGET=stanza`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| enjamb_fuzz::splice::run(data));
