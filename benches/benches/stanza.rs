//! Writing a stanza, reading its children, and copies of it. Beside the reader of ours what quick-xml takes for the same: why ours is there.

#![allow(missing_docs)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use enjamb_stanza::{Attribute, Delay, Resent, Splice, Summary, read, write};
use quick_xml::events::{BytesStart, Event};
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

/// What an occupant's presence looks like to a moderator.
const PRESENCE: &[u8] = b"<presence from='orchard@rooms.example/juliet' id='3b2f0c1e' xml:lang='en'><show>away</show>\
    <c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='http://client.example' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/>\
    <x xmlns='vcard-temp:x:update'><photo>sha1-hash-of-image</photo></x><x xmlns='http://jabber.org/protocol/muc#user'>\
    <item jid='juliet@capulet.example/balcony' affiliation='member' role='participant'/></x></presence>";

/// Sums up names, attributes and lengths of the stanza's children, so that neither reader may leave anything out.
fn looked_at(name: &[u8], attributes: usize, inside: usize) -> usize {
    name.len() + attributes + inside
}

fn read_ours(stanza: &[u8]) -> usize {
    let root = read::root(stanza).map_or(0, |root| {
        root.attribute(b"from").map_or(0, <[u8]>::len) + root.attribute(b"id").map_or(0, <[u8]>::len)
    });
    let child = |c: read::Child| looked_at(c.name, read::attributes(c.attributes).count(), c.inside.len());
    root + read::children(stanza).map(child).sum::<usize>()
}

/// As `read_ours` gives it, with quick-xml's reader over a slice; its checks are off where it lets them be.
fn read_with_quick_xml(stanza: &[u8]) -> usize {
    let mut reader = quick_xml::Reader::from_reader(stanza);
    reader.config_mut().check_end_names = false;
    let attributes = |start: &BytesStart| start.attributes().with_checks(false).flatten().count();
    let (mut sum, mut is_root) = (0, true);
    loop {
        match reader.read_event() {
            Ok(Event::Start(start)) if is_root => {
                is_root = false;
                for attribute in start.attributes().with_checks(false).flatten() {
                    if matches!(attribute.key.as_ref(), b"from" | b"id") {
                        sum += attribute.value.len();
                    }
                }
            }
            Ok(Event::Start(start)) => {
                let Ok(span) = reader.read_to_end(start.name()) else { return sum };
                let inside = (span.end - span.start) as usize;
                sum += looked_at(start.name().as_ref(), attributes(&start), inside);
            }
            Ok(Event::Empty(start)) => sum += looked_at(start.name().as_ref(), attributes(&start), 0),
            Ok(Event::Eof) | Err(_) => return sum,
            Ok(_) => {}
        }
    }
}

fn readers(c: &mut Criterion) {
    let mut message = Vec::new();
    write_message(&mut message);
    let mut group = c.benchmark_group("reading");
    for (what, stanza) in [("a message", &message[..]), ("a presence", PRESENCE)] {
        assert_eq!(read_ours(stanza), read_with_quick_xml(stanza));
        group.bench_function(format!("{what}, ours"), |b| b.iter(|| read_ours(black_box(stanza))));
        group.bench_function(format!("{what}, quick-xml"), |b| {
            b.iter(|| read_with_quick_xml(black_box(stanza)));
        });
    }
    group.finish();
}

fn splice(c: &mut Criterion) {
    let mut group = c.benchmark_group("splice");
    let to = Attribute::Set("romeo@montague.example/orchard-91bc");
    let complete = |_: &str| None;
    let full = Splice { with: &[110], without: &[201], id: Attribute::Set("1"), ..Splice::default() };
    for (name, splice) in [
        ("address", Splice { to, ..Splice::default() }),
        ("address and look for JIDs", Splice { to, complete: Some(&complete), ..Splice::default() }),
        ("address, id and codes", Splice { to, ..full }),
    ] {
        let mut out = Vec::with_capacity(1024);
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                splice.write(black_box(PRESENCE), &mut out);
                black_box(&out);
            });
        });
    }
    group.bench_function("summary", |b| b.iter(|| Summary::of(black_box(PRESENCE))));
    group.finish();
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

criterion_group!(benches, stanza, readers, splice);
criterion_main!(benches);
