//! A second sink: what it has of a journal's bytes is a journal, with the same sessions, whatever goes wrong on the way.
//!
//! It ships what was written to a store, as one would to a database: in batches under a key, on a thread of its own. The store
//! fails, answers late, and has taken half a batch or all of it when it says that it failed.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use enjamb_journal::files::OpenFile;
use enjamb_journal::sink::Sink;
use enjamb_journal::{Config, Counters, Journal};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const BATCH: u64 = 300;

/// Batches by segment and offset.
#[derive(Default)]
struct Store {
    batches: Mutex<BTreeMap<(u32, u64), Vec<u8>>>,
    gone: Mutex<BTreeSet<u32>>,
    calls: AtomicU64,
}

struct Refused;

impl Store {
    /// The same key twice is the same batch. An error says nothing of what was stored.
    fn put(&self, segment: u32, offset: u64, bytes: &[u8]) -> Result<(), Refused> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if call.is_multiple_of(3) {
            thread::sleep(Duration::from_micros(300));
        }
        if call % 5 == 1 {
            return Err(Refused);
        }
        let before = self.batches.lock().unwrap().insert((segment, offset), bytes.to_vec());
        assert!(before.is_none_or(|before| before == bytes), "bytes are never written again");
        if call % 7 == 2 { Err(Refused) } else { Ok(()) }
    }

    fn remove(&self, segment: u32) {
        self.batches.lock().unwrap().retain(|(s, _), _| *s != segment);
        assert!(self.gone.lock().unwrap().insert(segment), "it is removed once");
    }

    /// Writes what is there into a directory, as a standby would.
    fn restore(&self, dir: &Path) {
        let _ = fs::remove_dir_all(dir);
        fs::create_dir(dir).unwrap();
        let mut segments: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        for ((segment, offset), bytes) in &*self.batches.lock().unwrap() {
            let file = segments.entry(*segment).or_default();
            assert_eq!(file.len() as u64, *offset, "a segment has no gap");
            file.extend(bytes);
        }
        for (segment, bytes) in segments {
            fs::write(dir.join(format!("{segment:08x}.seg")), bytes).unwrap();
        }
    }
}

enum Told {
    Begun(u32, Arc<dyn OpenFile>),
    Written(u64, u64),
    Dead(u32),
}

/// The sink; its thread ends when it is dropped.
struct Copy {
    told: Option<mpsc::Sender<Told>>,
    durable: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Copy {
    fn new(store: Arc<Store>) -> Copy {
        let (told, queue) = mpsc::channel();
        let durable = Arc::new(AtomicU64::new(0));
        let shared = Arc::clone(&durable);
        let thread = thread::spawn(move || ship(&store, &shared, &queue));
        Copy { told: Some(told), durable, thread: Some(thread) }
    }

    fn tell(&self, what: Told) {
        self.told.as_ref().unwrap().send(what).unwrap();
    }
}

fn ship(store: &Store, durable: &AtomicU64, queue: &mpsc::Receiver<Told>) {
    let (mut segment, mut file, mut shipped) = (0, None::<Arc<dyn OpenFile>>, 0);
    for told in queue {
        match told {
            Told::Begun(id, begun) => (segment, file, shipped) = (id, Some(begun), 0),
            // All before it in the queue is in the store.
            Told::Dead(id) => store.remove(id),
            Told::Written(end, position) => {
                while shipped < end {
                    let mut batch = vec![0; BATCH.min(end - shipped) as usize];
                    file.as_ref().unwrap().read_exact_at(&mut batch, shipped).unwrap();
                    while store.put(segment, shipped, &batch).is_err() {}
                    shipped += batch.len() as u64;
                }
                durable.store(position, Ordering::Release);
            }
        }
    }
}

impl Sink for Copy {
    fn begun(&mut self, segment: u32, file: &Arc<dyn OpenFile>) {
        self.tell(Told::Begun(segment, Arc::clone(file)));
    }

    fn written(&mut self, end: u64, position: u64) {
        self.tell(Told::Written(end, position));
    }

    fn sync(&self) {}

    fn dead(&mut self, segment: u32) {
        self.tell(Told::Dead(segment));
    }

    fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.told = None;
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn config() -> Config {
    Config {
        segment_bytes: 2000,
        buffer_bytes: 300,
        garbage_floor: 2000,
        collect_step: 200,
        ..Config::default()
    }
}

type Found = BTreeMap<u64, (Counters, Vec<u8>, Vec<Option<Vec<u8>>>)>;

fn look(journal: &mut Journal) -> Found {
    let sessions: Vec<u64> = journal.sessions().collect();
    let look = |id: u64| {
        let mut queue = Vec::new();
        let replayed = journal.replay(id, 0, |_, stanza| {
            queue.push(stanza.map(<[u8]>::to_vec));
            true
        });
        replayed.unwrap();
        (id, (journal.counters(id).unwrap(), journal.meta(id).unwrap(), queue))
    };
    sessions.into_iter().map(look).collect()
}

fn directory(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("sink-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    dir
}

fn work(journal: &mut Journal, from: u64, to: u64) {
    for number in from..=to {
        for session in 1..=3 {
            if number == 1 {
                journal.set_meta(session, format!("session {session}").as_bytes()).unwrap();
            }
            journal.push(session, number, format!("<message id='{session}-{number}'/>").as_bytes()).unwrap();
        }
        // One waits for its client all the time.
        journal.ack(1, number).unwrap();
        journal.ack(2, number.saturating_sub(3)).unwrap();
        journal.set_inbound(2, number).unwrap();
        if number % 50 == 0 {
            journal.set_meta(1000 + number, b"short").unwrap();
            journal.end(1000 + number).unwrap();
        }
        journal.commit().unwrap();
    }
}

fn until_copied(journal: &mut Journal) {
    let (position, start) = (journal.commit().unwrap(), Instant::now());
    while journal.copied() < position {
        assert!(start.elapsed() < Duration::from_secs(60), "it does not get there");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn from_its_copy_a_journal_can_be_opened_that_has_the_same_sessions() {
    let (dir, copy) = (directory("here"), directory("there"));
    let store = Arc::new(Store::default());
    let (mut journal, _) = Journal::open(&dir, config()).unwrap();
    // What was there before is shipped as well.
    work(&mut journal, 1, 40);
    journal.attach(Box::new(Copy::new(Arc::clone(&store)))).unwrap();
    for round in 0..4 {
        work(&mut journal, 41 + round * 60, 100 + round * 60);
        until_copied(&mut journal);
        store.restore(&copy);
        let (mut other, recovery) = Journal::open(&copy, config()).unwrap();
        assert!(recovery.is_whole() && recovery.torn == 0, "{recovery:?}");
        assert_eq!(look(&mut other), look(&mut journal));
        // And goes on there.
        work(&mut other, 101 + round * 60, 120 + round * 60);
    }
    drop(journal);
    let gone = store.gone.lock().unwrap().len();
    assert!(gone > 5, "{gone} segments were given up");
    fs::remove_dir_all(dir).unwrap();
    fs::remove_dir_all(copy).unwrap();
}

/// A copy that is behind is what the journal was at some moment.
#[test]
fn a_copy_is_a_whole_state_at_any_time() {
    let (dir, copy) = (directory("before"), directory("behind"));
    let store = Arc::new(Store::default());
    let (mut journal, _) = Journal::open(&dir, config()).unwrap();
    journal.attach(Box::new(Copy::new(Arc::clone(&store)))).unwrap();
    for round in 0..30 {
        work(&mut journal, 1 + round * 10, 10 + round * 10);
        let known = journal.copied();
        store.restore(&copy);
        let (mut other, recovery) = Journal::open(&copy, config()).unwrap();
        assert!(recovery.is_whole(), "{known}: {recovery:?}");
        let (here, there) = (look(&mut journal), look(&mut other));
        for (id, (counters, _, queue)) in there {
            assert!(queue.iter().all(Option::is_some));
            let now = here.get(&id).map_or(Counters::default(), |(counters, ..)| *counters);
            assert!(now.acked >= counters.acked && now.inbound >= counters.inbound || id > 1000);
        }
    }
    until_copied(&mut journal);
    drop(journal);
    fs::remove_dir_all(dir).unwrap();
    fs::remove_dir_all(copy).unwrap();
}
