//! Appending, acknowledging and committing, on this machine's files; and opening what is there.

#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use enjamb_journal::{Config, Journal};
use std::path::PathBuf;

fn directory(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("enjamb-bench-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

fn journal(c: &mut Criterion) {
    let stanza = [b'x'; 400];
    let mut group = c.benchmark_group("journal");
    for n in [1, 10, 50] {
        group.throughput(Throughput::Elements(n));
        group.bench_function(format!("append {n}, ack {n}, commit"), |b| {
            let dir = directory("append");
            let (mut journal, _) = Journal::open(&dir, Config::default()).unwrap();
            journal.set_meta(1, b"somebody").unwrap();
            let mut number = 0;
            b.iter(|| {
                for _ in 0..n {
                    number += 1;
                    journal.push(1, number, &stanza).unwrap();
                }
                journal.ack(1, number).unwrap();
                journal.commit().unwrap()
            });
            drop(journal);
            std::fs::remove_dir_all(&dir).unwrap();
        });
    }
    group.sample_size(10);
    group.throughput(Throughput::Elements(100_000));
    group.bench_function("open with 1,000 sessions and 100,000 stanzas", |b| {
        let dir = directory("open");
        let (mut journal, _) = Journal::open(&dir, Config::default()).unwrap();
        for session in 0..1000 {
            journal.set_meta(session, b"somebody").unwrap();
            for number in 1..=100 {
                journal.push(session, number, &stanza).unwrap();
            }
        }
        drop(journal);
        b.iter(|| Journal::open(&dir, Config::default()).unwrap());
        std::fs::remove_dir_all(&dir).unwrap();
    });
    group.finish();
}

criterion_group!(benches, journal);
criterion_main!(benches);
