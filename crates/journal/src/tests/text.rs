//! Text that is of no more use leaves the disk: ten minutes after it was acknowledged, or its session ended.

use super::*;
use crate::faults::{EIO, Op as Call};
use proptest::prelude::*;
use std::collections::HashSet;

const PROMISED: Duration = Duration::from_secs(600);
const SECOND: Duration = Duration::from_secs(1);

/// A journal in which each text can be told from each other, and a clock.
struct World {
    files: MemoryFiles,
    config: Config,
    journal: Option<Journal>,
    now: Duration,
    /// Sessions: what their description says, and their queues.
    live: BTreeMap<u64, (Vec<u8>, Vec<Vec<u8>>)>,
    acked: BTreeMap<u64, u64>,
    /// Until when they may be on disk.
    dead: Vec<(u64, Duration)>,
    texts: u64,
}

/// The numbers of the texts in these bytes.
fn numbers(bytes: &[u8]) -> Vec<u64> {
    let begun = bytes.split(|b| *b == b'<').skip(1);
    let ended = begun.filter_map(|text| text.split(|b| *b == b'>').next());
    ended.filter_map(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).collect()
}

impl World {
    fn new(config: Config) -> World {
        let files = MemoryFiles::default();
        let journal = Some(open(&files, config.clone()).0);
        World {
            files,
            config,
            journal,
            now: Duration::ZERO,
            live: BTreeMap::new(),
            acked: BTreeMap::new(),
            dead: Vec::new(),
            texts: 0,
        }
    }

    fn journal(&mut self) -> &mut Journal {
        self.journal.as_mut().unwrap()
    }

    fn text(&mut self, len: usize) -> Vec<u8> {
        self.texts += 1;
        format!("<{}>{}", self.texts, "x".repeat(len)).into_bytes()
    }

    fn bury(&mut self, texts: impl IntoIterator<Item = Vec<u8>>) {
        let until = self.now + PROMISED;
        self.dead.extend(texts.into_iter().map(|text| (numbers(&text)[0], until)));
    }

    fn describe(&mut self, session: u64) {
        let meta = self.text(9);
        self.journal().set_meta(session, &meta).unwrap();
        let old = std::mem::replace(&mut self.live.entry(session).or_default().0, meta);
        self.bury(Some(old).filter(|old| !old.is_empty()));
    }

    fn push(&mut self, session: u64, len: usize) {
        if !self.live.contains_key(&session) {
            self.describe(session);
        }
        let text = self.text(len);
        let queue = &mut self.live.get_mut(&session).unwrap().1;
        queue.push(text.clone());
        let number = self.acked.get(&session).unwrap_or(&0) + queue.len() as u64;
        self.journal().push(session, number, &text).unwrap();
    }

    fn ack(&mut self, session: u64, left: usize) {
        let Some((_, queue)) = self.live.get_mut(&session) else { return };
        let covered: Vec<_> = queue.drain(..queue.len().saturating_sub(left)).collect();
        let acked = self.acked.entry(session).or_default();
        *acked += covered.len() as u64;
        let acked = *acked;
        self.journal().ack(session, acked).unwrap();
        self.bury(covered);
    }

    fn end(&mut self, session: u64) {
        let Some((meta, queue)) = self.live.remove(&session) else { return };
        self.acked.remove(&session);
        self.journal().end(session).unwrap();
        self.bury(queue.into_iter().chain([meta]));
    }

    /// What the shim does once a second.
    fn second(&mut self) {
        self.now += SECOND;
        let now = self.now;
        self.journal().tick(now);
        self.journal().commit().unwrap();
    }

    fn pass(&mut self, seconds: u64) {
        (0..seconds).for_each(|_| self.second());
        self.check();
    }

