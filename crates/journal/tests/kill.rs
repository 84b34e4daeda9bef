//! A process that writes is killed, again and again, and everything that it had reported as committed is there.
//!
//! The process is this test binary, started once more with `ENJAMB_JOURNAL_KILL` set. What it appends follows from a
//! counter, so that the survivor can tell what must be there and what it must hold.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use enjamb_journal::{Config, Journal};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const VARIABLE: &str = "ENJAMB_JOURNAL_KILL";
const ROUNDS: u64 = 10;
const SESSIONS: u64 = 20;

/// Small, so that segments come and go between two kills.
fn config() -> Config {
    Config {
        segment_bytes: 64 << 10,
        buffer_bytes: 8 << 10,
        garbage_floor: 128 << 10,
        collect_step: 2 << 10,
        ..Config::default()
    }
}

/// What is kept of a session: its version, what was acknowledged, the last stanza, the inbound count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Row {
    meta: u64,
    acked: u64,
    last: u64,
    inbound: u64,
}

/// A sequence of operations that is the same each time it is begun.
#[derive(Clone, Default)]
struct Work {
    step: u64,
    next: u64,
    rows: BTreeMap<u64, Row>,
}

enum Did {
    Meta(u64),
    Push(u64),
    Ack(u64),
    Inbound(u64),
    End(u64),
}

impl Work {
    fn random(&self) -> u64 {
        let x = self.step.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    fn step(&mut self) -> Did {
        self.step += 1;
        let r = self.random();
        if (self.rows.len() as u64) < SESSIONS {
            self.next += 1;
            self.rows.insert(self.next, Row { meta: self.step, ..Row::default() });
            return Did::Meta(self.next);
        }
        let (&id, row) = self.rows.iter_mut().nth((r % SESSIONS) as usize).unwrap();
        match (r >> 8) % 200 {
            0 => {
                self.rows.remove(&id);
                return Did::End(id);
            }
            1..5 => {
                row.meta = self.step;
                return Did::Meta(id);
            }
            5..30 => {
                row.inbound += 1;
                return Did::Inbound(id);
            }
            // One in four waits for its client.
            30..60 if id % 4 > 0 && row.last > row.acked => {
                row.acked += 1 + (r >> 16) % (row.last - row.acked);
                return Did::Ack(id);
            }
            _ => row.last += 1,
        }
        Did::Push(id)
    }
}

fn stanza(id: u64, number: u64) -> Vec<u8> {
    let len = (id * 31 + number * 7) % 400;
    format!("{id}/{number} ").bytes().cycle().take(20 + len as usize).collect()
}

fn write(dir: &Path, from: u64) -> ! {
    let (mut journal, _) = Journal::open(dir, config()).unwrap();
    let mut work = Work::default();
    let mut told = std::io::stderr();
    loop {
        let did = work.step();
        if work.step <= from {
            continue;
        }
        match did {
            Did::Meta(id) => journal.set_meta(id, &work.rows[&id].meta.to_le_bytes()).unwrap(),
            Did::Push(id) => journal.push(id, work.rows[&id].last, &stanza(id, work.rows[&id].last)).unwrap(),
            Did::Ack(id) => journal.ack(id, work.rows[&id].acked).unwrap(),
            Did::Inbound(id) => journal.set_inbound(id, work.rows[&id].inbound).unwrap(),
            Did::End(id) => journal.end(id).unwrap(),
        }
        if work.step % 10 == 0 {
            journal.commit().unwrap();
            writeln!(told, "committed {}", work.step).unwrap();
        }
        if work.step % 1000 == 0 {
            journal.request_sync();
        }
        assert!(journal.take_trouble().is_none());
    }
}

/// Starts it at that step, kills it a while after it has written something, and returns the last step that it reported.
fn run(dir: &Path, from: u64, after: Duration) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed_while_it_writes", "--nocapture"])
        .env(VARIABLE, format!("{from} {}", dir.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = BufReader::new(child.stderr.take().unwrap());
    let mut told = String::new();
    while !told.contains("committed ") && pipe.read_line(&mut told).unwrap() > 0 {}
    let reader = std::thread::spawn(move || {
        pipe.read_to_string(&mut told).unwrap();
        told
    });
    std::thread::sleep(after);
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    let told = reader.join().unwrap();
    assert!(!told.contains("panicked"), "{told}");
    // Of the last line only a part may have got through.
    let whole = told.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let last = whole.lines().filter_map(|l| l.strip_prefix("committed ")).next_back();
    last.map_or(from, |l| l.parse().unwrap())
}

fn rows(journal: &mut Journal) -> BTreeMap<u64, Row> {
    let ids: Vec<u64> = journal.sessions().collect();
    ids.into_iter()
        .map(|id| {
            let counters = journal.counters(id).unwrap();
            let mut next = counters.acked + 1;
            journal
                .replay(id, 0, |number, bytes| {
                    assert_eq!((number, bytes), (next, Some(&stanza(id, number)[..])));
                    next += 1;
                    true
                })
                .unwrap();
            assert_eq!(next, counters.acked + 1 + counters.queued as u64);
            let meta = u64::from_le_bytes(journal.meta(id).unwrap().try_into().unwrap());
            (id, Row { meta, acked: counters.acked, last: next - 1, inbound: counters.inbound })
        })
        .collect()
}

#[test]
fn killed_while_it_writes() {
    if let Ok(order) = std::env::var(VARIABLE) {
        let (from, dir) = order.split_once(' ').unwrap();
        write(Path::new(dir), from.parse().unwrap());
    }
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("kill-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let mut work = Work::default();
    for round in 0..ROUNDS {
        let from = work.step;
        let committed = run(&dir, from, Duration::from_millis(30 + round * 37 % 100));
        let (mut journal, recovery) = Journal::open(&dir, config()).unwrap();
        assert!(recovery.is_whole(), "{recovery:?}");
        let found = rows(&mut journal);
        while work.step < committed {
            work.step();
        }
        // What came after the last commit may be there, too: in whole steps, as far as the buffer had been written.
        while work.rows != found {
            work.step();
            assert!(work.step < committed + 5000, "round {round}: {committed} committed, found {recovery:?}");
        }
        // A step that changes nothing does not exist, so this is where it goes on.
        assert!(work.step > from, "round {round}: nothing was written");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
