//! What is tested on files in memory. `tests/kill.rs` has real ones.

mod basics;
mod damage;
mod disk;
mod model;
mod slots;
mod text;

use crate::faults::MemoryFiles;
use crate::{Config, Journal, Recovery};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Segments and steps so small that all that can happen to them does.
fn tiny() -> Config {
    Config {
        segment_bytes: 600,
        buffer_bytes: 200,
        waiting_bytes: 1500,
        garbage_floor: 1200,
        collect_step: 100,
        ..Config::default()
    }
}

fn dir() -> &'static Path {
    Path::new("/journal")
}

fn open(files: &MemoryFiles, config: Config) -> (Journal, Recovery) {
    Journal::open_in(files.process(), dir(), config).unwrap()
}

/// All that is kept of a session.
#[derive(Clone, Default, PartialEq, Eq)]
struct Saved {
    meta: Vec<u8>,
    acked: u64,
    inbound: u64,
    queue: Vec<Option<Vec<u8>>>,
}

/// Bytes are all the same in what the model writes: how many, and which.
impl fmt::Debug for Saved {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let short =
            |bytes: &[u8]| bytes.first().map_or("-".into(), |first| format!("{}x{first}", bytes.len()));
        let queue: Vec<_> = self.queue.iter().map(|q| q.as_deref().map_or("gone".into(), short)).collect();
        let (meta, queue) = (short(&self.meta), queue.join(" "));
        write!(f, "{meta} acked {} inbound {} [{queue}]", self.acked, self.inbound)
    }
}

type State = BTreeMap<u64, Saved>;

fn state(journal: &mut Journal) -> State {
    let sessions: Vec<u64> = journal.sessions().collect();
    sessions
        .into_iter()
        .map(|id| {
            let counters = journal.counters(id).unwrap();
            let mut queue = Vec::new();
            journal
                .replay(id, 0, |number, stanza| {
                    queue.push(stanza.map(<[u8]>::to_vec));
                    assert_eq!(number, counters.acked + queue.len() as u64);
                    true
                })
                .unwrap();
            assert_eq!(queue.len(), counters.queued);
            let meta = journal.meta(id).unwrap_or_default();
            (id, Saved { meta, acked: counters.acked, inbound: counters.inbound, queue })
        })
        .collect()
}

/// Waits for the background thread, which owes it.
fn until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "the background thread does not get there");
        std::thread::sleep(Duration::from_micros(50));
    }
}
