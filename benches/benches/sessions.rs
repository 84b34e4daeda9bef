//! A stream that is kept: what one stanza costs on its way out, and one ack that claims something.

#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{Criterion, criterion_group, criterion_main};
use enjamb_journal::{Config, Journal};
use enjamb_sessions::{Level, Sessions};
use enjamb_stanza::{Kind, Name, Summary};
use enjamb_stream_management::{Enabled, H, ResumptionId, StreamKey};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

const SUMMARY: Summary = Summary { name: Name::Message, kind: Kind::Other, delayed: false };

/// So many streams, all of them kept.
fn sessions(dir: &Path, n: u64) -> (Sessions, Vec<StreamKey>) {
    let _ = std::fs::remove_dir_all(dir);
    let mut sessions = Sessions::default();
    sessions.open(Journal::open(dir, Config::default()).unwrap().0);
    let keys = (1..=n).map(|id| {
        let enabled = Enabled { resumption: Some((ResumptionId(u128::from(id)), 600)) };
        let key = sessions.start(Arc::default(), Some(&format!("{id}@b")), enabled, 0);
        sessions.keep(key, id, &[b's'; 300]).unwrap();
        key
    });
    let keys = keys.collect();
    (sessions, keys)
}

fn push_and_claim(c: &mut Criterion) {
    let dir = std::env::temp_dir().join(format!("enjamb-bench-{}-sessions", std::process::id()));
    let stanza = [b'x'; 400];
    let mut group = c.benchmark_group("sessions");
    for n in [1, 1000] {
        group.bench_function(format!("push and ack, in turns on {n} streams"), |b| {
            let (mut sessions, keys) = sessions(&dir, n);
            let (mut turn, mut acked) = (0, vec![H(0); keys.len()]);
            b.iter(|| {
                let key = keys[turn];
                black_box(sessions.push(key, &stanza, SUMMARY, 1));
                acked[turn] = acked[turn].plus(1);
                black_box(sessions.ack(key, acked[turn]));
                turn = (turn + 1) % keys.len();
            });
        });
        group.bench_function(format!("push, ack and claim, in turns on {n} streams"), |b| {
            let (mut sessions, keys) = sessions(&dir, n);
            let (mut turn, mut counts) = (0, vec![H(0); keys.len()]);
            b.iter(|| {
                let key = keys[turn];
                black_box(sessions.push(key, &stanza, SUMMARY, 1));
                let before = counts[turn];
                counts[turn] = before.plus(1);
                black_box(sessions.ack(key, counts[turn]));
                sessions.update(key, |s| s.received(before));
                let (claim, committed) = sessions.claim(key, counts[turn], Level::Process, 0);
                assert!(committed.is_ok() && claim.h == Some(counts[turn]));
                turn = (turn + 1) % keys.len();
            });
        });
    }
    group.finish();
    let _ = std::fs::remove_dir_all(&dir);
}

criterion_group!(benches, push_and_claim);
criterion_main!(benches);
