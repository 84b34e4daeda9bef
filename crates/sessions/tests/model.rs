//! What an ack claims is true: sessions on a disk that fills up, fails and forgets, beside a naive account of who was told
//! what.
//!
//! Clients send stanzas to each other, are told how many were handled, lose their connections and resume. The process dies,
//! or the machine: then of what was written and not synced any part survives, in any order, and what a failed sync should have
//! written may never do. After each death every client comes back, and whoever was told "handled" must find that the other
//! one has the stanza, once.
//!
//! A session at level `"process"` whose machine dies may be behind, or gone: it was promised nothing. But what is known of it is
//! consistent: each stanza that its count covers is there. The same holds for all but level `"replicated"` when the machine is lost with its
//! disk, and another goes on from the copy, which is late.

#![allow(clippy::unwrap_used)]

use enjamb_journal::faults::{EIO, MemoryFiles, Op as Call, coin};
use enjamb_journal::files::OpenFile;
use enjamb_journal::sink::Sink;
use enjamb_journal::{Config, Journal};
use enjamb_sessions::{Attribute, Claim, Level, Safe, Scope, Sessions, State};
use enjamb_stanza::{Kind, Name, Summary};
use enjamb_stream_management::{Enabled, H, Limits, Peer, ResumeRequest, ResumptionId, StreamKey};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What is known of a client's session; something of it changes.
fn known(name: &str, something: &str) -> Vec<Attribute> {
    let (username, client_id) = (name.to_owned(), Some(something.to_owned()));
    let [host, resource, xmlns] = ["x", "r", "urn:xmpp:sm:3"].map(str::to_owned);
    State { username, host, resource, xmlns, client_id, ..State::default() }.attributes()
}

const SUMMARY: Summary = Summary { name: Name::Message, kind: Kind::Other, delayed: false };

#[derive(Clone, Debug)]
enum Op {
    Start(Level),
    /// One stanza comes in on the first stream, for the second.
    Receive(usize, usize),
    /// The first that waits on that stream is processed.
    Process(usize),
    Claim(usize),
    Ack(usize),
    Lose(usize),
    Resume(usize),
    LogOut(usize),
    State(usize, usize),
    Commit,
    /// The disk gets everything that it was asked for.
    Sync,
    Settle,
    /// There is room for so many bytes more.
    Full(usize),
    Heal,
    /// After so many that go well, so many syncs fail, and lose what they should have written.
    CannotSync(u64, u64),
    Die,
    LosePower(u64),
    /// The copy elsewhere takes so many of the things that the journal has told.
    Copy(usize),
    /// The machine is gone, and its disk: another one goes on from the copy.
    LoseMachine,
}

/// A copy elsewhere, which takes what it is told when it likes.
#[derive(Default)]
struct Elsewhere {
    told: VecDeque<Told>,
    segments: BTreeMap<u32, Vec<u8>>,
    /// Those that the journal has.
    known: Vec<u32>,
    head: Option<Arc<dyn OpenFile>>,
    durable: u64,
}

enum Told {
    Begun(u32, Arc<dyn OpenFile>),
    Written(u64, u64),
    Attached,
    Dead(u32),
}

impl Elsewhere {
    fn take(&mut self, most: usize) {
        for told in self.told.drain(..most.min(self.told.len())) {
            match told {
                Told::Begun(segment, file) => {
                    self.head = Some(file);
                    self.known.push(segment);
                    self.segments.entry(segment).or_default();
                }
                Told::Written(end, position) => {
                    let (Some(segment), Some(file)) = (self.known.last(), &self.head) else { continue };
                    let bytes = self.segments.entry(*segment).or_default();
                    bytes.resize(end as usize, 0);
                    file.read_exact_at(bytes, 0).unwrap();
                    self.durable = position;
                }
                Told::Attached => self.segments.retain(|segment, _| self.known.contains(segment)),
                Told::Dead(segment) => drop(self.segments.remove(&segment)),
            }
        }
    }
}

struct Copying(Arc<Mutex<Elsewhere>>);

impl Sink for Copying {
    fn begun(&mut self, segment: u32, file: &Arc<dyn OpenFile>) {
        self.0.lock().unwrap().told.push_back(Told::Begun(segment, Arc::clone(file)));
    }

    fn written(&mut self, end: u64, position: u64) {
        self.0.lock().unwrap().told.push_back(Told::Written(end, position));
    }

    fn sync(&self) {}

    fn dead(&mut self, segment: u32) {
        self.0.lock().unwrap().told.push_back(Told::Dead(segment));
    }

    fn durable(&self) -> u64 {
        self.0.lock().unwrap().durable
    }
}

