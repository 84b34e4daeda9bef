//! Disks that are full, that fail, or that lose power.

use super::*;
use crate::Error;
use crate::faults::{EIO, ENOSPC, Op, coin};
use crate::files::Files;

fn started(files: &MemoryFiles) -> Journal {
    let (mut j, _) = open(files, tiny());
    j.set_meta(1, b"m").unwrap();
    j.commit().unwrap();
    j
}

fn is_errno(e: &Error, errno: i32) -> bool {
    matches!(e, Error::Io { source, .. } if source.raw_os_error() == Some(errno))
}

#[test]
fn a_full_disk_keeps_records_waiting_and_the_next_commit_writes_them() {
    for room in [0, 1, 27, 28, 100, 599] {
        let files = MemoryFiles::default();
        let mut j = started(&files);
        files.room(room);
        let mut number = 0;
        let full = loop {
            match j.push(1, number + 1, &[7; 40]) {
                Ok(()) => number += 1,
                Err(e) => break e,
            }
            assert!(number < 1000, "it waits without bound");
        };
        assert!(matches!(full, Error::Full { waiting, .. } if waiting <= 1500), "{full}");
        assert!(is_errno(&j.commit().unwrap_err(), ENOSPC));
        assert!(matches!(j.push(1, number + 1, b""), Ok(()) | Err(Error::Full { .. })));
        // What is queued can be read meanwhile.
        let before = state(&mut j);
        assert!(before[&1].queue.iter().all(Option::is_some));
        files.heal();
        j.commit().unwrap();
        let next = before[&1].queue.len() as u64 + 1;
        j.push(1, next, b"after").unwrap();
        j.commit().unwrap();
        assert!(is_errno(&j.take_trouble().unwrap(), ENOSPC));
        let before = state(&mut j);
        files.crash();
        drop(j);
        let (mut j, r) = open(&files, tiny());
        assert!(r.is_whole() && r.torn == 0, "{room}: {r:?}");
        assert_eq!(state(&mut j), before);
    }
}

#[test]
fn a_process_that_dies_on_a_full_disk_has_what_it_committed() {
    let files = MemoryFiles::default();
    let mut j = started(&files);
    j.push(1, 1, b"committed").unwrap();
    j.commit().unwrap();
    files.room(13);
    j.push(1, 2, b"not committed").unwrap();
    j.commit().unwrap_err();
    files.crash();
    drop(j);
    let (mut j, r) = open(&files, tiny());
    assert_eq!((r.is_whole(), r.torn), (true, 13));
    assert_eq!(state(&mut j)[&1].queue, [Some(b"committed".to_vec())]);
}

#[test]
fn any_single_failure_is_survived() {
    for op in [Op::Create, Op::Write, Op::Read, Op::Sync, Op::Remove] {
        for after in 0..25 {
            let files = MemoryFiles::default();
            let mut j = started(&files);
            files.fail(op, after, 2, EIO);
            let mut failed = 0;
            for number in 1..=150 {
                j.push(1, number, &[number as u8; 40]).unwrap();
                j.ack(1, number.saturating_sub(5)).unwrap();
                j.tick(Duration::from_secs(100 * number));
                if number % 3 == 0 {
                    failed += u32::from(j.commit().is_err());
                }
                if number % 10 == 0 {
                    j.request_sync();
                }
            }
            j.commit().unwrap();
            assert!(failed <= 2 && (op == Op::Write || failed == 0), "{op:?} {after}: {failed}");
            if let Some(e) = j.take_trouble() {
                assert!(is_errno(&e, EIO), "{op:?} {after}: {e}");
            }
            files.heal();
            let before = state(&mut j);
            assert_eq!(before[&1].queue.len(), 5);
            files.crash();
            drop(j);
            let (mut j, r) = open(&files, tiny());
            assert!(r.is_whole(), "{op:?} {after}: {r:?}");
            assert_eq!(state(&mut j), before);
        }
    }
}

#[test]
fn access_that_cannot_be_taken_away_is_told_and_no_reason_to_stop() {
    let files = MemoryFiles::default();
    drop(started(&files));
    files.fail(Op::Restrict, 0, 10, EIO);
    let (mut j, r) = open(&files, tiny());
    assert!(r.is_whole());
    let e = j.take_trouble().unwrap();
    assert!(is_errno(&e, EIO) && e.to_string().contains("access"), "{e}");
    assert_eq!(state(&mut j).len(), 1);
}

