//! What earlier versions wrote is read: `fixtures/1` is a journal as the code wrote it before segments began with a record of
//! where the one before ends, and before there was a file that says how much is known to be on the disk.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use enjamb_journal::{Config, Counters, Journal};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

fn config() -> Config {
    Config {
        segment_bytes: 1500,
        buffer_bytes: 200,
        garbage_floor: 1000,
        collect_step: 100,
        ..Config::default()
    }
}

fn stanza(session: u64, number: u64) -> Vec<u8> {
    format!("<message id='{session}-{number}'>{}</message>", "x".repeat((number % 40) as usize)).into_bytes()
}

/// What the fixture was made with, by the release whose format it has.
fn write(dir: &Path) {
    let (mut journal, _) = Journal::open(dir, config()).unwrap();
    for session in 1..=4 {
        journal.set_meta(session, format!("session {session}").as_bytes()).unwrap();
    }
    for number in 1..=60 {
        for session in 1..=4 {
            journal.push(session, number, &stanza(session, number)).unwrap();
        }
        // One waits for its client from the beginning.
        for session in 2..=4 {
            journal.ack(session, number.saturating_sub(session)).unwrap();
            journal.set_inbound(session, number * session).unwrap();
        }
        if number == 8 {
            journal.ack(1, 3).unwrap();
        }
        journal.commit().unwrap();
    }
    journal.end(4).unwrap();
    journal.commit().unwrap();
}

#[test]
#[ignore = "makes the fixture anew, in the format of the code that it is run with"]
fn make() {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fixture");
    let _ = fs::remove_dir_all(&dir);
    write(&dir);
    // A write that was cut.
    let written = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let newest = written.filter(|path| fs::metadata(path).unwrap().len() > 0).max().unwrap();
    fs::OpenOptions::new().append(true).open(newest).unwrap().write_all(&[7; 13]).unwrap();
}

fn look(journal: &mut Journal) {
    let mut sessions: Vec<u64> = journal.sessions().collect();
    sessions.sort_unstable();
    assert_eq!(sessions, [1, 2, 3]);
    for session in sessions {
        let (acked, inbound) = if session == 1 { (3, 0) } else { (60 - session, 60 * session) };
        let queued = 60 - acked as usize;
        assert_eq!(journal.counters(session), Some(Counters { acked, inbound, queued }));
        assert_eq!(journal.meta(session).unwrap(), format!("session {session}").as_bytes());
        let mut next = acked + 1;
        journal
            .replay(session, 0, |number, bytes| {
                assert_eq!((number, bytes), (next, Some(&stanza(session, number)[..])));
                next += 1;
                true
            })
            .unwrap();
        assert_eq!(next, 61);
    }
}

#[test]
fn what_the_first_version_wrote_is_read_and_goes_on() {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("formats-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir(&dir).unwrap();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/1")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
    }
    let (mut journal, recovery) = Journal::open(&dir, config()).unwrap();
    assert!(recovery.is_whole() && recovery.torn == 13, "{recovery:?}");
    look(&mut journal);
    drop(journal);
    let (mut journal, recovery) = Journal::open(&dir, config()).unwrap();
    assert!(recovery.is_whole() && recovery.torn == 0, "{recovery:?}");
    look(&mut journal);
    // It is collected like any other.
    journal.push(1, 61, &stanza(1, 61)).unwrap();
    for number in 61..200 {
        journal.push(2, number, &stanza(2, number)).unwrap();
        journal.ack(2, number).unwrap();
        journal.commit().unwrap();
    }
    drop(journal);
    let (journal, recovery) = Journal::open(&dir, config()).unwrap();
    assert!(recovery.is_whole(), "{recovery:?}");
    assert_eq!(journal.counters(1), Some(Counters { acked: 3, inbound: 0, queued: 58 }));
    drop(journal);
    fs::remove_dir_all(&dir).unwrap();
}