fn op() -> impl Strategy<Value = Op> {
    let s = 0..5usize;
    prop_oneof![
        6 => level().prop_map(Op::Start),
        30 => (s.clone(), s.clone()).prop_map(|(from, to)| Op::Receive(from, to)),
        30 => s.clone().prop_map(Op::Process),
        25 => s.clone().prop_map(Op::Claim),
        12 => s.clone().prop_map(Op::Ack),
        5 => s.clone().prop_map(Op::Lose),
        5 => s.clone().prop_map(Op::Resume),
        2 => s.clone().prop_map(Op::LogOut),
        4 => (s, 0..200usize).prop_map(|(s, len)| Op::State(s, len)),
        6 => Just(Op::Commit),
        6 => Just(Op::Sync),
        8 => Just(Op::Settle),
        2 => (0..3000usize).prop_map(Op::Full),
        4 => Just(Op::Heal),
        2 => (0..6u64, 1..3u64).prop_map(|(after, times)| Op::CannotSync(after, times)),
        3 => Just(Op::Die),
        3 => any::<u64>().prop_map(Op::LosePower),
        6 => (1..6usize).prop_map(Op::Copy),
        4 => Just(Op::LoseMachine),
    ]
}

fn level() -> impl Strategy<Value = Level> {
    prop_oneof![
        1 => Just(Level::None), 2 => Just(Level::Process), 3 => Just(Level::Power), 3 => Just(Level::Replicated)
    ]
}

/// What has come to an end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Death {
    Process,
    /// The machine's; of what was not synced any part survives.
    Power(u64),
    /// The machine's, and its disk's.
    Machine,
}

impl Death {
    /// Whether that outlives it.
    fn spares(self, level: Level) -> bool {
        match self {
            // What is in the copy is on the disk as well, in the operating system's memory.
            Death::Process => level != Level::None,
            // Whoever has more is believed, the disk or the copy: here always the disk.
            Death::Power(_) => level == Level::Power,
            Death::Machine => level == Level::Replicated,
        }
    }
}

/// One session, as its client and a bystander see it.
struct Client {
    key: StreamKey,
    name: String,
    level: Level,
    id: ResumptionId,
    /// Stanzas that came in and wait to be processed: for whom.
    waiting: VecDeque<usize>,
    /// What was processed: the text, and for whom it was.
    processed: Vec<(String, usize)>,
    /// How many of these the client was told were handled.
    told: usize,
    live: bool,
    /// It has logged out, or its session was lost and never promised to survive that.
    gone: bool,
    /// What the client has, in order.
    has: Vec<String>,
    /// It resumed while nothing could be written: the journal does not know, and what was sent may be sent once more.
    doubtful: bool,
    /// What is known of it may be older than what it was told, since its machine has died.
    behind: bool,
}

struct World {
    files: MemoryFiles,
    sessions: Sessions,
    limits: Arc<Limits>,
    clients: Vec<Client>,
    texts: usize,
    elsewhere: Arc<Mutex<Elsewhere>>,
}

fn small() -> Config {
    Config {
        segment_bytes: 1500,
        buffer_bytes: 300,
        waiting_bytes: 1500,
        garbage_floor: 1000,
        collect_step: 200,
        ..Config::default()
    }
}

fn open(files: &MemoryFiles) -> Journal {
    Journal::open_in(files.process(), Path::new("/j"), small()).unwrap().0
}

impl World {
    fn new(page: usize) -> World {
        let files = MemoryFiles::with_pages(page);
        let limits = Arc::new(Limits { queue_stanzas: 1 << 20, ..Limits::default() });
        let (sessions, clients, elsewhere) = (Sessions::default(), Vec::new(), Arc::default());
        let mut world = World { files, sessions, limits, clients, texts: 0, elsewhere };
        world.open();
        world
    }

    fn open(&mut self) {
        let mut journal = open(&self.files);
        {
            let mut elsewhere = self.elsewhere.lock().unwrap();
            (elsewhere.durable, elsewhere.known) = (0, Vec::new());
        }
        journal.attach(Box::new(Copying(Arc::clone(&self.elsewhere)))).unwrap();
        self.elsewhere.lock().unwrap().told.push_back(Told::Attached);
        self.sessions.open(journal);
    }

    /// One of those that are not gone.
    fn pick(&self, n: usize) -> Option<usize> {
        let there: Vec<usize> = (0..self.clients.len()).filter(|&i| !self.clients[i].gone).collect();
        there.get(n % there.len().max(1)).copied()
    }

    fn durable(&mut self) -> u64 {
        self.sessions.journal().unwrap().durable()
    }