#[test]
fn a_segment_that_cannot_be_read_is_not_given_up() {
    let files = MemoryFiles::default();
    let mut j = started(&files);
    j.set_meta(2, b"m").unwrap();
    for number in 1..=60 {
        j.push(1, number, &[number as u8; 40]).unwrap();
        j.push(2, number, &[0; 160]).unwrap();
        j.commit().unwrap();
    }
    j.ack(2, 60).unwrap();
    files.fail(Op::Read, 0, 1000, EIO);
    assert!(is_errno(&j.replay(1, 0, |_, _| true).unwrap_err(), EIO));
    for _ in 0..200 {
        j.commit().unwrap();
    }
    assert!(j.index.segments.iter().any(|(_, s)| s.unreadable));
    assert!(is_errno(&j.take_trouble().unwrap(), EIO));
    files.heal();
    assert_eq!(state(&mut j)[&1].queue.len(), 60);
    drop(j);
    let (mut j, r) = open(&files, tiny());
    assert!(r.is_whole());
    assert!(state(&mut j)[&1].queue.iter().all(Option::is_some));
}

#[test]
fn what_is_durable_survives_the_loss_of_power() {
    let files = MemoryFiles::default();
    let mut j = started(&files);
    j.push(1, 1, b"synced").unwrap();
    let position = j.commit().unwrap();
    j.request_sync();
    until(|| j.durable() >= position);
    j.push(1, 2, b"written").unwrap();
    assert!(j.commit().unwrap() > j.durable());
    files.lose_power();
    drop(j);
    let (mut j, _) = open(&files, tiny());
    assert_eq!(state(&mut j)[&1].queue, [Some(b"synced".to_vec())]);
}

/// As far as a caller can tell from [`Journal::durable`], all above it included.
#[test]
fn the_directory_is_as_durable_as_what_is_in_it() {
    let deep = Path::new("/var/lib/server/journal");
    let open = |files: &MemoryFiles| Journal::open_in(files.process(), deep, tiny()).unwrap().0;
    let made = |files: &MemoryFiles, n: usize| {
        let all = ["/var", "/var/lib", "/var/lib/server", "/var/lib/server/journal"];
        let above = all.iter().take(n).map(Path::new);
        above.for_each(|dir| assert!(files.process().make_dir(dir).unwrap()));
        for dir in ["/", "/var", "/var/lib", "/var/lib/server"].iter().take(n.min(3)) {
            files.process().sync_dir(Path::new(dir)).unwrap();
        }
    };
    // 4: a process was killed when it had made the directory and nothing else.
    for there in 0..=4 {
        for failures in 0..=8 {
            let files = MemoryFiles::default();
            made(&files, there);
            let mut j = open(&files);
            files.fail(Op::Sync, 0, failures, EIO);
            j.set_meta(1, b"m").unwrap();
            let position = j.commit().unwrap();
            until(|| {
                j.request_sync();
                j.commit().unwrap();
                j.durable() >= position
            });
            files.lose_power();
            drop(j);
            assert_eq!(state(&mut open(&files)).len(), 1, "{there} {failures}");
        }
    }
}

#[test]
fn a_clean_stop_syncs() {
    let files = MemoryFiles::default();
    let mut j = started(&files);
    j.push(1, 1, b"buffered").unwrap();
    drop(j);
    files.lose_power();
    let (mut j, _) = open(&files, tiny());
    assert_eq!(state(&mut j)[&1].queue, [Some(b"buffered".to_vec())]);
}

/// A process has committed a stanza, and was killed before it was synced.
fn killed() -> MemoryFiles {
    let files = MemoryFiles::default();
    let mut j = started(&files);
    j.push(1, 1, b"old").unwrap();
    j.commit().unwrap();
    files.crash();
    files
}

#[test]
fn what_a_killed_process_left_unsynced_is_synced_before_the_new() {
    let files = killed();
    let (mut j, _) = open(&files, tiny());
    j.push(1, 2, b"new").unwrap();
    let position = j.commit().unwrap();
    j.request_sync();
    until(|| j.durable() >= position);
    files.lose_power();
    drop(j);
    let (mut j, r) = open(&files, tiny());
    assert!(r.is_whole());
    assert_eq!(state(&mut j)[&1].queue.len(), 2);
}

/// After a sync that failed the next ones succeed, but what the failed one should have written is gone.
#[test]
fn nothing_is_called_durable_that_a_failed_sync_has_lost() {
    for after in 0..12 {
        for times in 1..4 {
            let files = MemoryFiles::default();
            let mut j = started(&files);
            j.set_meta(2, b"busy").unwrap();
            files.fail(Op::Sync, after, times, EIO);
            let mut durable = 0;
            for number in 1..=200u64 {
                if number <= 20 {
                    j.push(1, number, b"waits").unwrap();
                }
                j.push(2, number, &[0; 30]).unwrap();
                j.ack(2, number - 1).unwrap();
                j.tick(Duration::from_secs(60 * number));
                let position = j.commit().unwrap();
                j.request_sync();
                let start = Instant::now();
                while j.durable() < position && start.elapsed() < Duration::from_millis(1) {
                    std::thread::yield_now();
                }
                if j.durable() >= position {
                    durable = number;
                }
                if number == 100 + after * 7 {
                    break;
                }
            }
            assert!(durable > 20, "{after} {times}: it never recovers");
            files.lose_power();
            drop(j);
            let (mut j, r) = open(&files, tiny());
            let found = state(&mut j);
            assert_eq!(found[&1].queue, vec![Some(b"waits".to_vec()); 20], "{after} {times} {r:?}");
            assert!(found[&2].acked + 1 >= durable, "{after} {times}");
        }
    }
}

