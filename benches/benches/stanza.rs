//! Writing a stanza, reading its children, and copies of it.

#![allow(missing_docs)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use enjamb_stanza::{Delay, Resent, read, write};
use std::hint::black_box;

/// A chat message as clients send them, of some 400 bytes.
fn write_message(out: &mut Vec<u8>) {
    let name = |out: &mut Vec<u8>, name: &[u8]| {
        write::open(out, name);
        out.len() - name.len()..out.len()
    };
    let message = name(out, b"message");
    write::attribute(out, b"from", b"juliet@capulet.example/balcony-7f3a");
    write::attribute(out, b"to", b"romeo@montague.example/orchard-91bc");
    write::attribute(out, b"type", b"chat");
    write::attribute(out, b"id", b"3b2f0c1e-9a77-4c58-8f5e-6f3d1f1f2a11");
    write::end_open(out);
    let body = name(out, b"body");
    write::end_open(out);
    write::escape(
        out,
        b"Art thou not Romeo & a Montague? It's a question that somebody asks in a text of usual length.",
    );
    write::close(out, body);
    for (tag, xmlns) in
        [(&b"active"[..], &b"http://jabber.org/protocol/chatstates"[..]), (b"request", b"urn:xmpp:receipts")]
    {
        write::open(out, tag);
        write::attribute(out, b"xmlns", xmlns);
        write::end_empty(out);
    }
    write::close(out, message);
}

fn stanza(c: &mut Criterion) {
    let mut message = Vec::new();
    write_message(&mut message);
    let mut group = c.benchmark_group("stanza");
    group.throughput(Throughput::Bytes(message.len() as u64));
    group.bench_function("write", |b| {
        let mut out = Vec::with_capacity(1024);
        b.iter(|| {
            out.clear();
            write_message(&mut out);
            black_box(&out);
        });
    });
    group.bench_function("read the children", |b| b.iter(|| read::children(black_box(&message)).count()));
    let delay = Delay { from: "montague.example", stamp: "2026-11-25T12:00:00Z" };
    for (name, copy) in [
        ("copy with a delay", Resent { xmlns: None, delay: Some(delay) }),
        ("copy for WebSocket", Resent { xmlns: Some("jabber:client"), delay: None }),
    ] {
        group.bench_function(name, |b| {
            let new = || Vec::with_capacity(1024);
            b.iter_batched_ref(new, |out| copy.write(black_box(&message), out), BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(benches, stanza);
criterion_main!(benches);