    fn safe(&mut self) -> Safe {
        Safe { disk: self.durable(), copy: self.sessions.journal().unwrap().copied() }
    }

    /// Waits until that level has what was written, unless it cannot.
    fn catch_up(&mut self, level: Level) -> bool {
        if level == Level::Replicated {
            self.elsewhere.lock().unwrap().take(usize::MAX);
            return true;
        }
        self.sync()
    }

    fn start(&mut self, level: Level) {
        let n = self.clients.len() as u64 + 1;
        let (name, id) = (format!("c{n}@x"), ResumptionId(n.into()));
        let enabled = Enabled { resumption: Some((id, 600)) };
        let key = self.sessions.start(Arc::clone(&self.limits), Some(&name), enabled, 0);
        // <enabled/> is a promise: it waits until that is kept.
        let kept = level == Level::None
            || self.sessions.keep(key, n, &known(&name, ""), Scope::Whole).is_ok()
                && self.sessions.commit().is_ok()
                && (level == Level::Process || self.catch_up(level));
        if !kept {
            self.sessions.ended(key);
        }
        self.clients.push(Client {
            key,
            name,
            level,
            id,
            waiting: VecDeque::new(),
            processed: Vec::new(),
            told: 0,
            live: kept,
            gone: !kept,
            has: Vec::new(),
            doubtful: false,
            behind: false,
        });
    }

    /// Waits until the disk has what was written, unless syncs fail.
    fn sync(&mut self) -> bool {
        let position = self.sessions.journal().unwrap().position();
        // What a failed sync has lost is written once more by some commits.
        for _ in 0..60 {
            let _ = self.sessions.commit();
            self.sessions.journal().unwrap().request_sync();
            let deadline = Instant::now() + Duration::from_millis(2);
            while self.durable() < position {
                if Instant::now() > deadline {
                    break;
                }
                std::thread::yield_now();
            }
            if self.durable() >= position {
                return true;
            }
        }
        false
    }

    fn process(&mut self, i: usize) {
        let Some(to) = self.clients[i].waiting.pop_front() else { return };
        self.texts += 1;
        let text = format!("<message><body>{}</body></message>", self.texts);
        let Some(target) = self.pick(to) else { return };
        let client = &mut self.clients[target];
        let queueing = self.sessions.push(client.key, text.as_bytes(), SUMMARY, 0).expect("it is there");
        assert_eq!(queueing.send, client.live);
        if client.live {
            client.has.push(text.clone());
        }
        self.clients[i].processed.push((text, target));
    }

    /// The client is told a count: it must be true, and grow.
    fn tell(&mut self, i: usize, h: H) {
        let client = &mut self.clients[i];
        let h = h.0 as usize;
        assert!(h >= client.told, "{} was told {} and now {h}", client.name, client.told);
        assert!(h <= client.processed.len(), "{} is told {h} of {}", client.name, client.processed.len());
        client.told = h;
    }

    /// What may be said to have been handled on that stream, and whether the disk has to be waited for.
    fn claim(&mut self, i: usize) -> Claim {
        let Client { key, level, ref waiting, .. } = self.clients[i];
        let h = self.sessions.get(key).unwrap().handled(waiting.len());
        let safe = self.safe();
        self.sessions.claim(key, h, level, safe.at(level)).0
    }

    /// The client comes back. If nobody can tell it what was handled, it is disconnected again.
    fn resume(&mut self, i: usize) {
        let client = &mut self.clients[i];
        let (previd, h) = (client.id.to_string(), client.has.len().to_string());
        let request = ResumeRequest { previd: Some(&previd), h: Some(&h) };
        let peer = Peer::Client { account: &client.name, bound: false };
        let resumed = self.sessions.resume(peer, request).expect("it waits");
        assert_eq!(resumed.key, client.key);
        let mut claim = self.claim(i);
        if claim.pending {
            self.catch_up(self.clients[i].level);
            claim = self.claim(i);
        }
        let written = self.sessions.commit().is_ok();
        let client = &mut self.clients[i];
        client.doubtful |= !written;
        let Some(h) = claim.h.filter(|_| !claim.pending) else {
            self.sessions.hibernate(client.key, 1).expect("it was there");
            return;
        };
        client.live = true;
        self.tell(i, h);
        let client = &mut self.clients[i];
        while let Some(first) = self.sessions.get(client.key).and_then(|s| s.resend_from()) {
            let mut next = first;
            let has = &mut client.has;
            let each = |stanza: Option<enjamb_sessions::Stanza>| {
                has.push(stanza.map_or("", |s| std::str::from_utf8(s.bytes).unwrap()).to_owned());
                next += 1;
                true
            };
            self.sessions.read(client.key, first, u64::MAX, each).unwrap();
            self.sessions.update(client.key, |s| s.resent(next));
        }
    }

