//! Each target with its corpus and some thousand mutations of it, the same ones each time. A first look in a few seconds; `make fuzz`
//! looks for longer, and where the code leads.

#![allow(clippy::unwrap_used, missing_docs)]

use enjamb_fuzz::{TARGETS, Target};
use std::fmt::Write;
use std::path::Path;

/// Of each target. One in four is made of nothing but chance.
const INPUTS: usize = 4000;
const LONGEST: usize = 1024;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut paths: Vec<_> = dir.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn mutate(random: &mut fastrand::Rng, corpus: &[Vec<u8>], data: &mut Vec<u8>) {
    for _ in 0..random.usize(1..8) {
        let at = random.usize(..=data.len());
        match random.u8(..6) {
            0 => data.truncate(at),
            1 => data.insert(at, random.u8(..)),
            2 if at < data.len() => data[at] = random.u8(..),
            3 if at < data.len() => data[at] ^= 1 << random.u8(..8),
            4 => {
                let other = random.choice(corpus).unwrap();
                let from = random.usize(..=other.len());
                data.splice(at.., other[from..].iter().copied());
            }
            _ => data.extend((0..random.usize(..64)).map(|_| random.u8(..)).collect::<Vec<_>>()),
        }
        data.truncate(LONGEST);
    }
}

/// Says what was tried when it fails.
struct Tried<'a>(&'a str, &'a [u8]);

impl Drop for Tried<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut hex = String::new();
            for byte in self.1 {
                write!(hex, "{byte:02x}").unwrap();
            }
            eprintln!("target {} fails with (in hexadecimal, for a file in fuzz/corpus): {hex}", self.0);
        }
    }
}

fn try_target(name: &str, run: Target) {
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "{name} has no corpus");
    let mut random = fastrand::Rng::with_seed(1);
    for data in &corpus {
        let tried = Tried(name, data);
        run(tried.1);
    }
    for n in 0..INPUTS {
        let mut data = random.choice(&corpus).unwrap().clone();
        match n % 4 {
            0 => data = (0..random.usize(..LONGEST)).map(|_| random.u8(..)).collect(),
            _ => mutate(&mut random, &corpus, &mut data),
        }
        let tried = Tried(name, &data);
        run(tried.1);
    }
}

#[test]
fn targets_hold_under_their_corpus_and_mutations_of_it() {
    std::thread::scope(|scope| {
        for (name, run) in TARGETS {
            scope.spawn(move || try_target(name, run));
        }
    });
}