/// The process to which a sync fails cannot write the mark either. The next one hears that all is well.
#[test]
fn a_failed_sync_is_known_to_the_next_process() {
    for after in 0..12 {
        for times in 1..12 {
            let files = killed();
            files.fail(Op::Sync, after, times, EIO);
            let (mut j, _) = open(&files, tiny());
            j.push(1, 2, b"new").unwrap();
            j.commit().unwrap();
            // The background thread ends what it was told to do.
            drop(j);
            files.crash();
            let (mut j, _) = open(&files, tiny());
            j.push(1, 3, b"newer").unwrap();
            let position = j.commit().unwrap();
            let mut now = Duration::ZERO;
            until(|| {
                now += Duration::from_secs(60);
                j.tick(now);
                let _ = j.commit();
                j.request_sync();
                j.durable() >= position
            });
            files.lose_power();
            drop(j);
            let (mut j, r) = open(&files, tiny());
            assert!(r.is_whole(), "{after} {times}: {r:?}");
            assert_eq!(state(&mut j)[&1].queue.len(), 3, "{after} {times}: {r:?}");
        }
    }
}

/// The disk fills up for good at any write, the journal removes what it may, and then the process dies.
#[test]
fn a_full_disk_takes_nothing_with_it_that_was_committed() {
    let mut released = 0;
    for after in 0..300 {
        let files = MemoryFiles::default();
        let mut j = started(&files);
        let mut committed = state(&mut j);
        j.set_meta(2, b"busy").unwrap();
        j.set_meta(3, b"away").unwrap();
        files.fail(Op::Write, after, u64::MAX, ENOSPC);
        for number in 1..=2000u64 {
            // What is still needed is copied, again and again.
            if number % 8 == 1 {
                j.push(3, number / 8 + 1, b"waits").unwrap();
            }
            j.push(1, number, &[number as u8; 40]).unwrap();
            j.push(2, number, &[0; 60]).unwrap();
            j.ack(2, number).unwrap();
            j.ack(1, number.saturating_sub(25)).unwrap();
            let now = state(&mut j);
            if j.commit().is_err() {
                break;
            }
            committed = now;
        }
        let before = files.segments().len();
        // The background thread ends what it was told to do.
        drop(j);
        released += before.saturating_sub(files.segments().len());
        files.crash();
        let (mut j, r) = open(&files, tiny());
        assert!(r.is_whole(), "{after}: {r:?}");
        let found = state(&mut j);
        for (id, promised) in committed {
            let found = &found[&id];
            // A part of the last, failed write may be there.
            let last = |s: &Saved| s.acked + s.queue.len() as u64;
            assert!(found.acked >= promised.acked && last(found) >= last(&promised), "{after} {id}");
            assert!(found.queue.iter().all(Option::is_some), "{after} {id}");
        }
    }
    assert!(released > 0, "nothing was given back");
}

/// What was cut off behind a gap may come back if the machine dies again, since names come and go in any order. Where one of two
/// segments does, the journal may seem to go on there, though its owner has seen that it does not.
#[test]
fn what_was_cut_off_does_not_come_back() {
    for seed in 0..150 {
        let files = MemoryFiles::with_pages(64);
        drop(open(&files, tiny()));
        let mut found = State::new();
        for round in 0..10 {
            let dice = coin(seed * 31 + round);
            // Sometimes one cuts, and is killed before it has made sure of that.
            if seed % 3 == 0 {
                files.fail(Op::Sync, 0, 2, EIO);
                files.fail(Op::Create, 0, 1, EIO);
                assert!(Journal::open_in(files.process(), dir(), tiny()).is_err());
                files.crash();
            }
            let (mut journal, recovery) = open(&files, tiny());
            let now = state(&mut journal);
            if round % 2 == 1 {
                assert!(now == found, "{seed}, {round}: {recovery:?}");
            }
            // So that there is something to lose.
            files.fail(Op::Sync, 0, u64::MAX, EIO);
            if round % 2 == 1 {
                for id in round * 8..round * 8 + seed % 8 {
                    journal.set_meta(id, &[7; 190]).unwrap();
                    journal.commit().unwrap();
                }
            }
            found = now;
            files.lose_power_in_any_order(dice);
        }
    }
}