    /// The process is gone, and starts again, or another where the copy is.
    fn die(&mut self, death: Death) {
        match death {
            // What was told and not copied has a second name: it is copied all the same.
            Death::Process => {
                self.elsewhere.lock().unwrap().take(usize::MAX);
                self.files.crash();
            }
            Death::Power(seed) => self.files.lose_power_in_any_order(coin(seed)),
            Death::Machine => self.files.crash(),
        }
        // What the old one writes from here on, it does not.
        self.sessions = Sessions::default();
        match death {
            Death::Process => {}
            Death::Power(_) => *self.elsewhere.lock().unwrap() = Elsewhere::default(),
            Death::Machine => {
                let copied = std::mem::take(&mut *self.elsewhere.lock().unwrap()).segments;
                self.files = MemoryFiles::with_pages(4096);
                for (segment, bytes) in &copied {
                    self.files.write(&Path::new("/j").join(format!("{segment:08x}.seg")), bytes);
                }
                self.elsewhere.lock().unwrap().segments = copied;
            }
        }
        self.open();

        let mut found = HashMap::new();
        for f in self.sessions.found() {
            // One that is damaged was promised to nobody, or is missed below.
            if f.host.is_ok() {
                found.insert(self.sessions.state(f.token).unwrap().username, f.token);
            }
        }
        for client in self.clients.iter_mut().filter(|c| !c.gone) {
            (client.live, client.waiting) = (false, VecDeque::new());
            let promised = death.spares(client.level);
            let token = match (client.level, found.remove(&client.name)) {
                (Level::None, token) => {
                    client.gone = true;
                    token.into_iter().for_each(|token| self.sessions.discard(token));
                    continue;
                }
                (_, None) if !promised => {
                    client.gone = true;
                    continue;
                }
                (_, token) => token.unwrap_or_else(|| panic!("{} is gone", client.name)),
            };
            let enabled = Enabled { resumption: Some((client.id, 600)) };
            let limits = Arc::clone(&self.limits);
            let restored = self.sessions.restore(token, limits, &client.name, enabled).unwrap();
            assert_eq!(restored.lost, 0, "{} misses stanzas", client.name);
            client.key = restored.key;
            let h = restored.h.0 as usize;
            assert!(h <= client.processed.len(), "{}: {h} of {}", client.name, client.processed.len());
            assert!(h >= client.told || !promised, "{} was told {}, {h} are known", client.name, client.told);
            // What is not known is sent again, as something new.
            client.processed.truncate(h);
            // What is known is as good as told, whatever became of the client.
            client.told = if promised { client.told } else { h };
            client.behind |= !promised;
        }
        for token in found.into_values() {
            self.sessions.discard(token);
        }
        for i in 0..self.clients.len() {
            if !self.clients[i].gone && !self.clients[i].behind {
                self.resume(i);
            }
        }
        self.check();
        // Who was told more than is known cannot go on.
        for client in self.clients.iter_mut().filter(|c| !c.gone && c.behind) {
            self.sessions.ended(client.key);
            client.gone = true;
        }
    }

    /// What waits for a client that is not there.
    fn queued(&mut self, i: usize) -> Vec<String> {
        let mut queued = Vec::new();
        if !self.clients[i].gone && !self.clients[i].live {
            let each = |stanza: Option<enjamb_sessions::Stanza>| {
                queued.push(stanza.map_or("", |s| std::str::from_utf8(s.bytes).unwrap()).to_owned());
                true
            };
            self.sessions.read(self.clients[i].key, 0, u64::MAX, each).unwrap();
        }
        queued
    }

    fn check(&mut self) {
        let queued: Vec<_> = (0..self.clients.len()).map(|i| self.queued(i)).collect();
        let there = |c: &&Client| !c.gone;
        for to in self.clients.iter().filter(there) {
            let mut times: HashMap<&str, usize> = HashMap::new();
            for text in &to.has {
                *times.entry(text).or_default() += 1;
            }
            for (text, times) in &times {
                assert!(
                    *times == 1 || text.is_empty() || to.doubtful,
                    "{} has {text} {times} times",
                    to.name
                );
            }
        }
        for from in self.clients.iter().filter(there) {
            for (text, to) in &from.processed[..from.told] {
                let queued = &queued[*to];
                let to = &self.clients[*to];
                let has = to.gone || to.has.contains(text) || queued.contains(text);
                assert!(has, "{} was told that {text} is handled, {} has not got it", from.name, to.name);
            }
        }
    }

