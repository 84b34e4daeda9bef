//! What comes from outside, as a fuzzer makes it: stanzas of other modules, bytes of the journal, what clients and rooms
//! do, in any order.
//!
//! Each target is a function of bytes that panics if something is wrong. libFuzzer calls it (`make fuzz`), and so does an
//! ordinary test, with the corpus and some thousand mutations of it (`tests/mutations.rs`).

#![forbid(unsafe_code)]

use arbitrary::{Arbitrary, Unstructured};

pub mod accounts;
pub mod disk;
pub mod journal;
pub mod sessions;
pub mod splice;
pub mod stanza;
pub mod walk;

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by the name of their corpus.
pub const TARGETS: [(&str, Target); 6] = [
    ("walk", walk::run),
    ("stanza", stanza::run),
    ("splice", splice::run),
    ("journal", journal::run),
    ("sessions", sessions::run),
    ("accounts", accounts::run),
];

/// With `ENJAMB_FUZZ_SHOW` set what a target tries is written to stderr: the only way to see what a failing input means.
fn show(input: &impl std::fmt::Debug) {
    if std::env::var_os("ENJAMB_FUZZ_SHOW").is_some() {
        eprintln!("{input:#?}");
    }
}

/// Reads what a target wants to try out of the bytes; what is not there is nothing.
fn read<'a, T: Arbitrary<'a> + std::fmt::Debug>(data: &'a [u8]) -> Option<T> {
    let input = T::arbitrary_take_rest(Unstructured::new(data)).ok()?;
    show(&input);
    Some(input)
}

/// Reads as many operations as there are bytes for, up to a bound.
fn operations<'a, T: Arbitrary<'a> + std::fmt::Debug>(data: &'a [u8]) -> Vec<T> {
    let (mut data, mut operations) = (Unstructured::new(data), Vec::new());
    while !data.is_empty() && operations.len() < 300 {
        operations.extend(data.arbitrary().ok());
    }
    show(&operations);
    operations
}
