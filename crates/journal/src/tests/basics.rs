//! What each call does, and what it refuses.

use super::*;
use crate::{Error, MAX_PAYLOAD};
use std::sync::mpsc;
use std::time::Duration;

#[test]
fn a_reopened_journal_has_everything() {
    let files = MemoryFiles::default();
    let (mut j, r) = open(&files, Config::default());
    assert_eq!(r, Recovery::default());
    j.set_meta(7, b"one").unwrap();
    j.set_meta(7, b"two").unwrap();
    for number in 1..=5 {
        j.push(7, number, &[number as u8; 9]).unwrap();
    }
    j.ack(7, 2).unwrap();
    j.set_inbound(7, 41).unwrap();
    j.set_meta(8, b"gone").unwrap();
    j.push(8, 1, b"gone").unwrap();
    j.end(8).unwrap();
    let before = state(&mut j); // all of it from the buffer
    drop(j);
    let (mut j, r) = open(&files, Config::default());
    assert!(r.is_whole() && r.torn == 0 && r.records == 12, "{r:?}");
    assert_eq!(state(&mut j), before);
    let queue = (3..=5).map(|n| Some(vec![n; 9])).collect();
    assert_eq!(before[&7], Saved { meta: b"two".to_vec(), acked: 2, inbound: 41, queue });
    assert_eq!(before.len(), 1);
}

#[test]
fn what_cannot_be_true_is_refused_and_changes_nothing() {
    let files = MemoryFiles::default();
    let (mut j, _) = open(&files, Config::default());
    j.set_meta(1, b"m").unwrap();
    j.push(1, 1, b"a").unwrap();
    j.push(1, 2, b"b").unwrap();
    j.ack(1, 1).unwrap();
    let before = state(&mut j);
    for number in [0, 1, 2, 4, u64::MAX] {
        assert!(
            matches!(j.push(1, number, b""), Err(Error::OutOfOrder { first: 3, last: 3, .. })),
            "{number}"
        );
    }
    for number in [0, 3, u64::MAX] {
        assert!(matches!(j.ack(1, number), Err(Error::OutOfOrder { first: 1, last: 2, .. })), "{number}");
    }
    assert!(matches!(j.push(2, 1, b""), Err(Error::NoSuchSession { session: 2 })));
    assert!(matches!(j.ack(2, 0), Err(Error::NoSuchSession { session: 2 })));
    assert!(matches!(j.set_inbound(2, 0), Err(Error::NoSuchSession { session: 2 })));
    assert!(matches!(j.end(2), Err(Error::NoSuchSession { session: 2 })));
    assert!(matches!(j.meta(2), Err(Error::NoSuchSession { session: 2 })));
    assert!(matches!(j.replay(2, 0, |_, _| true), Err(Error::NoSuchSession { session: 2 })));
    let long = vec![0; MAX_PAYLOAD + 1];
    assert!(matches!(j.push(1, 3, &long), Err(Error::TooLong { .. })));
    assert_eq!(state(&mut j), before);
    j.push(1, 3, &long[1..]).unwrap();
    drop(j);
    let (mut j, r) = open(&files, Config::default());
    assert!(r.is_whole());
    assert_eq!(state(&mut j)[&1].queue[1].as_ref().unwrap().len(), MAX_PAYLOAD);
}

#[test]
fn one_process_at_a_time() {
    let files = MemoryFiles::default();
    let (j, _) = open(&files, tiny());
    let second = Journal::open_in(files.process(), dir(), tiny());
    assert!(matches!(second, Err(Error::InUse { .. })));
    drop(j);
    open(&files, tiny());
}

#[test]
fn a_replay_goes_on_where_it_stopped() {
    let files = MemoryFiles::default();
    let (mut j, _) = open(&files, tiny());
    j.set_meta(1, b"").unwrap();
    for number in 1..=100 {
        j.push(1, number, &vec![number as u8; number as usize % 50]).unwrap();
    }
    j.ack(1, 10).unwrap();
    let (mut next, mut seen) = (0, Vec::new());
    while seen.len() < 90 {
        j.replay(1, next, |number, stanza| {
            assert_eq!(stanza, Some(&vec![number as u8; number as usize % 50][..]));
            seen.push(number);
            next = number + 1;
            number % 7 > 0
        })
        .unwrap();
    }
    assert_eq!(seen, (11..=100).collect::<Vec<_>>());
    j.replay(1, 101, |_, _| panic!("nothing is left")).unwrap();
}

#[test]
fn a_long_queue_is_replayed_whole_and_from_anywhere() {
    let (mut j, _) = open(&MemoryFiles::default(), tiny());
    j.set_meta(1, b"m").unwrap();
    for number in 1..=1_000_u64 {
        j.push(1, number, &vec![b'x'; number as usize % 7]).unwrap();
    }
    j.ack(1, 3).unwrap();
    for from in [0, 4, 5, 259, 260, 900, 1_000, 1_001, u64::MAX] {
        let mut expected = from.max(4);
        j.replay(1, from, |number, stanza| {
            assert_eq!((number, stanza.map(<[u8]>::len)), (expected, Some(number as usize % 7)));
            expected += 1;
            true
        })
        .unwrap();
        assert_eq!(expected, from.max(1_001));
    }
    let lengths: Vec<_> = j.lengths(1).unwrap().collect();
    assert!(lengths.into_iter().eq((4..=1_000).map(|number| Some(number % 7))));
}

#[test]
fn whoever_waits_for_the_disk_is_told() {
    let (mut j, _) = open(&MemoryFiles::default(), Config::default());
    let (tell, told) = mpsc::channel();
    j.on_durable(move || {
        let _ = tell.send(());
    });
    for _ in 0..3 {
        j.set_meta(1, b"m").unwrap();
        let position = j.commit().unwrap();
        assert_eq!(j.position(), position);
        j.request_sync();
        while j.durable() < position {
            told.recv_timeout(Duration::from_secs(60)).expect("it grows when it has synced");
        }
    }
    assert!(j.stats().commits >= 3, "{:?}", j.stats());
}

#[test]
fn the_disk_holds_about_twice_what_is_live() {
    let files = MemoryFiles::default();
    let (mut j, _) = open(&files, tiny());
    for id in 1..=4 {
        j.set_meta(id, b"a session that stays").unwrap();
    }
    for round in 1..=2000 {
        // One waits for its client all the time.
        if round <= 20 {
            j.push(4, round, b"waits").unwrap();
        }
        for id in 1..=3 {
            j.push(id, round, &[7; 30]).unwrap();
            j.ack(id, round.saturating_sub(id)).unwrap();
        }
        j.commit().unwrap();
        let stats = j.stats();
        assert!(stats.disk_bytes <= 2 * stats.live_bytes + 1200 + 3 * 600, "{stats:?}");
    }
    assert!(j.take_trouble().is_none());
    let stats = j.stats();
    assert!(stats.moved_bytes < stats.written_bytes / 2, "{stats:?}");
    drop(j);
    let used: usize = files.segments().iter().map(|path| files.read(path).len()).sum();
    assert!(used < 6000, "{used}");
    // Starting and stopping does not pile up files.
    for _ in 0..20 {
        let (j, r) = open(&files, tiny());
        assert!(r.is_whole() && r.segments < 12, "{r:?}");
        drop(j);
    }
}

#[test]
fn other_files_are_left_alone() {
    let files = MemoryFiles::default();
    files.write(&dir().join("notes.seg"), b"not ours");
    let (j, r) = open(&files, tiny());
    assert_eq!(r, Recovery::default());
    drop(j);
    assert_eq!(files.read(&dir().join("notes.seg")), b"not ours");
}
