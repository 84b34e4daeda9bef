//! The background thread lives in somebody's server: that one's signal handlers must never run on it.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use enjamb_journal::{Config, Journal};
use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

const NEVER_BLOCKED: [u32; 2] = [9, 19]; // SIGKILL, SIGSTOP

fn blocked(task: &Path) -> u64 {
    let status = fs::read_to_string(task.join("status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap()
}

#[test]
fn the_background_thread_takes_no_signals_and_its_owner_does() {
    let dir = std::env::temp_dir().join(format!("enjamb-signals-{}", std::process::id()));
    let me = Path::new("/proc/thread-self");
    let before = blocked(me);
    let (mut journal, _) = Journal::open(&dir, Config::default()).unwrap();
    assert_eq!(blocked(me), before);
    let (runs, it_runs) = mpsc::channel();
    journal.on_durable(move || runs.send(blocked(me)).unwrap());
    journal.commit().unwrap();
    journal.request_sync();
    let mask = it_runs.recv_timeout(Duration::from_secs(60)).unwrap();
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let named = |task: &Path| fs::read_to_string(task.join("comm")).unwrap() == "enjamb-journal\n";
    let masks: Vec<u64> = tasks.filter(|task| named(task)).map(|task| blocked(&task)).collect();
    assert_eq!(masks, [mask], "it has one thread");
    for signal in (1..=31).filter(|signal| !NEVER_BLOCKED.contains(signal)) {
        assert!(mask >> (signal - 1) & 1 == 1, "signal {signal} of {mask:x}");
    }
    drop(journal);
    fs::remove_dir_all(&dir).unwrap();
}
