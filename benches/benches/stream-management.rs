//! Queueing stanzas on a stream and taking acks for them.

#![allow(missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use enjamb_stanza::{Kind, Name, Summary};
use enjamb_stream_management::{Enabled, H, Registry};
use std::hint::black_box;
use std::sync::Arc;

const SUMMARY: Summary = Summary { name: Name::Message, kind: Kind::Other, delayed: false };

fn push_and_ack(c: &mut Criterion) {
    let stanza = [b'x'; 400];
    let mut group = c.benchmark_group("stream-management");
    for stored in [true, false] {
        let kept = if stored { "in the journal" } else { "in memory" };
        for n in [1, 50] {
            group.bench_function(format!("push {n}, ack {n}, kept {kept}"), |b| {
                let mut registry = Registry::default();
                let key = registry.start(Arc::default(), Some("a@b"), Enabled { resumption: None }, 0);
                let mut h = H(0);
                b.iter(|| {
                    for _ in 0..n {
                        black_box(registry.push(key, &stanza, SUMMARY, 1, stored));
                    }
                    h = h.plus(n);
                    black_box(registry.update(key, |s| s.ack(h)))
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, push_and_ack);
criterion_main!(benches);
