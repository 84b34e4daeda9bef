//! A stream that is kept: what one stanza costs on its way out, and one ack that claims something.

#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{Criterion, criterion_group, criterion_main};
use enjamb_journal::{Config, Journal};
use enjamb_sessions::{Attribute, Bytes, Level, Scope, Sessions, State};
use enjamb_stanza::{Kind, Name, Summary};
use enjamb_stream_management::{Enabled, H, ResumptionId, StreamKey};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

const SUMMARY: Summary = Summary { name: Name::Message, kind: Kind::Other, delayed: false };

/// What is known of a session that has sent presence to so many addresses.
fn known(directed: usize) -> Vec<Attribute> {
    let [username, host, resource, id, xmlns] =
        ["romeo", "montague.example", "orchard", "0123456789abcdef", "urn:xmpp:sm:3"].map(str::to_owned);
    let presence = Some(Bytes(PRESENCE.to_vec()));
    let directed = Some((0..directed).map(|n| format!("somebody-{n}@elsewhere.example/resource")).collect());
    State { username, host, resource, id, xmlns, presence, directed, ..State::default() }.attributes()
}

const PRESENCE: &[u8] =
    b"<presence id='1'><show>away</show><status>Gone for a walk</status><priority>5</priority></presence>";

/// So many streams, all of them kept.
fn sessions(dir: &Path, n: u64) -> (Sessions, Vec<StreamKey>) {
    let _ = std::fs::remove_dir_all(dir);
    let mut sessions = Sessions::default();
    sessions.open(Journal::open(dir, Config::default()).unwrap().0);
    let keys = (1..=n).map(|id| {
        let enabled = Enabled { resumption: Some((ResumptionId(u128::from(id)), 600)) };
        let key = sessions.start(Arc::default(), Some(&format!("{id}@b")), enabled, 0);
        sessions.keep(key, id, &known(0), Scope::Whole).unwrap();
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

fn describe(c: &mut Criterion) {
    let dir = std::env::temp_dir().join(format!("enjamb-bench-{}-describe", std::process::id()));
    let mut group = c.benchmark_group("attributes");
    for n in [0, 4000] {
        group.bench_function(format!("a presence of a session with {n} directed presences"), |b| {
            let (mut sessions, keys) = sessions(&dir, 1);
            let all = known(n);
            sessions.keep(keys[0], 1, &all, Scope::Whole).unwrap();
            let small: Vec<Attribute> = all
                .into_iter()
                .filter(|a| !matches!(a, Attribute::Directed(_) | Attribute::Presence(_)))
                .collect();
            let mut turn = 0u8;
            b.iter(|| {
                turn = turn.wrapping_add(1);
                let mut presence = PRESENCE.to_vec();
                presence.push(turn);
                sessions.set(keys[0], &Attribute::Presence(Bytes(presence))).unwrap();
                sessions.keep(keys[0], 1, &small, Scope::Small).unwrap();
            });
        });
    }
    group.finish();
    let _ = std::fs::remove_dir_all(&dir);
}

criterion_group!(benches, push_and_claim, describe);
criterion_main!(benches);
