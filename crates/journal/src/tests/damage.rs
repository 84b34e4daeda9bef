//! Writes that are cut at any byte, bits that flip, files of another time.

use super::*;
use crate::Error;
use crate::record::{self, checksum};
use crate::segment;

/// A short life in several segments. Calls `after` behind every operation.
fn script(j: &mut Journal, mut after: impl FnMut(&mut Journal, bool)) {
    let mut commit = 0;
    let mut did = |j: &mut Journal, ok: Result<(), Error>| {
        ok.unwrap();
        commit += 1;
        let committed = commit % 3 == 0 && j.commit().is_ok();
        after(j, committed);
    };
    for id in 1..=3u64 {
        let ok = j.set_meta(id, format!("session {id}").as_bytes());
        did(j, ok);
    }
    for number in 1..=12u64 {
        for id in 1..=3 {
            let ok = j.push(id, number, format!("<message id='{id}-{number}'/>").as_bytes());
            did(j, ok);
        }
        if number % 4 == 0 {
            let ok = j.ack(1, number - 1);
            did(j, ok);
            let ok = j.set_inbound(2, number);
            did(j, ok);
        }
    }
    let ok = j.end(3);
    did(j, ok);
    let ok = j.set_meta(1, b"renamed");
    did(j, ok);
}

#[test]
fn each_write_cut_at_every_byte_leaves_a_prefix() {
    let mut at = 0;
    loop {
        let files = MemoryFiles::default();
        let (mut j, _) = open(&files, Config { waiting_bytes: 1 << 20, ..tiny() });
        files.die_after(at);
        let (mut history, mut committed) = (vec![State::new()], 0);
        script(&mut j, |j, ok| {
            // Reading from a dead disk fails, so the index is asked; what it points to is compared below.
            let indexed = j.sessions().map(|id| {
                let c = j.counters(id).unwrap();
                let (acked, inbound, queue) = (c.acked, c.inbound, vec![None; c.queued]);
                (id, Saved { acked, inbound, queue, ..Saved::default() })
            });
            history.push(indexed.collect());
            if ok {
                committed = history.len() - 1;
            }
        });
        drop(j);
        let died = files.is_dead();
        files.crash();
        let (mut j, r) = open(&files, tiny());
        assert!(r.is_whole(), "{at}: {r:?}");
        let mut found = state(&mut j);
        for (id, s) in &mut found {
            for (i, stanza) in s.queue.iter_mut().enumerate() {
                let want = format!("<message id='{id}-{}'/>", s.acked + 1 + i as u64);
                assert_eq!(stanza.take().unwrap(), want.as_bytes(), "{at}");
            }
            assert!([format!("session {id}").as_bytes(), b"renamed"].contains(&&s.meta[..]));
            s.meta.clear();
        }
        let which = history.iter().rposition(|h| *h == found);
        assert!(which.is_some_and(|w| w >= committed), "{at}: {which:?} of {committed}");
        if !died {
            assert_eq!(which, Some(history.len() - 1));
            break;
        }
        at += 1;
    }
    assert!(at > 1500, "{at}");
}

fn written() -> (MemoryFiles, State) {
    let files = MemoryFiles::default();
    let (mut j, _) = open(&files, tiny());
    script(&mut j, |_, _| {});
    let all = state(&mut j);
    drop(j);
    assert!(files.segments().len() > 3);
    (files, all)
}

#[test]
fn every_flipped_bit_is_told_and_none_makes_a_wrong_stanza() {
    let (original, all) = written();
    let mut whole = 0;
    for path in original.segments() {
        // All bits of each byte in turn.
        for byte in 0..original.read(&path).len() {
            let files = original.copy();
            files.flip(&path, byte * 8 + byte % 8);
            let (mut j, r) = open(&files, tiny());
            assert!(!r.is_whole() || r.torn > 0, "{path:?} {byte}: silent");
            for (id, s) in state(&mut j) {
                for (i, stanza) in s.queue.into_iter().enumerate() {
                    let want = format!("<message id='{id}-{}'/>", s.acked + 1 + i as u64);
                    assert!(stanza.is_none_or(|s| s == want.as_bytes()), "{path:?} {byte}");
                }
            }
            let found = state(&mut j);
            let has = |id: &u64, number: u64| {
                let s = found.get(id)?;
                s.queue.get(number.checked_sub(s.acked + 1)? as usize)?.as_ref()
            };
            let numbers =
                all.iter().flat_map(|(id, s)| (1..=s.queue.len() as u64).map(move |n| (id, s.acked + n)));
            let missing = numbers.filter(|(id, number)| has(id, *number).is_none()).count();
            assert!(missing <= 1, "{path:?} {byte}: one bit took {missing} stanzas");
            whole += usize::from(found == all);
            // It can be used on, and what was damaged is not reported as good later.
            j.set_meta(9, b"new").unwrap();
            drop(j);
            let (j, _) = open(&files, tiny());
            assert!(j.counters(9).is_some());
        }
    }
    assert!(whole > 0, "dead records were hit, too");
}