    fn apply(&mut self, op: Op) {
        let there = self.clients.iter().filter(|c| !c.gone).count();
        match op {
            Op::Start(level) if there < 5 => self.start(level),
            Op::Start(_) => {}
            Op::Receive(from, to) => {
                let Some(i) = self.pick(from) else { return };
                let client = &mut self.clients[i];
                if client.live {
                    client.waiting.push_back(to);
                    self.sessions.update(client.key, |s| s.received(s.inbound()));
                }
            }
            Op::Process(i) => {
                let Some(i) = self.pick(i) else { return };
                self.process(i);
                let client = &self.clients[i];
                self.sessions.processed(client.key, client.waiting.len());
            }
            Op::Claim(i) => {
                let Some(i) = self.pick(i).filter(|&i| self.clients[i].live) else { return };
                if let Some(h) = self.claim(i).h {
                    self.tell(i, h);
                }
            }
            Op::Settle => {
                let safe = self.safe();
                for (key, h) in self.sessions.settled(safe) {
                    if let Some(i) = self.clients.iter().position(|c| c.key == key && c.live) {
                        self.tell(i, h);
                    }
                }
            }
            Op::Ack(i) => {
                let Some(i) = self.pick(i).filter(|&i| self.clients[i].live) else { return };
                let client = &self.clients[i];
                self.sessions.ack(client.key, H(client.has.len() as u32)).expect("it is true");
            }
            Op::Lose(i) => {
                let Some(i) = self.pick(i).filter(|&i| self.clients[i].live) else { return };
                self.clients[i].live = false;
                self.sessions.hibernate(self.clients[i].key, 1).expect("it was there");
            }
            Op::Resume(i) => {
                let Some(i) = self.pick(i).filter(|&i| !self.clients[i].live) else { return };
                self.resume(i);
            }
            Op::LogOut(i) => {
                let Some(i) = self.pick(i) else { return };
                self.sessions.ended(self.clients[i].key);
                (self.clients[i].gone, self.clients[i].live) = (true, false);
            }
            Op::State(i, len) => {
                let Some(i) = self.pick(i) else { return };
                let client = &self.clients[i];
                if client.level != Level::None {
                    let known = known(&client.name, &"x".repeat(len));
                    let _ = self.sessions.keep(client.key, u64::MAX, &known, Scope::Small);
                }
            }
            Op::Commit => drop(self.sessions.commit()),
            Op::Sync => {
                self.sync();
            }
            Op::Full(bytes) => self.files.room(bytes),
            Op::Heal => self.files.heal(),
            Op::CannotSync(after, times) => self.files.fail(Call::Sync, after, times, EIO),
            Op::Die => self.die(Death::Process),
            Op::LosePower(seed) => self.die(Death::Power(seed)),
            Op::Copy(most) => self.elsewhere.lock().unwrap().take(most),
            Op::LoseMachine => self.die(Death::Machine),
        }
        assert!(self.sessions.take_unkept().is_empty());
    }
}

/// How many runs: `PROPTEST_CASES`, else so many that it takes some seconds.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whoever_was_told_that_a_stanza_was_handled_need_not_send_it_again(
        page in prop_oneof![Just(64usize), Just(4096)],
        ops in proptest::collection::vec(op(), 1..120)
    ) {
        let mut world = World::new(page);
        for op in ops {
            world.apply(op);
        }
        world.files.heal();
        world.die(Death::Process);
    }
}

#[test]
fn what_cannot_be_kept_is_one_streams_trouble() {
    let mut world = World::new(4096);
    world.start(Level::Process);
    world.start(Level::Process);
    let [a, b] = [world.clients[0].key, world.clients[1].key];
    world.apply(Op::Receive(0, 1));
    world.apply(Op::Process(0));
    world.sessions.keep(a, 0, &known("c1@x", &"x".repeat(8 << 20)), Scope::Small).unwrap();
    let (claim, committed) = world.sessions.claim(a, H(1), Level::Process, 0);
    assert!(committed.is_ok());
    assert_eq!(claim.h, Some(H(0)), "its own claims stand still");
    assert_eq!(world.sessions.take_unkept().into_iter().map(|(key, _)| key).collect::<Vec<_>>(), [a]);
    world.apply(Op::Receive(1, 1));
    world.apply(Op::Process(1));
    let (claim, committed) = world.sessions.claim(b, H(1), Level::Process, 0);
    assert!(committed.is_ok());
    assert_eq!(claim.h, Some(H(1)), "nobody else's do");
    assert!(world.sessions.take_unkept().is_empty(), "it is told once");
}