    /// What had to go is gone, or the background thread was told to remove it; what is live is there.
    fn check(&mut self) {
        let now = self.now;
        let due: HashSet<u64> =
            self.dead.iter().filter(|(_, until)| *until <= now).map(|(n, _)| *n).collect();
        self.dead.retain(|(_, until)| *until > now);
        let start = Instant::now();
        loop {
            let mut left = Vec::new();
            self.files
                .each_content(|bytes| left.extend(numbers(bytes).into_iter().filter(|n| due.contains(n))));
            if left.is_empty() {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(5), "{left:?} are there at {now:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
        let expected =
            self.live.values().map(|(_, queue)| queue.iter().cloned().map(Some).collect::<Vec<_>>());
        let expected: Vec<_> = expected.collect();
        let found: Vec<_> = state(self.journal()).into_values().map(|saved| saved.queue).collect();
        assert_eq!(found, expected);
    }

    fn reopen(&mut self, power: bool) {
        self.journal().commit().unwrap();
        if power {
            let position = self.journal().position();
            self.journal().request_sync();
            until(|| self.journal().durable() >= position);
            self.files.lose_power();
        } else {
            self.files.crash();
        }
        self.journal = None;
        let (journal, recovery) = open(&self.files, self.config.clone());
        assert!(recovery.is_whole(), "{recovery:?}");
        self.journal = Some(journal);
        // The clock of another process. What is dead has the same time once more.
        let now = std::mem::take(&mut self.now);
        self.dead.iter_mut().for_each(|(_, until)| *until = (*until).min(now + PROMISED).saturating_sub(now));
    }
}

#[derive(Clone, Debug)]
enum Op {
    Describe(u64),
    Push(u64, usize),
    Ack(u64, usize),
    End(u64),
    Commit,
    Pass(u64),
    Kill,
    LosePower,
}

fn op() -> impl Strategy<Value = Op> {
    let s = 0..5u64;
    prop_oneof![
        2 => s.clone().prop_map(Op::Describe),
        30 => (s.clone(), 0..120usize).prop_map(|(s, len)| Op::Push(s, len)),
        12 => (s.clone(), 0..6usize).prop_map(|(s, left)| Op::Ack(s, left)),
        2 => s.prop_map(Op::End),
        8 => Just(Op::Commit),
        8 => (1..250u64).prop_map(Op::Pass),
        1 => Just(Op::Kill),
        1 => Just(Op::LosePower),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn what_is_done_with_leaves_the_disk(ops in prop::collection::vec(op(), 1..200)) {
        // Nothing goes because there is much of it.
        let mut world = World::new(Config { garbage_floor: 1 << 30, ..tiny() });
        // Numbers of sessions are never used again.
        let mut generation = [0; 5];
        let name = |generation: &[u64; 5], s: u64| generation[s as usize] * 5 + s;
        for op in ops {
            match op {
                Op::Describe(s) => world.describe(name(&generation, s)),
                Op::Push(s, len) => world.push(name(&generation, s), len),
                Op::Ack(s, left) => world.ack(name(&generation, s), left),
                Op::End(s) => {
                    world.end(name(&generation, s));
                    generation[s as usize] += 1;
                }
                Op::Commit => drop(world.journal().commit().unwrap()),
                Op::Pass(seconds) => world.pass(seconds),
                Op::Kill => world.reopen(false),
                Op::LosePower => world.reopen(true),
            }
        }
        world.pass(601);
        world.reopen(false);
        world.pass(60);
    }
}

#[test]
fn what_a_former_process_left_goes_soon_after_the_start() {
    for config in [tiny(), Config::default()] {
        let mut world = World::new(config);
        for number in 0..200 {
            world.push(1, 300);
            world.push(2, 300);
            world.ack(1, number % 3);
        }
        world.end(2);
        world.reopen(false);
        world.dead.iter_mut().for_each(|(_, until)| *until = 180 * SECOND);
        world.pass(180);
    }
}

#[test]
fn much_that_waits_does_not_keep_a_server_that_does_nothing_from_getting_there() {
    let config = Config { segment_bytes: 1 << 20, ..Config::default() };
    let mut world = World::new(config);
    // 40 MB, and in each segment something is dead.
    for number in 0..10_000 {
        world.push(1, 4_000);
        if number % 200 == 0 {
            world.push(2, 10);
        }
    }
    world.ack(2, 0);
    let written = world.journal().stats().written_bytes;
    world.pass(601);
    let moved = world.journal().stats().moved_bytes;
    assert!(moved > 39_000_000 && moved < 45_000_000, "{moved} after {written}");
    // Nothing is copied while nothing dies.
    world.pass(1800);
    assert_eq!(world.journal().stats().moved_bytes, moved);
}

/// Something dies all the time, so what waits is copied again and again: once in the time that is set, no more.
#[test]
fn what_waits_is_copied_once_in_a_while() {
    let mut world = World::new(Config::default());
    for _ in 0..1_000 {
        world.push(1, 1_000);
    }
    let age = Config::default().dead_age.as_secs();
    let periods = 10;
    for _ in 0..age * periods {
        world.push(2, 100);
        world.ack(2, 0);
        world.second();
    }
    world.check();
    let waits = 1_000 * 1_040;
    let moved = world.journal().stats().moved_bytes;
    assert!(moved >= waits * (periods - 2) && moved <= waits * (periods + 1), "{moved}");
}

#[test]
fn while_the_disk_fails_nothing_else_goes_and_then_text_does() {
    for call in [Call::Create, Call::Read, Call::Sync, Call::Remove] {
        let mut world = World::new(Config { garbage_floor: 1 << 30, ..tiny() });
        for number in 0..100 {
            world.push(1, 50);
            world.push(2, 50);
            world.ack(1, number % 3);
        }
        world.files.fail(call, 0, u64::MAX, EIO);
        (0..700).for_each(|_| world.second());
        until(|| world.journal().take_trouble().is_some());
        world.files.heal();
        world.reopen(false);
        world.pass(601);
    }
}