#[test]
fn a_stanza_that_rots_while_the_journal_is_open_is_not_handed_out() {
    let (files, all) = written();
    let (mut j, _) = open(&files, tiny());
    for path in files.segments() {
        for byte in 0..files.read(&path).len() {
            files.flip(&path, byte * 8);
            for (id, s) in state(&mut j) {
                for (stanza, want) in s.queue.iter().zip(&all[&id].queue) {
                    assert!(stanza.is_none() || stanza == want);
                }
            }
            files.flip(&path, byte * 8);
        }
    }
    assert!(matches!(j.take_trouble(), Some(Error::Corrupt { .. })));
    assert_eq!(state(&mut j), all);
}

/// Damage under the feet of the collector: a record's length, its session, its bytes.
#[test]
fn collecting_a_damaged_segment_saves_the_rest() {
    let (original, all) = written();
    let mut lost = 0;
    let segments = original.segments();
    for path in &segments[..2] {
        for byte in 0..original.read(path).len() {
            let files = original.copy();
            let (mut j, _) = open(&files, tiny());
            files.flip(path, byte * 8 + 1);
            // As if a sync of theirs had failed: then they are emptied whatever is dead in them.
            let suspects: Vec<u32> = j.index.segments.iter().map(|(id, _)| id).take(2).collect();
            j.collector.suspects.extend(&suspects);
            for _ in 0..200 {
                j.commit().unwrap();
            }
            assert!(suspects.iter().all(|id| j.index.segments.get(*id).is_none()), "{:?}", j.stats());
            lost += j.stats().lost;
            let now = state(&mut j);
            for (id, s) in &all {
                for (stanza, want) in now[id].queue.iter().zip(&s.queue) {
                    assert!(stanza.is_none() || stanza == want, "{path:?} {byte}");
                }
                let missing = now[id].queue.iter().filter(|s| s.is_none()).count();
                assert!(missing <= 1 && now[id].queue.len() == s.queue.len(), "{path:?} {byte}");
            }
            drop(j);
            let (mut j, _) = open(&files, tiny());
            let mut again = state(&mut j);
            for (id, s) in &mut again {
                // A gap at the very end leaves nothing that says how long the queue was.
                s.queue.resize(now[id].queue.len(), None);
            }
            assert_eq!(again, now, "{path:?} {byte}");
        }
    }
    assert!(lost > 100, "{lost}");
}

#[test]
fn a_later_format_is_left_as_it_is() {
    let (original, _) = written();
    let path = original.segments()[1].clone();
    let id = segment::id(path.file_name().unwrap().to_str().unwrap()).unwrap();
    let bytes = original.read(&path);
    let mut header = bytes.clone();
    header[7] = 9;
    let sum = checksum(0, &header[..12]);
    header[12..16].copy_from_slice(&sum.to_le_bytes());
    let mut first = bytes.clone();
    let len = record::Header::read(&first[16..]).unwrap().len;
    first[16 + 8] = 9;
    let sum = checksum(id, &first[20..16 + len]);
    first[16..20].copy_from_slice(&sum.to_le_bytes());
    for later in [header, first] {
        let files = original.copy();
        files.write(&path, &later);
        let before: Vec<_> = files.segments().iter().map(|p| files.read(p)).collect();
        let opened = Journal::open_in(files.process(), dir(), tiny());
        assert!(matches!(opened, Err(Error::UnknownVersion { version: 9, .. })));
        let after: Vec<_> = files.segments().iter().map(|p| files.read(p)).collect();
        // But for the empty file that had been made for the next segment.
        assert_eq!(
            before.iter().filter(|b| !b.is_empty()).collect::<Vec<_>>(),
            after.iter().collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_last_segment_that_was_overwritten_is_damaged_and_not_torn() {
    let (original, _) = written();
    let last = original.segments().into_iter().rfind(|path| !original.read(path).is_empty()).unwrap();
    let size = original.read(&last).len();
    for (with, torn) in [(b'x', 0), (0, size as u64)] {
        for mark in [None, Some(vec![b'x'; 48 << 10])] {
            let files = original.copy();
            files.write(&last, &vec![with; size]);
            if let Some(bytes) = &mark {
                files.write(&crate::mark::path(dir()), bytes);
            }
            let (j, r) = open(&files, tiny());
            assert_eq!((r.torn, r.damaged.is_empty()), (torn, torn > 0), "{with} {}", mark.is_some());
            drop(j);
        }
    }
}

#[test]
fn noise_is_no_journal_and_no_panic() {
    let mut x = 1u64;
    for len in 0..200 {
        let noise: Vec<u8> = (0..len * 3)
            .map(|_| {
                x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (x >> 33) as u8
            })
            .collect();
        let files = MemoryFiles::default();
        files.write(&segment::path(dir(), 5), &noise);
        files.write(&segment::path(dir(), 9), &noise);
        let (mut j, r) = open(&files, tiny());
        assert_eq!(r.is_whole(), len == 0);
        // What is shorter than a header may be the begin of one.
        let is_torn = len * 3 < segment::HEADER as u64;
        assert_eq!(r.torn, if is_torn { len * 3 } else { 0 });
        assert!(state(&mut j).is_empty());
    }
    let files = MemoryFiles::default();
    files.write(&segment::path(dir(), u32::MAX), b"x");
    assert!(matches!(Journal::open_in(files.process(), dir(), tiny()), Err(Error::Corrupt { .. })));
}
